from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fletching.cli.quickstart.sources import standard_library, user_files
from fletching.errors import UsageError


def rows(source: object, index: int = 0) -> list[dict[str, object]]:
    load = source.loads[index]  # type: ignore[attr-defined]  # a Source
    return [row for batch in load.batches() for row in batch.to_pylist()]


def test_the_standard_library_is_one_row_per_file_and_per_line(tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "tool.py").write_text("a = 1\n  b = 'ü'\n")
    (tmp_path / "Abc.py").write_bytes(b"x = '\xff'\n")
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "not_ours.py").write_text("pass\n")
    files, lines = standard_library(tmp_path)
    first, second = rows(files)
    assert (first["path"], first["text"], first["letter"]) == ("Abc.py", None, "a")
    assert (second["path"], second["package"], second["lines"]) == ("json/tool.py", "json", 2)
    assert second["sha256"] == hashlib.sha256(second["text"].encode()).digest()  # type: ignore[attr-defined]  # text
    assert rows(lines) == [
        {"file": "json/tool.py", "number": 1, "indent": 0, "length": 5, "text": "a = 1"},
        {"file": "json/tool.py", "number": 2, "indent": 2, "length": 9, "text": "  b = 'ü'"},
    ]


def test_the_real_standard_library_is_there() -> None:
    files, lines = standard_library()
    assert sum(b.num_rows for b in files.loads[0].batches()) > 500
    assert sum(b.num_rows for b in lines.loads[0].batches()) > 200_000


def test_a_folder_becomes_a_table_per_schema_and_a_partition_per_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "x.parquet")
    pq.write_table(pa.table({"a": [3]}), tmp_path / "y.parquet")
    (tmp_path / "9 other-name.csv").write_text("file,n\nz,1\n")
    (tmp_path / "ignored.txt").write_text("no table")
    sources = {s.table: s for s in user_files(tmp_path)[0]}
    assert set(sources) == {"t_9_other_name", tmp_path.name.lower()}
    other = sources["t_9_other_name"]
    assert other.partition_by == ("file_",)
    folder = sources[tmp_path.name.lower()]
    assert [load.partition for load in folder.loads] == ["file=x.parquet", "file=y.parquet"]
    assert rows(folder, 1) == [{"a": 3}]


def test_nothing_readable_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file or folder"):
        user_files(tmp_path / "absent")
    with pytest.raises(UsageError, match="holds no Parquet"):
        user_files(tmp_path)


def test_hive_keys_are_partition_columns(tmp_path: Path) -> None:
    for year in ("2024", "2025"):
        folder = tmp_path / "hive" / f"year={year}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"a": [1]}), folder / "p.parquet")
    ((source,), left_out) = user_files(tmp_path / "hive")
    assert not left_out
    assert source.partition_by == ("year", "file")
    assert source.loads[0].partition == "year=2024,file='year=2024/p.parquet'"


def test_files_beside_a_hive_folder_are_a_table_of_their_own(tmp_path: Path) -> None:
    folder = tmp_path / "lake" / "year=2024"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"a": [1]}), folder / 'it\'s "p".parquet')
    pq.write_table(pa.table({"a": [1]}), tmp_path / "lake" / "q.parquet")
    sources, left_out = user_files(tmp_path / "lake")
    assert not left_out
    assert sorted(source.partition_by for source in sources) == [("file",), ("year", "file")]


def test_a_file_that_cannot_be_read_is_named_and_left_out(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "good.parquet")
    (tmp_path / "bad.csv").touch()
    sources, left_out = user_files(tmp_path)
    assert len(sources) == 1
    assert [Path(each.path).name for each in left_out] == ["bad.csv"]
    (tmp_path / "good.parquet").unlink()
    with pytest.raises(UsageError, match=r"bad\.csv"):
        user_files(tmp_path)
