from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable

import lz4.frame
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
from tests.folding import folded
from tests.ipc.conftest import file_of, numbers, stream_of

from fletching import ipc
from fletching.errors import MalformedFrameError, WireError
from fletching.ipc.recognition import looks_like

TABLE = pa.Table.from_batches([numbers(50)])
STREAM = stream_of(numbers(50))


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(TABLE, sink)
    return sink.getvalue()


def orc() -> bytes:
    sink = io.BytesIO()
    pyarrow.orc.write_table(TABLE, sink)
    return sink.getvalue()


def archive() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.arrows", STREAM)
    return sink.getvalue()


OTHERS = {
    "Parquet": parquet(),
    # pyarrow does not write it any more: its magic, and a body of some length.
    "Feather V1": b"FEA1" + bytes(4) + b"\x10" * 200 + b"FEA1",
    "ORC": orc(),
    "gzip": gzip.compress(STREAM),
    "Zstandard": bytes(pa.compress(STREAM, "zstd", asbytes=True)),
    "LZ4 frame": lz4.frame.compress(STREAM),
    "bzip2": bz2.compress(STREAM),
    "xz": lzma.compress(STREAM),
    "ZIP": archive(),
    "CSV": b"id,name\n1,ada\n2,bo\n" * 5,
    "text": b"\xef\xbb\xbfn\xc3\xa4me;wert\r\n" + b"1;2\r\n" * 30,
    "JSON": b'  {"id": 1}\n{"id": 2}\n' * 5,
    "HTML": b"<!doctype html><html><body>not found</body></html>",
    "NumPy": b"\x93NUMPY\x01\x00v\x00{'descr': '<i8', 'fortran_order': False, 'shape': (9,), }\n"
    + bytes(72),
    "PNG": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(80),
    "JPEG": b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(80),
    "UTF-16": b"\xff\xfe" + "id,name\n1,ada\n2,bo\n".encode("utf-16-le"),
    "UTF-16 text": b"\xfe\xff" + "id,name\n1,ada\n2,bo\n".encode("utf-16-be"),
    "looks like text": b"Traceback (most recent call last) and so on without any separator",
}


@pytest.mark.parametrize("name", OTHERS)
def test_errors_say_what_the_bytes_look_like(name: str) -> None:
    data = OTHERS[name]
    calls: list[Callable[[bytes], object]] = [ipc.read_stream, ipc.read_single]
    calls += [lambda d: list(ipc.messages(d)), ipc.open_file, ipc.recover]
    for call in calls:
        with pytest.raises(MalformedFrameError, match=name):
            call(data)
    assert name in ipc.inspect_bytes(data).problems[0].text


@folded("name", OTHERS)
@folded("step", [1, 7, 1 << 20])
def test_what_is_received_is_recognised_too(name: str, step: int) -> None:
    decoder = ipc.MessageDecoder()
    data = OTHERS[name]

    def receive() -> None:
        for start in range(0, len(data), step):
            decoder.feed(data[start : start + step])
        decoder.finish()

    with pytest.raises(WireError) as caught:
        receive()
    assert "looks like" in str(caught.value)
    with pytest.raises(MalformedFrameError, match=name):
        ipc.read_message(io.BytesIO(data))


def test_streams_and_files_are_told_apart() -> None:
    with pytest.raises(MalformedFrameError, match="open_file"):
        ipc.read_stream(file_of([numbers(3)], numbers(0).schema))
    with pytest.raises(MalformedFrameError, match="read_stream"):
        ipc.open_file(STREAM)
    with pytest.raises(MalformedFrameError, match="open_file"):
        ipc.read_message(io.BytesIO(file_of([numbers(3)], numbers(0).schema)))


@pytest.mark.parametrize("data", [b"", b"\0" * 64, b"abc", STREAM, b"\xff" * 64, bytes(range(64))])
def test_nothing_is_made_up(data: bytes) -> None:
    assert looks_like(data[:64]) is None


def test_damage_behind_the_first_message_is_not_taken_for_another_format() -> None:
    second = len(stream_of(numbers(50))) - 8
    with pytest.raises(WireError) as caught:
        ipc.read_stream(STREAM[:second] + b"id,name\n" * 20)
    assert "looks like" not in str(caught.value)
