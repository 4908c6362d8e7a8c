"""Files that become rows: looked at first, and stored once that was confirmed."""

from __future__ import annotations

from tests.server.console.conftest import ORDERS, Pages


def test_the_page_says_what_it_takes(pages: Pages) -> None:
    for path in ("/upload", f"{ORDERS}/upload"):
        reply = pages(path)
        if reply.status == 404:
            continue
        assert reply.status == 200
        assert 'type="file"' in reply.text
        assert "csrf" in reply.text


def test_nothing_is_taken_without_the_session_s_value(pages: Pages) -> None:
    for path in ("/upload", f"{ORDERS}/upload"):
        assert pages(path, {"table": "x"}).status in {400, 403, 404, 405}
