"""Ctrl-C and SIGTERM in every command that talks to a service, while that is silent, busy or in the middle of a reply.

The commands are listed by what the program has, so that a new one needs a case. They run as processes that
fork from one which has imported what they need.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main
from tests.waiting import until

from fletching.cli.main import app
from fletching.testing.replay import Answer, ReplayPeer

FORKING = """
import json, os, sys
import pyarrow.csv, pyarrow.parquet, fletching.client, fletching.cli.command_group
from fletching.cli import main
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if not child:
        for number, (name, flags) in enumerate(order["streams"]):
            os.dup2(os.open(name, flags), number)
        sys.argv = ["fletching", *order["words"]]
        main.run()
        sys.stdout.flush()
        os._exit(0)
    print("began", child, flush=True)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Command:
    """A command that runs in a folder of its own."""

    def __init__(self, forking: subprocess.Popen[str], folder: Path, words: list[str]) -> None:
        self._forking, self._folder = forking, folder
        (folder / "stdin").touch()
        streams = [
            (str(folder / "stdin"), os.O_RDWR),
            (str(folder / "stdout"), os.O_RDWR | os.O_CREAT),
            (str(folder / "stderr"), os.O_RDWR | os.O_CREAT),
        ]
        assert forking.stdin is not None
        forking.stdin.write(json.dumps({"words": words, "streams": streams}) + "\n")
        forking.stdin.flush()
        self.process = self._number_of("began")

    def _number_of(self, what: str) -> int:
        """The next number of a kind that the forking process tells; what an earlier test has left is passed over."""
        assert self._forking.stdout is not None
        while True:
            word, number = self._forking.stdout.readline().split()
            if word == what:
                return int(number)

    def stop(self, number: signal.Signals) -> int:
        """Sends a signal; how the command ended."""
        os.kill(self.process, number)
        return self._number_of("ended")

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself."""
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        return False

    @property
    def errors(self) -> str:
        return (self._folder / "stderr").read_text()


@pytest.fixture(scope="module")
def forking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    folder = tmp_path_factory.mktemp("stopped")
    kept = {name: text for name, text in os.environ.items() if not name.startswith("FLETCHING_")}
    with subprocess.Popen(
        [sys.executable, "-c", FORKING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**kept, "FLETCHING_CONFIG_DIR": str(folder / "config"), "NO_COLOR": "1"},
    ) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def run(forking: subprocess.Popen[str], tmp_path: Path) -> Callable[..., Command]:
    (tmp_path / "rows.csv").write_text("id,s\n1,a\n")
    (tmp_path / "picture").write_bytes(bytes(1000))
    return lambda *words: Command(
        forking, tmp_path, [each.replace("{here}", str(tmp_path)) for each in words]
    )


COMMANDS: dict[str, tuple[str, ...]] = {
    "status": (),
    "create": ("t", "id BIGINT"),
    "ls": (),
    "show": ("t",),
    "put": ("t", "{here}/rows.csv", "--create"),
    "get": ("t", "{here}/out.csv"),
    "head": ("t",),
    "sql": ("select * from t", "--output", "{here}/out.csv"),
    "count": ("t", "--filter", "id = 1"),
    "describe": ("t",),
    "sample": ("t",),
    "copy": ("t", "u"),
    "versions": ("t",),
    "restore": ("t", "1", "--yes"),
    "tag list": ("t",),
    "tag create": ("t", "name"),
    "tag delete": ("t", "name"),
    "enforce-key": ("t", "--yes"),
    "changes": ("t", "--since", "0"),
    "delete": ("t", "id = 1", "--yes"),
    "rename": ("t", "u"),
    "drop": ("t", "--yes"),
    "blob put": ("t", "{here}/picture"),
    "blob get": ("t", "{here}/pictures"),
    "blob ls": ("t",),
    "bench": (),
}
ELSEWHERE = {
    "console": "asks nobody: it prints a link, or has a browser open it",
    **dict.fromkeys(
        ("verify", "gc", "servers", "maintain", "migrate", "adopt", "compact"),
        "works on a data folder",
    ),
    **dict.fromkeys(
        [f"keys {verb}" for verb in ("create", "list", "revoke", "rotate", "grant", "token")],
        "works on a data folder",
    ),
}


def _commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[str]:
    """The names of all commands that are told where tables are."""
    if hasattr(command, "list_commands"):
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from _commands(command.get_command(context, name), (*words, name))
    elif any(each.name == "at" for each in command.params):
        yield " ".join(words)


def test_every_command_that_asks_a_service_is_stopped() -> None:
    assert set(_commands(typer.main.get_command(app))) == set(COMMANDS) | set(ELSEWHERE)


SILENT = Answer(silent_after=0)
BUSY = Answer(status=503, headers=(("retry-after", "60"),))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_stopped_while_the_service_keeps_it_waiting(
    run: Callable[..., Command], tmp_path: Path, name: str
) -> None:
    before = sorted(each.name for each in tmp_path.iterdir())
    ends = ((SILENT, signal.SIGINT, 130), (BUSY, signal.SIGTERM, 143))
    for answer, number, code in ends:
        with ReplayPeer(lambda _, answer=answer: answer) as peer:  # type: ignore[misc]
            command = run(
                *name.split(), *COMMANDS[name], "--at", peer.url, "--access-key", "a:b", "--wait", "600"
            )  # fmt: skip
            until(lambda peer=peer, command=command: peer.requests or command.ended)  # type: ignore[misc]
            assert not command.ended, command.errors
            assert command.stop(number) == code, command.errors
        assert "Traceback" not in command.errors
        lines = [each for each in command.errors.splitlines() if "attempt" not in each]
        assert len(lines) <= 1, lines
    left = sorted(each.name for each in tmp_path.iterdir())
    assert set(left) - set(before) <= {"stdin", "stdout", "stderr"}
