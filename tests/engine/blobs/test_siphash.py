from __future__ import annotations

import random
import shutil
import subprocess

import numpy as np
import pytest

from fletching.engine.blobs.siphash import mac, macs

KEY = bytes(range(16))

# The first of the reference implementation's vectors for 128 bits of output: messages 00 01 02 ...
VECTORS = [
    "a3817f04ba25a8e66df67214c7550293",
    "da87c1d86b99af44347659119b22fc45",
]


@pytest.mark.parametrize(("length", "expected"), list(enumerate(VECTORS)))
def test_published_vectors(length: int, expected: str) -> None:
    message = bytes(range(length))
    assert mac(KEY, message).hex() == expected
    rows = np.frombuffer(message * 3, np.uint8).reshape(3, length)
    assert [row.tobytes().hex() for row in macs(KEY, rows)] == [expected] * 3


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 44, 63, 64, 300])
def test_one_and_many_agree(length: int) -> None:
    rng = random.Random(length)
    key = rng.randbytes(16)
    messages = [rng.randbytes(length) for _ in range(50)]
    rows = np.frombuffer(b"".join(messages), np.uint8).reshape(50, length)
    assert [row.tobytes() for row in macs(key, rows)] == [mac(key, m) for m in messages]


@pytest.mark.parametrize("length", [0, 5, 16, 44])
def test_openssl_agrees(length: int) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command is not installed")
    key = random.Random(1).randbytes(16)
    message = random.Random(length).randbytes(length)
    done = subprocess.run(
        [openssl, "mac", "-macopt", f"hexkey:{key.hex()}", "-macopt", "size:16", "SIPHASH"],
        input=message,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("this openssl has no SipHash")
    assert done.stdout.decode().strip().lower() == mac(key, message).hex()
