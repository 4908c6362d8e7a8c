"""How deep JSON nests is what its values do."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fletching.protocol.types.json_depth import json_depth

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.text(st.sampled_from('[]{}"\\ a')),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.sampled_from('[{"\\')), inner),
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(VALUES)
def test_depth_is_that_of_the_value(value: Any) -> None:
    assert json_depth(json.dumps(value).encode(), 0) == depth_of(value)


def test_too_few_brackets_are_not_looked_at() -> None:
    assert json_depth(b"[[[]]]", 3) == 0
    assert json_depth(b"[[[]]]", 2) == 3


def test_what_stands_before_a_mistake_counts() -> None:
    assert json_depth(b"[" * 9 + b'\\" ]]]]]]]] "', 3) == 9
    assert json_depth(b"[" * 9 + b'"]]]]]]]]', 3) == 9
