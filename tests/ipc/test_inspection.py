from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ipc.conftest import (
    EVERYTHING,
    big_endian_stream,
    file_of,
    messages_of,
    numbers,
    stream_of,
)

from fletching import ipc
from fletching.ipc import lowlevel

STREAM = stream_of([numbers(100), numbers(50)])
FILE = file_of([numbers(100), numbers(50)], numbers(0).schema)


def texts(report: lowlevel.Inspection) -> list[str]:
    return [problem.text for problem in report.problems]


@pytest.mark.parametrize(("data", "kind"), [(STREAM, "stream"), (FILE, "file")])
def test_a_sound_input(data: bytes, kind: str) -> None:
    report = ipc.inspect_bytes(data, verify=True)
    assert report.ok
    assert report.problems == ()
    assert report.other == ()
    (part,) = report.parts
    assert (part.kind, part.start, part.end) == (kind, 0, len(data))
    assert (part.batches, part.rows, part.endianness) == (2, 150, "little")
    assert part.schema == (("id", "int64"), ("name", "string"))
    assert [m.type for m in part.messages] == ["schema", "record batch", "record batch"]
    assert all(m.verified for m in part.messages[1:])
    assert part.marker == (messages_of(data)[-1].end, 8)
    assert (part.footer is None) == (kind == "stream")


def test_every_byte_of_a_message_is_accounted_for() -> None:
    for data in (stream_of(EVERYTHING), stream_of(EVERYTHING, compression="zstd")):
        (part,) = ipc.inspect_bytes(data).parts
        position = 0
        for message in part.messages:
            assert message.offset == position
            position = message.end
            stored = sum(column.stored_bytes for column in message.columns)
            assert stored + message.padding == message.body_length
            for column in message.columns:
                assert sum(b.length for b in column.buffers) == column.stored_bytes
        assert part.marker == (position, 8)


def test_compression_ratio_and_zero_copy() -> None:
    zeros = pa.record_batch({"z": np.zeros(10_000, np.int64)})
    plain = ipc.inspect_bytes(stream_of(zeros)).parts[0].messages[1]
    packed = ipc.inspect_bytes(stream_of(zeros, compression="zstd")).parts[0].messages[1]
    assert (plain.codec, plain.zero_copy, plain.columns[0].ratio) == (None, True, 1.0)
    assert (packed.codec, packed.zero_copy) == ("zstd", False)
    assert packed.columns[0].uncompressed_bytes == 80_000
    assert packed.columns[0].ratio > 100


def test_alignment_counts_from_the_start_of_the_input() -> None:
    assert ipc.inspect_bytes(STREAM).parts[0].messages[1].alignment == 8
    shifted = ipc.inspect_bytes(b"\0" * 4 + STREAM).parts[0].messages[1]
    assert (shifted.alignment, shifted.zero_copy) == (4, False)


def test_dictionaries_are_told() -> None:
    (part,) = ipc.inspect_bytes(stream_of(EVERYTHING), verify=True).parts
    dictionaries = [m for m in part.messages if m.type == "dictionary batch"]
    assert [m.dictionary_id for m in dictionaries] == [
        m.dictionary_batch().id for m in messages_of(stream_of(EVERYTHING)) if m.type == 2
    ]
    assert dictionaries[0].columns[0].name == "values"


@pytest.mark.parametrize("data", [STREAM, FILE], ids=["stream", "file"])
def test_data_embedded_at_an_offset_with_bytes_behind(data: bytes) -> None:
    before, behind = b"\xff\xff\xff\xff" * 5 + b"ARROW1", b"trailing"
    report = ipc.inspect_bytes(before + data + behind, verify=True)
    assert report.ok
    (part,) = report.parts
    assert (part.start, part.end) == (len(before), len(before) + len(data))
    assert report.other == ((0, len(before)), (part.end, part.end + len(behind)))
    assert any("before the Arrow data" in text for text in texts(report))
    assert any("behind the Arrow data" in text for text in texts(report))


