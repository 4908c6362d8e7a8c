from __future__ import annotations

import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pytest

from fletching import ipc
from fletching.cli.main import main
from fletching.ipc.inspection_page import page


def batch(rows: int) -> pa.RecordBatch:
    return pa.record_batch(
        {
            "id": range(rows),
            "name": pa.array([f"row {i}" for i in range(rows)], pa.string()),
            "tag": pa.array(["x"] * rows).dictionary_encode(),
        }
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    result = tmp_path / "x.arrow"
    with result.open("wb") as file, ipc.FileWriter(file, batch(1).schema) as writer:
        for _ in range(50):
            writer.write(batch(20))
        writer.close({b"made by": b"a test"})
    return result


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["fletching", "inspect", *words])
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0), capsys.readouterr().out


def test_people_see_messages_and_columns_in_80_columns(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = run(monkeypatch, capsys, str(path), "--verify")
    assert code == 0
    assert "50 record batches, 1,000 rows, 3 columns, little-endian" in out
    assert "... 17 more" in out
    assert "footer metadata made by: a test" in out
    assert "sound: all contents are valid" in out
    table = [line for line in out.splitlines() if re.match(r"\s*\d+ batch", line)]
    assert len(table) == 33
    assert all(len(line) <= 80 for line in table)
    _, out = run(monkeypatch, capsys, str(path), "--all")
    assert "more" not in out
    assert "see --verify" in out


def test_machines_get_json(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = run(monkeypatch, capsys, str(path), "--json")
    document = json.loads(out)
    assert (code, document["ok"], document["verified"]) == (0, True, False)
    assert document["parts"][0]["rows"] == 1000
    assert document["length"] == path.stat().st_size


def test_damage_has_its_own_exit_code(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path.write_bytes(path.read_bytes()[:-100])
    code, out = run(monkeypatch, capsys, str(path))
    assert code == 3
    assert "no usable footer" in out
    assert "damaged: 1 error" in out
    empty = path.with_name("empty")
    empty.write_bytes(b"")
    assert run(monkeypatch, capsys, str(empty))[0] == 3
    assert run(monkeypatch, capsys, str(path.with_name("absent")))[0] == 2
    # A device has no end: all of it would be kept in memory.
    assert run(monkeypatch, capsys, "/dev/zero")[0] == 2


def test_standard_input(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = b"before" + path.read_bytes() + b"behind"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    code, out = run(monkeypatch, capsys, "-")
    assert code == 0
    assert "standard input" in out
    assert "6 other bytes at 0" in out


class Page(HTMLParser):
    """What a browser would draw and fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.rects: list[tuple[float, float, float, str]] = []
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        result = {name: value or "" for name, value in attrs}
        self.fetched += [result[name] for name in ("src", "href") if name in result]
        if tag == "rect":
            self.rects.append(
                (float(result["x"]), float(result["y"]), float(result["width"]), result["class"])
            )
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def drawn(text: str) -> Page:
    parser = Page()
    parser.feed(text)
    assert parser.open == []
    return parser


def test_the_page_is_self_contained_and_drawn_to_scale(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = path.with_suffix(".html")
    assert run(monkeypatch, capsys, str(path), "--html", str(out))[0] == 0
    text = out.read_text()
    result = drawn(text)
    assert result.fetched == []
    assert "<script" not in text
    assert "@import" not in text
    assert "url(" not in text
    # Padding is drawn below the buffers, everything else side by side: widths add up to the file.
    report = ipc.inspect_bytes(path.read_bytes())
    per_row = int(re.search(r"([\d,]+) bytes to a row", text)[1].replace(",", ""))  # type: ignore[index]  # it is there
    covered = sum(width for _, _, width, kind in result.rects if kind != "column")
    assert covered * per_row / 1200 == pytest.approx(report.length, rel=0.01)
    stored = sum(c.stored_bytes for m in report.parts[0].messages for c in m.columns)
    columns = sum(width for _, _, width, kind in result.rects if kind == "column")
    assert columns * per_row / 1200 == pytest.approx(stored, rel=0.01)


def test_names_from_the_data_are_escaped() -> None:
    sink = io.BytesIO()
    name = "<script>alert(1)</script>"
    ipc.write_stream(pa.record_batch({name: [1]}), sink)
    text = page(ipc.inspect_bytes(sink.getvalue()), name)
    assert "<script" not in text
    drawn(text)


@pytest.mark.parametrize("data", [b"", b"nothing", b"ARROW1\0\0"])
def test_a_page_of_nothing(data: bytes) -> None:
    drawn(page(ipc.inspect_bytes(data), "x"))
