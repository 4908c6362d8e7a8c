"""``fletching put``: files, folders and pipes become rows."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.cli.conftest import TABLE, Shell

from fletching.cli import put


def test_a_file_goes_in_and_comes_out(shell: Shell) -> None:
    shell("put", "events", "in.parquet", "in.parquet", "--create")
    assert "6 rows" in shell.errors
    shell("get", "events", "out.parquet")
    assert pq.read_table("out.parquet").to_pylist() == TABLE.to_pylist() * 2
    shell("put", "events", "in.parquet", "--overwrite")
    assert shell.json("ls")[0]["rows"] == 3


def test_pipes(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.BytesIO()
    with pa.ipc.new_stream(stream, TABLE.schema) as writer:
        writer.write_table(TABLE)

    class Pipe:
        buffer = io.BytesIO(stream.getvalue())

    monkeypatch.setattr("sys.stdin", Pipe)
    assert shell.json("put", "piped", "-", "--create")["rows"] == 3


def test_csv_that_was_cut_inside_a_quoted_field_leaves_nothing(shell: Shell) -> None:
    shell("create", "t", "id BIGINT, name STRING")
    text = b'id,name\n1,"two\nlines"\n2,"e'
    Path("cut.csv").write_bytes(text)
    Path("cut.csv.gz").write_bytes(gzip.compress(text))
    for name in ("cut.csv", "cut.csv.gz"):
        shell("put", "t", name, exits=2)
        assert f"{name} ends inside the quoted field that begins on line 4" in shell.errors
        shell("put", "made", name, "--create", exits=2)
    assert [(each["table"], each["rows"]) for each in shell.json("ls")] == [("t", 0)]
    Path("whole.csv").write_bytes(text + b'"\n\n\n')
    assert shell.json("put", "t", "whole.csv")["rows"] == 2
    # Quotes of another width are quotes, once the text is read as what it is.
    Path("wide.csv").write_bytes('id,name\n3,"e"\n'.encode("utf-16"))
    assert shell.json("put", "t", "wide.csv", "--encoding", "utf-16")["rows"] == 1


def test_a_table_is_there_with_the_rows_of_all_files_or_not_at_all(shell: Shell) -> None:
    Path("good.csv").write_text("id,name\n1,a\n")
    Path("cut.csv").write_bytes(b'id,name\n2,"b')
    shell("put", "made", "good.csv", "cut.csv", "--create", exits=2)
    assert shell.json("ls") == []
    assert shell.json("put", "made", "good.csv", "good.csv", "--create")["rows"] == 2
    assert [(each["table"], each["rows"]) for each in shell.json("ls")] == [("made", 2)]


def test_files_go_into_a_table_that_another_has_made_meanwhile(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    existing = put._existing
    looks: list[object] = []

    def late(*arguments: Any, **options: Any) -> Any:
        looks.append(arguments)
        return None if len(looks) == 1 else existing(*arguments, **options)

    shell("put", "t", "in.parquet", "--create")
    monkeypatch.setattr(put, "_existing", late)
    assert shell.json("put", "t", "in.parquet", "--create")["rows"] == 3
    assert shell.json("ls")[0]["rows"] == 6


def test_columns_that_a_file_lacks_are_told(shell: Shell) -> None:
    shell("create", "t", "id BIGINT, name STRING, at TIMESTAMP")
    Path("whole.csv").write_text("at,NAME,id\n2026-01-01 00:00:00,a,1\n")
    Path("narrow.csv").write_text("id\n2\n")
    shell("put", "t", "whole.csv")
    assert "note" not in shell.errors
    shell("put", "t", "whole.csv", "narrow.csv", "narrow.csv")
    assert shell.errors.count("narrow.csv has no column name: its rows are null there") == 1
    assert shell.errors.count("narrow.csv has no column at") == 1
    assert shell.json("put", "t", "narrow.csv")["filled_with_null"] == ["name", "at"]
    shell("create", "strict", "id BIGINT, name STRING NOT NULL")
    shell("put", "strict", "narrow.csv", exits=2)
    assert "name" in shell.errors
    assert shell.json("ls")[0]["rows"] == 0


def test_folders_and_hive_keys(shell: Shell) -> None:
    for year, month in (("2024", "01"), ("2024", "02"), ("2025", "01")):
        folder = Path("hive", f"year={year}", f"month={month}")
        folder.mkdir(parents=True)
        pq.write_table(TABLE, folder / "part.parquet")
    Path("hive/_SUCCESS").touch()
    assert shell.json("put", "h", "hive", "--create")["rows"] == 9
    assert [entry["partition"] for entry in shell.json("ls", "h")] == [
        "year=2024,month=01",
        "year=2024,month=02",
        "year=2025,month=01",
    ]
    shell("get", "h", "out.parquet", "--filter", "month = '02'")
    assert set(pq.read_table("out.parquet")["year"].to_pylist()) == {"2024"}
    # into a table that has them as columns of its own
    shell("create", "flat", "id BIGINT, name STRING, at TIMESTAMP_NTZ, year BIGINT, month STRING")
    shell("put", "flat", "hive/year=2024")
    assert shell.json("ls")[0]["rows"] == 6
