from __future__ import annotations

from pathlib import Path

import pytest

from fletching.cli.input_files import input_files
from fletching.errors import UsageError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_is_walked_in_order_without_what_is_hidden(tmp_path: Path) -> None:
    touch(
        tmp_path, "b.csv", "a/x.parquet", "c.csv.gz", "_SUCCESS", "_meta/x.csv", ".x.csv", "n.txt"
    )
    result = input_files([str(tmp_path)])
    assert [Path(each.path).relative_to(tmp_path).as_posix() for each in result] == [
        "a/x.parquet",
        "b.csv",
        "c.csv.gz",
    ]


def test_keys_are_read_from_the_folders_above_a_file(tmp_path: Path) -> None:
    touch(tmp_path, "lake/year=2024/city=S%C3%A3o%20Paulo/x.csv")
    (result,) = input_files([str(tmp_path / "lake")])
    assert result.keys == (("year", "2024"), ("city", "São Paulo"))
    (part,) = input_files([str(tmp_path / "lake" / "year=2024")])
    assert part.keys == result.keys
    (alone,) = input_files([result.path])
    assert alone.keys == ()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "holds no Parquet"),
        (["year=/x.csv"], "without a value"),
        (["year=__HIVE_DEFAULT_PARTITION__/x.csv"], "without a value"),
        (["year=1/x.csv", "x.csv"], "put them one after the other"),
    ],
)
def test_what_is_no_input(tmp_path: Path, names: list[str], message: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(UsageError, match=message):
        input_files([str(tmp_path)])


def test_a_pipe_and_a_missing_file(tmp_path: Path) -> None:
    assert input_files(["-"])[0].path == "-"
    with pytest.raises(UsageError, match="there is no file"):
        input_files([str(tmp_path / "absent.csv")])
