from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from tests.cli.conftest import run

import fletching
from fletching.errors import InvalidArgumentError, NoSuchTableError, UsageError


@pytest.fixture
def at(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    run("create", "t", "id BIGINT, pt STRING", "--partition-by", "pt", "--at", folder)
    with fletching.connect(folder) as client:
        client.table("t").append(pa.table({"id": [1, 2, 3], "pt": ["a", "b", "a"]}))
    return folder


def test_a_copy_has_the_rows_and_the_partitions(at: Path) -> None:
    assert "3 rows" in run("copy", "t", "u", "--at", at).stderr
    run("copy", "t", "u", "--filter", "id = 2", "--at", at)
    with fletching.connect(at) as client:
        made = client.table("u")
        assert made.partition_columns == ("pt",)
        assert sorted(made.scan().to_table()["id"].to_pylist()) == [1, 2, 2, 3]
    with pytest.raises(UsageError, match="are one table"):
        run("copy", "t", "t", "--at", at)


def test_what_is_not_there_makes_no_folder(at: Path, tmp_path: Path) -> None:
    with pytest.raises(NoSuchTableError, match="nothere"):
        run("copy", "nothere", "n", "--at", at, "--to", tmp_path / "new")
    with pytest.raises(UsageError, match="nothere"):
        run("copy", "t", "n", "--columns", "nothere", "--at", at, "--to", tmp_path / "new")
    for where in ("nothere = 1", "id = ="):
        with pytest.raises(InvalidArgumentError):
            run("copy", "t", "n", "--filter", where, "--at", at, "--to", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    run("copy", "t", "n", "--filter", "id > 9", "--at", at, "--to", tmp_path / "new")
    with fletching.connect(tmp_path / "new") as client:
        assert client.table("n").count_rows() == 0


def test_a_copy_goes_to_another_folder_with_its_blobs(at: Path, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    for number in range(3):
        (tmp_path / "files" / f"{number}.bin").write_bytes(bytes([number]) * 1000)
    run("blob", "put", "pics", tmp_path / "files", "--create", "--at", at)
    run("copy", "pics", "pics", "--to", tmp_path / "other", "--at", at)
    run("drop", "pics", "--yes", "--at", at)
    run("blob", "get", "pics", tmp_path / "out", "--at", tmp_path / "other")
    assert {path.name: path.read_bytes()[:1] for path in (tmp_path / "out").iterdir()} == {
        f"{number}.bin": bytes([number]) for number in range(3)
    }
