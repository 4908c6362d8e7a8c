"""The benchmark runs, small: the code that makes the claims must not rot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.bench
def test_the_benchmark_runs() -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/bench_lz4stream.py", "--small"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for part in (
        "### Compression: text",
        "### Decompression: JSON",
        "### Time per byte",
        "x-lz4-stream",
    ):
        assert part in done.stdout
