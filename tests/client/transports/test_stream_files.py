"""The bodies of one read and one write as files of bytes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyarrow as pa
import pytest
from tests.client.conftest import FakeTransport

from fletching.client.blobs.blob_streams import BlobStreamReader
from fletching.client.transports.channel import Channel
from fletching.client.transports.stream_files import StreamReader, StreamWriter
from fletching.errors import OperationCancelledError, UsageError
from fletching.protocol.messages.requests import ReadTable, WriteTable
from fletching.types import TableName

T = TableName("p", "t")
DATA = bytes(range(100))


class Source:
    """Gives seven bytes at a time."""

    request_id = "r-1"

    def __init__(self) -> None:
        self.left = memoryview(DATA)
        self.closed = 0

    def readinto(self, buffer: Any) -> int:
        count = min(7, len(buffer), len(self.left))
        buffer[:count] = self.left[:count]
        self.left = self.left[count:]
        return count

    def close(self) -> None:
        self.closed += 1


class Sink:
    def __init__(self) -> None:
        self.data = b""
        self.calls: list[str] = []

    def write(self, data: Any) -> None:
        self.data += bytes(data)

    def finish(self) -> Any:
        self.calls.append("finish")
        return "stored"

    def abort(self) -> None:
        self.calls.append("abort")


def opened(channel: Channel, transport: FakeTransport, **verbs: Any) -> Channel:
    for name, made in verbs.items():
        setattr(transport, name, lambda *_, made=made: made)
    return dataclasses.replace(channel)


def test_reads_are_never_short_in_the_middle(channel: Channel, transport: FakeTransport) -> None:
    source = Source()
    reader = StreamReader(
        opened(channel, transport, open_read=source), ReadTable(table=T, session_id="s")
    )
    assert reader.request_id is None
    assert reader.read(0) == b""
    assert reader.read(30) == DATA[:30]
    assert reader.request_id == "r-1"
    assert reader.read() == DATA[30:]
    assert reader.read(5) == b""
    reader.close()
    reader.close()
    assert source.closed >= 1
    with pytest.raises(UsageError, match="closed"):
        reader.readinto(bytearray(1))


def test_what_is_finished_is_stored_once(channel: Channel, transport: FakeTransport) -> None:
    sink = Sink()
    writer = StreamWriter(
        opened(channel, transport, open_write=sink),
        WriteTable(table=T, session_id="s", stream_id="a"),
    )
    assert writer.write(pa.py_buffer(b"abcd")) == 4
    assert writer.write(memoryview(b"abcd").cast("I")) == 4
    assert writer.write(b"") == 0
    first: object = writer.finish()
    assert first == "stored"
    again: object = writer.finish()
    assert again is first
    with pytest.raises(UsageError, match="finished"):
        writer.write(b"x")
    writer.close()
    assert (sink.data, sink.calls) == (b"abcdabcd", ["finish"])


def test_what_is_closed_before_is_broken_off(channel: Channel, transport: FakeTransport) -> None:
    sink = Sink()
    writer = StreamWriter(
        opened(channel, transport, open_write=sink),
        WriteTable(table=T, session_id="s", stream_id="a"),
    )
    writer.close()
    writer.close()
    assert sink.calls == ["abort"]
    with pytest.raises(UsageError, match="closed before"):
        writer.finish()


def test_files_whose_request_could_not_be_sent_are_closed() -> None:
    """Whatever the garbage collector closes must not fail for what was never there."""

    class Cancelled:
        def sequence(self) -> None:
            raise OperationCancelledError("the task was cancelled")

    channel: Any = Cancelled()
    for kind, arguments in (
        (StreamWriter, (WriteTable(table=T, session_id="s", stream_id="0"),)),
        (BlobStreamReader, ("p", [])),
    ):
        made: Any = kind.__new__(kind)
        with pytest.raises(OperationCancelledError):
            made.__init__(channel, *arguments)
        assert made.closed
        made.close()
