from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import UsageError
from fletching.protocol.types.odps_types import (
    MAX_TYPE_DEPTH,
    MAX_TYPE_TEXT,
    OdpsField,
    OdpsType,
    TypeCode,
    array_of,
    format_type,
    map_of,
    parse_type,
    quote_name,
)

BIGINT = OdpsType(TypeCode.BIGINT)
BLOB = OdpsType(TypeCode.BLOB)
STRING = OdpsType(TypeCode.STRING)

CASES = [
    *[
        (code.name.lower(), OdpsType(code))
        for code in TypeCode
        if code.name not in {"DECIMAL", "CHAR", "VARCHAR", "ARRAY", "MAP", "STRUCT", "VECTOR"}
    ],
    ("decimal(10,2)", OdpsType(TypeCode.DECIMAL, precision=10, scale=2)),
    ("char(3)", OdpsType(TypeCode.CHAR, length=3)),
    ("varchar(65535)", OdpsType(TypeCode.VARCHAR, length=65535)),
    ("array<blob>", array_of(BLOB)),
    ("map<string,array<bigint>>", map_of(STRING, array_of(BIGINT))),
    (
        "struct<a:bigint,`b c`:struct<d:string>>",
        OdpsType(
            TypeCode.STRUCT,
            fields=(
                OdpsField("a", BIGINT),
                OdpsField("b c", OdpsType(TypeCode.STRUCT, fields=(OdpsField("d", STRING),))),
            ),
        ),
    ),
    (
        "vector(float,3)",
        OdpsType(
            TypeCode.VECTOR, length=3, fields=(OdpsField("element", OdpsType(TypeCode.FLOAT)),)
        ),
    ),
]


@pytest.mark.parametrize(("text", "value"), CASES, ids=[text for text, _ in CASES])
def test_text_and_value_are_two_sides_of_one_type(text: str, value: OdpsType) -> None:
    assert parse_type(text) == value
    assert format_type(value) == text
    assert parse_type(f"  {text.upper().replace('<', ' < ').replace(',', ' , ')} ") is not None


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("DECIMAL", "decimal(54,18)"),
        ("decimal( 7 )", "decimal(7,0)"),
        ("Integer", "int"),
        ("struct<`f`:blob>", "struct<f:blob>"),
        ("STRUCT< `x``y` : INT NOT NULL COMMENT 'it''s' , b : DATE >", "struct<`x``y`:int,b:date>"),
        ("map<int , map<int,int>>", "map<int,map<int,int>>"),
    ],
)
def test_other_spellings_of_a_type(text: str, canonical: str) -> None:
    assert format_type(parse_type(text)) == canonical


def test_struct_fields_keep_nullability_and_comment() -> None:
    (field,) = parse_type('struct<a:int not null comment "it\'s">').fields
    assert field == OdpsField("a", OdpsType(TypeCode.INT), nullable=False, comment="it's")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "lacks a type name"),
        ("nothing", "unknown type"),
        ("bigint bigint", "goes on after the type"),
        ("array", "lacks '<'"),
        ("array<bigint", "lacks '>'"),
        ("array<bigint,string>", "lacks '>'"),
        ("map<string>", "lacks ','"),
        ("struct<>", "lacks a name"),
        ("struct<a bigint>", "lacks ':'"),
        ("struct<a:int,A:int>", "twice"),
        ("struct<a:int not>", "lacks NULL"),
        ("struct<a:int comment x>", "quoted text"),
        ("decimal(0,0)", "precision"),
        ("decimal(77,0)", "precision"),
        ("decimal(3,4)", "scale"),
        ("decimal(x)", "lacks a number"),
        ("char(0)", "length"),
        ("char(256)", "length"),
        ("varchar", "lacks '('"),
        ("varchar(9999999999)", "lacks a number"),
        ("vector(int,0)", "without elements"),
        ("`unclosed", "cannot be read"),
        ("a;b", "unknown type"),
        ("bigint;", "cannot be read"),
    ],
)
def test_what_is_no_type_is_refused_with_the_place(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match="at character") as caught:
        parse_type(text)
    assert complaint in str(caught.value)


def test_depth_and_length_are_limited() -> None:
    at_limit = "array<" * MAX_TYPE_DEPTH + "int" + ">" * MAX_TYPE_DEPTH
    assert parse_type(at_limit).node_count == MAX_TYPE_DEPTH + 1
    with pytest.raises(UsageError, match="deeper than"):
        parse_type(f"array<{at_limit}>")
    with pytest.raises(UsageError, match="above the limit"):
        parse_type(" " * (MAX_TYPE_TEXT + 1))


@given(st.text(max_size=60) | st.text(alphabet="arystuc<>(),:`'ib ge0", max_size=40))
def test_any_text_is_a_type_or_a_usage_error(text: str) -> None:
    try:
        parsed = parse_type(text)
    except UsageError:
        return
    assert parse_type(format_type(parsed)).code is parsed.code


def leaves() -> st.SearchStrategy[OdpsType]:
    return st.sampled_from([value for _, value in CASES if not value.fields])


def nested(inner: st.SearchStrategy[OdpsType]) -> st.SearchStrategy[OdpsType]:
    names = st.lists(
        st.text(min_size=1, max_size=6).filter(lambda name: name.strip() == name),
        min_size=1,
        max_size=3,
        unique_by=str.lower,
    )
    return (
        inner.map(array_of)
        | st.builds(map_of, inner, inner)
        | names.flatmap(
            lambda keys: st.tuples(*[inner] * len(keys)).map(
                lambda types: OdpsType(
                    TypeCode.STRUCT,
                    fields=tuple(
                        OdpsField(key, item) for key, item in zip(keys, types, strict=True)
                    ),
                )
            )
        )
    )


TYPES = st.recursive(leaves(), nested, max_leaves=8)


@given(TYPES)
def test_every_type_survives_its_text(value: OdpsType) -> None:
    assert parse_type(str(value)) == value


@given(TYPES)
def test_node_count_counts_nested_types(value: OdpsType) -> None:
    assert value.node_count == 1 + sum(field.type.node_count for field in value.fields)


def test_only_names_that_need_it_are_quoted() -> None:
    assert [quote_name(name) for name in ("a1", "1a", "a b", "a`b", "é")] == [
        "a1",
        "`1a`",
        "`a b`",
        "`a``b`",
        "`é`",
    ]


def test_a_vector_travels_as_an_array() -> None:
    assert TypeCode.VECTOR.wire == TypeCode.ARRAY.wire == 17
