"""How programs use the public names, for type checkers: mypy reads this file with the tests.

Nothing here runs but the import; `assert_type` fails the type check where a type is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_type

import fletching
from fletching.client import ArrowReader, Blob, Client, Scan, Split, Table, WriteSession, connect
from fletching.errors import NoSuchTableError


def program(url: str) -> int:
    with connect(url, project="demo", access_id="a", access_key="b") as client:
        assert_type(client, Client)
        table = client.create_table("t", "id BIGINT", partition_by=["pt"], if_not_exists=True)
        assert_type(table, Table)
        scan = table.scan(columns=["id"], filter="id > 1", limit=10)
        assert_type(scan, Scan)
        splits = scan.splits(4)
        assert_type(splits, list[Split])
        reader = splits[0].reader()
        assert_type(reader, ArrowReader)
        with table.write_session() as session:
            assert_type(session, WriteSession)
        try:
            client.table("absent")
        except NoSuchTableError as error:
            assert_type(error.message, str)
            assert_type(error.request_id, str | None)
        blobs = client.get_blobs(["x"])
        assert_type(blobs, Iterator[Blob | None])
        return table.count_rows()


def test_the_front_has_the_same_names() -> None:
    assert callable(program)
    assert fletching.connect is connect
    assert fletching.Table is Table
