from __future__ import annotations

import random
from pathlib import Path

import pytest
from crc32c import crc32c
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fletching.engine.blobs.packs import (
    CHECKSUM_BYTES,
    PackRecord,
    PackWriter,
    check_pack,
    read_header,
    read_index,
)
from fletching.errors import CorruptObjectError
from fletching.objects.local import LocalStore
from fletching.wire.blob_frames import BlobHeader

KEY = "tables/t1/a.pack"


def stored(folder: Path, blobs: list[tuple[BlobHeader, list[bytes]]]) -> tuple[LocalStore, int]:
    store = LocalStore(folder)
    sink = store.create(KEY)
    writer = PackWriter(sink)
    for header, pieces in blobs:
        writer.begin(header)
        for piece in pieces:
            writer.data(piece)
        writer.end()
    writer.finish()
    sink.commit()
    assert writer.blobs == len(blobs)
    assert store.open(KEY).length == writer.length
    return store, writer.crc32c


headers = st.builds(
    BlobHeader,
    content_type=st.none() | st.text(min_size=1, max_size=9),
    file_name=st.none() | st.text(min_size=1, max_size=9),
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=30,
)
@given(
    blobs=st.lists(st.tuples(headers, st.lists(st.binary(max_size=300), max_size=4)), max_size=6)
)
def test_what_is_written_is_found_again(
    blobs: list[tuple[BlobHeader, list[bytes]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store, checksum = stored(tmp_path_factory.mktemp("pack"), blobs)
    with store.open(KEY) as pack:
        records = read_index(pack)
        assert list(check_pack(pack, checksum)) == records
        assert len(records) == len(blobs)
        for record, (header, pieces) in zip(records, blobs, strict=True):
            metadata = pack.read(record.offset, record.data_start)
            assert BlobHeader.from_json(read_header(metadata, KEY)) == header
            data = pack.read(record.data_start, record.end)
            assert data == b"".join(pieces)
            assert crc32c(data) == record.crc32c
        assert crc32c(pack.read(0, pack.length)) == checksum


def test_the_layout_byte_by_byte(tmp_path: Path) -> None:
    store, _ = stored(tmp_path, [(BlobHeader(file_name="a"), [b"xy", b"z"])])
    json = b'{"CustomFileName":"a"}'
    metadata = crc32c(json).to_bytes(4, "little") + json
    index = b"".join(value.to_bytes(8, "little") for value in (8, len(metadata), 3, crc32c(b"xyz")))
    expected = b"FLTPACK1" + metadata + b"xyz" + index
    expected += len(index).to_bytes(8, "little") + crc32c(index).to_bytes(8, "little") + b"FLTPACK1"
    assert (store.root / KEY).read_bytes() == expected
    assert read_index(store.open(KEY)) == [PackRecord(8, len(metadata), 3, crc32c(b"xyz"))]


def test_large_data_is_written_through(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    sink = store.create(KEY)
    writer = PackWriter(sink)
    writer.begin(BlobHeader())
    piece = bytes(1 << 20)
    for _ in range(8):
        writer.data(piece)
        assert writer.length - sink.length < 1 << 20
    sink.abort()


def test_small_pieces_are_gathered_and_flushed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    sink = store.create(KEY)
    writer = PackWriter(sink)
    for number in range(100):
        writer.begin(BlobHeader())
        writer.data(b"%d" % number)
        writer.end()
    assert sink.length == 0
    writer.flush()
    assert sink.length == writer.length
    sink.abort()


@pytest.mark.parametrize("bit", range(8))
def test_every_damaged_byte_is_found(tmp_path: Path, bit: int) -> None:
    rng = random.Random(bit)
    store, checksum = stored(
        tmp_path,
        [
            (BlobHeader(), [rng.randbytes(20)]),
            (BlobHeader(file_name="b"), []),
            (BlobHeader(), [b"c"]),
        ],
    )
    path = store.root / KEY
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << bit
        path.write_bytes(damaged)
        with store.open(KEY) as pack, pytest.raises(CorruptObjectError):
            list(check_pack(pack, checksum))


def test_every_truncation_is_found(tmp_path: Path) -> None:
    store, checksum = stored(tmp_path, [(BlobHeader(), [b"abc"])])
    path = store.root / KEY
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with store.open(KEY) as pack, pytest.raises(CorruptObjectError):
            list(check_pack(pack, checksum))


def test_damaged_metadata_is_found() -> None:
    json = b"{}"
    good = crc32c(json).to_bytes(CHECKSUM_BYTES, "little") + json
    assert read_header(memoryview(good), KEY) == json
    with pytest.raises(CorruptObjectError):
        read_header(memoryview(good[:-1] + b"]"), KEY)
