from __future__ import annotations

import random
import sys
from pathlib import Path
from types import ModuleType

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import native

PROGRAM = Path(__file__).resolve().parents[2] / ".interop" / "chained_blocks"


@pytest.fixture(scope="session")
def lz4_stream() -> ModuleType:
    module = native.load()
    if module is None:
        pytest.fail("lz4.stream is not built for this Python: run `make interop-lz4`")
    return module


@pytest.fixture(scope="session")
def chained_blocks() -> Path:
    if not PROGRAM.exists():
        pytest.skip("the C peer is not built: liblz4's headers (Debian: liblz4-dev) are missing")
    return PROGRAM


@pytest.fixture(scope="session")
def corpora() -> dict[str, bytes]:
    """Text-like, incompressible, constant, and far repetitions that need the whole history."""
    chance = random.Random(20260101)
    words = [chance.randbytes(chance.randrange(2, 9)).hex() for _ in range(800)]
    text = " ".join(chance.choice(words) for _ in range(60_000)).encode()
    unit = chance.randbytes(60_000)
    return {
        "text": text,
        "random": chance.randbytes(300_000),
        "zeros": bytes(1_500_000),
        "far": unit * 6,
        "mixed": text[:70_000] + chance.randbytes(70_000) + bytes(70_000) + unit[:9_000] * 9,
    }
