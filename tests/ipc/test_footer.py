from __future__ import annotations

import io
import struct

import pytest
from tests.ipc.conftest import file_of, numbers
from tests.ipc.file_shapes import shaped

from fletching import ipc
from fletching.errors import LimitExceededError, MalformedFrameError, TruncatedStreamError
from fletching.ipc.footer import read_footer, read_footer_metadata
from fletching.ipc.metadata import MetadataVersion
from fletching.ipc.source import FileSource, MappedSource

FILE = file_of([numbers(5)], numbers(0).schema)


def footer_span(data: bytes) -> tuple[int, int]:
    footer = read_footer(MappedSource(data), 0, len(data))
    return footer.start, len(data) - 10 - footer.start


def test_a_footer_without_version_is_of_the_first_one() -> None:
    data = shaped("old", [numbers(3), numbers(2)])
    for source in (MappedSource(data), FileSource(io.BytesIO(data))):
        assert read_footer(source, 0, len(data)).version is MetadataVersion.V4
    assert list(ipc.open_file(data)) == [numbers(3), numbers(2)]


@pytest.mark.parametrize("version", [-1, 0, 1, 2, 5, 1 << 14])
def test_unknown_versions_are_refused(version: int) -> None:
    start, _ = footer_span(FILE)
    table = start + struct.unpack_from("<I", FILE, start)[0]
    vtable = table - struct.unpack_from("<i", FILE, table)[0]
    position = table + struct.unpack_from("<H", FILE, vtable + 4)[0]
    data = bytearray(FILE)
    assert struct.unpack_from("<h", data, position) == (MetadataVersion.V5,)
    struct.pack_into("<h", data, position, version)
    with pytest.raises(MalformedFrameError, match="unknown footer version"):
        ipc.open_file(bytes(data))


def test_the_footer_may_be_as_long_as_the_limit() -> None:
    start, length = footer_span(FILE)
    source = MappedSource(FILE)
    exact = ipc.Limits(max_metadata_bytes=length)
    assert read_footer(source, 0, len(FILE), exact).start == start
    with pytest.raises(LimitExceededError, match="footer is too long"):
        read_footer(source, 0, len(FILE), ipc.Limits(max_metadata_bytes=length - 1))


def test_metadata_alone_is_that_of_the_footer() -> None:
    for data in (FILE, file_of([], numbers(0).schema), shaped("old", [numbers(3)])):
        source = MappedSource(data)
        expected = read_footer(source, 0, len(data)).custom_metadata
        assert read_footer_metadata(source, 0, len(data)) == expected
    with pytest.raises(TruncatedStreamError):
        read_footer_metadata(MappedSource(FILE), 0, len(FILE) - 1)
    start, _ = footer_span(FILE)
    damaged = bytearray(FILE)
    damaged[start : start + 4] = b"\xff" * 4
    with pytest.raises(MalformedFrameError):
        read_footer_metadata(MappedSource(bytes(damaged)), 0, len(FILE))


def test_a_footer_longer_than_the_first_read_is_read_whole() -> None:
    pairs = {b"long": bytes(200_000)}
    sink = io.BytesIO()
    with ipc.FileWriter(sink, numbers(0).schema) as writer:
        writer.write(numbers(3))
        writer.close(pairs)
    data = sink.getvalue()
    assert read_footer_metadata(FileSource(io.BytesIO(data)), 0, len(data)) == pairs
    for before in (b"", b"junk" * 9):
        opened = ipc.open_file(io.BytesIO(before + data), len(before))
        assert opened.custom_metadata == pairs
        assert list(opened) == [numbers(3)]


def test_what_is_short_is_a_cut_file_only_if_it_begins_like_one() -> None:
    for head in (b"", b"A", b"ARROW1", b"ARROW1\0\0"):
        with pytest.raises(TruncatedStreamError, match="too short"):
            read_footer(MappedSource(head), 0, len(head))
    for head in (b"B", b"ARROX", b"other bytes"):
        with pytest.raises(MalformedFrameError):
            read_footer(MappedSource(head), 0, len(head))


def test_the_smallest_file() -> None:
    with pytest.raises(TruncatedStreamError, match="too short"):
        read_footer(MappedSource(b"ARROW1\0\0" + bytes(9)), 0, 17)
    smallest = b"ARROW1\0\0" + bytes(4) + b"ARROW1"
    with pytest.raises(MalformedFrameError, match="footer's length"):
        read_footer(MappedSource(smallest), 0, 18)
    # A footer that would begin inside the magic.
    with pytest.raises(MalformedFrameError, match="footer's length"):
        read_footer(MappedSource(b"ARROW1\0\0" + struct.pack("<i", 1) + b"ARROW1"), 0, 18)
