"""Numbers in the text of requests: digits and nothing else.

Python's ``int`` and ``str.isdigit`` take more than any protocol means: ``²`` is a digit that ``int``
refuses, ``1_000``, ``+1``, `` 1`` and digits of other scripts are numbers. Whatever comes from a request
passes here.
"""

from __future__ import annotations

import re

__all__ = ["MAX_DIGITS", "parse_count", "parse_integer", "parse_seconds", "parse_weight"]

MAX_DIGITS = 19
"""Of a signed 64-bit number; longer texts are refused before they are read."""

_COUNT = re.compile(f"[0-9]{{1,{MAX_DIGITS}}}")
_INTEGER = re.compile(f"-?[0-9]{{1,{MAX_DIGITS}}}")
# As Python prints a float of 0 or more: those below 0.0001 with an exponent, the others with up to
# 17 digits behind up to four zeros.
_SECONDS = re.compile(r"[0-9]{1,15}(?:\.[0-9]{0,21})?(?:e-[0-9]{1,3})?")
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
_INT64 = range(-(2**63), 2**63)


def parse_count(text: str) -> int | None:
    """A number of 0 or more: ASCII digits alone, below 2**63; None for anything else."""
    if not _COUNT.fullmatch(text):
        return None
    value = int(text)
    return value if value in _INT64 else None


def parse_integer(text: str) -> int | None:
    """A signed 64-bit number: ASCII digits, perhaps behind a minus sign; None for anything else."""
    if not _INTEGER.fullmatch(text):
        return None
    value = int(text)
    return value if value in _INT64 else None


def parse_weight(text: str) -> float | None:
    """A ``q`` parameter (RFC 9110, 12.4.2): 0 to 1 with up to three decimals; None for anything else."""
    return float(text) if _WEIGHT.fullmatch(text) else None


def parse_seconds(text: str) -> float | None:
    """A duration of 0 or more, in decimals: never infinite, never not a number; None for anything else."""
    return float(text) if _SECONDS.fullmatch(text) else None
