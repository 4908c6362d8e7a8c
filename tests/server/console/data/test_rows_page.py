"""The rows of a table as a page: cells by kind, one row whole, files to take away."""

from __future__ import annotations

import json

import pytest
from tests.server.console.conftest import ORDERS, Pages

import fletching
from fletching.server.console.data import rows_page
from fletching.server.server import Server


def test_rows_and_what_is_said_of_them(pages: Pages) -> None:
    data = pages.data(ORDERS)
    assert data["names"] == ["id", "name", "day", "hh"]
    assert len(data["cells"]) == 29
    assert (data["offset"], data["next"]) == (0, None)
    ids = {int(row[0]["text"]) for row in data["cells"]}
    assert ids == set(range(30)) - {3}


def test_a_next_page_is_offered_where_there_is_one(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_page, "PAGE_ROWS", 10)
    assert (pages.data(ORDERS)["next"], len(pages.data(ORDERS)["cells"])) == (10, 10)
    assert pages.data(f"{ORDERS}?version=1")["next"] is None
    assert pages.data(f"{ORDERS}?offset=19")["next"] is None


def test_a_filter_and_a_version(pages: Pages) -> None:
    assert len(pages.data(f"{ORDERS}?filter=id+%3C+5")["cells"]) == 4
    assert len(pages.data(f"{ORDERS}?filter=id+%3C+5&version=3")["cells"]) == 5
    assert len(pages.data(f"{ORDERS}?version=1")["cells"]) == 10
    for wrong in ("filter=id+%3C", "version=99", "version=x", "sort=nothing"):
        assert pages(f"{ORDERS}?{wrong}").status in {400, 404}


def test_one_row(pages: Pages) -> None:
    data = pages.data(f"{ORDERS}/row?offset=0&filter=id+%3D+7")
    assert [cell["text"] for cell in data["cells"]][:2] == ["7", "n7"]
    assert pages(f"{ORDERS}/row?offset=500").status in {400, 404}


def test_files(pages: Pages) -> None:
    reply = pages(f"{ORDERS}/rows?format=jsonl&filter=id+%3C+2")
    assert [json.loads(line)["name"] for line in reply.text.splitlines()] == ["n0", "n1"]
    csv = pages(f"{ORDERS}/rows?format=csv&filter=id+%3D+1").text
    assert csv.splitlines()[0].replace('"', "") == "id,name,day,hh"


def test_a_text_in_a_blob_is_shown_by_its_beginning(console_server: Server, pages: Pages) -> None:
    access_id, secret = console_server.access_key
    with fletching.connect(console_server.url, access_id=access_id, access_key=secret) as client:
        letters = client.create_table("letters", "id BIGINT, content BLOB")
        texts = [
            fletching.Blob(text, content_type=kind, file_name="a.txt")
            for text, kind in (
                (b"dear reader", "text/plain"),
                (b"x" * 500, "text/plain"),
                (b"\0", "application/x"),
            )
        ]
        letters.append({"id": [1, 2, 3], "content": texts})
    cells = [row[1]["text"] for row in pages.data("/tables/demo/default/letters")["cells"]]
    assert cells[0] == "dear reader"
    assert cells[1].rstrip("\N{HORIZONTAL ELLIPSIS}") == "x" * rows_page.TEXT_BYTES
    assert cells[2] == "a.txt (1 bytes)"
