"""Fuzzes lz4stream: `python fuzz/fuzz_lz4stream.py [fuzz/corpus/lz4stream] [-max_total_time=60]`.

With atheris installed the arguments are libFuzzer's, and coverage leads the way. Without it, seeds
are mutated at random, for `--seconds N` (default 30); a failing input is written beside the corpus.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import lz4stream_oracle

from fletching import lz4stream

CORPUS = Path(__file__).parent / "corpus" / "lz4stream"


def seeds() -> list[bytes]:
    """Streams of every width and a few shapes, whole and with an end mark."""
    chance = random.Random(0)
    text = b"".join(b"row %d of %d;" % (n, n % 7) for n in range(300))
    contents = [text, chance.randbytes(400), bytes(3000), text[:50] * 9]
    shapes = [(1, 100), (2, 700), (4, 1000)]
    return [
        b"",
        bytes(9),
        *(
            b"".join(
                lz4stream.compress(
                    content, page_bytes=page, store_comp_size=width, end_mark=end_mark
                )
            )
            for content in contents
            for width, page in shapes
            for end_mark in (False, True)
        ),
    ]


def mutated(chance: random.Random, pool: list[bytes]) -> bytes:
    data = bytearray(chance.choice(pool))
    for _ in range(chance.randrange(1, 5)):
        kind = chance.randrange(5)
        at = chance.randrange(len(data) + 1)
        if kind == 0 and data:
            data[min(at, len(data) - 1)] ^= 1 << chance.randrange(8)
        elif kind == 1:
            data[at:at] = chance.randbytes(chance.randrange(1, 9))
        elif kind == 2:
            del data[at : at + chance.randrange(1, 40)]
        elif kind == 3:
            other = chance.choice(pool)
            start = chance.randrange(len(other) + 1)
            data[at:at] = other[start : start + chance.randrange(200)]
        else:
            data[at : at + 1] = chance.choice([b"\x00", b"\xff", b"\x1f", b"\xf0"])
    return bytes(data)


def run(seconds: float, seed: int, most: int = 1 << 62) -> int:
    """Mutates for so long, or for so many inputs; returns how many were tried."""
    chance = random.Random(seed)
    pool = seeds()
    tried = 0
    end = time.monotonic() + seconds
    while tried < most and time.monotonic() < end:
        data = mutated(chance, pool)
        try:
            lz4stream_oracle.everything(data)
        except BaseException:
            CORPUS.mkdir(parents=True, exist_ok=True)
            (CORPUS / f"failed-{seed}-{tried}").write_bytes(data)
            raise
        tried += 1
        if len(pool) < 500 and chance.random() < 0.05:
            pool.append(data[:4000])
    return tried


def main() -> None:
    try:
        import atheris
    except ImportError:
        arguments = sys.argv[1:]
        seconds = (
            float(arguments[arguments.index("--seconds") + 1]) if "--seconds" in arguments else 30
        )
        seed = time.time_ns() % 1_000_000
        print(f"atheris is not installed: random mutations for {seconds:.0f} s, seed {seed}")
        print(f"{run(seconds, seed):,} inputs, no failure")
        return
    if not CORPUS.exists():
        CORPUS.mkdir(parents=True)
        for number, seed_bytes in enumerate(seeds()):
            (CORPUS / f"seed-{number}").write_bytes(seed_bytes)
    atheris.instrument_all()
    given = [word for word in sys.argv[1:] if not word.startswith("-")]
    corpora = [] if given else [str(CORPUS)]
    atheris.Setup([sys.argv[0], *corpora, *sys.argv[1:]], lz4stream_oracle.everything)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
