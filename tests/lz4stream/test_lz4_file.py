from __future__ import annotations

import io
import shutil
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fletching import lz4stream
from fletching.errors import (
    DecompressionError,
    MalformedFrameError,
    TruncatedStreamError,
    UsageError,
)
from fletching.lz4stream import Decoder, Encoder, LZ4StreamFile

TEXT = "".join(f"Zeile {n}: für {n * 31 % 97}\n" for n in range(30_000))
DATA = TEXT.encode()


def packed(data: bytes = DATA, **options: Any) -> bytes:
    return b"".join(lz4stream.compress(data, **options))


def reading(data: bytes = DATA, **options: Any) -> LZ4StreamFile:
    return lz4stream.open(io.BytesIO(packed(data)), "rb", **options)


def test_a_file_by_path(tmp_path: Path) -> None:
    path = tmp_path / "text.lz4s"
    with lz4stream.open(path, "wb", page_bytes=5000) as file:
        assert (file.readable(), file.writable(), file.seekable()) == (False, True, False)
        assert file.write(DATA[:777]) == 777
        assert file.write(memoryview(DATA)[777:]) == len(DATA) - 777
        assert file.tell() == len(DATA)
        assert file.name == str(path)
    assert file.closed
    assert path.read_bytes() == packed(page_bytes=5000)
    with lz4stream.open(str(path)) as file:
        assert (file.readable(), file.writable(), file.mode) == (True, False, "rb")
        assert file.read() == DATA
        assert file.read() == b""
        assert file.tell() == len(DATA)
    with pytest.raises(FileExistsError):
        lz4stream.open(path, "xb")


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["read", "read1", "readinto", "readinto1"]), st.integers(0, 9000)
        ),
        max_size=30,
    )
)
def test_any_sequence_of_reads(calls: list[tuple[str, int]]) -> None:
    file = reading(DATA[:50_000])
    received = b""
    for name, size in calls:
        if name.startswith("readinto"):
            buffer = bytearray(size)
            count = getattr(file, name)(buffer)
            received += buffer[:count]
        else:
            chunk = getattr(file, name)(size)
            assert len(chunk) <= size
            received += chunk
            count = len(chunk)
        if name in ("read", "readinto"):
            assert count == min(size, 50_000 - (len(received) - count))
        assert file.tell() == len(received)
    assert received + file.read(None) == DATA[:50_000]


def test_buffered_reader_and_lines() -> None:
    with io.BufferedReader(reading()) as file:
        assert file.peek(5)[:5] == b"Zeile"
        assert file.readlines() == DATA.splitlines(keepends=True)
    assert list(reading()) == DATA.splitlines(keepends=True)


def test_text_wrapper_both_ways() -> None:
    sink = io.BytesIO()
    with io.TextIOWrapper(LZ4StreamFile(sink, Encoder()), encoding="utf-8", newline="") as file:
        file.write(TEXT)
    assert b"".join(lz4stream.decompress(sink.getvalue())) == DATA
    with io.TextIOWrapper(reading(), encoding="utf-8", newline="") as file:
        assert file.read() == TEXT
    with io.TextIOWrapper(reading(), encoding="utf-8", newline="") as file:
        assert sum(1 for _ in file) == 30_000


def test_copyfileobj_both_ways() -> None:
    sink = io.BytesIO()
    with lz4stream.open(sink, "wb") as file:
        shutil.copyfileobj(io.BytesIO(DATA), file, 12_345)
    assert not sink.closed
    plain = io.BytesIO()
    with lz4stream.open(io.BytesIO(sink.getvalue())) as file:
        shutil.copyfileobj(file, plain, 54_321)
    assert plain.getvalue() == DATA


