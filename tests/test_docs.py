"""Every Python block of the README and docs runs; every shell line names a real command and options.

The blocks of a page share one namespace and run in order, in an empty folder. A page's servers and
files are its own business to close and to keep inside the folder.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)?[^\n]*\n(?P<body>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    text = page.read_text()
    return [
        (text[: found.start()].count("\n") + 2, textwrap.dedent(found["body"]))
        for found in FENCE.finditer(text)
        if found["language"] == language
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
        command = command.commands[name]
    command.make_context(name, list(words))  # type: ignore[attr-defined]  # a click command


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{relative(page)} links to {target}"
