from __future__ import annotations

import hashlib
import random
import threading
from typing import Any

import pytest
from tests.client.conftest import FakeTransport

import fletching
from fletching.client import BlobDataIterator, BlobStatus, BlobStreamReader
from fletching.client.blobs.blob_streams import BlobStreamWriter
from fletching.client.blobs.blob_transfers import UploadChecksum
from fletching.client.transports.channel import Channel
from fletching.errors import (
    ChecksumMismatchError,
    NotFoundError,
    ServiceUnavailableError,
    UsageError,
)
from fletching.protocol.messages.requests import WriteBlob
from fletching.protocol.messages.responses import BlobReferences
from fletching.types import TableName


@pytest.fixture
def pictures(client: fletching.Client) -> fletching.Table:
    return client.create_table("pics", "id BIGINT, image BLOB")


def write_much(writer: BlobStreamWriter) -> None:
    for _ in range(100):
        writer.write(bytes(1_000_000))
    writer.finish()


REQUEST = WriteBlob(table=TableName("p", "t"), session_id="s", stream_id="b")


class TestWriter:
    @pytest.mark.parametrize("chunks", [0, 1, 7])
    def test_pieces_make_a_blob(
        self, client: fletching.Client, pictures: fletching.Table, chunks: int
    ) -> None:
        data = [random.Random(n).randbytes(n * 400_000) for n in range(chunks)]
        with pictures.write_session() as session:
            writer = session.blob_writer("image", content_type="image/png", file_name="a.png")
            assert (writer.status, writer.writable()) == (BlobStatus.RUNNING, True)
            for chunk in data:
                assert writer.write(chunk) == len(chunk)
            reference = writer.finish()
            assert writer.finish() == reference
            assert (writer.status, writer.writable()) == (BlobStatus.OK, False)
            assert writer.size == sum(map(len, data))
            with pytest.raises(UsageError):
                writer.write(b"x")
            writer.close()
        received = client.get_blob(reference)
        assert received.data == b"".join(data)
        assert (received.content_type, received.file_name) == ("image/png", "a.png")

    def test_as_a_context_manager(
        self, client: fletching.Client, pictures: fletching.Table
    ) -> None:
        with pictures.write_session() as session:
            with session.blob_writer("image") as writer:
                writer.write(b"abc")
            assert client.get_blob(writer.finish()).data == b"abc"

    def test_a_block_that_raises_stores_nothing(self, pictures: fletching.Table) -> None:
        with pictures.write_session() as session:
            writer = session.blob_writer("image")

            def block() -> None:
                with writer:
                    writer.write(bytes(3_000_000))
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                block()
            assert writer.status is BlobStatus.ABORTED
            with pytest.raises(UsageError):
                writer.finish()

    def test_buffers_may_be_used_again(
        self, client: fletching.Client, pictures: fletching.Table
    ) -> None:
        room = bytearray(1_000_000)
        expected = b""
        with pictures.write_session() as session, session.blob_writer("image") as writer:
            for n in range(5):
                room[:] = bytes([n]) * len(room)
                expected += bytes(room)
                writer.write(room)
        assert client.get_blob(writer.finish()).data == expected

    def test_an_unknown_session_is_told(
        self, client: fletching.Client, pictures: fletching.Table
    ) -> None:
        session = pictures.open_write_session("ws-none")
        writer = session.blob_writer("image")
        with pytest.raises(NotFoundError):
            write_much(writer)
        assert writer.status is BlobStatus.FAILED
        writer.close()

    def test_the_request_id_is_told(
        self, client: fletching.Client, pictures: fletching.Table
    ) -> None:
        with pictures.write_session() as session, session.blob_writer("image") as writer:
            assert writer.request_id is None
        assert writer.trace_id
        if client.channel.transport.upload_checksum is not UploadChecksum.NONE:
            assert writer.request_id

    def test_what_the_service_got_is_compared(
        self, channel: Channel, transport: FakeTransport
    ) -> None:
        def reply(_: Any, body: Any) -> BlobReferences:
            received = b"".join(body)
            md5 = hashlib.md5(received + b"!").hexdigest()
            return BlobReferences(references=("r",), size=len(received), md5=md5)

        transport.on_upload = reply
        writer = BlobStreamWriter(channel, REQUEST)
        writer.write(b"abc")
        with pytest.raises(ChecksumMismatchError):
            writer.finish()

    def test_a_failure_reaches_the_next_write_and_no_thread_is_left(
        self, channel: Channel, transport: FakeTransport
    ) -> None:
        def reply(_: Any, body: Any) -> BlobReferences:
            next(iter(body))
            raise ServiceUnavailableError("later")

        before = set(threading.enumerate())  # others' may end meanwhile
        transport.on_upload = reply
        writer = BlobStreamWriter(channel, REQUEST)
        with pytest.raises(ServiceUnavailableError):
            write_much(writer)
        assert not writer.writable()
        with pytest.raises(UsageError):
            writer.finish()
        writer.close()
        # Of this writer: those of servers and of other tests come and go.
        left = set(threading.enumerate()) - before
        assert not [thread for thread in left if thread.name == "fletching-blob"]


