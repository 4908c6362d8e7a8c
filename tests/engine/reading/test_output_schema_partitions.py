from __future__ import annotations

import pyarrow as pa
import pytest

from fletching.engine.reading.output_schema import PartitionFilter, TableColumns
from fletching.errors import InvalidArgumentError, NoSuchPartitionError
from fletching.types import PartitionSpec

COLUMNS = TableColumns(
    pa.schema([("id", pa.int64())]), (("pt", "string"), ("n", "int")), ((1,), (2,), (3,))
)


def wanted(*specs: str) -> PartitionFilter:
    return PartitionFilter.of(COLUMNS, [PartitionSpec.parse(text) for text in specs])


@pytest.mark.parametrize(
    ("specs", "chosen"),
    [
        ([], ["a1", "a2", "b1"]),
        (["pt=a"], ["a1", "a2"]),
        (["n=1"], ["a1", "b1"]),
        (["pt=a,n=01"], ["a1"]),
        (["pt=a,n=2", "pt=b"], ["a2", "b1"]),
        (["n=2", "pt=b,n=1"], ["a2", "b1"]),
        (["pt=c"], []),
    ],
)
def test_partitions_that_match(specs: list[str], chosen: list[str]) -> None:
    result = wanted(*specs)
    assert [text for text in ("a1", "a2", "b1") if result.matches((text[0], text[1]))] == chosen
    assert result.everything is (not specs)
    assert result == wanted(*specs[::-1])
    assert hash(result) == hash(wanted(*specs[::-1]))


def test_partitions_named_in_full_must_exist() -> None:
    wanted("pt=a,n=1", "pt=z").check_existing([("a", "1")])
    with pytest.raises(NoSuchPartitionError, match="'a', '2'"):
        wanted("pt=a,n=2").check_existing([("a", "1")])


@pytest.mark.parametrize("spec", ["x=1", "n=one"])
def test_what_names_no_partition(spec: str) -> None:
    with pytest.raises(InvalidArgumentError):
        wanted(spec)
