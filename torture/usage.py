"""What a server of a soak uses, and whether that has grown."""

from __future__ import annotations

import statistics
import urllib.request
from pathlib import Path

__all__ = ["growth", "remembered_mb", "used"]

WARM_SECONDS = 600.0
"""What is used grows while caches fill; after this, or half of a shorter run, it must not."""
GROWTH = 0.10


def growth(samples: list[dict[str, float]], seconds: float) -> tuple[list[str], list[str]]:
    """What was used, in words, and what of it grew once the run was warm.

    Memory may grow by what the server says that it remembers of its tables, which has a limit of its own.
    """
    warm = [each for each in samples if each["seconds"] >= min(WARM_SECONDS, seconds / 2)]
    half = len(warm) // 2
    names = ("remembered_mb", "memory_mb", "descriptors", "threads", "catalog_mb")
    early = {name: statistics.median(each[name] for each in warm[:half]) for name in names}
    late = {name: statistics.median(each[name] for each in warm[half:]) for name in names}
    lines = [f"{len(samples)} samples in {seconds:.0f} s"]
    lines += [
        f"{name}: {early[name]:.1f}, then {late[name]:.1f}; at most"
        f" {max(each[name] for each in samples):.1f}"
        for name in names
    ]
    problems = []
    remembered = max(0.0, late["remembered_mb"] - early["remembered_mb"])
    for name in names[1:]:
        most = early[name] * (1 + GROWTH) + 2 + (remembered if name == "memory_mb" else 0)
        if late[name] > most:
            problems.append(f"{name} grew from {early[name]:.1f} to {late[name]:.1f}")
    return lines, problems


def remembered_mb(port: int) -> float:
    """What the server says that it keeps in memory of its tables."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=600) as reply:
        for line in reply.read().decode().splitlines():
            if line.startswith("fletching_remembered_bytes "):
                return float(line.split()[1]) / 1e6
    raise RuntimeError("the server does not say what it remembers")


def used(pid: int, folder: Path) -> dict[str, float]:
    process = Path(f"/proc/{pid}")
    status = dict(
        line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line
    )
    catalog = sum(path.stat().st_size for path in (folder / "data").glob("catalog.sqlite*"))
    return {
        # Without mapped files: their pages are the system's to take back.
        "memory_mb": int(status["RssAnon"].split()[0]) / 1024,
        "descriptors": float(len(list((process / "fd").iterdir()))),
        "threads": float(status["Threads"]),
        "catalog_mb": catalog / 1e6,
    }
