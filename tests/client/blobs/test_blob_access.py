"""Putting, getting and opening blobs: over HTTP and embedded, and against transports that fail."""

from __future__ import annotations

import base64
import hashlib
import io
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from crc32c import crc32c
from tests.client.conftest import FakeClock, FakeTransport

import fletching
from fletching import Blob
from fletching.client.blobs import blob_access as blobs
from fletching.client.blobs.blob_access import BlobPutter, contents_ahead, get_blobs, get_contents
from fletching.client.blobs.blob_transfers import UploadChecksum, whole_of
from fletching.client.transports.channel import Channel
from fletching.errors import (
    ChecksumMismatchError,
    ConnectionBrokenError,
    NotFoundError,
    ProtocolError,
    ServiceUnavailableError,
    UsageError,
)
from fletching.protocol.messages.requests import ReadBlobs
from fletching.protocol.messages.responses import BlobReferences
from fletching.types import TableName
from fletching.wire.blob_frames import (
    BlobData,
    BlobDataEnd,
    BlobDataStart,
    BlobHeader,
    ChecksumType,
)


@pytest.fixture
def pictures(client: fletching.Client) -> fletching.Table:
    return client.create_table("pics", "id BIGINT, image BLOB, more ARRAY<BLOB>")


def noise(length: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(length)


class TestPutAndGet:
    @pytest.mark.parametrize("length", [0, 1, 100_000, 3_000_001])
    def test_one(self, client: fletching.Client, pictures: fletching.Table, length: int) -> None:
        data = noise(length)
        with pictures.write_session() as session:
            reference = session.put_blob(
                data, column="image", content_type="image/png", file_name="ü.png"
            )
        received = client.get_blob(reference)
        assert received == Blob(data, "image/png", "ü.png", reference)

    @pytest.mark.parametrize("compression", ["lz4", "zstd"])
    def test_compressed(
        self, client: fletching.Client, pictures: fletching.Table, compression: Any
    ) -> None:
        squeezed = client.with_options(compression=compression)
        table = squeezed.table("pics")
        data = b"compressible " * 100_000
        with table.write_session() as session:
            reference = session.put_blob(data, "image")
            many = session.put_blobs([data, b"", b"x"], "image")
        assert squeezed.get_blob(reference).data == data
        assert [b.data for b in squeezed.get_blobs(many) if b] == [data, b"", b"x"]

    def test_files(
        self, client: fletching.Client, pictures: fletching.Table, tmp_path: Path
    ) -> None:
        path = tmp_path / "photo.png"
        path.write_bytes(noise(300_000))
        with pictures.write_session() as session, path.open("rb") as file:
            references = [
                session.put_blob(path, "image"),
                session.put_blob(str(path), "image"),
                session.put_blob(file, "image"),
                session.put_blob(io.BytesIO(b"memory"), "image"),
            ]
        for reference in references[:3]:
            received = client.get_blob(reference)
            assert received.data == path.read_bytes()
            assert (received.content_type, received.file_name) == ("image/png", "photo.png")
        assert client.get_blob(references[3]).data == b"memory"

    def test_many_keep_order_and_duplicates(
        self, client: fletching.Client, pictures: fletching.Table
    ) -> None:
        data = [noise(n * 997 % 30_000, n) for n in range(60)]
        with pictures.write_session() as session:
            references = session.put_blobs(
                (Blob(d, file_name=f"{n}") for n, d in enumerate(data)), "image"
            )
        order = [random.Random(5).randrange(60) for _ in range(150)]
        received = list(client.get_blobs(references[n] for n in order))
        assert [blob.data for blob in received if blob] == [data[n] for n in order]
        assert [blob.file_name for blob in received if blob] == [str(n) for n in order]

    def test_several_requests(
        self,
        client: fletching.Client,
        pictures: fletching.Table,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(blobs, "BATCH_BLOBS", 3)
        monkeypatch.setattr(blobs, "BATCH_BYTES", 100)
        monkeypatch.setattr(blobs, "READ_REFERENCES", 4)
        data = [noise(n * 13 % 60, n) for n in range(20)]
        with pictures.write_session() as session:
            references = session.put_blobs(data, "image")
        cells = [*references, None, references[0]]
        received = list(client.get_blobs(cells))
        assert received[20] is None
        assert [b.data for b in received if b] == [*data, data[0]]

    def test_none(self, client: fletching.Client, pictures: fletching.Table) -> None:
        with pictures.write_session() as session:
            assert session.put_blobs([], "image") == []
        assert list(client.get_blobs([])) == []
        assert list(client.get_blobs([None, None])) == [None, None]

    def test_cells_of_a_scan_are_references(
        self, client: fletching.Client, pictures: fletching.Table
    ) -> None:
        with pictures.write_session() as session:
            references = session.put_blobs([b"one", b"two"], "image")
            with session.writer() as writer:
                writer.write([{"id": 1, "image": references[0].encode()}, {"id": 2}])
        column = pictures.scan().to_table()["image"]
        received = list(client.get_blobs(column))
        assert received[0] is not None
        assert (received[0].data, received[1]) == (b"one", None)
        assert client.get_blob(column[0]).data == b"one"
        assert client.get_blob(base64.b64decode(references[1])).data == b"two"

    def test_columns_are_found_by_path(self, pictures: fletching.Table) -> None:
        with pictures.write_session() as session:
            assert session.put_blob(b"x", "more")
            assert session.put_blob(b"x", "more.element")
            for bad in ("id", "nope", None):
                with pytest.raises(UsageError, match="image"):
                    session.put_blob(b"x", bad)

    def test_unknown_references(self, client: fletching.Client, pictures: fletching.Table) -> None:
        with pytest.raises(NotFoundError):
            client.get_blob("A" * 80)
        with pytest.raises(NotFoundError):
            list(client.get_blobs(["A" * 80, "B" * 80]))
        with pytest.raises(NotFoundError):
            client.open_blob("A" * 80)

    def test_a_session_that_is_over(self, pictures: fletching.Table) -> None:
        with pictures.write_session() as session:
            pass
        with pytest.raises(UsageError):
            session.put_blob(b"x", "image")
        with pytest.raises(UsageError):
            session.put_blobs([b"x"], "image")

    def test_partitions(self, client: fletching.Client) -> None:
        table = client.create_table("by_day", "image BLOB", partition_by=["pt"])
        with table.write_session("pt=1") as session:
            (reference,) = session.put_blobs([b"x"], partition="pt=1")
            session.put_blob(b"x", partition="pt=1")
        assert client.get_blob(reference).data == b"x"


class TestOpen:
    @pytest.fixture
    def reference(self, pictures: fletching.Table) -> str:
        with pictures.write_session() as session:
            return session.put_blob(noise(1_000_000), "image", file_name="a.bin")

    def test_reading_and_seeking(self, client: fletching.Client, reference: str) -> None:
        data = noise(1_000_000)
        with client.open_blob(reference, buffer_bytes=1000) as file:
            assert (file.length, file.file_name) == (1_000_000, "a.bin")
            assert file.read(10) == data[:10]
            assert file.seek(-10, io.SEEK_END) == 999_990
            assert file.read() == data[-10:]
            assert file.read() == b""
            assert file.seek(500_000) == 500_000
            assert file.seek(5, io.SEEK_CUR) == 500_005
            assert file.read(300_000) == data[500_005:800_005]
            assert file.tell() == 800_005
            file.seek(2_000_000)
            assert file.read(1) == b""
            with pytest.raises(UsageError):
                file.seek(-1)

    def test_whole(self, client: fletching.Client, reference: str) -> None:
        with client.open_blob(reference) as file:
            assert hashlib.md5(file.read()).digest() == hashlib.md5(noise(1_000_000)).digest()

    def test_other_libraries_take_it(
        self, client: fletching.Client, pictures: fletching.Table
    ) -> None:
        sink = io.BytesIO()
        with pa.ipc.new_file(sink, pa.schema([("a", pa.int64())])) as writer:
            writer.write(pa.record_batch({"a": [1, 2, 3]}))
        with pictures.write_session() as session:
            reference = session.put_blob(sink.getvalue(), "image")
        with client.open_blob(reference) as file:
            assert pa.ipc.open_file(file).read_all()["a"].to_pylist() == [1, 2, 3]

    def test_an_empty_blob(self, client: fletching.Client, pictures: fletching.Table) -> None:
        with pictures.write_session() as session:
            reference = session.put_blob(b"", "image")
        with client.open_blob(reference) as file:
            assert file.read() == b""


# --- transports that fail ---------------------------------------------------------------------


class FakeEvents:
    request_id = None
    framed = True
    on_this_host = False

    def __init__(self, items: Sequence[Any]) -> None:
        self.items = items
        self.closed = False

    def __iter__(self) -> Iterator[Any]:
        for item in self.items:
            if isinstance(item, BaseException):
                raise item
            yield item

    def whole(self) -> Iterator[tuple[BlobHeader, bytes]]:
        return whole_of(self)

    def contents(self) -> Iterator[bytes]:
        return (data for _, data in whole_of(self))

    def close(self) -> None:
        self.closed = True


def events_of(blobs_: Sequence[bytes], *, then: Sequence[Any] = ()) -> FakeEvents:
    items: list[Any] = []
    for index, data in enumerate(blobs_):
        items.append(BlobDataStart(index, 0, BlobHeader(), len(data)))
        items.append(BlobData(memoryview(data)))
        items.append(BlobDataEnd(index, ChecksumType.NONE, {}))
    return FakeEvents([*items, *then])


TABLE = TableName("p", "t")


class TestFailures:
    def test_a_broken_reply_goes_on_behind_the_last_whole_blob(
        self, channel: Channel, transport: FakeTransport, clock: FakeClock
    ) -> None:
        asked: list[tuple[str, ...]] = []
        half = BlobDataStart(1, 0, BlobHeader(), 5)

        def reply(request: ReadBlobs) -> FakeEvents:
            asked.append(request.references)
            if len(asked) < 3:
                return events_of([b"x"], then=[half, ConnectionBrokenError("gone")])
            return events_of([b"x"] * len(request.references))

        transport.on_read_blobs = reply
        received = list(get_blobs(channel, "p", ["a", "b", "c", "d"]))
        assert [b.reference for b in received if b] == ["a", "b", "c", "d"]
        assert asked == [("a", "b", "c", "d"), ("b", "c", "d"), ("c", "d")]
        assert len(clock.slept) == 2

    @pytest.mark.parametrize("on_this_host", [False, True])
    def test_what_is_asked_for_ahead_waits_only_where_it_is_on_this_host(
        self, channel: Channel, transport: FakeTransport, on_this_host: bool
    ) -> None:
        replies: list[FakeEvents] = []

        def reply(request: ReadBlobs) -> FakeEvents:
            replies.append(events_of([each.encode() for each in request.references]))
            replies[-1].on_this_host = on_this_host
            return replies[-1]

        transport.on_read_blobs = reply
        column = pa.array(["a", None, "b", "c"], pa.binary())
        result = contents_ahead(channel, "p", column)
        assert [each.closed for each in replies] == [not on_this_host]
        assert list(result) == [b"a", None, b"b", b"c"]
        assert replies[0].closed
        assert list(contents_ahead(channel, "p", pa.nulls(2, pa.binary()))) == [None, None]
        assert len(replies) == 1

    def test_what_is_damaged_as_it_is_stored_is_asked_for_in_frames(
        self, channel: Channel, transport: FakeTransport, clock: FakeClock
    ) -> None:
        asked: list[tuple[tuple[str, ...], bool]] = []
        damage = ChecksumMismatchError("changed", layer="crc32c", expected=1, actual=2)

        def reply(request: ReadBlobs) -> FakeEvents:
            asked.append((request.references, request.stored))
            if request.stored:
                return events_of([b"x"], then=[damage])
            return events_of([b"x"] * len(request.references))

        transport.on_read_blobs = reply
        column = pa.array(["a", "b", "c"], pa.binary())
        assert get_contents(channel, "p", column) == [b"x"] * 3
        assert asked == [(("a", "b", "c"), True), (("b", "c"), False)]
        assert clock.slept == []
        # What the service has verified, and comes damaged, is not asked for without end.
        transport.on_read_blobs = lambda _: events_of([], then=[damage])
        with pytest.raises(ChecksumMismatchError):
            list(get_blobs(channel, "p", ["a"]))

    def test_a_reply_that_never_gets_on_is_given_up(
        self, channel: Channel, transport: FakeTransport
    ) -> None:
        transport.on_read_blobs = lambda _: events_of([], then=[ConnectionBrokenError("gone")])
        with pytest.raises(ConnectionBrokenError):
            list(get_blobs(channel, "p", ["a"]))
        assert len(transport.requests) > 2

    def test_an_upload_is_repeated_if_it_can_be(
        self, channel: Channel, transport: FakeTransport
    ) -> None:
        bodies: list[bytes] = []

        def reply(_: Any, body: Any) -> BlobReferences:
            bodies.append(b"".join(body))
            if len(bodies) == 1:
                raise ServiceUnavailableError("later")
            return BlobReferences(references=("r",), size=1)

        transport.on_upload = reply
        putter = BlobPutter(channel, TABLE, "s")
        assert putter.put(b"abc", 1) == "r"
        assert bodies == [b"abc", b"abc"]
        bodies.clear()
        assert putter.put_many([b"abc"], 1) == ["r"]
        assert bodies[0] == bodies[1]

    def test_an_upload_from_a_pipe_is_not(self, channel: Channel, transport: FakeTransport) -> None:
        class Pipe(io.RawIOBase):
            def __init__(self) -> None:
                self.left = [b"abc", b""]

            def read(self, _size: int = -1) -> bytes:
                return self.left.pop(0)

        def reply(_: Any, body: Any) -> BlobReferences:
            assert b"".join(body) == b"abc"
            raise ServiceUnavailableError("later")

        transport.on_upload = reply
        with pytest.raises(ServiceUnavailableError):
            BlobPutter(channel, TABLE, "s").put(Pipe(), 1)
        assert len(transport.requests) == 1

    def test_a_wrong_md5_is_told(self, channel: Channel, transport: FakeTransport) -> None:
        def reply(_: Any, body: Any) -> BlobReferences:
            list(body)
            return BlobReferences(references=("r",), size=3, md5="0" * 32)

        transport.on_upload = reply
        with pytest.raises(ChecksumMismatchError):
            BlobPutter(channel, TABLE, "s").put(b"abc", 1)

    def test_a_wrong_crc32c_is_told(
        self, channel: Channel, transport: FakeTransport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def reply(_: Any, body: Any) -> BlobReferences:
            received = b"".join(body)
            return BlobReferences(
                references=("r",), size=3, md5="wrong", crc32c=crc32c(received) ^ wrong
            )

        monkeypatch.setattr(transport, "upload_checksum", UploadChecksum.CRC32C)
        transport.on_upload = reply
        wrong = 0
        assert BlobPutter(channel, TABLE, "s").put(b"abc", 1) == "r"
        wrong = 1
        with pytest.raises(ChecksumMismatchError) as caught:
            BlobPutter(channel, TABLE, "s").put(b"abc", 1)
        assert caught.value.layer == "crc32c"

    def test_our_service_is_known_by_its_replies(self, client: fletching.Client) -> None:
        client.create_table("t", "image BLOB")
        expected = {
            "HttpTransport": UploadChecksum.CRC32C,
            "EmbeddedTransport": UploadChecksum.NONE,
        }
        transport = client.channel.transport
        assert transport.upload_checksum is expected[type(transport).__name__]

    def test_a_service_that_forgets_references(
        self, channel: Channel, transport: FakeTransport
    ) -> None:
        def reply(_: Any, body: Any) -> BlobReferences:
            list(body)
            return BlobReferences(references=("r",), size=3)

        transport.on_upload = reply
        with pytest.raises(ProtocolError, match="2 blobs with 1"):
            BlobPutter(channel, TABLE, "s").put_many([b"a", b"b"], 1)


@pytest.mark.parametrize("resident", [True, False])
def test_contents_are_the_blobs_data(
    client: fletching.Client, resident: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fletching.engine.blobs.blob_reading._is_resident", lambda *_: resident)
    monkeypatch.setattr("fletching.engine.blobs.blob_reading.WINDOW_BYTES", 40_000)
    table = client.create_table("many", "id BIGINT, image BLOB")
    blobs = [bytes([n % 251]) * (n * 13 % 9000) for n in range(300)] + [b"x" * 90_000, b"", None]
    for part in (blobs[:150], blobs[150:]):
        table.append({"id": [0] * len(part), "image": part})
    column = table.to_table()["image"]
    order = pa.array([n * 7 % len(blobs) for n in range(2 * len(blobs))])
    received = get_contents(client.channel, "demo", column.take(order))
    assert received == [blobs[n] for n in order.to_pylist()]
    assert get_contents(client.channel, "demo", column.slice(0, 0)) == []
    assert get_contents(client.channel, "demo", column.combine_chunks().slice(300)) == blobs[300:]
    texts = pa.array([column[0].as_py().decode(), None])
    assert get_contents(client.channel, "demo", texts) == [blobs[0], None]
    with pytest.raises(NotFoundError):
        get_contents(client.channel, "demo", pa.array([b"A" * 80, column[0].as_py()]))
