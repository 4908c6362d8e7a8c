"""The columns of a table: types, and what values they have."""

from __future__ import annotations

import re

from tests.server.console.conftest import ORDERS, Pages


def test_all_columns_with_their_profiles(pages: Pages) -> None:
    data = pages.data(f"{ORDERS}/columns")
    assert [each["name"] for each in data["columns"]] == ["id", "name", "day", "hh"]
    assert [each["partition"] for each in data["columns"]] == [False, False, True, True]
    assert [each["arrow_type"] for each in data["columns"][:2]] == ["int64", "string"]
    assert (data["count"], data["looked"]) == (4, 29)
    assert all(each["profile"] is not None for each in data["columns"])


def test_one_column(pages: Pages) -> None:
    data = pages.data(f"{ORDERS}/columns?column=ID")
    (column,) = data["columns"]
    assert column["name"] == "id"
    assert (data["previous"], data["next"]) == (None, None)
    assert pages.data(f"{ORDERS}/columns?column=none")["columns"] == []


def test_pages_of_columns(pages: Pages) -> None:
    data = pages.data(f"{ORDERS}/columns?offset=2")
    assert [each["name"] for each in data["columns"]] == ["day", "hh"]
    assert (data["previous"], data["next"]) == (0, None)
    assert pages(f"{ORDERS}/columns?offset=x").status == 400


def test_a_picture_says_between_what_its_bars_stand(pages: Pages) -> None:
    text = pages(f"{ORDERS}/columns").text
    (numbers,) = re.findall(
        r'aria-label="How the values of id are spread".*?</svg>', text, re.DOTALL
    )
    assert ">0</text>" in numbers
    assert ">29</text>" in numbers
    # Of texts the lengths are drawn, so lengths stand at the ends, no texts.
    (lengths,) = re.findall(
        r'aria-label="How the lengths of name are spread".*?</svg>', text, re.DOTALL
    )
    assert [end[:1] for end in re.findall(r"<text[^>]*>([^<]*)</text>", lengths)[-2:]] == ["2"] * 2
