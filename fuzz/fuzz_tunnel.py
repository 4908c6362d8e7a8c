"""Fuzzes the tunnel's decoders: `python fuzz/fuzz_tunnel.py [-max_total_time=60]`.

With atheris installed the arguments are libFuzzer's, and coverage leads the way. Without it, seeds
are mutated at random, for `--seconds N` (default 30); a failing input is printed in hexadecimal.
"""

from __future__ import annotations

import random

import fuzz_wire
import pyarrow as pa
import tunnel_oracle

from fletching.wire.snappy_frames import SnappyEncoder
from fletching.wire.tunnel_chunks import ChunkEncoder
from fletching.wire.tunnel_records import RecordEncoder

VALUES = {
    "int64": [1, None, -(2**63), 300],
    "int8": [1, None, -128, 5],
    "bool": [True, None, False, True],
    "double": [1.5, None, float("inf"), -0.0],
    "binary": [b"a", None, b"\x80\xc0\xff\x7f\x00", b"x" * 200],
    "struct<sec: int64, nano: int32>": [{"sec": -1, "nano": 5}, None, {"sec": 0, "nano": 0}, None],
    "list<item: int64>": [[1, None], None, [], list(range(300))],
    "list<item: list<item: int64>>": [[[1], None], None, [], [[]] * 70],
    "map<binary, struct<sec: int64, nano: int32>>": [
        [(b"k", None)],
        None,
        [],
        [(b"", {"sec": 1, "nano": 2})],
    ],
    "struct<a: binary, b: list<item: int64>>": [{"a": b"q", "b": [1]}, None, {"a": None, "b": None}, None],
    "list<item: double>": [[1.0], None, [], [2.0] * 9],
}  # fmt: skip


def seeds() -> list[bytes]:
    """Whole inputs of every kind."""
    result: list[bytes] = [b"\x00"]
    for number, table in enumerate(tunnel_oracle.TABLES):
        encoder = RecordEncoder(table)
        columns = [pa.array(VALUES[str(layout.type)] * 3, layout.type) for layout in table]
        body = bytes(encoder.encode(columns)) + encoder.finish()
        result += [bytes([number]) + body, bytes([number]) + RecordEncoder(table).finish()]
    kinds = len(tunnel_oracle.TABLES)
    text = b"some text, some text, and some more of it " * 20
    snappy = SnappyEncoder()
    parts = [*snappy.encode(text), *snappy.encode(random.Random(0).randbytes(300))]
    result.append(bytes([kinds]) + b"".join(map(bytes, parts)))
    for size in (7, 64, 65536):
        chunks = ChunkEncoder(size)
        framed = [*chunks.encode(text), *chunks.finish()]
        result.append(bytes([kinds + 1]) + b"".join(map(bytes, framed)))
    return result


def main() -> None:
    fuzz_wire.main(tunnel_oracle.check, seeds(), "tunnel")


if __name__ == "__main__":
    main()
