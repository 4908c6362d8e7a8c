"""The golden files and the hostile ones of arrow-testing: other implementations' bytes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pytest
from tests.ipc.conftest import (
    FUZZED,
    GOLDEN,
    GOLDEN_FILES,
    GOLDEN_STREAMS,
    ROOT,
    golden_id,
    messages_of,
    needs_golden,
)

from fletching import ipc
from fletching.errors import TruncatedStreamError, WireError
from fletching.ipc import lowlevel

pytestmark = needs_golden
streams = pytest.mark.parametrize("path", GOLDEN_STREAMS, ids=golden_id)
files = pytest.mark.parametrize("path", GOLDEN_FILES, ids=golden_id)
JUNK = b"\xff\xff\xff\xff\x08 junk"
SMALL_BYTES = 1300


def expected(path: Path) -> tuple[pa.Schema, list[pa.RecordBatch]]:
    data = path.read_bytes()
    if path.suffix == ".stream":
        reader = pa.ipc.open_stream(data)
        return reader.schema, list(reader)
    opened = pa.ipc.open_file(data)
    return opened.schema, [opened.get_batch(i) for i in range(opened.num_record_batches)]


def same(result: Iterable[pa.RecordBatch], wanted: Iterable[pa.RecordBatch]) -> bool:
    return [*result] == [*wanted]


@streams
def test_streams_walk_as_pyarrow_reads_them_and_reframe_byte_for_byte(path: Path) -> None:
    data = path.read_bytes()
    schema, batches = expected(path)
    walk = ipc.messages(data)
    result = list(walk)
    assert lowlevel.read_schema(result[0]).equals(schema, check_metadata=True)
    rows = [m.record_batch().length for m in result if m.type is lowlevel.MessageType.RECORD_BATCH]
    assert rows == [batch.num_rows for batch in batches]
    frames = b"".join(bytes(chunk) for m in result for chunk in m.frame())
    assert frames + data[-(walk.marker_length or 0) or len(data) :] == data
    assert walk.position == len(data)


@streams
def test_streams_read_equal_with_junk_between(path: Path) -> None:
    data = path.read_bytes()
    _, batches = expected(path)
    whole = JUNK + data + JUNK + data
    first, end = ipc.read_stream_at(whole, len(JUNK))
    assert end == len(JUNK) + len(data)
    second, end = ipc.read_stream_at(whole, end + len(JUNK))
    assert end == len(whole)
    assert same(first, batches)
    assert same(second, batches)


@streams
def test_streams_are_pushed_in_small_chunks(path: Path) -> None:
    data = path.read_bytes()
    decoder = ipc.MessageDecoder()
    for start in range(0, len(data), 13):
        decoder.feed(data[start : start + 13])
    decoder.finish()
    pushed, walked = list(decoder), messages_of(data)
    assert [(m.offset, m.end, bytes(m.body)) for m in pushed] == [
        (m.offset, m.end, bytes(m.body)) for m in walked
    ]


@files
def test_files_open_as_pyarrow_reads_them(path: Path) -> None:
    data = path.read_bytes()
    schema, batches = expected(path)
    for opened in (ipc.open_file(path), ipc.open_file(io.BytesIO(JUNK + data), len(JUNK))):
        assert opened.schema.equals(schema, check_metadata=True)
        assert same(list(opened), batches)
        assert opened.num_rows == sum(b.num_rows for b in batches)
        chosen = list(range(0, len(schema), 2))
        assert same(list(opened.select(chosen)), [b.select(chosen) for b in batches])


@files
def test_the_stream_inside_a_file_walks_and_reframes(path: Path) -> None:
    data = path.read_bytes()
    result = messages_of(data)
    frames = b"".join(bytes(chunk) for m in result for chunk in m.frame())
    assert data[8:].startswith(frames)


@files
def test_files_are_written_again_verbatim(path: Path) -> None:
    _, batches = expected(path)
    schema, *rest = messages_of(path.read_bytes())
    sink = io.BytesIO()
    with ipc.FileWriter(sink, schema) as writer:
        for message in rest:
            writer.write_message(message)
    opened = pa.ipc.open_file(sink.getvalue())
    assert same([opened.get_batch(i) for i in range(opened.num_record_batches)], batches)


@pytest.mark.parametrize("path", GOLDEN, ids=golden_id)
def test_golden_files_are_sound(path: Path) -> None:
    report = ipc.inspect_bytes(path.read_bytes(), verify=True)
    assert report.ok
    assert {problem.severity for problem in report.problems} <= {"warning"}
    (part,) = report.parts
    assert (part.start, part.end) == (0, path.stat().st_size)
    assert part.rows == sum(b.num_rows for b in expected(path)[1])


EXHAUSTIVE = bool(os.environ.get("FLETCHING_TEST_EXHAUSTIVE"))

# --- hostile bytes -----------------------------------------------------------------------------------

# A crash of the process is the failure looked for, so each file has a process of its own; it also
# has the limits that a reader must keep: 2 seconds of processor time and 512 MB.
CHILD = """
import resource, sys
sys.path.append(sys.argv[1])
import ipc_oracle
data = open(sys.argv[2], "rb").read()
base = resource.getrusage(resource.RUSAGE_SELF)
before = base.ru_utime + base.ru_stime
ipc_oracle.everything(data)
used = resource.getrusage(resource.RUSAGE_SELF)
seconds = used.ru_utime + used.ru_stime - before
assert seconds < 2, seconds
# Not ru_maxrss: it starts at what the parent had when it made this process.
peak = [line for line in open("/proc/self/status") if line.startswith("VmHWM:")]
assert not peak or int(peak[0].split()[1]) < 512 << 10, peak
"""


@pytest.mark.parametrize("folder", ["fuzz-stream", "fuzz-file"])
def test_files_that_broke_other_readers(folder: str) -> None:
    paths = [path for path in FUZZED if path.parent.name == folder]
    assert paths
    for path in paths:
        command = [sys.executable, "-c", CHILD, str(ROOT / "fuzz"), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, f"{path.name}: {done.stderr[-2000:]}"


@pytest.mark.parametrize("path", GOLDEN, ids=golden_id)
def test_golden_files_truncated(path: Path) -> None:
    """At every byte up to 4 KB; beyond, at every byte near a message's edge and every 101st.

    ``make test-exhaustive`` takes every byte of every file.
    """
    data = path.read_bytes()
    result = messages_of(data)
    edges = {edge for m in result for edge in (m.offset, m.offset + m.metadata_length, m.end)}
    ends = {m.end for m in result}
    is_file = path.suffix == ".arrow_file"
    positions = (
        range(len(data))
        if len(data) <= 4096 or EXHAUSTIVE
        else sorted({p for e in edges for p in range(e - 5, e + 6)} | set(range(0, len(data), 101)))
    )
    for length in positions:
        cut = memoryview(data)[: max(0, min(length, len(data) - 1))]
        if is_file:
            with pytest.raises(WireError):
                ipc.open_file(cut)
            continue
        walk = ipc.messages(cut)
        if len(cut) in ends or not len(cut):
            list(walk)
            continue
        with pytest.raises(TruncatedStreamError):
            list(walk)


SMALL = [path for path in GOLDEN if path.stat().st_size <= SMALL_BYTES]

FLIP = """
import sys
sys.path.append(sys.argv[1])
import ipc_oracle
from fletching import ipc
from fletching.errors import WireError

def read(data, is_file):
    try:
        batches = list(ipc.open_file(data, limits=ipc_oracle.LIMITS)) if is_file else (
            ipc.read_stream_at(data, limits=ipc_oracle.LIMITS)[0])
    except WireError:
        return
    for batch in batches:
        ipc_oracle.touch(batch)

for path in sys.argv[2:]:
    data = bytearray(open(path, "rb").read())
    for position in range(len(data)):
        data[position] ^= 0xFF
        read(bytes(data), path.endswith("file"))
        data[position] ^= 0xFF
"""


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".stream", ".arrow_file"])
def test_every_byte_of_the_small_files_flipped(suffix: str) -> None:
    """In a process of its own, which must live: pyarrow alone dies on some of these."""
    paths = [str(path) for path in SMALL if path.suffix == suffix]
    assert paths
    command = [sys.executable, "-c", FLIP, str(ROOT / "fuzz"), *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
