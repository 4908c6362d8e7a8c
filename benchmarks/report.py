"""Results as a text table, as JSON and as a picture."""

from __future__ import annotations

import itertools
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.rounds import Result
from benchmarks.speed_picture import GROUPS, PICTURE, drawn, groups_of

_PACKAGES = ("fletching", "pyarrow", "numpy", "uvicorn", "uvloop", "urllib3", "pyodps", "pylance")


def environment() -> dict[str, Any]:
    """The machine and the versions that the figures belong to."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 1e9, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": versions,
        "load_before": os.getloadavg()[0],
        "commit": _commit(),
    }


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    )
    return found.stdout.strip()


_HEADINGS = (
    "contender",
    "GB/s",
    "spread",
    "M rows/s",
    "first batch ms",
    "CPU s/GB client",
    "server",
    "peak MB client",
    "server",
)


def text(results: Sequence[Result]) -> str:
    """A table per question and case."""
    lines: list[str] = []
    for (question, case), group in itertools.groupby(results, lambda r: (r.question, r.case)):
        lines += ["", f"{question}: {case}"]
        rows = [_HEADINGS, *(_cells(result) for result in group)]
        widths = [max(len(row[n]) for row in rows) for n in range(len(_HEADINGS))]
        lines += [
            "  "
            + "  ".join(
                cell.ljust(width) if n == 0 else cell.rjust(width)
                for n, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
    return "\n".join(lines) + "\n"


def _cells(result: Result) -> tuple[str, ...]:
    facts = result.as_json()

    def number(name: str, scale: float = 1.0, digits: int = 2) -> str:
        value = facts[name]
        return "-" if value is None else f"{value * scale:,.{digits}f}"

    if result.bytes <= 1:  # opening a session moves nothing: the time is the figure
        speed = f"{result.median * 1e3:,.2f} ms"
    else:
        speed = number("bytes_per_second", 1e-9)
    return (
        result.name,
        speed,
        f"{result.spread:.0%}",
        number("rows_per_second", 1e-6, 1),
        number("first_batch_seconds", 1e3),
        number("client_cpu_seconds_per_gb"),
        number("server_cpu_seconds_per_gb"),
        number("client_peak_bytes", 1e-6, 0),
        number("server_peak_bytes", 1e-6, 0),
    )


def save(results: Sequence[Result], ratios: dict[str, float], folder: Path, name: str) -> None:
    """Writes ``name.json``, ``name.txt`` and, for what was read and written, ``name.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    facts: dict[str, Any] = {
        "environment": environment(),
        "ratios": ratios,
        "results": [result.as_json() for result in results],
    }
    (folder / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n")
    (folder / f"{name}.txt").write_text(text(results))
    picture(results, folder / f"{name}.png")
    if len(groups_of(facts["results"])) == GROUPS:
        PICTURE.write_text(drawn(facts, name))


def picture(results: Sequence[Result], path: Path) -> None:
    """Speed of every contender, one panel per case; medians, with all rounds as dots."""
    shown = [r for r in results if r.question in {"read", "write", "projection"}]
    cases = list(dict.fromkeys((r.question, r.case) for r in shown))
    if not cases:
        return
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    columns = min(3, len(cases))
    rows = -(-len(cases) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(6.5 * columns, 3.4 * rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(cases) :]:
        axis.axis("off")
    for axis, (question, case) in zip(axes.flat, cases, strict=False):
        group = [r for r in shown if (r.question, r.case) == (question, case)][::-1]
        names = [r.name for r in group]
        colours = [
            "#c2410c" if "fletching" in name or " of " in name else "#94a3b8" for name in names
        ]
        axis.barh(names, [r.bytes_per_second / 1e9 for r in group], color=colours)
        for place, result in enumerate(group):
            speeds = [result.bytes / seconds / 1e9 for seconds in result.seconds]
            axis.plot(speeds, [place] * len(speeds), ".", color="#0f172a", markersize=3)
        axis.set_title(f"{question}: {case}", fontsize=10)
        axis.set_xlabel("GB/s")
    figure.savefig(path, dpi=110)
    plt.close(figure)
