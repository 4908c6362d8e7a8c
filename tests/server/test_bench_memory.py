"""The memory benchmark runs, small, so that it cannot rot; its figures are not judged here."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.bench_memory import measure


@pytest.mark.bench
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_the_memory_benchmark_measures(tmp_path: Path) -> None:
    result = measure(0.02, 2.0, tmp_path)
    assert result["batches"] == 10
    assert result["bytes"] > 19_000_000
    for name in ("write", "read"):
        assert result[name]["bytes_per_second"] > 0
        assert result[name]["VmRSS_above_idle"] < 500_000_000
