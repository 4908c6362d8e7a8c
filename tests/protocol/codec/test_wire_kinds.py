"""Kinds of values on the wire: what each reads, what each refuses, at its bounds."""

from __future__ import annotations

from typing import Any

import pytest

from fletching.errors import InvalidArgumentError, InvalidParameterError
from fletching.protocol.codec.wire_kinds import ABSENT, Flag, Identifier, Integer, Kind, Word
from fletching.protocol.messages.vocabulary import SplitMode, TimeUnit

READ: list[tuple[Kind[Any], Any, Any]] = [
    (Integer(), 2**63 - 1, 2**63 - 1),
    (Integer(), -(2**63), -(2**63)),
    (Integer(), 0, 0),
    (Integer(zero_is=None), 0, None),
    (Flag(), True, True),
    (Flag(), False, False),
    (Identifier(), "a", "a"),
    (Identifier(), "", ABSENT),
    (Word(SplitMode), "size", SplitMode.SIZE),
    (Word(SplitMode), "SIZE", SplitMode.SIZE),
    (Word(SplitMode), "", ABSENT),
    (Word(TimeUnit, null_is_value=True), None, None),
]


@pytest.mark.parametrize(("kind", "value", "read"), READ)
def test_what_is_read(kind: Kind[Any], value: Any, read: Any) -> None:
    assert kind.from_json(value, "Field") == read


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Integer(), 2**63),
        (Integer(), -(2**63) - 1),
        (Integer(), True),
        (Integer(), 1.0),
        (Integer(), "1"),
        (Integer(), None),
        (Flag(), 1),
        (Flag(), "true"),
        (Word(SplitMode), None),
        (Word(SplitMode), 1),
        (Word(TimeUnit, null_is_value=True), 1),
    ],
)
def test_what_is_refused(kind: Kind[Any], value: Any) -> None:
    with pytest.raises(InvalidParameterError, match="Field"):
        kind.from_json(value, "Field")


def test_an_unknown_word_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InvalidArgumentError, match=r"'sighs', not one of .*Size"):
        Word(SplitMode).from_json("sighs", "SplitMode")


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("9223372036854775807", 2**63 - 1), ("-1", -1)],
)
def test_numbers_as_text(text: str, number: int) -> None:
    assert Integer().from_text(text, "n") == number


@pytest.mark.parametrize("text", ["9223372036854775808", "1.0", " 1", "1e3", "0x1", "\u0661", "+1"])
def test_text_that_is_no_number(text: str) -> None:
    with pytest.raises(InvalidParameterError, match="n is not an integer"):
        Integer().from_text(text, "n")
