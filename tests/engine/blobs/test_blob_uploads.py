from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import os
import random
import stat
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from tests.engine.blobs.conftest import IMAGE, TABLE, Shop, frames

from fletching.engine.upkeep.verify import Verification
from fletching.errors import (
    ChecksumMismatchError,
    ConflictError,
    ExpiredSessionError,
    FletchingError,
    InvalidArgumentError,
    InvalidParameterError,
    LimitExceededError,
    MalformedFrameError,
    NoSuchTableError,
    NotFoundError,
    StorageError,
    StorageFullError,
    TruncatedStreamError,
    UsageError,
)
from fletching.protocol.messages.admin import DropTable
from fletching.protocol.messages.requests import AbortWriteSession, ReadBlobs, WriteBlob, WriteBlobs
from fletching.protocol.types.blob_locations import TEXT_BYTES
from fletching.types import PartitionSpec, TableName
from fletching.wire import content_coding
from fletching.wire.blob_frames import BlobHeader, ChecksumType, Encoder
from fletching.wire.content_coding import ContentCoding


def read(shop: Shop, *references: str) -> list[bytes]:
    plan = shop.engine.blobs.read(ReadBlobs(project="p", references=references))
    return [b"".join(map(bytes, record.pieces)) for record in plan.records()]


def coded(coding: ContentCoding, body: bytes) -> bytes:
    encoder = content_coding.Encoder(coding)
    return b"".join(map(bytes, [*encoder.encode(body), *encoder.finish()]))


class TestSingle:
    @pytest.mark.parametrize("length", [0, 1, 4096, 1_000_000, 3_000_001])
    @pytest.mark.parametrize("coding", list(ContentCoding))
    def test_what_goes_in_comes_out(self, shop: Shop, length: int, coding: ContentCoding) -> None:
        data = random.Random(length).randbytes(length)
        reply = shop.upload(shop.session(), coded(coding, data), content_encoding=coding.value)
        assert reply.size == length
        assert reply.md5 == hashlib.md5(data).hexdigest()
        assert [len(reference) for reference in reply.references] == [TEXT_BYTES]
        assert read(shop, *reply.references) == [data]

    def test_byte_by_byte(self, shop: Shop) -> None:
        reply = shop.upload(shop.session(), b"picture", chunk=1)
        assert read(shop, *reply.references) == [b"picture"]
        assert reply.md5 == hashlib.md5(b"picture").hexdigest()

    def test_metadata_is_kept(self, shop: Shop) -> None:
        reply = shop.upload(shop.session(), b"x", content_type="image/png", file_name="ü.png")
        blob = shop.engine.blobs.slice(reply.references[0])
        assert blob.header == BlobHeader(content_type="image/png", file_name="ü.png")

    def test_the_implicit_session(self, shop: Shop) -> None:
        reply = shop.upload("default", b"x")
        assert read(shop, *reply.references) == [b"x"]

    def test_a_nested_column(self, shop: Shop) -> None:
        assert shop.upload(shop.session(), b"x", column_id=4).size == 1

    def test_memory_does_not_grow_with_the_blob(self, shop: Shop) -> None:
        upload = shop.engine.blobs.open_upload(
            WriteBlob(table=TABLE, session_id=shop.session(), stream_id="s", column_id=IMAGE)
        )
        piece = bytes(1 << 20)
        for _ in range(50):
            upload.accept([piece])
            assert upload._writer is not None
            assert not upload._writer._gathered
            assert upload._md5._queue.qsize() <= 4
        assert upload.finish().size == 50 << 20