class TestReader:
    @pytest.fixture
    def references(self, pictures: fletching.Table) -> list[str]:
        with pictures.write_session() as session:
            return session.put_blobs(
                [fletching.Blob(b"first", "text/plain", "1.txt"), b"", b"x" * 2_000_000], "image"
            )

    def test_one_after_the_other(self, client: fletching.Client, references: list[str]) -> None:
        with client.blob_reader(references) as reader:
            assert (reader.mime_type, reader.file_name, reader.length) == ("text/plain", "1.txt", 5)
            assert reader.read(2) == b"fi"
            assert reader.read() == b"rst"
            assert reader.read() == b""
            assert reader.next()
            assert (reader.read(), reader.index) == (b"", 1)
            assert reader.next()
            assert reader.read(10) == b"x" * 10
            room = bytearray(100)
            assert reader.readinto(room) > 0
            assert len(reader.read()) + len(room) >= 2_000_000 - 110
            assert not reader.next()
            assert not reader.next()

    def test_unread_data_is_not_skipped_by_accident(
        self, client: fletching.Client, references: list[str]
    ) -> None:
        with client.blob_reader(references) as reader:
            reader.read(1)
            with pytest.raises(UsageError, match="skip=True"):
                reader.next()
            assert reader.read() == b"irst"
            assert reader.next()
            assert reader.next()
            with pytest.raises(UsageError):
                reader.next()
            assert not reader.next(skip=True)

    def test_one_blob(self, client: fletching.Client, references: list[str]) -> None:
        with client.blob_reader(references[:1]) as reader:
            assert (reader.read(), reader.file_name) == (b"first", "1.txt")

    def test_closed_early(self, client: fletching.Client, references: list[str]) -> None:
        reader = client.blob_reader(references)
        reader.read(1)
        reader.close()
        reader.close()
        for call in (
            reader.read,
            reader.next,
            lambda: reader.readinto(bytearray(1)),
        ):
            with pytest.raises(UsageError):
                call()
        assert client.get_blob(references[0]).data == b"first"


class TestIterator:
    def test_whole_blobs(self, client: fletching.Client, pictures: fletching.Table) -> None:
        with pictures.write_session() as session:
            references = session.put_blobs([b"a", fletching.Blob(b"b", "image/png")], "image")
        iterator = client.blob_iterator(references)
        assert iterator.framed
        received = list(iterator)
        assert [(b.data, b.content_type, b.reference) for b in received] == [
            (b"a", None, references[0]),
            (b"b", "image/png", references[1]),
        ]
        iterator.close()
        assert list(iterator) == []

    def test_one_is_framed_by_our_service(
        self, client: fletching.Client, pictures: fletching.Table
    ) -> None:
        # Contents that look like a frame's beginning must not be taken for one.
        tricky = (5).to_bytes(8, "little") + b"{}" * 10
        with pictures.write_session() as session:
            reference = session.put_blob(tricky, "image", file_name="tricky")
        (received,) = BlobDataIterator(client.channel, client.project, [reference])
        assert (received.data, received.file_name) == (tricky, "tricky")
        reader = BlobStreamReader(client.channel, client.project, [reference])
        assert reader.read() == tricky
        reader.close()

    def test_no_references(self, client: fletching.Client, pictures: fletching.Table) -> None:
        with pytest.raises(fletching.FletchingError):
            client.blob_iterator([])
