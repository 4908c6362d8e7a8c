from __future__ import annotations

import urllib.request
from typing import Any

import pyarrow as pa

import fletching
from fletching.testing.plugin import ACCESS_ID, ACCESS_KEY


def test_the_server_is_ready(fletching_server: Any) -> None:
    with urllib.request.urlopen(f"{fletching_server.url}/readyz") as reply:
        assert reply.status == 200


def test_the_key_opens_it(fletching_server: Any) -> None:
    with fletching.connect(
        fletching_server.url,
        project="mine",
        access_id=ACCESS_ID,
        access_key=ACCESS_KEY,
        create=True,
    ) as client:
        assert client.list_tables() == []


def test_clients_have_projects_of_their_own(fletching_client: fletching.Client) -> None:
    table = fletching_client.create_table("t", "id BIGINT")
    table.append(pa.table({"id": [1]}))
    assert fletching_client.list_tables() == ["t"]


def test_nothing_of_another_test_is_there(fletching_client: fletching.Client) -> None:
    assert fletching_client.list_tables() == []