class TestBatch:
    @pytest.mark.parametrize("checksum", list(ChecksumType))
    @pytest.mark.parametrize("chunk", [1, 1000, 1 << 20])
    def test_order_and_lengths(self, shop: Shop, checksum: ChecksumType, chunk: int) -> None:
        blobs = [random.Random(n).randbytes(n * 37 % 500) for n in range(20)]
        reply = shop.upload_frames(shop.session(), frames(blobs, checksum), chunk=chunk)
        assert reply.md5 is None
        assert reply.size == sum(map(len, blobs))
        assert read(shop, *reply.references) == blobs
        assert len(shop.packs()) == 1

    @pytest.mark.parametrize("coding", list(ContentCoding))
    def test_no_blobs(self, shop: Shop, coding: ContentCoding) -> None:
        session = shop.session()
        for body in (b"", coded(coding, b"")):
            reply = shop.upload_frames(session, body, content_encoding=coding.value)
            assert reply.references == ()
            assert reply.size == 0
        assert shop.packs() == []

    @pytest.mark.parametrize("coding", list(ContentCoding))
    def test_codings(self, shop: Shop, coding: ContentCoding) -> None:
        blobs = [b"a" * 100_000, b"", b"b"]
        body = coded(coding, frames(blobs))
        reply = shop.upload_frames(shop.session(), body, content_encoding=coding.value)
        assert read(shop, *reply.references) == blobs

    def test_ten_thousand_blobs_are_one_pack_and_one_fsync(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        files = 0
        plain = os.fsync

        def fsync(descriptor: int) -> None:
            nonlocal files
            files += stat.S_ISREG(os.fstat(descriptor).st_mode)
            plain(descriptor)

        session = shop.session()
        shop.upload_frames(session, frames([b"the first object of this opening"]))
        before = len(shop.packs())
        body = frames([b"%d" % n for n in range(10_000)])
        monkeypatch.setattr(os, "fsync", fsync)
        reply = shop.upload_frames(session, body)
        assert len(reply.references) == 10_000
        assert len(shop.packs()) - before == 1
        assert files == 1

    def test_each_frame_has_its_own_metadata(self, shop: Shop) -> None:
        encoder = Encoder()
        names = ["a.png", None, "c.png"]
        body = b"".join(
            bytes(piece)
            for name in names
            for piece in encoder.frame(BlobHeader(column_id=IMAGE, file_name=name), b"x")
        )
        reply = shop.upload_frames(shop.session(), body)
        results = [shop.engine.blobs.slice(r).header.file_name for r in reply.references]
        assert results == names


def raw(header: bytes, data: bytes, footer: bytes) -> bytes:
    return b"".join(struct.pack("<q", len(part)) + part for part in (header, data, footer))


GOOD = raw(b'{"ColumnIndex":2}', b"x", b"{}")
BAD_BODIES: list[tuple[bytes, type[FletchingError]]] = [
    (
        GOOD + raw(b'{"ColumnIndex":2}', b"x", b'{"Checksum":{"Type":1,"Crc32":5}}'),
        ChecksumMismatchError,
    ),
    (
        GOOD + raw(b'{"ColumnIndex":2}', b"x", b'{"Checksum":{"Type":2,"MD5":"0"}}'),
        ChecksumMismatchError,
    ),
    (GOOD + struct.pack("<q", -1), MalformedFrameError),
    (GOOD + struct.pack("<q", 1 << 30), LimitExceededError),
    (
        raw(b'{"ColumnIndex":2}', b"", b"")[:-8][:-8] + struct.pack("<q", 1 << 60),
        LimitExceededError,
    ),
    (GOOD + raw(b"not json", b"x", b"{}"), MalformedFrameError),
    (GOOD + raw(b'{"ColumnIndex":1}', b"x", b"{}"), InvalidArgumentError),
    (GOOD + raw(b"{}", b"x", b"{}"), InvalidArgumentError),
    (
        GOOD + raw(b'{"ColumnIndex":2,"PartitionValues":["pt=1"]}', b"x", b"{}"),
        InvalidArgumentError,
    ),
    (GOOD + raw(b'{"ColumnIndex":2,"PartitionValues":["pt"]}', b"x", b"{}"), InvalidArgumentError),
    (
        GOOD + raw(b'{"ColumnIndex":2,"CustomFileName":"' + b"n" * 1000 + b'"}', b"", b"{}"),
        InvalidArgumentError,
    ),
    (GOOD + raw(b'{"ColumnIndex":2,"ContentType":"a\\r\\nb"}', b"", b"{}"), InvalidArgumentError),
    (GOOD[:-1], TruncatedStreamError),
]


class TestRefusals:
    @pytest.mark.parametrize(("body", "error"), BAD_BODIES)
    @pytest.mark.parametrize("chunk", [1, 1 << 20])
    def test_a_bad_body_leaves_nothing(
        self, shop: Shop, body: bytes, error: type[FletchingError], chunk: int
    ) -> None:
        session = shop.session()
        with pytest.raises(error):
            shop.upload_frames(session, body, chunk=chunk)
        assert shop.packs() == []
        staging = shop.folder / "objects" / ".staging"
        assert [p.name for p in staging.glob("*/*") if p.name != "lock"] == []

    def test_truncated_at_every_byte(self, shop: Shop) -> None:
        session = shop.session()
        body = raw(b'{"ColumnIndex":2}', b"abc", b'{"Checksum":{"Type":0}}')
        for end in range(1, len(body)):
            with pytest.raises(TruncatedStreamError):
                shop.upload_frames(session, body[:end])
        assert shop.packs() == []

    @pytest.mark.parametrize("column_id", [0, 1, 3, 5, -1])
    def test_a_column_that_is_no_blob(self, shop: Shop, column_id: int) -> None:
        with pytest.raises(InvalidArgumentError, match=r"2 \(image\), 4 \(more\.element\)"):
            shop.upload(shop.session(), b"x", column_id=column_id)

    def test_a_partition_of_another_table(self, shop: Shop) -> None:
        with pytest.raises(InvalidArgumentError, match="partition column"):
            shop.upload(shop.session(), b"x", partition=PartitionSpec.parse("pt=1"))

    def test_an_unknown_coding(self, shop: Shop) -> None:
        with pytest.raises(InvalidParameterError):
            shop.upload(shop.session(), b"x", content_encoding="gzip")

    def test_a_bomb(self, shop: Shop) -> None:
        import dataclasses

        limited = dataclasses.replace(shop.engine.context.settings, max_blob_upload_bytes=1 << 20)
        context = dataclasses.replace(shop.engine.context, settings=limited)
        from fletching.engine.blobs.blob_service import Blobs

        shop.engine.blobs = Blobs(context, shop.engine._reading)
        for coding in (ContentCoding.ZSTD, ContentCoding.LZ4_FRAME, ContentCoding.DEFLATE):
            with pytest.raises(LimitExceededError):
                shop.upload(
                    shop.session(), coded(coding, bytes(1 << 21)), content_encoding=coding.value
                )
        assert shop.packs() == []

    def test_sessions_that_do_not_take_uploads(self, shop: Shop) -> None:
        with pytest.raises(NotFoundError):
            shop.upload("ws-unknown", b"x")
        with pytest.raises(NoSuchTableError):
            shop.upload(shop.session(), b"x", table=TableName("p", "nope"))
        committed = shop.session()
        shop.commit(committed)
        with pytest.raises(ConflictError):
            shop.upload(committed, b"x")
        aborted = shop.session()
        shop.engine.call(AbortWriteSession(table=TABLE, session_id=aborted))
        with pytest.raises(ExpiredSessionError):
            shop.upload(aborted, b"x")
        late = shop.session()
        shop.clock.now += shop.engine.context.settings.write_session_seconds + 1
        with pytest.raises(ExpiredSessionError):
            shop.upload(late, b"x")

    @pytest.mark.parametrize("how", ["abort", "commit", "drop"])
    def test_a_session_that_ends_while_the_body_comes_in(self, shop: Shop, how: str) -> None:
        session = shop.session()
        upload = shop.engine.blobs.open_upload(
            WriteBlobs(table=TABLE, session_id=session, stream_id="s")
        )
        upload.accept([frames([b"x"])])
        request: Any = AbortWriteSession(table=TABLE, session_id=session)
        if how == "commit":
            shop.commit(session)
        else:
            shop.engine.call(request if how == "abort" else DropTable(table=TABLE))
        with pytest.raises(FletchingError):
            upload.finish()
        upload.abort()
        assert shop.packs() == []

    @pytest.mark.parametrize("point", ["blobs.durable", "blobs.accepted"])
    @pytest.mark.parametrize("fails", [False, True])
    def test_abort_beside_a_running_finish_is_refused(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch, point: str, fails: bool
    ) -> None:
        upload = shop.engine.blobs.open_upload(
            WriteBlob(table=TABLE, session_id=shop.session(), stream_id="s", column_id=IMAGE)
        )
        upload.accept([b"x"])
        there, go_on = threading.Event(), threading.Event()

        def reach(name: str) -> None:
            if name == point:
                there.set()
                assert go_on.wait(600)
                if fails:
                    raise StorageError("the disk failed")

        monkeypatch.setattr("fletching.faultpoints.reach", reach)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            finishing = pool.submit(upload.finish)
            assert there.wait(600)
            assert upload.abort() is False
            go_on.set()
            if fails:
                with pytest.raises(StorageError):
                    finishing.result(600)
            else:
                (reference,) = finishing.result(600).references
                assert read(shop, reference) == [b"x"]
        upload.abort()
        assert len(shop.packs()) == (not fails or point == "blobs.accepted")
        problems = [p for checked in Verification(shop.engine.context) for p in checked.problems]
        assert problems == []

    def test_uploading_keeps_the_session_alive(self, shop: Shop) -> None:
        session = shop.session()
        for _ in range(4):
            shop.clock.now += shop.engine.context.settings.write_session_seconds * 0.7
            shop.upload(session, b"x")

    def test_a_full_disk_leaves_nothing(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        from fletching.objects.local import LocalSink

        def full(*_: object) -> None:
            raise StorageFullError("no room")

        monkeypatch.setattr(LocalSink, "write_many", full)
        with pytest.raises(StorageFullError):
            shop.upload(shop.session(), b"x")
        assert shop.packs() == []

    @pytest.mark.parametrize("commits", [True, False])
    def test_a_catalog_that_fails_at_its_commit_may_have_written_it(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch, commits: bool
    ) -> None:
        session = shop.session()
        upload = shop.engine.blobs.open_upload(
            WriteBlob(table=TABLE, session_id=session, stream_id="s", column_id=IMAGE)
        )
        upload.accept([b"x"])
        database = shop.engine.context.database
        plain = database.write

        @contextlib.contextmanager
        def failing(**more: Any) -> Iterator[Any]:
            with plain(**more) as connection:
                yield connection
                if not commits:
                    raise StorageError("the disk is gone")
            raise StorageError("the answer is lost")

        with monkeypatch.context() as patch:
            patch.setattr(database, "write", failing)
            with pytest.raises(StorageError):
                upload.finish()
        upload.abort()
        # Whatever became of the row, it never points to nothing.
        problems = [p for checked in Verification(shop.engine.context) for p in checked.problems]
        assert problems == []
        assert len(shop.packs()) == 1

    def test_calls_after_the_end(self, shop: Shop) -> None:
        upload = shop.engine.blobs.open_upload(
            WriteBlob(table=TABLE, session_id=shop.session(), stream_id="s", column_id=IMAGE)
        )
        (reference,) = upload.finish().references
        upload.abort()
        assert read(shop, reference) == [b""]
        with pytest.raises(UsageError):
            upload.accept([b"x"])
        with pytest.raises(UsageError):
            upload.finish()
