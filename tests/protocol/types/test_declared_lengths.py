"""Texts that are longer than their CHAR or VARCHAR, and lists that are no VECTOR, are refused at every depth."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.errors import UsageError
from fletching.protocol.types.arrow_types import arrow_field
from fletching.protocol.types.declared_lengths import DeclaredLengths
from fletching.protocol.types.odps_types import parse_type
from fletching.protocol.types.required_values import RequiredValues

LONG, SHORT = "äöüß", "äöü"


def check(kind: str, array: Any) -> None:
    DeclaredLengths([pa.field("other", pa.int8()), arrow_field("c", parse_type(kind))]).check(
        [None, array].__getitem__
    )


def nested(kind: str, text: str) -> Any:
    """A column of a type with one text in it, beside nulls."""
    inner = pa.array([None, text])
    if kind.startswith("array"):
        return pa.array([[None, text], None, []])
    if kind.startswith("struct"):
        return pa.array([{"A": text, "b": 1}, None])
    if kind == "map<varchar(3),bigint>":
        return pa.array([list({text: 1}.items())], pa.map_(pa.string(), pa.int64()))
    if kind.startswith("map"):
        return pa.array([list({1: text}.items()), None], pa.map_(pa.int64(), pa.string()))
    return inner


@pytest.mark.parametrize(
    "kind",
    [
        "varchar(3)", "char(3)", "array<varchar(3)>", "struct<a:varchar(3),b:bigint>",
        "map<varchar(3),bigint>", "map<bigint,char(3)>",
    ],
)  # fmt: skip
def test_characters_count(kind: str) -> None:
    check(kind, nested(kind, SHORT))
    with pytest.raises(UsageError, match=r"'c.*' takes texts of up to 3 characters, .* one of 4"):
        check(kind, nested(kind, LONG))


@pytest.mark.parametrize(
    "kind",
    [
        pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()),
        pa.run_end_encoded(pa.int32(), pa.string()),
    ],
)  # fmt: skip
def test_every_encoding_of_texts(kind: Any) -> None:
    def of(*texts: str | None) -> Any:
        plain = pa.array(texts)
        return (
            pa.compute.run_end_encode(plain)
            if pa.types.is_run_end_encoded(kind)
            else plain.cast(kind)
        )

    check("varchar(3)", of(SHORT, None, ""))
    with pytest.raises(UsageError, match="up to 3"):
        check("varchar(3)", of(SHORT, None, LONG))


@pytest.mark.parametrize("list_of", [pa.list_, pa.large_list, lambda kind: pa.list_(kind, 2)])
def test_a_vector_has_as_many_elements_as_it_says(list_of: Any) -> None:
    array = pa.array([[1.0, 2.0], None, [3.0, None]], list_of(pa.float32()))
    check("vector(float,2)", array)
    with pytest.raises(
        UsageError, match="'c' takes lists of 3 elements, and the data has one of 2"
    ):
        check("vector(float,3)", array)
    check("array<vector(float,2)>", pa.array([[[1.0, 2.0]], [], None], pa.list_(array.type)))
    with pytest.raises(UsageError, match=r"'c.element' takes lists of 1 elements"):
        check("array<vector(float,1)>", pa.array([[[1.0, 2.0]]], pa.list_(array.type)))


def test_blanks_at_the_end_of_a_char_do_not_count() -> None:
    check("char(3)", pa.array(["abc  "]))
    with pytest.raises(UsageError, match="one of 4"):
        check("char(3)", pa.array(["ab d  "]))
    with pytest.raises(UsageError, match="one of 5"):
        check("varchar(3)", pa.array(["abc  "]))


def test_what_nobody_sees_may_be_long() -> None:
    hidden = pa.StructArray.from_arrays(
        [pa.array([LONG, SHORT])], ["a"], mask=pa.array([True, False])
    )
    check("struct<a:varchar(3)>", hidden)
    check("varchar(3)", pa.array([LONG, SHORT])[1:])
    check("varchar(3)", pa.nulls(3))
    check("varchar(3)", pa.array([], pa.string()))
    check("string", pa.array([LONG]))


def test_whoever_looks_for_nulls_looks_for_lengths() -> None:
    required = RequiredValues([arrow_field("c", parse_type("varchar(3)"))])
    required.check([pa.array([SHORT])].__getitem__)
    with pytest.raises(UsageError, match="up to 3"):
        required.check([pa.array([LONG])].__getitem__)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_small_batches_are_looked_at_as_large_ones(kind: Any) -> None:
    texts = pa.array(["abcd", "äöüß", "ab", None, ""], kind)
    check("varchar(4)", texts)
    check("varchar(3)", texts.slice(2))
    check("varchar(3)", pa.array([None, None], kind))
    for number in (0, 1):
        with pytest.raises(UsageError, match="one of 4"):
            check("varchar(3)", texts.slice(number, 1))
