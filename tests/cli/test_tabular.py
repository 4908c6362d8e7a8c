from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pytest

from fletching.cli.tabular import FileFormat, format_of, open_batches, write_batches
from fletching.errors import UsageError

TABLE = pa.table({"id": pa.array([1, 2, None], pa.int64()), "name": ["a", None, "ü"]})


def read(path: Path | str, file_format: FileFormat | None = None) -> pa.Table:
    with open_batches(str(path), file_format) as (schema, batches):
        return pa.Table.from_batches(batches, schema)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".arrow", ".arrows"])
def test_what_is_written_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    rows = write_batches(str(path), TABLE.schema, TABLE.to_batches(max_chunksize=2))
    assert rows == 3
    assert read(path).to_pydict() == {**TABLE.to_pydict(), "name": ["a", None, "ü"]} or (
        suffix == ".csv" and read(path)["name"].to_pylist() == ["a", "", "ü"]
    )
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_an_arrow_suffix_may_hold_the_stream_format(tmp_path: Path) -> None:
    path = tmp_path / "t.arrow"
    write_batches(str(path), TABLE.schema, TABLE.to_batches(), FileFormat.STREAM)
    assert read(path) == TABLE


def test_a_pipe_is_the_stream_format(monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipe:
        buffer = io.BytesIO()

    monkeypatch.setattr("sys.stdout", Pipe)
    write_batches("-", TABLE.schema, TABLE.to_batches())
    Pipe.buffer.seek(0)
    monkeypatch.setattr("sys.stdin", Pipe)
    assert read("-") == TABLE


def test_parquet_through_a_pipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_batches(str(path), TABLE.schema, TABLE.to_batches())

    class Pipe:
        buffer = io.BytesIO(path.read_bytes())

    monkeypatch.setattr("sys.stdin", Pipe)
    assert read("-", FileFormat.PARQUET) == TABLE


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.arrow", "t.arrows"])
def test_a_file_of_another_format_is_one_clear_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b'"' * 7 + b"\x00garbage")
    with pytest.raises(UsageError, match=r"is not readable as"):
        read(path)


def test_missing_unknown_and_unwritable(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        read(tmp_path / "absent.parquet")
    with pytest.raises(UsageError, match="cannot tell the format"):
        format_of("data.xlsx")
    with pytest.raises(UsageError, match="cannot write"):
        write_batches(str(tmp_path / "no" / "t.csv"), TABLE.schema, TABLE.to_batches())


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    nested = pa.table({"a": [[1]]})
    with pytest.raises(UsageError, match="cannot hold this table"):
        write_batches(str(tmp_path / "t.csv"), nested.schema, nested.to_batches())
    assert list(tmp_path.iterdir()) == []