def test_several_parts() -> None:
    report = ipc.inspect_bytes(STREAM + b"----" + FILE + STREAM)
    assert [part.kind for part in report.parts] == ["stream", "file", "stream"]
    assert report.parts[2].end == report.length


def test_legacy_and_missing_markers() -> None:
    legacy = stream_of(numbers(3), use_legacy_format=True)
    part = ipc.inspect_bytes(legacy).parts[0]
    assert part.marker == (len(legacy) - 4, 4)
    assert part.messages[0].prefix_length == 4
    report = ipc.inspect_bytes(STREAM[:-8])
    assert report.ok
    assert report.parts[0].marker is None
    assert "end-of-stream marker is missing" in texts(report)[0]


@pytest.mark.parametrize("data", [STREAM, FILE], ids=["stream", "file"])
def test_every_truncation_gives_a_report(data: bytes) -> None:
    for length in range(0, len(data), 7):
        report = ipc.inspect_bytes(data[:length], verify=True)
        assert report.problems
        whole = [m for m in messages_of(data) if m.end <= length]
        if whole:
            assert len(report.parts[0].messages) == len(whole)


def test_a_missing_and_a_lying_footer() -> None:
    report = ipc.inspect_bytes(FILE[:-5])
    assert not report.ok
    assert any("no usable footer" in text for text in texts(report))
    footer = ipc.open_file(FILE).footer
    data = bytearray(FILE)
    at = FILE.index(footer.batches[1].offset.to_bytes(8, "little"), footer.start)
    data[at] ^= 8
    report = ipc.inspect_bytes(bytes(data))
    assert not report.ok
    assert any("does not list" in text for text in texts(report))
    assert any("finds none" in text for text in texts(report))


def test_contents_are_looked_at_only_when_verifying() -> None:
    message = messages_of(STREAM)[1]
    start = message.offset + message.metadata_length + int(message.record_batch().buffers[3, 0])
    data = bytearray(STREAM)
    data[start + 4 : start + 8] = b"\xff\xff\xff\x7f"
    assert ipc.inspect_bytes(bytes(data)).ok
    report = ipc.inspect_bytes(bytes(data), verify=True)
    assert not report.ok
    assert [m.verified for m in report.parts[0].messages] == [None, False, True]
    assert report.problems[0].offset == message.offset


def test_invalid_values_are_a_warning() -> None:
    bad = pa.record_batch({"d": pa.array([1], pa.int64()).view(pa.date64())})
    report = ipc.inspect_bytes(stream_of(bad), verify=True)
    assert report.ok
    assert report.problems[0].severity == "warning"
    assert report.parts[0].messages[1].verified


def test_big_endian_is_recognised() -> None:
    report = ipc.inspect_bytes(big_endian_stream(numbers(3)), verify=True)
    assert report.ok
    assert report.parts[0].endianness == "big"
    assert report.parts[0].messages[1].zero_copy is False
    assert "big-endian" in report.problems[0].text


@pytest.mark.parametrize("data", [b"", b"\0", b"nothing here" * 50, b"\xff" * 300])
def test_what_holds_no_arrow_data(data: bytes) -> None:
    report = ipc.inspect_bytes(data)
    assert not report.ok
    assert report.parts == ()
    assert len(report.problems) == 1


def test_the_report_is_plain_data() -> None:
    sink = io.BytesIO()
    with ipc.FileWriter(sink, EVERYTHING.schema) as writer:
        writer.write(EVERYTHING)
        writer.close({b"k": b"\xff"})
    document = ipc.inspect_bytes(sink.getvalue()).as_dict()
    assert json.loads(json.dumps(document))["parts"][0]["rows"] == 5


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_a_changed_byte_gives_a_report(position: int, change: int) -> None:
    data = bytearray(FILE)
    data[position] ^= change
    ipc.inspect_bytes(bytes(data), verify=True).as_dict()
