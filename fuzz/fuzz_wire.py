"""Fuzzes the wire layers: `python fuzz/fuzz_wire.py [-max_total_time=60]`.

With atheris installed the arguments are libFuzzer's, and coverage leads the way. Without it, seeds
are mutated at random, for `--seconds N` (default 30); a failing input is printed in hexadecimal.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

try:
    import atheris
except ImportError:
    atheris = None

if atheris is None or "--seconds" in sys.argv:
    import wire_oracle
else:
    # Only our own code: instrumenting all of pyarrow's and numpy's takes minutes.
    with atheris.instrument_imports(include=["fletching"]):
        import tunnel_oracle  # noqa: F401 - of the target that uses this one's main
        import wire_oracle

from fletching.wire import blob_frames, content_coding, crc32c_blocks
from fletching.wire.blob_frames import BlobHeader, ChecksumType


def seeds() -> list[bytes]:
    """Whole inputs of every nesting."""
    result = [b"\x00"]
    frames = b"".join(
        bytes(piece)
        for kind in ChecksumType
        for piece in blob_frames.Encoder(checksum=kind).frame(
            BlobHeader(content_type="a/b", file_name="c"), b"data " * 40
        )
    )
    for number, coding in enumerate(wire_oracle.CODINGS):
        encoder = content_coding.Encoder(coding)
        coded = b"".join(map(bytes, [*encoder.encode(frames), *encoder.finish()]))
        blocks = crc32c_blocks.Encoder()
        framed = b"".join([*blocks.encode(coded), *blocks.finish()])
        width = len(wire_oracle.CODINGS)
        result += [bytes([number]) + coded, bytes([3 * width + number]) + framed]
    width = len(wire_oracle.CODINGS)
    blocks = crc32c_blocks.Encoder()
    noise = random.Random(0).randbytes(9000)
    result.append(bytes([2 * width]) + b"".join([*blocks.encode(noise), *blocks.finish()]))
    result.append(bytes([width]) + frames)
    return result


def mutated(chance: random.Random, pool: list[bytes]) -> bytes:
    data = bytearray(chance.choice(pool))
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(data) + 1)
        kind = chance.randrange(5)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at:at] = chance.randbytes(chance.randrange(1, 9))
        elif kind == 2:
            del data[at : at + chance.randrange(1, 60)]
        elif kind == 3:
            other = chance.choice(pool)
            start = chance.randrange(len(other) + 1)
            data[at:at] = other[start : start + chance.randrange(300)]
        else:
            data[at : at + 8] = chance.choice(
                [bytes(8), b"\xff" * 8, (1 << 40).to_bytes(8, "little"), b"\x01" + bytes(7)]
            )
    return bytes(data)


Check = Callable[[bytes], None]


def main(
    check: Check = wire_oracle.check, pool: list[bytes] | None = None, name: str = "wire"
) -> None:
    """Fuzzes what ``check`` promises, from a pool of whole inputs; ``name`` is that of its corpus."""
    pool = seeds() if pool is None else pool
    seconds = seconds_of(sys.argv)
    if atheris is None or "--seconds" in sys.argv:
        run(seconds, random.Random(), check, pool)
        return
    corpus = Path(__file__).parent / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(pool):
        (corpus / f"seed-{number}").write_bytes(data)
    atheris.instrument_func(check)
    atheris.Setup([sys.argv[0], str(corpus), *sys.argv[1:]], check)
    atheris.Fuzz()


def seconds_of(arguments: list[str]) -> float:
    """How long to go on, in libFuzzer's words or in ours."""
    if "--seconds" in arguments:
        return float(arguments[arguments.index("--seconds") + 1])
    report = [word for word in arguments if word.startswith("-max_total_time=")]
    return float(report[-1].partition("=")[2]) if report else 30.0


def run(seconds: float, chance: random.Random, check: Check, pool: list[bytes]) -> int:
    """Mutates seeds for a while; returns how many inputs were tried."""
    tried = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = mutated(chance, pool)
        try:
            check(data)
        except Exception:
            print(f"fails: {data.hex()}", file=sys.stderr)
            raise
        tried += 1
    print(f"{tried} inputs, no promise broken")
    return tried


if __name__ == "__main__":
    main()
