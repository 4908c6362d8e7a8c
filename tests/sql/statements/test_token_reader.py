"""Statements read word by word: the pieces, and complaints that name the word where it stopped."""

from __future__ import annotations

from typing import Any

import pytest

from fletching.errors import FletchingError, InvalidArgumentError, SqlSyntaxError
from fletching.sql.parsing.dialect import parse_all
from fletching.sql.statements.statement_kinds import Namespace
from fletching.sql.statements.token_reader import TokenReader, qualified
from fletching.types import TableName

HERE = Namespace("p", "default")


def reader(text: str) -> TokenReader:
    """Stands before the word behind SHOW."""
    (parsed,) = parse_all(f"show {text}")
    result = TokenReader(parsed, HERE)
    assert result.take("SHOW")
    return result


@pytest.mark.parametrize(
    ("parts", "schemas", "name"),
    [
        (["t"], False, TableName("p", "t")),
        (["q", "t"], False, TableName("q", "t")),
        (["q", "t"], True, TableName("p", "t", "q")),
        (["a", "b", "c"], False, TableName("a", "c", "b")),
    ],
)
def test_names_of_tables(parts: list[str], schemas: bool, name: TableName) -> None:
    assert qualified(parts, Namespace("p", "default", schemas_enabled=schemas)) == name


def test_words_are_taken_together_or_not_at_all() -> None:
    read = reader("if not exists `if` 'exists' 12")
    assert not read.take("IF", "EXISTS")
    assert read.take("IF", "NOT")
    read.need("exists".upper())
    assert read.name() == "if"
    assert not read.take("EXISTS")  # a text is no word
    assert read.text("a text") == "exists"
    assert read.number("it") == 12
    read.end()


@pytest.mark.parametrize(
    ("text", "read", "value"),
    [
        ("a.b.c", lambda r: r.table(), TableName("a", "c", "b")),
        ("(a = '1', B == -2)", lambda r: str(r.partition()), "a=1,B=-2"),
        ("partition (a='1'), partition (a='2')", lambda r: [str(x) for x in r.partitions()], ["a=1", "a=2"]),
        ("(a, b)", lambda r: r.listed(r.name), ["a", "b"]),
        ("array<string>", lambda r: r.odps_type().code.name, "ARRAY"),
        ("c decimal(10,2) not null comment 'x'", lambda r: (r.column().name), "c"),
    ],
)  # fmt: skip
def test_pieces(text: str, read: Any, value: Any) -> None:
    words = reader(text)
    assert read(words) == value
    words.end()


@pytest.mark.parametrize(
    ("text", "read", "words"),
    [
        ("'a'", lambda r: r.name(), "a name is expected at line 1, column 6"),
        ("a", lambda r: r.text("a comment"), "a comment in quotes is expected"),
        ("a b", lambda r: (r.name(), r.end()), "should end at line 1, column 8, near 'b'"),
        ("a.b.c.d", lambda r: r.parts(), "at most three parts"),
        ("a.", lambda r: r.parts(), "the rest of a name is expected at its end"),
        ("(a 1)", lambda r: r.partition(), "= is expected"),
        ("(a=)", lambda r: r.partition(), "a value is expected"),
        ("nonsense", lambda r: r.odps_type(), "'nonsense' is no type"),
        ("x", lambda r: r.need("Y"), "Y is expected"),
    ],
)
def test_complaints(text: str, read: Any, words: str) -> None:
    with pytest.raises(SqlSyntaxError) as caught:
        read(reader(text))
    assert words in caught.value.message


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "²", "٣", "2147483648", "9" * 40])
def test_what_is_no_whole_number(text: str) -> None:
    def read() -> None:
        words = reader(text)
        words.number("it")
        words.end()

    with pytest.raises(FletchingError):
        read()


def test_a_column_of_a_partition_comes_once() -> None:
    with pytest.raises(InvalidArgumentError, match="once"):
        reader("(a='1', A='2')").partition()
