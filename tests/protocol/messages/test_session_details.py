from __future__ import annotations

import msgspec
import pytest

from fletching.errors import ProtocolError
from fletching.protocol.codec import decode_response, encode_response
from fletching.protocol.messages.requests import GetReadSession
from fletching.protocol.messages.responses import ReadSession, TableSchema
from fletching.protocol.messages.session_details import (
    ColumnDetails,
    PartitionDetails,
    SessionDetails,
)
from fletching.types import TableName

LOOK = GetReadSession(table=TableName("p", "t"), session_id="s", with_statistics=True)
DETAILS = SessionDetails(
    split_rows=(1, 2),
    split_bytes=(10, 20),
    partition_columns=("pt",),
    partitions=(PartitionDetails(values=("a=b,c",), rows=3),),
    columns=(
        ColumnDetails(name="i", lower=-(2**63), upper=2**63 - 1, null_count=0),
        ColumnDetails(name="f", lower=1.0, upper=2.5, null_count=1, has_nan=True),
        ColumnDetails(name="b", lower=False, upper=True),
        ColumnDetails(name="s", lower="ä"),
    ),
    deleted_rows=4,
)


@pytest.mark.parametrize("details", [DETAILS, SessionDetails(), None])
def test_they_come_as_they_were_sent(details: SessionDetails | None) -> None:
    reply = ReadSession(session_id="s", schema=TableSchema(), details=details)
    headers, body = encode_response(reply, LOOK)
    read = decode_response(LOOK, headers, body)
    assert isinstance(read, ReadSession)
    assert read.details == details
    if details is DETAILS:
        assert read.details is not None
        kinds = [(type(each.lower), type(each.upper)) for each in read.details.columns or ()]
        assert kinds == [(int, int), (float, float), (bool, bool), (str, type(None))]


def test_a_reply_without_them_is_as_it_was() -> None:
    _headers, body = encode_response(ReadSession(session_id="s", schema=TableSchema()), LOOK)
    assert b"Details" not in body
    reply = ReadSession(session_id="s", schema=TableSchema(), details=DETAILS)
    sent = msgspec.json.decode(encode_response(reply, LOOK)[1])["Details"]
    assert sent["SplitRows"] == [1, 2]
    assert sent["Columns"][0] == {
        "Name": "i", "Lower": -(2**63), "Upper": 2**63 - 1, "NullCount": 0,
    }  # fmt: skip


def test_what_is_no_details_is_refused() -> None:
    headers, body = encode_response(ReadSession(session_id="s", schema=TableSchema()), LOOK)
    wrongs: list[object] = ["x", {"SplitRows": ["1"]}, {"Columns": [{}]}]
    for wrong in wrongs:
        body = msgspec.json.encode(msgspec.json.decode(body) | {"Details": wrong})
        with pytest.raises(ProtocolError, match="Details"):
            decode_response(LOOK, headers, body)
