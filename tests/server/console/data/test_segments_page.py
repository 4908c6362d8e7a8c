"""The stored segments of a table, and one of them byte by byte."""

from __future__ import annotations

from tests.server.console.conftest import ORDERS, Pages


def test_segments_are_listed(pages: Pages) -> None:
    data = pages.data(f"{ORDERS}/segments")
    assert data["count"] == 3
    assert sorted(each["partition"] for each in data["listed"]) == ["a/1", "a/2", "b/1"]
    assert {each["rows"] for each in data["listed"]} == {10}
    assert all(len(each["crc32c"]) == 8 and each["batches"] == 1 for each in data["listed"])
    rest = pages.data(f"{ORDERS}/segments?offset=2")
    assert (len(rest["listed"]), rest["previous"], rest["next"]) == (1, 0, None)


def test_one_is_drawn_and_told(pages: Pages) -> None:
    first = pages.data(f"{ORDERS}/segments")["listed"][0]
    data = pages.data(f"{ORDERS}/segments/{first['id']}")
    assert data["key"] == first["key"]
    assert data["report"]["length"] == first["bytes"]
    page = pages(f"{ORDERS}/segments/{first['id']}")
    assert "style-src 'nonce-" in page.headers["content-security-policy"]
    assert first["key"] in page.text
    for number in ("999999", "x", "-1", "1" * 30):
        assert pages(f"{ORDERS}/segments/{number}").status == 404
