"""The page of all pairs of types is current, and each of its cells is what happens to values.

What must happen is said by `conversion_model` (exact arithmetic of Python) for flat types, and here
for nested ones.
"""

from __future__ import annotations

import itertools
import random
import runpy
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.folding import folded

from fletching.errors import UsageError
from fletching.protocol.types.conversion import Relation, convert, relation

sys.path.insert(0, str(Path(__file__).parent.parent))

from conversion_model import FLAT, compare, differences, random_array  # type: ignore[import-not-found]  # in the folder above

GENERATOR = runpy.run_path(
    str(Path(__file__).parents[3] / "docs" / "generate_conversions.py"), run_name="generator"
)
LISTED: list[tuple[str, Any]] = [pair for group in GENERATOR["GROUPS"].values() for pair in group]


def test_the_page_is_current() -> None:
    assert GENERATOR["PAGE"].read_text() == GENERATOR["page"](), "run `make docs`"


def storage(data_type: Any) -> Any:
    """The flat type whose values an encoded or extension type has."""
    if isinstance(data_type, pa.BaseExtensionType):
        return data_type.storage_type
    encoded = pa.types.is_dictionary(data_type) or pa.types.is_run_end_encoded(data_type)
    return data_type.value_type if encoded else data_type


def is_flat(data_type: Any) -> bool:
    return data_type.num_fields == 0 and not pa.types.is_null(data_type)


@folded("name, source", LISTED)
def test_every_cell_is_what_happens_to_values(name: str, source: Any) -> None:
    rng = random.Random(name)
    for _, target in LISTED:
        if not (is_flat(storage(source)) and is_flat(storage(target))):
            check_nested(source, target)
            continue
        array = random_array(storage(source), 40, rng)
        assert differences(array, storage(target)) == []
        outcome = relation(source, target)
        if outcome is Relation.AS_IS and source == storage(source):
            result = convert(array, target, "c")
            assert [b and b.address for b in array.buffers()] == [
                b and b.address for b in result.buffers()
            ]
        elif outcome is Relation.REFUSED:
            with pytest.raises(UsageError, match="column 'c'"):
                convert(pa.nulls(1, source), target, "c")


NESTED: dict[str, Any] = {
    "null": [None, None],
    "list of int64": [[1, 2], None, [3, None]],
    "list of int8": [[1, 2], None, [3, None]],
    "large list of int64": [[1, 2], None],
    "list of int64, 2 each": [[1, 2], None],
    "list view of int64": [[1, 2], None],
    "list of string": [["a", None], None],
    "struct of a, b": [{"a": 1, "b": "x"}, None],
    "struct of B, A": [{"B": "x", "A": 1}, None],
    "struct of a": [{"a": 1}, None],
    "struct of a, c": [{"a": 1, "c": "x"}, None],
    "map of string to int64": [[("k", 1)], None],
    "map of string to int8": [[("k", 1)], None],
}
FAMILIES = [
    {"list of int64", "list of int8", "large list of int64", "list of int64, 2 each",
     "list view of int64"},
    {"list of string"},
    {"struct of a, b", "struct of B, A"},
    {"map of string to int64", "map of string to int8"},
]  # fmt: skip
WIDER = {("struct of a", "struct of a, b"), ("struct of a", "struct of B, A")}
WIDER |= {("struct of a", "struct of a, c")}
NAMES = {str(data_type): name for name, data_type in LISTED}


def lowered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key.lower(): item for key, item in value.items() if item is not None}
    return value


def check_nested(source: Any, target: Any) -> None:
    left, other = NAMES[str(source)], NAMES[str(target)]
    values = NESTED.get(left, [None])
    array = pa.array(values, source) if left in NESTED else pa.nulls(1, source)
    related = (
        left in {"null", other}
        or (left, other) in WIDER
        or any({left, other} <= family for family in FAMILIES)
    )
    assert (relation(source, target) is not Relation.REFUSED) is related, (left, other)
    if not related:
        with pytest.raises(UsageError, match="column 'c'"):
            convert(array, target, "c")
        return
    result = convert(array, target, "c")
    result.validate(full=True)
    assert result.type == target
    assert list(map(lowered, result.to_pylist())) == list(map(lowered, values))


def test_random_values_become_what_exact_arithmetic_says() -> None:
    outcome: list[str] = []
    compare(6000, seed=random.Random().randrange(2**32), report=outcome.append)
    assert outcome == []


@pytest.mark.parametrize("wrap", ["list", "struct", "map", "dictionary", "runs", "fixed"])
def test_nesting_changes_nothing_of_the_rule(wrap: str) -> None:
    """A value inside is refused or kept as it would be by itself."""
    rng = random.Random(wrap)
    pairs = list(itertools.product(FLAT, FLAT))
    for source, target in rng.sample(pairs, 250):
        array = random_array(source, 3, rng)
        if wrap in {"dictionary", "runs"} and array.null_count:
            continue
        wrapped, wanted = wrapping(wrap, array, target)
        try:
            alone = convert(array, target, "c")
        except UsageError:
            with pytest.raises(UsageError, match="column 'c'"):
                convert(wrapped, wanted, "c")
            continue
        result = convert(wrapped, wanted, "c")
        result.validate(full=True)
        assert result.type == wanted
        assert unwrapped(wrap, result).equals(alone)


def wrapping(wrap: str, array: Any, target: Any) -> tuple[Any, Any]:
    if wrap == "list":
        return pa.ListArray.from_arrays([0, 2, 3], array), pa.large_list(target)
    if wrap == "struct":
        return pa.StructArray.from_arrays([array], ["Field"]), pa.struct([("field", target)])
    if wrap == "map":
        keys = pa.array(["a", "b", "c"])
        return pa.MapArray.from_arrays([0, 2, 3], keys, array), pa.map_(pa.large_string(), target)
    if wrap == "dictionary":
        return pa.DictionaryArray.from_arrays(pa.array([0, 1, 2], pa.int8()), array), target
    if wrap == "runs":
        return pa.RunEndEncodedArray.from_arrays([1, 2, 3], array), target
    return pa.FixedSizeListArray.from_arrays(array, 3), pa.list_view(target)


def unwrapped(wrap: str, array: Any) -> Any:
    if wrap in {"list", "fixed"}:
        return array.flatten()
    if wrap == "struct":
        return array.field(0)
    return array.items if wrap == "map" else array
