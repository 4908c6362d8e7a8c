"""Options of ``format("fletching")``: known ones, in any case, with values that mean something."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

import fletching
from fletching.connectors.spark_options import (
    checked,
    number_of,
    scan_of_options,
    switch_of,
    table_of_options,
)
from fletching.errors import UsageError


def test_names_are_compared_in_any_case() -> None:
    result = checked({"PATH": "t", "versionasof": "3", "ReadChangeFeed": "true"})
    assert result == {"path": "t", "versionasof": "3", "readchangefeed": "true"}
    assert checked({"path": "t", "checkpointLocation": "/there"})["checkpointlocation"] == "/there"


def test_an_unknown_option_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"no option wher; it has at, project, .*idempotencyKey"):
        checked({"path": "t", "wher": "id > 1"})
    for options in ({}, {"path": ""}):
        with pytest.raises(UsageError, match="name the table"):
            checked(options)


@pytest.mark.parametrize("text", ["", "-1", "1.5", "three", "٣", " 1"])
def test_numbers(text: str) -> None:
    assert number_of({"numpartitions": "12"}, "numPartitions", 0) == 12
    assert number_of({}, "numPartitions", 7) == 7
    with pytest.raises(UsageError, match="numPartitions is a whole number"):
        number_of({"numpartitions": text}, "numPartitions", 0)


def test_switches() -> None:
    assert [switch_of({"pushdown": v}, "pushdown") for v in ("true", "False", "TRUE")] == [
        True, False, True,
    ]  # fmt: skip
    assert not switch_of({}, "pushdown")
    with pytest.raises(UsageError, match="pushdown is true or false, not '1'"):
        switch_of({"pushdown": "1"}, "pushdown")


def test_the_scan_that_the_options_say(tmp_path: Path) -> None:
    location = str(tmp_path / "data")
    with fletching.connect(location, project="demo", create=True) as client:
        table = client.create_table("t", "id BIGINT, name STRING", ["day"])
        for day in "ab":
            table.append(pa.table({"id": [1, 2], "name": ["x", "y"]}), partition=f"day={day}")
        first = table.versions(limit=1)[0].version
        table.create_tag("v1")
        table.delete("id = 1")
    options = {"at": location, "project": "demo", "path": "t"}

    def rows(**more: str) -> list[dict[str, object]]:
        return scan_of_options(checked({**options, **more})).to_table().to_pylist()

    assert table_of_options(options).count_rows() == 2
    assert rows(columns=" id, day ", filter="id > 1") == [
        {"id": 2, "day": "a"},
        {"id": 2, "day": "b"},
    ]
    assert len(rows(versionAsOf=str(first))) == len(rows(versionAsOf="v1")) == 4
    assert rows(partition="day=b", columns="day") == [{"day": "b"}]
    feed = rows(readChangeFeed="true", startingVersion=str(first), columns="id,_change_type")
    assert feed == [{"id": 1, "_change_type": "delete"}] * 2
