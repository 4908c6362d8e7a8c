"""The main job: its figures add up, and a failure in one of its threads ends it."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.cli.quickstart.job import STREAMS, Meter, Mismatch, Step, move_table
from fletching.cli.quickstart.sources import Load, Source
from fletching.client.writing.arrow_writer import ArrowWriter

SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.string())])


def batches() -> Generator[pa.RecordBatch, None, None]:
    for start in range(0, 50, 10):
        rows = range(start, start + 10)
        yield pa.record_batch({"a": rows, "b": [f"row {n}" for n in rows]}, schema=SCHEMA)


def source(batches: Any) -> Source:
    return Source("t", SCHEMA, (), (Load("one", None, batches),), "", "a test")


def test_a_meter_counts_what_it_is_told() -> None:
    moved: list[tuple[str, int, int]] = []
    meter = Meter("t", "write", lambda *what: moved.append(what))
    meter.add(2, 10)
    assert list(meter.counted(batches())) == list(batches())
    step = meter.step()
    size = sum(batch.nbytes for batch in batches())
    assert (step.table, step.name, step.rows, step.bytes) == ("t", "write", 52, 10 + size)
    assert moved[0] == ("write", 2, 10)
    assert step.seconds > 0
    assert Step("t", "write", 1, 3_000_000_000, 1.5).gigabytes_per_second == 2.0
    assert Step("t", "write", 1, 3, 0.0).gigabytes_per_second == 0.0


def test_every_step_moves_all_rows(tmp_path: Path) -> None:
    with fletching.connect(tmp_path / "data", create=True) as client:
        steps = list(move_table(client, source(batches), lambda *_: None))
    assert [step.name for step in steps] == [
        f"write, {STREAMS} streams", "read all, 1 split", "compare all",
        "read 1 of 2 columns", "compare columns",
    ]  # fmt: skip
    assert {step.rows for step in steps} == {50}


def test_a_stream_that_cannot_be_closed_ends_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(writer: ArrowWriter) -> None:
        raise fletching.FletchingError("not closed")

    monkeypatch.setattr(ArrowWriter, "close", refuse)
    with (
        fletching.connect(tmp_path / "data", create=True) as client,
        pytest.raises(fletching.FletchingError, match="not closed"),
    ):
        list(move_table(client, source(batches), lambda *_: None))


def test_what_a_stream_refuses_ends_the_job(tmp_path: Path) -> None:
    def misfit() -> Generator[pa.RecordBatch, None, None]:
        for _ in range(50):
            yield pa.record_batch({"other": [1]})

    with (
        fletching.connect(tmp_path / "data", create=True) as client,
        pytest.raises(fletching.FletchingError, match="other"),
    ):
        list(move_table(client, source(misfit), lambda *_: None))


def test_values_that_came_back_otherwise_are_named(tmp_path: Path) -> None:
    given = iter([[1, 2, 3]])

    def changing() -> Generator[pa.RecordBatch, None, None]:
        yield pa.record_batch({"a": next(given, [1, 2, 4]), "b": ["x"] * 3}, schema=SCHEMA)

    with (
        fletching.connect(tmp_path / "data", create=True) as client,
        pytest.raises(Mismatch, match="t: compare all: row 2, column a"),
    ):
        list(move_table(client, source(changing), lambda *_: None))
