"""Asks tests about a mutation, in a fork of a process that has the large libraries already.

Starting Python, pyarrow and pytest anew takes longer than most of our tests: a fork has them at once
and takes only Fletching itself, with its mutation, from the disk. The fork tells through a pipe which
test begins; one that is silent for many times as long as its test takes otherwise hangs.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from mutants.recorder import ROOT

LIBRARIES = (
    *("pyarrow.compute", "pyarrow.csv", "pyarrow.dataset", "pyarrow.parquet", "pyarrow.json"),
    *("numpy", "pandas", "sqlalchemy.dialects.sqlite", "sqlglot", "sqlglot.optimizer", "msgspec"),
    *("hypothesis.strategies", "hypothesis.extra.numpy", "lz4.block", "lz4.frame", "zstandard"),
    *("asyncio", "ssl", "http.server", "logging.handlers", "concurrent.futures.thread"),
)

MOST_BYTES = 8 << 30
BROKEN = 70  # the exit code of a fork that could not ask at all: no verdict


def preload() -> None:
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


class Asked:
    """The side of the plugin in the fork: only the wanted tests, in their order, and who fails."""

    def __init__(self, wanted: list[str], without: frozenset[str], pipe: int) -> None:
        self._wanted = {name: place for place, name in enumerate(wanted)}
        self._without = without
        self._pipe = pipe

    def _tell(self, word: str, name: str) -> None:
        os.write(self._pipe, f"{word} {name}\n".encode())

    def pytest_sessionstart(self) -> None:
        import hypothesis

        current = hypothesis.settings()
        # Which input shows a mutation is all the same: the first one that does ends the test.
        phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
        hypothesis.settings.register_profile(
            "mutants", parent=current, phases=phases, derandomize=True, database=None, deadline=None
        )
        hypothesis.settings.load_profile("mutants")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        def place(item: pytest.Item) -> int | None:
            if item.nodeid in self._without:
                return None
            own = self._wanted.get(item.nodeid)
            return own if own is not None else self._wanted.get(item.nodeid.partition("::")[0])

        placed = [(where, item) for item in items if (where := place(item)) is not None]
        # By file first, so that what a file's tests share is made once.
        files: dict[str, int] = {}
        for where, item in placed:
            file = item.nodeid.partition("::")[0]
            files[file] = min(where, files.get(file, where))
        placed.sort(key=lambda pair: (files[pair[1].nodeid.partition("::")[0]], pair[0]))
        items[:] = [item for _, item in placed]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._tell("begins", nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, Any]:
        report = yield
        if report.failed:
            self._tell("fails", report.nodeid)
        return report


class Fork:
    """One question under way: the tests about the sources in `folder`, but for those of `without`."""

    def __init__(
        self,
        folder: Path,
        wanted: list[str],
        log: Path,
        seconds: dict[str, float],
        without: frozenset[str] = frozenset(),
    ) -> None:
        self.began = time.monotonic()
        self.wanted = wanted
        self.failed = ""
        self.test = ""
        self._seconds = seconds
        self._heard = self.began
        self._text = b""
        self.pipe, theirs = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.pipe)
            _ask(folder, Asked(wanted, without, theirs), wanted, log, theirs)
        os.close(theirs)

    def hear(self) -> bool:
        """Takes what the fork has to say; false once it has ended."""
        data = os.read(self.pipe, 65536)
        self._heard = time.monotonic()
        *lines, self._text = (self._text + data).split(b"\n")
        for line in lines:
            word, _, name = line.decode().partition(" ")
            if word == "begins":
                self.test = name
            elif word == "fails":
                self.failed = self.failed or name
            else:
                return False
        return bool(data)

    def wait(self) -> str:
        """Waits for its end: passed, failed, or hung."""
        while not self.hangs():
            if wait_for([self], 1.0) and not self.hear():
                return "failed" if self.finish() else "passed"
        self.end()
        return "hung"

    def hangs(self) -> bool:
        usual = self._seconds.get(self.test, 1.0)
        return time.monotonic() - self._heard > 60 + 20 * usual

    def end(self) -> int:
        """Ends it with every process that it started; its exit code, or minus its signal."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        os.close(self.pipe)
        return os.waitstatus_to_exitcode(status)

    def finish(self) -> int:
        """Waits for the end of what has closed its pipe; then as `end`."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            result = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if result is not None:
                break
            time.sleep(0.01)
        return self.end()


def _ask(folder: Path, plugin: Asked, wanted: list[str], log: Path, pipe: int) -> None:
    """Runs in the fork, and ends it."""
    code = BROKEN
    try:
        os.setsid()
        # What a mutation makes grow without end fails in its fork, and takes no other process along.
        resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(ROOT)
        sys.path[:0] = [str(folder / "src")]
        sys.dont_write_bytecode = True
        os.environ["PYTHONPATH"] = os.pathsep.join([str(folder / "src"), str(ROOT)])
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        files = list(dict.fromkeys(name.partition("::")[0] for name in wanted))
        options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist"]
        # A place of its own for files: other runs of pytest clear up among those of the default.
        options += ["--no-header", "--tb=short", f"--basetemp={folder / 'files'}"]
        # Hypothesis is here already: its own assertions are not rewritten, which is all the same.
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        code = int(pytest.main([*options, *files], plugins=[plugin])) if files else 0
        if code == pytest.ExitCode.NO_TESTS_COLLECTED:  # each was left out
            code = 0
        sys.stdout.flush()
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        # Said, for what a test left running may hold the pipe open.
        os.write(pipe, b"ends all\n")
        os._exit(code)


def wait_for(forks: list[Fork], seconds: float) -> list[Fork]:
    """The forks that have something to say, after at most so long."""
    with selectors.DefaultSelector() as selector:
        for fork in forks:
            selector.register(fork.pipe, selectors.EVENT_READ, fork)
        return [key.data for key, _ in selector.select(seconds)]
