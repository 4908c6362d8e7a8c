from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fletching.cli.tabular import (
    TEXT_BLOCK_BYTES,
    FileFormat,
    ReadOptions,
    format_of,
    open_batches,
    write_batches,
)
from fletching.errors import ReadTimeoutError, StorageError, UsageError

TABLE = pa.table({"id": pa.array([1, 2, None], pa.int64()), "name": ["a", None, "ü"]})


def read(path: Path | str, file_format: FileFormat | None = None) -> pa.Table:
    with open_batches(str(path), file_format) as opened:
        return pa.Table.from_batches(opened.batches, opened.schema)


@pytest.mark.parametrize(
    "suffix",
    [
        ".parquet",
        ".csv",
        ".tsv",
        ".arrow",
        ".arrows",
        ".jsonl",
        ".csv.gz",
        ".jsonl.zst",
        ".parquet.gz",
    ],
)
def test_what_is_written_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    rows = write_batches(str(path), TABLE.schema, TABLE.to_batches(max_chunksize=2))
    assert rows == 3
    assert read(path).to_pydict() == TABLE.to_pydict()
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


def test_damage_in_the_middle_is_one_clear_sentence(tmp_path: Path) -> None:
    many = pa.table({"id": range(400_000), "name": [f"row {n}" for n in range(400_000)]})
    for name in ("t.parquet", "t.arrows", "t.arrow", "t.csv", "t.jsonl", "t.csv.gz"):
        path = tmp_path / name
        write_batches(str(path), many.schema, many.to_batches(max_chunksize=20_000))
        data = path.read_bytes()
        middle = len(data) // 2
        if name in {"t.csv", "t.jsonl"}:
            # In a second block: the first one's types are told already.
            assert len(data) > TEXT_BLOCK_BYTES // 2
            data = data * 2 + b'"\xff\n' * 10
        elif name == "t.parquet":
            data = data[:middle] + b"\xff" * 3000 + data[middle + 3000 :]
        else:
            data = data[:middle]
        path.write_bytes(data)
        with pytest.raises(UsageError, match="is not readable as"):
            read(path)


def test_an_error_of_the_caller_is_not_the_files(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    write_batches(str(path), TABLE.schema, TABLE.to_batches())
    with pytest.raises(ReadTimeoutError), open_batches(str(path)):
        raise ReadTimeoutError("no reply")


def test_pipes_of_every_format(tmp_path: Path) -> None:
    for name in ("t.parquet", "t.csv", "t.arrow", "t.arrows", "t.jsonl", "t.csv.gz"):
        path = tmp_path / name
        write_batches(str(path), TABLE.schema, TABLE.to_batches())
        (tmp_path / "pipes").mkdir(exist_ok=True)
        pipe = tmp_path / "pipes" / name
        os.mkfifo(pipe)
        writer = threading.Thread(
            target=lambda pipe=pipe, path=path: pipe.write_bytes(path.read_bytes())
        )
        writer.start()
        assert read(pipe).to_pydict() == TABLE.to_pydict()
        writer.join()


@pytest.mark.parametrize("file_format", [FileFormat.PARQUET, FileFormat.ARROW])
def test_devices_are_not_copied_to_their_end(file_format: FileFormat) -> None:
    with (
        pytest.raises(UsageError, match="/dev/zero is not a file or pipe"),
        open_batches("/dev/zero", file_format),
    ):
        pass


def test_options_of_csv(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("id;name;n\n1;M\xfcller;NA\n2;;5\n".encode("latin-1"))
    with pytest.raises(UsageError, match="--delimiter ';'"):
        read(path)
    path.write_bytes("id,name\n1,M\xfcller\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"'name' is not UTF-8 text: give its --encoding"):
        read(path)
    path.write_bytes("id;name;n\n1;M\xfcller;NA\n2;;5\n".encode("latin-1"))

    def given(**options: Any) -> list[dict[str, Any]]:
        with open_batches(str(path), None, ReadOptions(**options)) as opened:
            result: list[dict[str, Any]] = pa.Table.from_batches(
                opened.batches, opened.schema
            ).to_pylist()
            return result

    assert given(delimiter=";", encoding="latin-1", nulls=("", "NA")) == [
        {"id": 1, "name": "Müller", "n": None},
        {"id": 2, "name": None, "n": 5},
    ]
    assert given(delimiter=";", encoding="latin-1")[0]["n"] == "NA"
    types = pa.schema([("id", pa.string())])
    assert given(delimiter=";", encoding="latin-1", types=types)[0]["id"] == "1"
    assert len(given(delimiter=";", encoding="latin-1", header=False)) == 3


@pytest.mark.parametrize("text", ["a,a\n1,2\n", "a,A\n1,2\n", "a,\n1,2\n"])
def test_names_that_no_table_can_have(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"rename them|without a name"):
        read(path)


def test_what_the_system_does_not_take_is_a_failure() -> None:
    with pytest.raises(StorageError, match="No space left"):
        write_batches("/dev/full", TABLE.schema, TABLE.to_batches(), FileFormat.CSV)
    assert Path("/dev/full").is_char_device()


def test_nulls_in_a_file_of_one_column_are_rows(tmp_path: Path) -> None:
    column = pa.table({"x": [1.5, None, None, 2.5, None]})
    for name in ("t.csv", "t.tsv.gz", "t.jsonl"):
        write_batches(str(tmp_path / name), column.schema, column.to_batches())
        assert read(tmp_path / name) == column
