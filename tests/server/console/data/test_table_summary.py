"""What the pages of one table have in common."""

from __future__ import annotations

import pyarrow as pa
import pytest
from tests.server.console.conftest import ORDERS, Pages

from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages.admin import TableInfo
from fletching.protocol.types.table_schema import table_schema
from fletching.server.console.data.table_summary import summary_of, whole_schema
from fletching.types import TableName

SCHEMA = pa.schema([("a", pa.int16()), ("s", pa.large_string())])
INFO = TableInfo(
    table=TableName("p", "t", "s"), table_id="i", schema=table_schema(SCHEMA, (("pt", "bigint"),)),
    arrow_schema=encode_schema(SCHEMA), version=3, schema_version=1, rows=5, bytes=60, segments=2,
    created_at=1.0, modified_at=2.0, owner="", comment="mine",
)  # fmt: skip


def test_facts() -> None:
    assert summary_of(INFO) == {
        "name": "t", "schema": "s", "project": "p", "rows": 5, "bytes": 60, "segments": 2,
        "version": 3, "modified_at": 2.0, "comment": "mine", "partitioned": True,
    }  # fmt: skip


def test_all_columns_as_they_are_stored() -> None:
    assert whole_schema(INFO) == pa.schema([*SCHEMA, ("pt", pa.int64())])


@pytest.mark.parametrize("page", ["", "/columns", "/partitions", "/history", "/segments"])
def test_every_page_of_a_table_says_them(pages: Pages, page: str) -> None:
    text = pages(ORDERS + page).text
    assert "orders" in text
    assert "29" in text
    for other in ("/columns", "/partitions", "/history", "/segments"):
        assert f"{ORDERS}{other}" in text
    assert pages(f"/tables/demo/default/nowhere{page}").status == 404
