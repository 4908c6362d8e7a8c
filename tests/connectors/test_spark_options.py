"""Options of Spark's format: known by name whatever the case, checked before anything is connected."""

from __future__ import annotations

import pytest

from fletching.connectors.spark_options import checked, number_of, switch_of
from fletching.errors import UsageError


def test_names_in_any_case() -> None:
    assert checked({"PATH": "t", "VersionAsOf": "3", "checkpointLocation": "x"}) == {
        "path": "t", "versionasof": "3", "checkpointlocation": "x",
    }  # fmt: skip
    with pytest.raises(UsageError, match="no option colums"):
        checked({"path": "t", "colums": "a"})
    for missing in ({}, {"path": ""}):
        with pytest.raises(UsageError, match="name the table"):
            checked(missing)


def test_numbers_and_switches() -> None:
    assert number_of({"numpartitions": "12"}, "numPartitions", 3) == 12
    assert number_of({}, "numPartitions", 3) == 3
    assert switch_of({"pushdown": "TRUE"}, "pushdown")
    assert not switch_of({}, "pushdown")
    for text in ("-1", "x", "²", "1.0", ""):
        with pytest.raises(UsageError, match="whole number"):
            number_of({"numpartitions": text}, "numPartitions", 3)
    with pytest.raises(UsageError, match="true or false"):
        switch_of({"pushdown": "yes"}, "pushdown")
