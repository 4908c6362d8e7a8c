"""Texts that are too long for CHAR or VARCHAR or no JSON, and lists that are no VECTOR, are refused at every depth."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.errors import UsageError
from fletching.protocol.types.arrow_types import arrow_field
from fletching.protocol.types.declared_rules import DeclaredRules
from fletching.protocol.types.odps_types import parse_type
from fletching.protocol.types.required_values import RequiredValues

LONG, SHORT = "äöüß", "äöü"


def check(kind: str, array: Any) -> None:
    DeclaredRules([pa.field("other", pa.int8()), arrow_field("c", parse_type(kind))]).check(
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


JSON_KINDS = [
    "json", "array<json>", "struct<a:json,b:bigint>", "map<json,bigint>", "map<bigint,json>", "array<array<json>>",
]  # fmt: skip


@pytest.mark.parametrize("kind", JSON_KINDS)
def test_json_at_every_depth(kind: str) -> None:
    def of(text: str) -> Any:
        if kind == "array<array<json>>":
            return pa.array([[], None, [[None, text]]])
        return nested(kind.replace("json", "varchar(3)"), text)

    check(kind, of('{"a":1}'))
    with pytest.raises(
        UsageError, match=r"column 'c.*' takes JSON, .* none \(.*byte 0\)\) in row [012]"
    ):
        check(kind, of("abc"))


@pytest.mark.parametrize("kind", [pa.json_(), pa.list_(pa.json_()), pa.struct([("a", pa.json_())])])
def test_json_that_arrow_declares_itself(kind: Any) -> None:
    field = pa.field("c", kind)
    storage = {"list": [["{}"], ["{"]], "struct": [{"a": "{}"}, {"a": "{"}]}
    plain = pa.array(storage.get(str(kind).split("<")[0], ["{}", "{"]))
    DeclaredRules([field]).check([plain[:1]].__getitem__)
    with pytest.raises(UsageError, match=r"takes JSON, .* in row 1"):
        DeclaredRules([field]).check([plain].__getitem__)


def test_bytes_that_become_a_text_are_looked_at_as_one() -> None:
    for array in (
        pa.array([b"abcd"]),
        pa.array([b"abcd"], pa.binary(4)),
        pa.array([b"abcd"], pa.binary_view()),
    ):
        check("varchar(4)", array)
        with pytest.raises(UsageError, match="one of 4"):
            check("varchar(3)", array)
        with pytest.raises(UsageError, match="takes JSON"):
            check("json", array)
    with pytest.raises(UsageError, match="cannot become"):
        check("json", pa.array([b"\xff"]))


def test_of_encoded_values_those_that_rows_have_count() -> None:
    texts = pa.array(["{", "1", None])
    check("json", pa.DictionaryArray.from_arrays(pa.array([1, None, 2, 1]), texts))
    with pytest.raises(UsageError, match="in row 3"):
        check("json", pa.DictionaryArray.from_arrays(pa.array([1, None, 2, 0]), texts))
    runs = pa.RunEndEncodedArray.from_arrays([1000, 2000], ["1", "{"])
    check("json", runs[:1000])
    with pytest.raises(UsageError, match="in row 999"):
        check("json", runs[1:1500])


def test_few_bytes_that_stand_for_many_take_no_memory() -> None:
    long = pa.array(["x" * (1 << 20)])
    rows = 1 << 20  # a tebibyte, written out
    check("varchar(65535)", pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()), long))
    for array in (
        pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int8()), long),
        pa.RunEndEncodedArray.from_arrays(pa.array([rows], pa.int32()), long),
    ):
        with pytest.raises(UsageError, match="one of 1048576 in row 0"):
            check("varchar(65535)", array)


def test_documents_are_looked_into_where_it_is_asked_for() -> None:
    fields = [
        arrow_field("j", parse_type("json")),
        arrow_field("s", parse_type("struct<v:varchar(1),j:json>")),
    ]
    rules = DeclaredRules(fields, documents=False)
    rules.check([pa.array(["{"]), pa.array([{"v": "a", "j": "{"}])].__getitem__)
    with pytest.raises(UsageError, match="up to 1 characters"):
        rules.check([pa.array(["{"]), pa.array([{"v": "ab", "j": "{"}])].__getitem__)
