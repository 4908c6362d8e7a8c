"""One picture that says how fast this is: recorded medians of rivals and floors, on one scale.

``python -m benchmarks.speed_picture`` draws ``docs/images/speed.svg`` from the newest results in
``benchmarks/results``; every run of ``make bench`` that has all it shows draws it anew. A bar is the
median over the shapes of table, a dot one of them; nothing is left out because it is faster.
"""

from __future__ import annotations

import argparse
import html
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["GROUPS", "PICTURE", "Group", "drawn", "groups_of"]

FOLDER = Path(__file__).parent
PICTURE = FOLDER.parent / "docs" / "images" / "speed.svg"
SHAPES = ("numeric", "strings", "nested", "nulls")

_LEFT, _WIDTH, _RIGHT, _ROW, _HEAD = 190, 520, 60, 22, 34


class Contender(NamedTuple):
    """Who is compared: its name in the results, what the picture calls it, and whether it is ours, a rival
    or a floor that nobody can beat."""

    name: str
    shown: str
    kind: str


class Group(NamedTuple):
    """Contenders of one question, and each one's GB/s by shape."""

    title: str
    speeds: list[tuple[Contender, list[float]]]


_READ = (
    Contender("fletching", "Fletching", "ours"),
    Contender("PyODPS", "PyODPS, from our service", "rival"),
    Contender("Flight DoGet", "Arrow Flight", "rival"),
    Contender("Parquet over HTTP", "Parquet over HTTP", "rival"),
    Contender("raw socket", "a raw socket", "floor"),
)
_WRITE = (
    Contender("fletching", "Fletching, kept and synced", "ours"),
    Contender("Flight DoPut", "Arrow Flight, nothing kept", "rival"),
    Contender("write + fsync", "write + fsync", "floor"),
)
_GROUPS = (
    ("Reading a table, batches of 65,536 rows", "read", "{shape}, 65,536 rows", _READ),
    ("Writing a table, to memory", "write", "{shape}, memory", _WRITE),
)


GROUPS = len(_GROUPS)


def groups_of(results: Sequence[dict[str, Any]]) -> list[Group]:
    """What is shown of recorded results; groups without any are left out."""
    speeds = {
        (each["question"], each["case"], each["name"]): each["bytes_per_second"] / 1e9
        for each in results
    }
    groups = []
    for title, question, case, contenders in _GROUPS:
        found = []
        for contender in contenders:
            values = [
                speeds[key]
                for shape in SHAPES
                if (key := (question, case.format(shape=shape), contender.name)) in speeds
            ]
            if values:
                found.append((contender, values))
        if any(contender.kind == "ours" for contender, _ in found):
            groups.append(Group(title, found))
    return groups


_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1c2128; } .faint { fill: #59636e; font-size: 11px; }
.title { font-weight: 600; font-size: 14px; } .end { text-anchor: end; } .grid { stroke: #d5dbe1; }
.ours { fill: #c2410c; } .rival { fill: #64748b; } .floor { fill: #cbd5e1; } .dot { fill: #0f172a; }
@media (prefers-color-scheme: dark) { text { fill: #e3e8ee; } .faint { fill: #9aa7b4; }
.grid { stroke: #343c46; } .ours { fill: #f08a4b; } .rival { fill: #94a3b8; } .floor { fill: #475569; }
.dot { fill: #f8fafc; } }
"""


def drawn(document: dict[str, Any], name: str) -> str:
    """The picture of recorded results as SVG.

    Args:
        document: as ``make bench`` records it.
        name: of the record, a date.
    """
    groups = groups_of(document["results"])
    most = max((v for group in groups for _, values in group.speeds for v in values), default=1.0)
    step = next(size for size in (0.5, 1, 2, 5, 10, 20, 50) if most / size <= 8)
    ticks = [step * number for number in range(int(most / step) + 1)]
    parts: list[str] = []
    y = 8
    for group in groups:
        parts.append(f'<text class="title" x="0" y="{y + 18}">{html.escape(group.title)}</text>')
        y += _HEAD
        top = y
        for contender, values in group.speeds:
            median = statistics.median(values)
            parts.append(
                f'<text class="end" x="{_LEFT - 8}" y="{y + 14}">{html.escape(contender.shown)}</text>'
                f'<rect class="{contender.kind}" x="{_LEFT}" y="{y + 2}" '
                f'width="{_WIDTH * median / most:.1f}" height="{_ROW - 6}"/>'
            )
            parts += [
                f'<circle class="dot" cx="{_LEFT + _WIDTH * value / most:.1f}" cy="{y + 10}" r="1.6"/>'
                for value in values
            ]
            at = _LEFT + _WIDTH * max(median, *values) / most + 6
            parts.append(f'<text x="{at:.1f}" y="{y + 14}">{median:.1f}</text>')
            y += _ROW
        for tick in ticks:
            x = _LEFT + _WIDTH * tick / most
            # Behind the bars.
            parts.insert(0, f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{y}"/>')
        y += 6
    parts += [
        f'<text class="faint" text-anchor="middle" x="{_LEFT + _WIDTH * tick / most:.1f}" '
        f'y="{y + 8}">{tick:g}</text>'
        for tick in ticks
    ]
    y += 12
    machine = document["environment"]
    note = (
        f"GB/s, over HTTP on one host: medians of the shapes of table (dots), in one run of {name}; "
        f"{machine['processor']}, {machine['cores']} cores"
    )
    parts.append(f'<text class="faint" x="0" y="{y + 14}">{html.escape(note)}</text>')
    label = "; ".join(
        f"{group.title}: "
        + ", ".join(f"{c.shown} {statistics.median(v):.1f} GB/s" for c, v in group.speeds)
        for group in groups
    )
    width, height = _LEFT + _WIDTH + _RIGHT, y + 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{html.escape(label, quote=True)}">\n<!-- results {name}.json -->\n'
        f"<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</svg>\n"
    )


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="?", type=Path, help="a record; by default the newest")
    parser.add_argument("--output", type=Path, default=PICTURE)
    given = parser.parse_args(words)
    path = given.results or max((FOLDER / "results").glob("*.json"), default=None)
    if path is None:
        print("there are no results: run make bench first", file=sys.stderr)
        return 1
    document = json.loads(path.read_text())
    if len(groups_of(document["results"])) < GROUPS:
        print(f"{path} has not all that is shown: run make bench without a choice", file=sys.stderr)
        return 1
    given.output.write_text(drawn(document, path.stem))
    return 0


if __name__ == "__main__":
    sys.exit(main())
