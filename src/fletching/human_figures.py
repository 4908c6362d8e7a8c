"""Sizes and counts as people read them: the same in the commands, the console, progress and reports."""

from __future__ import annotations

__all__ = ["human_bytes", "human_count"]


def human_bytes(count: float) -> str:
    """Bytes in decimal units: ``1.5 MB``."""
    if abs(count) < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if abs(count) < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} TB"


def human_count(count: float) -> str:
    """A count with thousands separators: ``1,234``."""
    return f"{count:,}"
