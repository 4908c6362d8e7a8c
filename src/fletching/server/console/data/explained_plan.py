"""What EXPLAIN printed, drawn: what each scan reads of its table, and the steps that follow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

__all__ = ["Scan", "drawn_plan", "scans_of"]

_SCAN = re.compile(
    r"^  (?P<table>.+) AS (?P<alias>.+?): columns (?P<columns>.*?); pushed: (?P<pushed>.*)$"
)
_KEPT = re.compile(
    r"^    partitions: (\d+) of (\d+); segments: (\d+) of (\d+); bytes: (\d+) of (\d+)$"
)
_WIDTH, _ROW = 640, 74
_BAR = 300


class Scan(NamedTuple):
    """A mention of a table: what of it is read, and how much that is."""

    table: str
    alias: str
    columns: str
    pushed: str
    kept: tuple[int, ...]
    """Partitions, of all; segments, of all; bytes, of all."""


def scans_of(printed: str) -> list[Scan]:
    """The scans that an explanation lists."""
    result: list[Scan] = []
    for line in printed.splitlines():
        scan, kept = _SCAN.match(line), _KEPT.match(line)
        if scan is not None:
            result.append(Scan(scan["table"], scan["alias"], scan["columns"], scan["pushed"], ()))
        elif kept is not None and result:
            result[-1] = result[-1]._replace(kept=tuple(map(int, kept.groups())))
        elif not line.strip() and result:
            break
    return result


def drawn_plan(printed: str) -> Markup | None:
    """A picture of the scans; None if there are none."""
    scans = scans_of(printed)
    if not scans:
        return None
    parts: list[str] = []
    for number, scan in enumerate(scans):
        y = number * _ROW
        parts.append(
            f'<text class="strong" x="0" y="{y + 14}">{escape(_short(scan.table, 60))}</text>'
            f'<text x="0" y="{y + 30}">filter: {escape(_short(scan.pushed, 90))}</text>'
        )
        parts += _bars(scan.kept, y + 38)
    label = "; ".join(_sentence(scan) for scan in scans)
    # Escaped piece by piece above.
    return Markup(  # noqa: S704
        f'<svg class="plan" viewBox="0 0 {_WIDTH} {len(scans) * _ROW}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _sentence(scan: Scan) -> str:
    if not scan.kept:
        return f"{scan.table} is read"
    return f"of {scan.table}, {scan.kept[2]} of {scan.kept[3]} segments are read"


def _bars(kept: Sequence[int], y: int) -> list[str]:
    if not kept:
        return []
    parts = []
    for index, name in ((0, "partitions"), (2, "segments")):
        count, of = kept[index], kept[index + 1]
        top = y + 7 * index
        width = _BAR * count / of if of else 0.0
        parts.append(
            f'<rect class="ground" x="0" y="{top}" width="{_BAR}" height="8"/>'
            f'<rect class="s0" x="0" y="{top}" width="{width:.1f}" height="8"/>'
            f'<text x="{_BAR + 8}" y="{top + 8}">{count:,} of {of:,} {name} read</text>'
        )
    return parts


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
