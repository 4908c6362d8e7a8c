"""Days in text, read as the protocol writes them and in no other way.

``date.fromisoformat`` also takes weeks, and digits of other scripts. A value that one reader takes and another
refuses is two values.
"""

from __future__ import annotations

import datetime as dt
import re

__all__ = ["parse_date"]

_DATE = re.compile(r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})")


def parse_date(text: str) -> dt.date | None:
    """A day written ``2026-01-31`` or ``20260131``, or None."""
    match = _DATE.fullmatch(text)
    if match is None or text.count("-") not in {0, 2}:
        return None
    try:
        return dt.date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return None