def test_pyarrow_both_ways(tmp_path: Path) -> None:
    table = pa.table({"id": range(10_000), "text": [f"row {n % 50}" for n in range(10_000)]})
    path = tmp_path / "table.lz4s"
    with lz4stream.open(path, "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=1000):
            writer.write_batch(batch)
    with lz4stream.open(path) as file:
        assert pa.ipc.open_stream(file).read_all() == table
    with lz4stream.open(path) as file:
        assert pa.PythonFile(file, "r").read(4) == b"\xff\xff\xff\xff"


def test_end_block_lets_a_reader_have_everything() -> None:
    sink = io.BytesIO()
    file = LZ4StreamFile(sink, Encoder())
    file.write(b"abc")
    file.flush()
    assert sink.getvalue() == b""
    file.end_block()
    assert b"".join(lz4stream.decompress(sink.getvalue())) == b"abc"
    file.write(b"def")
    file.close()
    assert b"".join(lz4stream.decompress(sink.getvalue())) == b"abcdef"


def test_flushing_reaches_the_file_below_and_closing_flushes_no_closed_one() -> None:
    flushed = []

    class Sink(io.BytesIO):
        def flush(self) -> None:
            flushed.append(self.closed)

    file = LZ4StreamFile(Sink(), Encoder(), close_file=True)
    file.write(b"abc")
    file.flush()
    assert flushed == [False]
    file.close()
    assert flushed[1:]
    assert not any(flushed)


def test_truncation_damage_and_trailing_bytes_are_errors() -> None:
    stream = packed(DATA[:100_000])
    with pytest.raises(TruncatedStreamError):
        lz4stream.open(io.BytesIO(stream[:-1])).read()
    with pytest.raises(DecompressionError):
        lz4stream.open(io.BytesIO(b"\x02\x00\x00\x00\x50x" + stream)).read()
    marked = packed(b"abc", end_mark=True)
    assert lz4stream.open(io.BytesIO(marked), end_mark=True).read() == b"abc"
    with pytest.raises(MalformedFrameError):
        lz4stream.open(io.BytesIO(marked + b"x"), end_mark=True).read()


def test_an_empty_file_is_an_empty_stream(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    lz4stream.open(path, "wb").close()
    assert path.read_bytes() == b""
    assert lz4stream.open(path).read() == b""


def test_closing() -> None:
    sink = io.BytesIO()
    file = lz4stream.open(sink, "wb", end_mark=True)
    file.close()
    file.close()
    assert sink.getvalue() == bytes(4)
    for call in (file.readable, file.writable, file.tell, lambda: file.write(b"x"), file.end_block):
        with pytest.raises(ValueError, match="closed file"):
            call()
    read = reading()
    read.close()
    with pytest.raises(UsageError):
        read.read()


def test_closing_a_second_time_touches_nothing() -> None:
    """The file beneath may be gone by then, or somebody else's."""
    sink = io.BytesIO()
    file = lz4stream.open(sink, "wb", end_mark=True)
    file.write(b"abc")
    file.close()
    sink.close()
    file.close()


def test_an_abandoned_file_that_was_written_warns_of_nothing(tmp_path: Path) -> None:
    file = lz4stream.open(tmp_path / "x", "wb")
    file.write(b"abc")
    del file  # io's finaliser closes it
    assert lz4stream.open(tmp_path / "x").read() == b"abc"


def test_a_sink_that_fails_is_still_closed(tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any, /) -> int:
            raise OSError("no space")

    sink = Full()
    file = LZ4StreamFile(sink, Encoder(), close_file=True)
    file.write(b"abc")
    with pytest.raises(OSError, match="no space"):
        file.close()
    assert sink.closed
    assert file.closed


def test_the_wrong_direction() -> None:
    with pytest.raises(io.UnsupportedOperation):
        reading().write(b"x")
    with pytest.raises(io.UnsupportedOperation):
        reading().end_block()
    with pytest.raises(io.UnsupportedOperation):
        LZ4StreamFile(io.BytesIO(), Encoder()).read(1)
    with pytest.raises(io.UnsupportedOperation):
        reading().seek(0)


@pytest.mark.parametrize("mode", ["r", "w", "ab", "rt", "r+b"])
def test_unknown_modes(mode: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mode"):
        lz4stream.open(tmp_path / "x", mode)
    assert not (tmp_path / "x").exists()


def test_unknown_options(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="page_bytes"):
        lz4stream.open(tmp_path / "x", "rb", page_bytes=5)


def test_reading_many_small_pieces_is_linear() -> None:
    """Each byte is handed out once: no call copies what is left of a piece."""
    data = Random(1).randbytes(3_000_000)
    file = reading(data)
    assert b"".join(iter(lambda: file.read(100), b"")) == data


def test_the_decoder_may_be_given() -> None:
    file = LZ4StreamFile(
        io.BytesIO(packed(DATA, store_comp_size=4)), Decoder(max_block_bytes=65_536)
    )
    assert file.read() == DATA
    assert file.name is None
