"""Fuzzes ipc: `python fuzz/fuzz_ipc.py stream|file|inspect|everything [CORPUS] [-max_total_time=60]`.

With atheris installed the arguments after the target are libFuzzer's, and coverage leads the way.
Without it, seeds are mutated at random, for `--seconds N` (default 30). Seeds are streams and files
of every type, and those of arrow-testing where it is present (`ARROW_TEST_DATA`). A failing input is
written beside the corpus. The oracle is one: a value that can be used, or an error of ours; a crash
of the process, another exception, or more than 512 MB (give -rss_limit_mb=512) is a failure.
"""

from __future__ import annotations

import io
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

try:
    import atheris
except ImportError:
    atheris = None

if atheris is None or "--seconds" in sys.argv:
    import ipc_oracle
else:
    # Only our own code: instrumenting all of pyarrow's and numpy's takes minutes.
    with atheris.instrument_imports(include=["fletching"]):
        import ipc_oracle

from fletching import ipc
from fletching.ipc.file_writer import Block, encode_footer

ROOT = Path(__file__).resolve().parent.parent
CORPUS = Path(__file__).parent / "corpus" / "ipc"
TARGETS: dict[str, Callable[[bytes], None]] = {
    "stream": ipc_oracle.stream,
    "file": ipc_oracle.file,
    "inspect": ipc_oracle.inspected,
    "everything": ipc_oracle.everything,
}
MAX_SEED_BYTES = 20_000


def batch() -> pa.RecordBatch:
    tag = pa.array(["x", None, "y"]).dictionary_encode()
    return pa.record_batch(
        {
            "n": pa.array([1, None, 3], pa.int32()),
            "s": pa.array(["a", None, "longer than twelve bytes"]),
            "v": pa.array(["a", None, "longer than twelve bytes"], pa.string_view()),
            "l": pa.array([[1, 2], None, []], pa.list_(pa.int16())),
            "w": pa.array([[1, 2], None, []], pa.list_view(pa.int16())),
            "m": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int8())),
            "t": pa.array([{"a": 1}, None, {"a": 2}]),
            "d": tag,
            "e": pa.ListArray.from_arrays([0, 1, 2, 3], tag),
            "u": pa.UnionArray.from_dense(
                pa.array([0, 1, 0], pa.int8()),
                pa.array([0, 0, 1], pa.int32()),
                [pa.array([1, 2]), pa.array(["z"])],
            ),
            "r": pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), ["p", "q"]),
        }
    )


def many_batches() -> list[bytes]:
    """Streams of enough batches to be read together, and of dictionaries that grow."""
    columns = {
        "n": pa.array([1, None, 3], pa.int32()),
        "s": pa.array(["a", "", "ccc"]),
        "l": pa.array([[1, 2], [], [3]], pa.list_(pa.int16())),
        "d": pa.array(["x", "y", "x"]).dictionary_encode(),
        "z": pa.StructArray.from_arrays(
            [pa.nulls(3), pa.array([1, 2, 3], pa.date32()).cast(pa.date64())], ["null", "date"]
        ),
    }
    result = []
    for chosen in (*([name] for name in columns), list(columns)):
        part = pa.record_batch({name: columns[name] for name in chosen})
        sink = io.BytesIO()
        ipc.write_stream([part] * 5, sink)
        result.append(sink.getvalue())
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    grown = [
        pa.record_batch(
            {"d": pa.DictionaryArray.from_arrays(pa.array([n]), list("abcde")[: n + 1])}
        )
        for n in range(5)
    ]
    ipc.write_stream(grown, sink, options=options)
    return [*result, sink.getvalue()]


def shaped_files() -> list[bytes]:
    """Files as other writers make them: without schema message, marker or footer version."""
    sink = io.BytesIO()
    ipc.write_stream([batch().select(["n", "d"])] * 2, sink)
    schema, *rest = ipc.messages(sink.getvalue())
    result = []
    for start, version in ((b"ARROW1".ljust(64, b"\0"), True), (b"ARROW1\0\0", False)):
        data = bytearray(start)
        places: dict[str, list[Block]] = {"dictionary batch": [], "record batch": []}
        for message in rest:
            places[message.type.label].append(
                Block(len(data), message.metadata_length, message.body_length)
            )
            data += b"".join(bytes(piece) for piece in message.frame())
        footer = bytearray(
            encode_footer(schema.metadata, places["dictionary batch"], places["record batch"])
        )
        if not version:
            footer[12:14] = bytes(2)
        result.append(bytes(data) + footer + len(footer).to_bytes(4, "little") + b"ARROW1")
    return result


