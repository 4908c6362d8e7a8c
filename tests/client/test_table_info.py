from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.client.client import Client
from fletching.client.retry import RetrySequence
from fletching.client.table_info import describe
from fletching.errors import (
    MethodNotAllowedError,
    NoPermissionError,
    NoSuchTableError,
    NotFoundError,
    ServiceError,
)
from fletching.protocol.messages.admin import DescribeTable
from fletching.protocol.messages.requests import CreateReadSession, Request
from fletching.protocol.messages.responses import Column, ReadSession, Response, TableSchema
from fletching.types import TableName

NAME = TableName("p", "t")


@pytest.mark.parametrize("error", [NotFoundError("no path"), MethodNotAllowedError("x")])
def test_a_service_without_administration_is_asked_by_reading(
    channel: Any, transport: Any, error: ServiceError
) -> None:
    def answer(request: Request, attempt: RetrySequence) -> Response:
        if isinstance(request, DescribeTable):
            raise error
        assert isinstance(request, CreateReadSession)
        columns = (Column(name="id", type="bigint"), Column(name="tags", type="array<string>"))
        schema = TableSchema(
            data_columns=columns, partition_columns=(Column(name="pt", type="string"),)
        )
        return ReadSession(session_id="rs-1", schema=schema, record_count=7)

    transport.on_call = answer
    table = Client(channel, "p").table("t")
    assert table.schema.names == ["id", "tags", "pt"]
    assert table.schema.field("tags").type.value_type == pa.string()
    assert table.partition_columns == ("pt",)
    assert table.count_rows() == 7


@pytest.mark.parametrize("error", [NoSuchTableError("x"), NoPermissionError("x")])
def test_a_clear_answer_is_believed(channel: Any, transport: Any, error: ServiceError) -> None:
    def refuse(request: Request, attempt: RetrySequence) -> Response:
        raise error

    transport.on_call = refuse
    with pytest.raises(type(error)):
        describe(channel, NAME)
    assert len(transport.requests) == 1
