from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fletching.client.reading.resume_token import ResumeToken
from fletching.errors import UsageError
from fletching.types import TableName

TABLE = TableName("p", "t", "s")
TOKENS: list[tuple[ResumeToken, str]] = [
    (
        ResumeToken(table=TABLE, session_id="rs-1", index=3, row=17),
        '[1,"p","s","t","rs-1",3,null,null,17,null]',
    ),
    (
        ResumeToken(table=TABLE, session_id="rs-1", offset=10, length=5, columns=("b", "a")),
        '[1,"p","s","t","rs-1",null,10,5,0,["b","a"]]',
    ),
    (
        ResumeToken(table=TABLE, session_id="rs-1", offset=10, length=5, row=2, filtered=True),
        '[1,"p","s","t","rs-1",null,10,5,2,null,true]',
    ),
]


@pytest.mark.parametrize(("token", "text"), TOKENS)
def test_the_text_is_durable(token: ResumeToken, text: str) -> None:
    assert str(token) == text
    assert ResumeToken.parse(text) == token
    assert ResumeToken.parse(token) is token
    assert pickle.loads(pickle.dumps(token)) == token


@given(
    st.text(min_size=1),
    st.text(),
    st.none() | st.lists(st.text()).map(tuple),
    st.integers(0, 2**60),
)
def test_any_token_survives_its_text(
    name: str, session: str, columns: tuple[str, ...] | None, row: int
) -> None:
    token = ResumeToken(
        table=TableName(name, name, name), session_id=session, index=0, row=row, columns=columns
    )
    assert ResumeToken.parse(str(token)) == token


def test_the_request_names_the_split() -> None:
    by_index, by_offset, _ = (token.request() for token, _ in TOKENS)
    assert (by_index.index, by_index.offset, by_index.count) == (3, None, None)
    assert (by_offset.index, by_offset.offset, by_offset.count) == (None, 10, 5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "[2" + TOKENS[0][1][2:],
        TOKENS[0][1][:-1] + ",1]",
        '[1,"p","s","t","rs-1",-3,null,null,0,null]',
        '[1,"p","s","t","rs-1",null,null,null,0,null]',
        '[1,"p","s","t","rs-1",null,0,5,6,null]',
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        ResumeToken.parse(text)


@pytest.mark.parametrize(
    "fields",
    [{}, {"index": 1, "offset": 0, "length": 1}, {"offset": 1}, {"index": 0, "row": -1}],
)
def test_a_place_that_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ResumeToken(table=TABLE, session_id="rs-1", **fields)
