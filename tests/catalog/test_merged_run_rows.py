"""Merged key runs: found by partition, their owners as they were, damage told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection
from tests.catalog.conftest import MakeTable

from fletching.catalog.merged_run_rows import (
    MergedRunRow,
    encode_owners,
    every_merged_run,
    forget_merged_runs,
    insert_merged_run,
    is_known_run,
    merged_runs_of,
)
from fletching.errors import CorruptObjectError


def run(key: str, partition: str = '["a"]') -> MergedRunRow:
    return MergedRunRow(0, key, partition, 7, 300, encode_owners(["k1", "k2"]))


@given(st.lists(st.text(alphabet="ab/-1", min_size=1), min_size=1))
def test_owners_keep_their_places(keys: list[str]) -> None:
    assert run("k")._replace(owners=encode_owners(keys)).owner_keys() == keys


@pytest.mark.parametrize("damaged", [b"", b"garbage", encode_owners(["k"])[:-1]])
def test_damaged_owners_are_told(damaged: bytes) -> None:
    with pytest.raises(CorruptObjectError, match="damaged") as caught:
        run("the-run")._replace(owners=damaged).owner_keys()
    assert caught.value.key == "the-run"


def test_runs_are_found_by_table_and_partition(rows: Connection, new_table: MakeTable) -> None:
    new_table("T")
    new_table("U")
    for table, key, partition in (("t", "r1", "a"), ("t", "r2", "b"), ("u", "r3", "a")):
        insert_merged_run(rows, table, run(key, f'["{partition}"]'))

    def keys(*where: object) -> set[str]:
        return {row.key for row in merged_runs_of(rows, *where)}  # type: ignore[arg-type]  # a table, partitions

    assert keys("t") == {"r1", "r2"}
    assert keys("t", ['["b"]']) == {"r2"}
    assert keys("t", []) == set()
    assert keys("t", [f'["{n}"]' for n in range(600)]) == {"r1", "r2"}  # too many to ask for
    assert [(table, row.key) for table, row in sorted(every_merged_run(rows), key=lambda x: x[1].id)] == [
        ("t", "r1"), ("t", "r2"), ("u", "r3")
    ]  # fmt: skip
    assert is_known_run(rows, "r1")
    (only,) = merged_runs_of(rows, "u")
    assert only == run("r3")._replace(id=only.id)
    forget_merged_runs(rows, [only.id, *range(10_000, 10_600)])
    assert not is_known_run(rows, "r3")
    assert keys("t") == {"r1", "r2"}


def test_an_object_has_one_run(rows: Connection, new_table: MakeTable) -> None:
    new_table()
    insert_merged_run(rows, "t", run("r1"))
    with pytest.raises(Exception, match=r"(?i)unique"):
        insert_merged_run(rows, "t", run("r1"))