def seeds() -> list[bytes]:
    """Small streams and files: one column each, all together, compressed, old forms; golden files."""
    result: list[bytes] = []
    whole = batch()
    for chosen in (*([name] for name in whole.schema.names), whole.schema.names):
        part = whole.select(chosen)
        for codec in (None, "lz4", "zstd"):
            sink = io.BytesIO()
            ipc.write_stream([part, part.slice(1)], sink, compression=codec)
            result.append(sink.getvalue())
        sink = io.BytesIO()
        with pa.ipc.new_file(sink, part.schema) as writer:
            writer.write_batch(part)
        result.append(sink.getvalue())
        sink = io.BytesIO()
        options = pa.ipc.IpcWriteOptions(
            use_legacy_format=True, metadata_version=pa.ipc.MetadataVersion.V4
        )
        with pa.ipc.new_stream(sink, part.schema, options=options) as writer:
            writer.write_batch(part)
        result.append(sink.getvalue())
    result += many_batches() + shaped_files()
    empty = io.BytesIO()
    ipc.write_stream(whole.slice(0, 0), empty)
    result.append(empty.getvalue())
    section = io.BytesIO()
    ipc.write_prefixed(section, result[0], alignment=64)
    result.append(section.getvalue())
    golden = Path(os.environ.get("ARROW_TEST_DATA", ROOT.parent / "shared" / "arrow-testing"))
    return result + [
        path.read_bytes()
        for path in sorted(golden.rglob("*"))
        if path.is_file() and path.stat().st_size <= MAX_SEED_BYTES and path.suffix != ".md"
    ]


def mutated(chance: random.Random, pool: list[bytes]) -> bytes:
    data = bytearray(chance.choice(pool))
    for _ in range(chance.randrange(1, 5)):
        kind, at = chance.randrange(6), chance.randrange(len(data) + 1)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << chance.randrange(8)
        elif kind == 1 and len(data) > 8:
            # A number of the metadata or an offset, replaced by one at an edge.
            at = min(at, len(data) - 8) & ~3
            width = chance.choice([4, 8])
            number = chance.choice([0, 1, -1, 1 << 30, (1 << 31) - 1, (1 << 62), len(data)])
            data[at : at + width] = (number & ((1 << 8 * width) - 1)).to_bytes(width, "little")
        elif kind == 2:
            data[at:at] = chance.randbytes(chance.randrange(1, 9))
        elif kind == 3:
            del data[at : at + chance.randrange(1, 40)]
        elif kind == 4:
            other = chance.choice(pool)
            start = chance.randrange(len(other) + 1)
            data[at:at] = other[start : start + chance.randrange(400)]
        else:
            data[at : at + 1] = chance.choice([b"\x00", b"\xff", b"\x7f", b"\x80"])
    return bytes(data)


def run(target: str, seconds: float, seed: int, most: int = 1 << 62) -> int:
    """Mutates for so long, or for so many inputs; returns how many were tried."""
    chance = random.Random(seed)
    pool = seeds()
    tried = 0
    end = time.monotonic() + seconds
    latest = CORPUS / f"latest-{os.getpid()}"
    while tried < most and time.monotonic() < end:
        data = mutated(chance, pool)
        # Written first: a crash of the process leaves no other trace.
        CORPUS.mkdir(parents=True, exist_ok=True)
        latest.write_bytes(data)
        try:
            TARGETS[target](data)
        except BaseException:
            (CORPUS / f"failed-{seed}-{tried}").write_bytes(data)
            raise
        tried += 1
    latest.unlink(missing_ok=True)
    return tried


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: fuzz_ipc.py {'|'.join(TARGETS)} [CORPUS] [libFuzzer options]")
    target = sys.argv.pop(1)
    if atheris is None or "--seconds" in sys.argv:
        seconds = 30.0
        for word in sys.argv:
            if word.startswith("-max_total_time="):
                seconds = float(word.partition("=")[2])
        if "--seconds" in sys.argv:
            seconds = float(sys.argv[sys.argv.index("--seconds") + 1])
        seed = time.time_ns() % 1_000_000
        print(f"random mutations for {seconds:.0f} s, seed {seed}")
        print(f"{run(target, seconds, seed):,} inputs, no failure")
        return
    if not list(CORPUS.glob("seed-*")):
        CORPUS.mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(seeds()):
            (CORPUS / f"seed-{number}").write_bytes(data)
    given = [word for word in sys.argv[1:] if not word.startswith("-")]
    corpora = [] if given else [str(CORPUS)]
    atheris.Setup([sys.argv[0], *corpora, *sys.argv[1:]], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
