"""Texts are JSON if an independent parser reads each by itself, whatever stands beside them."""

from __future__ import annotations

import json
import sys
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.folding import folded

from fletching.protocol.types import json_texts
from fletching.protocol.types.json_texts import MAX_JSON_VALUE_DEPTH, json_refusal

SOUND = [
    *("1", "-0", "1E+5", "1e999", "9" * 400, "null", "true", '""', '"x"', "[]", "{}"),
    *(' {"a" : [1,\n2]}\t\r\n', '{"a":1,"a":2}', '"\\u0000\\/\\ud83d\\ude00"', '"\x7f\u2028"', '"]\\n["'),
]  # fmt: skip
UNSOUND = [
    *("", " ", "nul", "NaN", "Infinity", "-", "01", "1.", ".5", "+1", "1e", "1 2", "1,2", "1,", ",1"),
    *("1] [2", "1],[2", "1]\n[2", "[1", "1]", '{"a":1', "]", "[", '"', '"\n"', '"\t"', '"a""b"', "'a'"),
    *('"\\q"', '"\\u12"', '"\\ud800"', '"\\udc00"', '"\\ud800x"', "{a:1}", "{1:1}", "[1,]", '{"a":1,}'),
    *('{"a"}', '{"a":}', "[1 2]", "/*x*/1", "1//", "\ufeff1", "\x0b1", "\xa01", "1\x00", "abc", '1,"k":2'),
]  # fmt: skip


def strict(text: str) -> bool:
    """What Python's own parser says, but for what it takes beyond the standard."""
    try:
        value = json.loads(text, parse_constant=lambda name: json.loads(f"!{name}"))
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError:
        return False
    return True


@folded("kind", [pa.string(), pa.large_string()])
@folded("text", [*SOUND, *UNSOUND])
def test_one_among_others(text: str, kind: Any) -> None:
    for beside in ([text], ["1", text], [text, "{}"], ["[1]", text, '"x"']):
        assert (json_refusal(pa.array(beside, kind)) == "") == (text in SOUND), (text, beside)


@given(st.lists(st.sampled_from([*SOUND, *UNSOUND]), min_size=1, max_size=6))
def test_what_one_leaves_open_the_next_does_not_close(texts: list[str]) -> None:
    array = pa.array(["0", *texts, "0"])[1:-1]
    assert (json_refusal(array) == "") == all(map(strict, texts))


@given(st.lists(st.text(st.sampled_from('[]{},:" 1a\\\n'), max_size=6), min_size=2, max_size=4))
def test_texts_of_what_json_is_made_of(texts: list[str]) -> None:
    assert (json_refusal(pa.array(texts)) == "") == all(map(strict, texts))


def test_parts_are_looked_at_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_texts, "_CHUNK_BYTES", 50)
    monkeypatch.setattr(json_texts, "_CHUNK_TEXTS", 7)
    texts = ["1", '{"a":"' + "x" * 100 + '"}', *map(str, range(30)), '"' + "y" * 60 + '"']
    assert json_refusal(pa.array(texts)) == ""
    for number in range(len(texts)):
        wrong = [*texts[:number], "[1", *texts[number + 1 :]]
        assert json_refusal(pa.array(wrong)), number
    assert json_refusal(pa.array([], pa.string())) == ""


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_values_nest_so_deep_and_no_deeper(opening: str) -> None:
    closing = "]" if opening == "[" else "}"

    def of(depth: int) -> str:
        return opening * depth + "1" + closing * depth

    flat = json.dumps([{"a": "[" * 900, "b": '\\"['}] * 600)
    for others in ([], ["1"], ["1", flat]):
        assert json_refusal(pa.array([*others, of(MAX_JSON_VALUE_DEPTH)])) == ""
        why = json_refusal(pa.array([*others, of(MAX_JSON_VALUE_DEPTH + 1)]))
        assert (
            why == f"it nests {MAX_JSON_VALUE_DEPTH + 1} deep, the limit is {MAX_JSON_VALUE_DEPTH}"
        )
        assert json_refusal(pa.array([*others, opening * 100_000]))


def test_a_caller_that_is_deep_itself_gets_a_refusal() -> None:
    def deeper(left: int) -> str:
        if left:
            return deeper(left - 1)
        return json_refusal(pa.array(["1", "[" * 400 + "]" * 400]))

    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(600)
        assert deeper(250) in {"", f"it nests deeper than {MAX_JSON_VALUE_DEPTH}"}
    finally:
        sys.setrecursionlimit(limit)
