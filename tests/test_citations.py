"""What comments, docstrings and pages point to is there: pages, their headings, modules and files."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "fletching"
TEXTS = {
    path: path.read_text()
    for path in (
        *SOURCE.rglob("*.py"),
        *(
            path
            for room in ("tests", "interop", "benchmarks", "examples", "docs")
            for path in (ROOT / room).rglob("*.py")
        ),
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("*.md"),
        *ROOT.glob("*.py"),
    )
    if path != Path(__file__)
}
# "NAME 2.1" and "NAME, section 3": a document by its name, and a place in it.
SECTION = re.compile(
    r"\b([A-Z][A-Z-]{3,}(?:\.md)?)(?:,?\s+sections?\s+\d|\s+\d+\.\d+\b)|\(([A-Z]{4,}) \d+\)"
)
# What has numbers and is no document.
NO_DOCUMENT = {"BETWEEN", "HTTP", "SELECT"}
PAGE = re.compile(r"\bdocs/([\w/-]+\.md)(?:,\s+\"([^\"]+)\")?")
MODULE = re.compile(r"`(fletching\.[\w.]+)`")
FILE = re.compile(r"``?((?:[\w-]+/)*\w+\.py)``?")


def short_name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_section_is_cited_of_a_document_that_is_not_here() -> None:
    cited = {
        (short_name(path), match[0])
        for path, text in TEXTS.items()
        for match in SECTION.finditer(text)
        if (match[1] or match[2]) not in NO_DOCUMENT
    }
    assert not cited


def test_pages_and_headings_that_are_cited_are_there() -> None:
    seen = 0
    for path, text in TEXTS.items():
        for name, heading in PAGE.findall(text):
            page = ROOT / "docs" / name
            assert page.exists(), f"{short_name(path)} cites docs/{name}"
            if heading:
                seen += 1
                assert re.search(rf"^#+ {re.escape(heading)}$", page.read_text(), re.MULTILINE), (
                    f"{short_name(path)} cites {heading!r} of docs/{name}"
                )
    assert seen > 5


def test_modules_and_files_that_are_cited_are_there() -> None:
    code = {
        short_name(path).removeprefix("src/").removesuffix(".py").removesuffix("/__init__"): text
        for path, text in TEXTS.items()
        if SOURCE in path.parents
    }
    files = [f"/{short_name(path)}" for path in TEXTS]
    missing = set()
    for path, text in TEXTS.items():
        for name in MODULE.findall(text):
            location, rest = name.replace(".", "/"), ""
            while location not in code:
                location, _, rest = location.rpartition("/")
            # Keys of metadata and loggers are called fletching.x as well: no module was meant.
            if location != "fletching" and rest:
                room = [
                    text for module, text in code.items() if f"{module}/".startswith(f"{location}/")
                ]
                if not any(re.search(rf"\b{rest}\b", text) for text in room):
                    missing.add((short_name(path), name))
        missing |= {
            (short_name(path), name)
            for name in FILE.findall(text)
            if not any(file.endswith(f"/{name}") for file in files)
        }
    assert not missing
