"""Transfers tell how far they are: the counts, the totals, the last call, and what a bar looks like."""

from __future__ import annotations

import asyncio
import io
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

import fletching
import fletching.aio
from fletching.client import progress as module
from fletching.client.progress import Progress, progress_meter, rows_of
from fletching.errors import UsageError

ROWS = pa.table({"id": range(10), "word": ["x"] * 10})


@pytest.fixture
def client(tmp_path: Path) -> Iterator[fletching.Client]:
    with fletching.connect(tmp_path / "data", create=True) as result:
        yield result


class Reports(list[Progress]):
    def __call__(self, progress: Progress) -> None:
        self.append(progress)

    def check(self, rows: int, total: int | None, unit: str = "rows") -> None:
        counts = [each.done for each in self]
        assert counts == sorted(counts)
        assert [each.finished for each in self] == [False] * (len(self) - 1) + [True]
        assert (self[-1].done, self[-1].total, self[-1].unit) == (rows, total, unit)
        assert self[-1].bytes > 0
        self.clear()


def test_reads_tell_how_far_they_are(client: fletching.Client) -> None:
    table = client.create_table("t", ROWS)
    table.append(ROWS)
    reported = Reports()
    assert table.scan().to_table(progress=reported).num_rows == 20
    assert {each.name for each in reported} == {"t"}
    reported.check(20, 20)
    assert sum(batch.num_rows for batch in table.scan(limit=15).to_batches(progress=reported)) == 15
    reported.check(15, 15)
    table.scan(filter="id > 4").to_pandas(progress=reported)
    reported.check(10, None)  # how many rows a filter lets through is known at its end
    table.scan().to_polars(progress=reported)
    reported.check(20, 20)
    table.scan().to_reader(progress=reported).read_all()
    reported.check(20, 20)
    table.to_table(progress=reported)
    reported.check(20, 20)
    with table.scan().session() as session:
        session.to_table(progress=reported)
    reported.check(20, 20)
    client.sql("select * from t where id < 3").to_table(progress=reported)
    reported.check(6, 6)


@pytest.mark.parametrize("streams", [1, 2])
def test_writes_tell_how_far_they_are(client: fletching.Client, streams: int) -> None:
    reported = Reports()
    table = client.create_table("t", ROWS, progress=reported)
    reported.check(10, 10)
    table.append(ROWS.to_pandas(), streams=streams, progress=reported)
    reported.check(10, 10)
    table.append(iter(ROWS.to_batches()), streams=streams, progress=reported)
    reported.check(10, None)
    table.append([{"id": 1, "word": "y"}], streams=streams, progress=reported)
    reported.check(1, 1)
    table.overwrite(ROWS, streams=streams, progress=reported)
    reported.check(10, 10)
    table.overwrite(ROWS.slice(0, 2), where="id < 2", streams=streams, progress=reported)
    reported.check(2, 2)
    table.merge(ROWS, on=["id"], progress=reported)
    reported.check(10, 10)
    keyed = client.create_table("k", "id BIGINT NOT NULL, word STRING", primary_key=["id"])
    keyed.upsert(ROWS, progress=reported)
    reported.check(10, 10)
    assert table.count_rows() == keyed.count_rows() == 10


def test_large_appends_count_every_row_once(client: fletching.Client) -> None:
    reported = Reports()
    table = client.create_table("t", ROWS.schema).with_options(write_body_bytes=64)
    table.append(pa.concat_tables([ROWS] * 5), progress=reported)
    reported.check(50, 50)


def test_blobs_tell_how_far_they_are(client: fletching.Client, tmp_path: Path) -> None:
    reported = Reports()
    file = tmp_path / "one.bin"
    file.write_bytes(b"from a file")
    table = client.create_table("b", "id BIGINT, data BLOB")
    table.append({"id": [1, 2], "data": [b"one", b"two"]}, progress=reported)
    reported.check(2, 2)
    with table.write_session() as session, session.writer() as writer:
        references = session.put_blobs([b"three", file], progress=reported)
        assert reported[-1].bytes == len(b"three") + len(b"from a file")
        reported.check(2, 2, "blobs")
        writer.write({"id": [3, 4], "data": references})
    cells = table.to_table()["data"]
    assert len([bytes(blob or b"") for blob in client.get_blobs(cells, progress=reported)]) == 4
    reported.check(4, 4, "blobs")


