"""Blobs on the service's host: read out of their packs, the same as those that are sent, and never beyond."""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from crc32c import crc32c

import fletching
from fletching.client.blobs import open_pack
from fletching.client.blobs.blob_access import get_contents
from fletching.client.blobs.blob_transfers import BlobInfo
from fletching.client.transports.http import http_blobs, passed_files
from fletching.client.transports.http.blob_packs import OpenPacks, PackedBlobEvents, PackedBlobRange
from fletching.engine.access.permissions import Grant, Permission
from fletching.errors import (
    ChecksumMismatchError,
    CorruptObjectError,
    DamagedDataError,
    NoPermissionError,
    ProtocolError,
)
from fletching.protocol.messages.mapped_blobs import NOT_SHARED, MappedBlobs

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="abstract Unix sockets are Linux's"
)

DATA = bytes(range(256)) * 20


def message(*blobs: tuple[int, ...], lengths: tuple[int, ...] = (len(DATA),)) -> MappedBlobs:
    return MappedBlobs(lengths, np.array(blobs, "<i8").tobytes())


class File:
    """A pack of some bytes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(DATA)

    def open(self) -> int:
        return os.open(self.path, os.O_RDONLY)


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "pack")


def test_a_blob_is_read_whole_verified_and_by_ranges(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_pack, "READ_BYTES", 1000)  # larger ones are read by pieces
    blobs = [(0, 10, 5, 100, crc32c(DATA[15:115])), (0, 0, 0, 5000, crc32c(DATA[:5000]))]
    small, large = OpenPacks().take([file.open()], message(*blobs))
    assert small.record() == (DATA[10:15], DATA[15:115])
    assert large.data() == DATA[:5000]
    result = PackedBlobRange(small, BlobInfo(100, None, None), 90, None)
    room = bytearray(8)
    counts = [result.readinto(room) for _ in range(3)]
    assert (counts, bytes(room)) == ([8, 2, 0], DATA[113:115] + DATA[107:113])
    assert PackedBlobRange(small, BlobInfo(100, None, None), 3, 5).readinto(room) == 2
    assert small.readinto_at(room, 100) == 0


def test_what_was_changed_or_cut_is_an_error(file: File) -> None:
    packs = OpenPacks()
    blobs = [(0, 0, 5, 100, 1), (0, len(DATA) - 10, 5, 5, crc32c(DATA[-5:]))]
    changed, last = packs.take([file.open()], message(*blobs))
    with pytest.raises(ChecksumMismatchError, match="not what was stored"):
        changed.data()
    os.truncate(file.path, len(DATA) - 2)
    for ask in (last.data, lambda: last.readinto_at(bytearray(5), 0)):
        with pytest.raises(CorruptObjectError, match=f"ends at byte {len(DATA) - 2}; it had"):
            ask()


def test_a_pack_is_opened_once_and_let_go_of_when_it_is_deleted(
    file: File, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packs, about = OpenPacks(), message((0, 0, 0, 10, crc32c(DATA[:10])))

    def open_files() -> int:
        result = 0
        for each in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # the listing's own
                result += each.readlink().name.startswith("pack")
        return result

    (first,) = packs.take([file.open()], about)
    packs.take([file.open()], about)
    assert open_files() == 1
    file.path.unlink()
    (second,) = packs.take([File(tmp_path / "pack2").open()], about)
    assert first.data() == second.data() == DATA[:10]
    del first
    assert open_files() == 1
    monkeypatch.setattr(passed_files, "KEPT_FILES", 1)
    packs.take([File(tmp_path / "pack3").open()], about)
    del second
    assert open_files() == 1
    packs.clear()
    assert open_files() == 0


def test_what_is_not_shared_is_asked_for_at_once_when_it_is_wanted(file: File) -> None:
    blobs = [
        (NOT_SHARED, 0, 0, 3, 0),
        (0, 0, 0, 10, crc32c(DATA[:10])),
        (NOT_SHARED, 0, 0, 3, 0),
    ]
    asked: list[Sequence[int]] = []

    class Sent:
        closed = False

        def contents(self) -> Iterator[bytes]:
            yield from (b"one", b"two")

        def close(self) -> None:
            Sent.closed = True

    def by_service(positions: Sequence[int]) -> Any:
        asked.append(positions)
        return Sent()

    result = PackedBlobEvents(OpenPacks().take([file.open()], message(*blobs)), "id", by_service)
    assert not asked
    assert list(result.contents()) == [b"one", DATA[:10], b"two"]
    assert asked == [[0, 2]]
    result.close()
    assert Sent.closed
    with pytest.raises(ProtocolError, match="unasked"):
        next(iter(result))
    (lost,) = OpenPacks().take([], message(blobs[0], lengths=()))
    with pytest.raises(ProtocolError, match="gave no pack"):
        lost.data()


# --- with a service ----------------------------------------------------------------------------

KEY: dict[str, Any] = {"access_id": "id", "access_key": "secret"}
IMAGES = [bytes([n]) * (30_000 + n) for n in range(20)]


class Seen:
    """Descriptors that came, and replies of blobs that were sent."""

    passed = 0
    sent = 0


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    result = Seen()
    take = OpenPacks.take

    def taking(self: OpenPacks, descriptors: Sequence[int], message: MappedBlobs) -> Any:
        result.passed += len(descriptors)
        return take(self, descriptors, message)

    monkeypatch.setattr(OpenPacks, "take", taking)
    for kind in (http_blobs.HttpBlobEvents, http_blobs.HttpBlobRange):
        made = kind.__init__

        def counted(self: Any, *args: Any, made: Any = made) -> None:
            result.sent += 1
            made(self, *args)

        monkeypatch.setattr(kind, "__init__", counted)
    return result


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Any]:
    with fletching.serve(
        tmp_path, port=0, access_keys={"id": "secret"}, key_refresh_seconds=0.0
    ) as running:
        yield running


@pytest.fixture
def client(service: Any) -> Iterator[fletching.Client]:
    with fletching.connect(service.url, "p", create=True, **KEY) as client:
        client.create_table("t", "id BIGINT, image BLOB")
        yield client


def appended(client: fletching.Client, images: list[bytes] = IMAGES) -> list[str]:
    table = client.table("t")
    table.append({"id": range(len(images)), "image": images})
    result = table.scan(["image"]).to_table()["image"].to_pylist()
    return [each.decode() if isinstance(each, bytes) else str(each) for each in result]


def test_blobs_are_read_from_their_pack_and_nothing_is_sent(
    client: fletching.Client, service: Any, seen: Seen
) -> None:
    references = appended(client)
    assert [blob.data for blob in client.get_blobs(references[3:9]) if blob] == IMAGES[3:9]
    assert [blob.data for blob in client.get_blobs(references) if blob] == IMAGES
    assert (seen.passed, seen.sent) == (2, 0)
    with fletching.connect(service.url, "p", direct="never", **KEY) as plain:
        assert [blob.data for blob in plain.get_blobs(references) if blob] == IMAGES
    assert (seen.passed, seen.sent) == (2, 1)


def test_one_blob_and_a_blob_as_a_file_ask_once(client: fletching.Client, seen: Seen) -> None:
    with client.table("t").write_session() as session:
        reference = session.put_blob(
            fletching.Blob(IMAGES[0] * 10, "image/png", "ä.png"), column="image"
        )
        blob = client.get_blob(reference)
        assert (blob.data, blob.content_type, blob.file_name) == (
            IMAGES[0] * 10,
            "image/png",
            "ä.png",
        )
        with client.open_blob(reference, buffer_bytes=1000) as opened:
            assert opened.read(10) == bytes(10)
            opened.seek(-5, os.SEEK_END)
            assert opened.read() == bytes(5)
            opened.seek(0)
            assert opened.read() == IMAGES[0] * 10
        assert (seen.passed, seen.sent) == (2, 0)
        with client.open_blob(session.put_blob(b"small", column="image")) as opened:
            assert opened.read() == b"small"
        assert seen.sent == 1


def test_deleted_rows_have_the_other_blobs_sent(client: fletching.Client, seen: Seen) -> None:
    references = appended(client)
    client.table("t").delete("id = 7")
    assert [blob.data for blob in client.get_blobs(references[:5]) if blob] == IMAGES[:5]
    assert (seen.passed, seen.sent) == (0, 1)
    others = appended(client, IMAGES[:8])
    mixed = [*references[:2], *others[-8:]]
    assert [b.data for b in client.get_blobs(mixed) if b] == [*IMAGES[:2], *IMAGES[:8]]
    assert (seen.passed, seen.sent) == (1, 2)


def test_a_damaged_or_cut_pack_is_an_error(
    client: fletching.Client, tmp_path: Path, seen: Seen
) -> None:
    references = appended(client)
    assert len(list(client.get_blobs(references))) == 20
    (pack,) = tmp_path.rglob("*.pack")
    pack.chmod(0o600)
    with pack.open("r+b") as file:
        file.seek(pack.stat().st_size // 2)
        file.write(b"damage")
    with pytest.raises(DamagedDataError, match="disagrees with its checksum"):
        list(client.get_blobs(references))
    os.truncate(pack, 40_000)
    assert seen.passed
    with pytest.raises((CorruptObjectError, DamagedDataError)):
        list(client.get_blobs(references))


def test_no_pack_is_passed_to_who_may_not_read_the_table(
    client: fletching.Client, service: Any, seen: Seen
) -> None:
    references = appended(client)
    client.create_table("other", "id BIGINT")
    keys = service.service.engine.access_keys
    other = keys.create(access_id="stranger")
    keys.grant(Grant("stranger", "p", "other", Permission.READ))
    with fletching.connect(
        service.url, "p", access_id=other.access_id, access_key=other.secret
    ) as reader:
        assert reader.table("other").count_rows() == 0
        with pytest.raises(NoPermissionError):
            list(reader.get_blobs(references))
        with pytest.raises(NoPermissionError):
            reader.get_blob(references[0])
    assert seen.passed == 0


def test_a_worker_with_a_token_reads_the_packs_of_its_session(
    client: fletching.Client, seen: Seen
) -> None:
    references = appended(client)
    column = pa.array([each.encode() for each in references[:9]], pa.binary())
    for condition, passed in ((None, 1), ("id >= 0", 0)):
        with client.table("t").scan(filter=condition).session() as session:
            carried = pickle.loads(pickle.dumps(session))
            assert carried.to_table().num_rows == 20  # and learns of the socket
            seen.passed = 0
            assert get_contents(carried.channel, "p", column) == IMAGES[:9]
            assert seen.passed == passed


def test_a_service_that_passes_none_sends_them(tmp_path: Path, seen: Seen) -> None:
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(
            fletching.serve(tmp_path, port=0, access_keys={"id": "secret"}, same_host_reads=False)
        )
        client = stack.enter_context(fletching.connect(running.url, "p", create=True, **KEY))
        client.create_table("t", "id BIGINT, image BLOB")
        references = appended(client)
        assert [blob.data for blob in client.get_blobs(references) if blob] == IMAGES
    assert (seen.passed, seen.sent) == (0, 1)
