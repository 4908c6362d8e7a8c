"""The fuzz targets and the benchmark run, briefly, so that they cannot rot."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.ipc.conftest import ROOT

FUZZ = """
import pathlib, sys, tempfile
sys.path.append(sys.argv[1])
import fuzz_ipc
with tempfile.TemporaryDirectory() as folder:
    fuzz_ipc.CORPUS = pathlib.Path(folder)
    for target in fuzz_ipc.TARGETS:
        assert fuzz_ipc.run(target, 600, seed=int(sys.argv[2]), most=40) == 40
"""


@pytest.mark.parametrize("seed", [1, 2])
def test_mutated_inputs_keep_the_promise(seed: int) -> None:
    command = [sys.executable, "-c", FUZZ, str(ROOT / "fuzz"), str(seed), "--seconds"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.bench
def test_the_benchmark_runs_and_moves_no_body_bytes() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "bench_ipc.py"), "--small"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "body_bytes_moved                     0" in done.stdout
