"""Verification names every object that is missing, cut or changed, and every total that is wrong; else it is quiet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import update
from tests.engine.conftest import in_a_folder

from fletching.catalog.schema import segments, tables
from fletching.engine.upkeep.verify import Verification, recount

BATCH = pa.record_batch({"k": pa.array([1, 2, 3], pa.int64()), "s": ["a", "b", "c"]})
SCHEMA = pa.schema([pa.field("k", pa.int64(), nullable=False), ("s", pa.string())])


@pytest.fixture
def house(house: Any) -> Any:
    house.create(SCHEMA, primary_key=("k",))
    house.append(BATCH.cast(SCHEMA))
    return house


def problems(house: Any) -> list[str]:
    verification = Verification(house.engine.context)
    listed = [problem for checked in verification for problem in checked.problems]
    count = len(listed)
    assert verification.summary.startswith(f"{count} problems" if count else "nothing is wrong")
    return listed


def path_of(house: Any) -> Path:
    (key,) = house.object_keys()
    return Path(house.engine.context.store.root) / str(key)


@in_a_folder
def test_nothing_is_wrong(house: Any) -> None:
    verification = Verification(house.engine.context)
    (checked,) = verification
    assert checked.name == path_of(house).relative_to(house.engine.context.store.root).as_posix()
    assert (verification.total_objects, verification.total_bytes) == (1, checked.bytes)
    assert checked.bytes == path_of(house).stat().st_size
    assert verification.summary == f"nothing is wrong: 1 objects, {checked.bytes} bytes"


@in_a_folder
def test_a_missing_object(house: Any) -> None:
    path_of(house).unlink()
    assert problems(house) == ["the object is missing"]


@in_a_folder
def test_an_object_that_was_collected_since_is_none_of_it(house: Any) -> None:
    verification = Verification(house.engine.context)
    path_of(house).unlink()
    with house.engine.context.database.write() as connection:
        connection.execute(segments.delete())
    assert [checked.problems for checked in verification] == [()]


@in_a_folder
def test_a_cut_object(house: Any) -> None:
    path = path_of(house)
    size = path.stat().st_size
    os.truncate(path, size - 1)
    listed = problems(house)
    assert f"it has {size - 1} bytes; the catalog says {size}" in listed


@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.95])
@in_a_folder
def test_a_changed_byte(house: Any, fraction: float) -> None:
    path = path_of(house)
    data = bytearray(path.read_bytes())
    data[int(fraction * len(data))] ^= 1
    path.unlink()
    path.write_bytes(data)
    assert any("CRC32C is" in problem for problem in problems(house))


def test_wrong_rows_and_totals_and_a_recount(house: Any) -> None:
    with house.engine.context.database.write() as connection:
        connection.execute(update(tables).values(rows=7))
    assert any("recorded as (7," in problem for problem in problems(house))
    assert len(recount(house.engine.context)) == 1
    assert problems(house) == []
    assert recount(house.engine.context) == []
    with house.engine.context.database.write() as connection:
        connection.execute(update(segments).values(rows=7))
    assert "the batch index and the catalog disagree about the rows" in problems(house)


def test_a_key_run_that_is_another(house: Any) -> None:
    with house.engine.context.database.write() as connection:
        connection.execute(update(segments).values(key_run_offset=segments.c.key_run_offset + 8))
    assert any("its key run" in problem for problem in problems(house))
