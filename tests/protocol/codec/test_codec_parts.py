"""The HTTP parts of a request: read checked, refused with the name of what is wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.errors import InvalidParameterError, PayloadTooLargeError
from fletching.protocol.codec.codec_parts import (
    MAX_JSON_BYTES,
    MAX_JSON_DEPTH,
    RequestParts,
    check_json_depth,
    encode_json,
    load_json_object,
)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=9,
)


@given(st.dictionaries(st.text(max_size=9), values, max_size=4))
def test_objects_come_back(value: dict[str, object]) -> None:
    assert load_json_object(memoryview(encode_json(value))) == value


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b"1", b'"a"', b"{", b"\xff", b'{"a":"\xff"}', b"{}x"]
)
def test_what_is_no_object(body: bytes) -> None:
    with pytest.raises(InvalidParameterError, match="JSON"):
        load_json_object(body)


def test_too_large() -> None:
    assert load_json_object(b"") == {}
    assert load_json_object(b'{"a":' + b" " * (MAX_JSON_BYTES - 7) + b"1}") == {"a": 1}
    with pytest.raises(PayloadTooLargeError, match=str(MAX_JSON_BYTES)):
        load_json_object(b'{"a":' + b" " * (MAX_JSON_BYTES - 6) + b"1}")


def nested(depth: int) -> bytes:
    return (
        b'{"a":' * (depth // 2)
        + b"[" * (depth - depth // 2)
        + b"1"
        + b"]" * (depth - depth // 2)
        + b"}" * (depth // 2)
    )


def test_too_deep() -> None:
    assert load_json_object(nested(MAX_JSON_DEPTH))
    with pytest.raises(InvalidParameterError, match=f"nests {MAX_JSON_DEPTH + 1} deep"):
        load_json_object(nested(MAX_JSON_DEPTH + 1))


@pytest.mark.parametrize(
    "value",
    [
        {"a": "[" * 500}, {"a": '"[{' * 100}, {"a": "\\" * 99 + "[" * 99}, {"[" * 100: "]"},
        {"a": [[]] * 200}, {"a": [{}] * 500, "b": '\\"' * 50},
    ],
)  # fmt: skip
def test_brackets_in_texts_and_beside_each_other_are_not_depth(value: object) -> None:
    check_json_depth(json.dumps(value).encode())


@given(st.binary(max_size=300))
def test_depth_is_looked_at_in_whatever_comes(body: bytes) -> None:
    try:
        check_json_depth(b"[" * 65 + body)
    except InvalidParameterError:
        return
    raise AssertionError


def parts(query: str = "", body: bytes = b"", **headers: str) -> RequestParts:
    pairs = [tuple(each.split("=")) for each in query.split("&")] if query else []
    return RequestParts(pairs, headers, body)  # type: ignore[arg-type]  # pairs


def test_of_what_is_repeated_the_last_counts() -> None:
    result = parts("a=1&a=2", Some="x")
    assert result.query_text("a") == "2"
    assert result.headers["some"] == "x"
    assert result.query_text("none") is None
    assert parts("a=").query_text("a") is None
