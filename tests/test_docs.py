"""Every Python block of the README and docs runs, and so does every shell block of the README.

The Python blocks of a page share one namespace and run in order, in an empty folder. A page's servers
and files are its own business to close and to keep inside the folder. The README's shell blocks run
in one shell from top to bottom. In the other pages every shell line names a real command and options.
"""

from __future__ import annotations

import contextlib
import os
import re
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
from tests.folding import folded

ROOT = Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)?[^\n]*\n(?P<body>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    text = page.read_text()
    return [
        (text[: result.start()].count("\n") + 2, textwrap.dedent(result["body"]))
        for result in FENCE.finditer(text)
        if result["language"] == language
    ]


def with_blocks(language: str) -> list[Path]:
    return [page for page in PAGES if blocks(page, language)]


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", with_blocks("python"), ids=relative)
def test_python_examples_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line, body in blocks(page, "python"):
        # Blank lines in front keep the page's line numbers in tracebacks.
        exec(compile("\n" * (line - 1) + body, str(page), "exec"), namespace)


# `pip` that only looks whether what is to be installed exists: tests/test_packaging.py installs.
PIP = """#!{python}
import re, sys
wanted = re.fullmatch(r"fletching(?:\\[([a-z0-9,]+)\\])?", sys.argv[-1])
if sys.argv[1] != "install" or wanted is None:
    sys.exit(f"not installable: {{sys.argv[1:]}}")
unknown = set((wanted[1] or "").split(",")) - {extras!r} - {{""}}
if unknown:
    sys.exit(f"no such extra: {{unknown}}")
"""
FLETCHING = """#!/bin/sh
exec {python} -m fletching "$@"
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def shell(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs text in one shell in a clean folder; what it leaves running is ended."""
    commands = folder / "bin"
    commands.mkdir()
    extras = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    )
    for name, program in (("pip", PIP), ("fletching", FLETCHING)):
        (commands / name).write_text(program.format(python=sys.executable, extras=extras))
        (commands / name).chmod(0o755)
    work = folder / "work"
    work.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FLETCHING_")}
    environment |= {
        "PATH": f"{commands}:{Path(sys.executable).parent}:{environment['PATH']}",
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "NO_COLOR": "1",
    }
    with subprocess.Popen(
        ["/bin/sh", "-e", "-c", text],
        cwd=work,
        env=environment,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=600)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(text, process.returncode, out, err)


def test_the_readme_runs_in_one_shell(tmp_path: Path) -> None:
    text = "".join(body for _, body in blocks(ROOT / "README.md", "sh"))
    # The port of the text may be in use on this machine.
    done = shell(text.replace("8787", str(free_port())), tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "id\tkind\tamount\n1\tview\t\\N\n2\tsale\t9.5\n" in done.stdout
    assert (tmp_path / "work" / "sales.parquet").exists()


@pytest.mark.parametrize("page", with_blocks("sh"), ids=relative)
def test_shell_examples_parse(page: Path) -> None:
    import typer

    from fletching.cli.main import app

    command = typer.main.get_command(app)
    for line, body in blocks(page, "sh"):
        for text in body.replace("\\\n", " ").splitlines():
            for part in re.split(r"\s[|&]+\s", text.split(" #")[0]):
                words = [w for w in shlex.split(part) if w not in {"<", ">"}]
                while words and re.match(r"^[A-Z_]+=", words[0]):
                    words.pop(0)
                words = [word for word in words if word != "&"]
                if not words or words[0] != "fletching":
                    continue
                if len(words) > 1 and words[1] == "--help":
                    continue
                try:
                    _parse(command, words[1:])
                except Exception as exc:
                    raise AssertionError(f"{relative(page)}:{line}: {part!r}: {exc}") from exc


def _parse(command: object, words: list[str]) -> None:
    """Walks down the command groups and parses the last one's arguments, without running it."""
    name = "fletching"
    while hasattr(command, "commands"):
        name, words = words[0], words[1:]
        command = command.get_command(None, name)  # type: ignore[attr-defined]  # a click group
    command.make_context(name, list(words))  # type: ignore[attr-defined]  # a click command


def test_the_page_of_errors_is_what_the_source_says() -> None:
    generator = runpy.run_path(str(ROOT / "docs" / "generate_errors.py"))
    assert generator["PAGE"].read_text() == generator["page"](), "make docs writes it anew"


def test_the_site_and_the_plain_index_name_pages_that_are_there() -> None:
    # That none is left out is checked where the site is built (docs/check_site.py).
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    site = (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2]
    named = set(re.findall(r"[\w/-]+\.md", site))
    assert named <= pages
    assert len(named) > 25
    index = (ROOT / "docs" / "llms.txt").read_text()
    assert set(re.findall(r"\]\(([\w/-]+\.md)\)", index)) <= pages


def test_the_limits_are_those_of_the_code() -> None:
    from fletching.engine.engine_settings import EngineSettings
    from fletching.engine.tables import schema_checks
    from fletching.ipc import Limits
    from fletching.protocol.types.odps_types import MAX_TYPE_DEPTH
    from fletching.server.server_settings import ServerSettings

    text = (ROOT / "docs" / "limits.md").read_text()
    settings, engine = ServerSettings(), EngineSettings()
    assert f"underscores, {schema_checks.MAX_TABLE_NAME_LENGTH} characters" in text
    assert f"| column names | {schema_checks.MAX_COLUMN_NAME_LENGTH} characters" in text
    levels = f"{MAX_TYPE_DEPTH} levels in a table, {Limits().max_depth} in `fletching.ipc`"
    assert f"nesting of types | {levels}" in text
    assert f"{settings.max_json_bytes >> 20} MiB, else 413" in text
    assert f"{settings.max_head_bytes >> 10} KiB, else 431" in text
    assert f"{settings.max_bodies}, {settings.max_reads}, {settings.max_calls}, else 429" in text
    assert f"| connections | {settings.max_connections} |" in text
    assert settings.clock_skew_seconds == 15 * 60
    assert engine.read_session_seconds == engine.write_session_seconds == 86_400


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{relative(page)} links to {target}"
                # The site is made of docs/ alone.
                if ROOT / "docs" in page.parents:
                    assert (page.parent / target).resolve().is_relative_to(ROOT / "docs"), (
                        f"{relative(page)} links to {target}, which the site has not"
                    )


@folded("page", PAGES)
def test_no_page_has_marks_of_a_merge(page: Path) -> None:
    marks = re.findall(r"^(?:<{7} .*|={7}|>{7} .*)$", page.read_text(), re.MULTILINE)
    assert not marks, f"{relative(page)}: {marks}"
