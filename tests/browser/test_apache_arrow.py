"""apache-arrow, in the browser: rows out and in over plain HTTP, by a page that is not the console's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.browser.conftest import Running

HOME = Path(__file__).parents[2] / ".interop" / "arrow-js"
BUNDLE = HOME / "node_modules" / "apache-arrow" / "Arrow.es2015.min.js"
READS = """async ([path, token]) => {
    const headers = {authorization: `Bearer ${token}`};
    const table = await Arrow.tableFromIPC(fetch(path, {headers}));
    const names = table.getChild("name");
    return {
        rows: table.numRows,
        columns: table.schema.fields.map((field) => field.name),
        ids: [...table.getChild("id")].map(Number),
        nulls: names.nullCount,
        first: names.get(0),
    };
}"""
APPENDS = """async ([path, token]) => {
    const rows = Arrow.tableFromArrays({id: BigInt64Array.from([100n, 101n])});
    const headers = {authorization: `Bearer ${token}`, "content-type": "application/vnd.apache.arrow.stream"};
    const reply = await fetch(path, {method: "POST", headers, body: Arrow.tableToIPC(rows, "stream")});
    return [reply.status, (await reply.json()).rows];
}"""


def _bearer_token(server: Running) -> str:
    """What `fletching keys token` prints."""
    command = [sys.executable, "-m", "fletching", "keys", "token", server.access_id]
    done = subprocess.run(
        [*command, "--at", str(server.folder)], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def test_a_page_reads_and_appends_with_apache_arrow(engine: Any, server: Running) -> None:
    if not BUNDLE.exists():
        pytest.skip("needs apache-arrow: make interop-js installs it where npm is")
    with server.connect() as client:
        client.create_table("javascript", "id BIGINT, name STRING").append(
            {"id": [1, 2, 3], "name": ["äß漢", None, ""]}
        )
    token = _bearer_token(server)
    context = engine.new_context()
    try:
        # Any page of the same origin; the console's own policy would let no such script in.
        context.route(
            f"{server.url}/page",
            lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"),
        )
        page = context.new_page()
        page.goto(f"{server.url}/page")
        page.add_script_tag(path=BUNDLE)
        path = "/fletching/v1/tables/demo/default/javascript/rows?format=arrow"
        assert page.evaluate(READS, [path, token]) == {
            "rows": 3,
            "columns": ["id", "name"],
            "ids": [1, 2, 3],
            "nulls": 1,
            "first": "äß漢",
        }
        assert page.evaluate(APPENDS, [path, token]) == [200, 2]
        assert page.evaluate(READS, [path + "&filter=id%20%3E%202", token])["ids"] == [3, 100, 101]
    finally:
        context.close()
