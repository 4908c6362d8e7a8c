"""Which request is answered by what, and how a table read's reply is coded for whom."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from fletching.protocol.http.body_codings import StreamCoding
from fletching.protocol.messages.requests import CreateReadSession, ReadTable
from fletching.server.api import dispatch
from fletching.server.api.dispatch import HANDLERS, reply_coding
from fletching.server.server_settings import ReplyCompression
from fletching.types import TableName
from fletching.wire.content_coding import ContentCoding

AUTO, ARROW, BODY, OFF = ReplyCompression
ZSTD, LZ4, PLAIN = ContentCoding.ZSTD, ContentCoding.LZ4_FRAME, ContentCoding.IDENTITY
ODPS, JAVA, OURS = "PyODPS/0.13.2 CPython", "Java-SDK/1.2", "fletching/0.1.0"
NOBODY: Any = None  # no exchange is looked at
WITH_SCHEMA = "demo.schemas.default.tables.t"


def decided(
    compression: ReplyCompression,
    accepted: tuple[str, ...],
    agent: str,
    *,
    trace: str = "",
    target: str = WITH_SCHEMA,
) -> tuple[Any, str | None]:
    headers = {"user-agent": agent, "odps-tunnel-retry-trace-id": trace}
    query = [("Target", target)] if target else []
    exchange: Any = SimpleNamespace(header=headers.__getitem__, query=query)
    request = ReadTable(
        table=TableName("demo", "t"), session_id="s", index=0, accept_encoding=accepted
    )
    coding, changed = reply_coding(exchange, request, compression)
    assert (changed is request) == (changed.buffer_codec is None)
    return coding, changed.buffer_codec


@pytest.mark.parametrize(
    ("compression", "accepted", "agent", "more", "expected"),
    [
        # Nobody asked.
        (AUTO, (), ODPS, {"trace": "x"}, (PLAIN, None)),
        (BODY, (), JAVA, {}, (PLAIN, None)),
        (ARROW, (), JAVA, {}, (PLAIN, None)),
        # Switched off.
        (OFF, ("zstd",), ODPS, {"trace": "x"}, (PLAIN, None)),
        (OFF, ("zstd",), JAVA, {}, (PLAIN, None)),
        # By who asks: the whole body for newer versions of PyODPS, buffers for everybody else.
        (AUTO, ("zstd",), ODPS, {"trace": "x"}, (ZSTD, None)),
        (AUTO, ("zstd",), ODPS.upper(), {"trace": "x"}, (ZSTD, None)),
        (AUTO, ("zstd",), ODPS, {"target": "demo.tables.t"}, (ZSTD, None)),
        (AUTO, ("zstd",), ODPS, {}, (PLAIN, "zstd")),
        (AUTO, ("zstd",), ODPS, {"target": ""}, (PLAIN, "zstd")),
        (AUTO, ("lz4",), ODPS, {}, (PLAIN, None)),
        (AUTO, ("x-lz4-frame",), ODPS, {"trace": "x"}, (LZ4, None)),
        (AUTO, ("x-lz4-frame",), JAVA, {"trace": "x"}, (PLAIN, "lz4")),
        (AUTO, ("zstd",), JAVA, {"trace": "x", "target": "demo.tables.t"}, (PLAIN, "zstd")),
        # One way for everybody.
        (BODY, ("zstd",), JAVA, {}, (ZSTD, None)),
        (ARROW, ("zstd",), ODPS, {"trace": "x"}, (PLAIN, "zstd")),
        # A coding of our own goes to our own client alone.
        (AUTO, ("x-lz4-stream",), OURS, {}, (StreamCoding.LZ4_STREAM, None)),
        (BODY, ("x-lz4-stream",), OURS, {}, (StreamCoding.LZ4_STREAM, None)),
        (AUTO, ("x-lz4-stream",), JAVA, {}, (PLAIN, None)),
        (ARROW, ("x-lz4-stream",), OURS, {}, (PLAIN, None)),
        (OFF, ("x-lz4-stream",), OURS, {}, (PLAIN, None)),
    ],
)
def test_how_a_reply_is_coded(
    compression: ReplyCompression,
    accepted: tuple[str, ...],
    agent: str,
    more: dict[str, str],
    expected: tuple[Any, str | None],
) -> None:
    assert decided(compression, accepted, agent, **more) == expected


def test_requests_with_bodies_of_rows_are_answered_by_who_streams_them() -> None:
    named = {request.__name__ for request in HANDLERS}
    assert named == {
        *("CreateReadSession", "ReadTable", "ReadInstance", "PreviewTable"),
        *("WriteTable", "AppendRows", "WriteBlob", "WriteBlobs", "ReadBlobs"),
    }


def test_first_rows_go_along_only_where_they_are_asked_for_and_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A session that could be opened is not refused because its rows would have to wait."""

    class RowsError(Exception):
        pass

    def enter() -> None:
        raise RowsError

    alone: list[CreateReadSession] = []

    async def call(_exchange: Any, _service: Any, request: Any) -> None:
        alone.append(request)

    monkeypatch.setattr(dispatch, "_call", call)
    monkeypatch.setattr(dispatch, "_reachable", lambda _exchange, request: request)
    for asked, full in ((False, False), (False, True), (True, True), (True, False)):
        request = CreateReadSession(table=TableName("demo", "t"), first_split=asked)
        service: Any = SimpleNamespace(reads=SimpleNamespace(full=full, enter=enter))
        alone.clear()
        with pytest.raises(RowsError) if asked and not full else contextlib.nullcontext():
            asyncio.run(dispatch._open_read(NOBODY, service, request))
        assert alone == ([] if asked and not full else [request])