def test_what_fails_or_is_left_does_not_finish(client: fletching.Client) -> None:
    reported = Reports()
    table = client.create_table("t", ROWS)

    def broken() -> Iterator[pa.RecordBatch]:
        yield from ROWS.to_batches()
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        table.append(broken(), progress=reported)
    batches = table.scan().to_batches(progress=reported)
    next(batches)
    batches.close()
    assert reported
    assert not any(each.finished for each in reported)
    assert table.count_rows() == 10


def test_an_error_of_the_function_ends_the_transfer(client: fletching.Client) -> None:
    table = client.create_table("t", ROWS)

    def stop(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        table.append(ROWS, progress=stop)
    assert table.count_rows() == 10
    for wrong in (3, "yes"):
        with pytest.raises(UsageError, match="progress is True for a bar"):
            table.scan().to_table(progress=wrong)  # type: ignore[arg-type]


def test_awaited_transfers_tell_it_too(tmp_path: Path) -> None:
    reported = Reports()

    async def main() -> None:
        async with fletching.aio.connect(tmp_path / "data", create=True) as client:
            table = await client.create_table("t", ROWS, progress=reported)
            reported.check(10, 10)
            await table.scan().to_table(progress=reported)
            reported.check(10, 10)
            batches = await table.scan().to_batches(progress=reported)
            assert len([batch async for batch in batches]) == 1
            reported.check(10, 10)

    asyncio.run(main())


# --- bars ----------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_line_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(module, "REDRAW_SECONDS", 0.0)
    meter = progress_meter(True, "events")
    assert meter is not None
    meter.total = 200
    meter.add(100, 5_000_000)
    meter.add(100, 5_000_000)
    meter.finish()
    lines = terminal.getvalue().split("\r")[1:]
    assert lines[0].startswith("[############------------] events: 100 of 200 rows, 5.0 MB")
    assert lines[-1].startswith("events: 200 rows, 10.0 MB")
    assert lines[-1].endswith("\n")
    meter = progress_meter(True, "left")
    assert meter is not None
    meter.add(1, 1)
    meter.abandon()
    assert terminal.getvalue().endswith("\r")


def test_a_file_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    meter = progress_meter(True, "events")
    assert meter is not None
    meter.add(1, 10)
    monkeypatch.setattr(module, "LINE_SECONDS", 0.0)
    meter.add(1, 10)
    reported = capsys.readouterr()
    assert (reported.out, reported.err.startswith("events: 2 rows, 20 B")) == ("", True)


def test_a_notebook_gets_an_element(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, text: str) -> None:
            shown.append(text)

    def display(text: str, *, display_id: bool) -> Handle:
        assert display_id
        shown.append(text)
        return Handle()

    shell = type("ZMQInteractiveShell", (), {})()
    python: Any = types.ModuleType("IPython")
    python.get_ipython = lambda: shell
    views: Any = types.ModuleType("IPython.display")
    views.HTML, views.display = str, display
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", views)
    monkeypatch.setattr(module, "REDRAW_SECONDS", 0.0)
    meter = progress_meter(True, "<b>")
    assert meter is not None
    meter.total = 4
    meter.add(1, 10)
    meter.finish()
    assert len(shown) == 2
    assert 'value="0.2500"' in shown[0]
    assert "&lt;b&gt;: 1 of 4 rows" in shown[0]
    assert "<b>" not in shown[0]


def test_rows_are_known_where_the_data_says_so() -> None:
    assert rows_of(ROWS) == rows_of(ROWS.to_pandas()) == rows_of(ROWS.to_pydict()) == 10
    assert rows_of(ROWS.to_batches()) == rows_of(ROWS.to_pylist()) == 10
    assert rows_of({"id": range(3)}) == rows_of({"id": pd.Series([1, 2, 3])}) == 3
    assert rows_of(iter(())) is None
    assert rows_of({}) == 0
