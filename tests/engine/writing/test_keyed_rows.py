"""The keys of a body: the last operation on each counts, and the runs say where its row is."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fletching.engine.writing.keyed_rows import KeyedRows, deletes_of
from fletching.errors import InvalidArgumentError

SEED = b"s" * 16


@pytest.mark.parametrize(
    ("values", "deletes"),
    [([85, 68], [False, True]), ([None, 1, 68], [False, False, True]), ([], [])],
)
def test_operations(values: list[int | None], deletes: list[bool]) -> None:
    for kind in (pa.int8(), pa.int64()):
        assert deletes_of(pa.array(values, kind)).tolist() == deletes


@pytest.mark.parametrize(
    "column", [pa.array(["U"]), pa.array([85.0]), pa.array([0]), pa.array([68, 2])]
)
def test_what_is_no_operation(column: pa.Array) -> None:
    with pytest.raises(InvalidArgumentError, match="expected"):
        deletes_of(column)


@pytest.mark.parametrize("kind", [pa.int64(), pa.string(), pa.dictionary(pa.int8(), pa.string())])
def test_of_each_key_the_last_operation_counts(kind: pa.DataType) -> None:
    rng = random.Random(3)
    rows = KeyedRows(["k"], SEED)
    operations: dict[str, list[tuple[Any, bool]]] = {"a": [], "b": []}
    for _ in range(8):
        partition = rng.choice("ab")
        plain = [rng.randrange(9) for _ in range(6)]
        keys = plain if kind == pa.int64() else [f"k{key}" for key in plain]
        deletes = np.array([rng.random() < 0.3 for _ in keys])
        rows.add(partition, [pa.array(keys, kind)], deletes)
        operations[partition] += zip(keys, deletes.tolist(), strict=True)
    rows.finish()
    for partition, done in operations.items():
        last = {key: place for place, (key, _) in enumerate(done)}
        for taken in (False, True):
            mine = [(key, last[key] == place) for place, (key, d) in enumerate(done) if d == taken]
            stays = [number for number, (_, counts) in enumerate(mine) if counts]
            if not taken:
                gone = set(range(len(mine))) - set(stays)
                assert set(rows.superseded(partition, 0, len(mine))) == gone
                middle = len(mine) // 2
                first = set(rows.superseded(partition, 0, middle))
                rest = {middle + n for n in rows.superseded(partition, middle, len(mine))}
                assert first | rest == gone


def test_a_key_is_never_null() -> None:
    rows = KeyedRows(["a", "b"], SEED)
    nothing = np.zeros(2, dtype=bool)
    with pytest.raises(InvalidArgumentError, match="column b has null"):
        rows.add("", [pa.array([1, 2]), pa.array([1, None])], nothing)
