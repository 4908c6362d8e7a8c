"""Formats of dates and times: MaxCompute's letters and Java's, as strftime's directives.

MaxCompute's own (``to_date``, ``to_char``): ``yyyy`` year, ``mm`` month, ``dd`` day, ``hh`` hour of 24,
``mi`` minute, ``ss`` second, ``ff3`` milliseconds, in any case. Java's (``date_format`` and the Hive forms
of ``from_unixtime`` and ``unix_timestamp``): ``yyyy MM dd HH mm ss SSS``, where case decides.
"""

from __future__ import annotations

import re

from fletching.errors import InvalidArgumentError

__all__ = ["java_format", "own_format", "own_pattern", "unit_of"]

_OWN = {
    "yyyy": "%Y",
    "yy": "%y",
    "mm": "%m",
    "dd": "%d",
    "hh24": "%H",
    "hh": "%H",
    "mi": "%M",
    "ss": "%S",
    "ff3": "%g",
    "ff6": "%f",
    "ff9": "%n",
}
_JAVA = {
    "yyyy": "%Y",
    "yy": "%y",
    "y": "%Y",
    "MMMM": "%B",
    "MMM": "%b",
    "MM": "%m",
    "M": "%-m",
    "dd": "%d",
    "d": "%-d",
    "HH": "%H",
    "H": "%-H",
    "hh": "%I",
    "h": "%-I",
    "mm": "%M",
    "m": "%-M",
    "ss": "%S",
    "s": "%-S",
    "SSS": "%g",
    "SSSSSS": "%f",
    "EEEE": "%A",
    "EEE": "%a",
    "E": "%a",
    "D": "%-j",
    "DDD": "%j",
    "a": "%p",
    "u": "%u",
}
_OWN_PIECE = re.compile("hh24|ff[369]|yyyy|yy|mm|dd|hh|mi|ss|[tz]|[a-z]+|[^a-z]+", re.IGNORECASE)
_JAVA_PIECE = re.compile(r"'(?:[^']|'')*'|([a-zA-Z])\1*|[^a-zA-Z']+")


def own_format(text: str) -> str:
    """A format in MaxCompute's letters as strftime's directives.

    Raises:
        InvalidArgumentError: it has letters that mean nothing.
    """
    made: list[str] = []
    for piece in _OWN_PIECE.findall(text):
        if piece[0].isascii() and piece[0].isalpha():
            result = _OWN.get(piece.lower())
            if result is None and piece.lower() in {"t", "z"}:
                result = piece  # as in 2026-01-01T00:00:00Z
            if result is None:
                raise InvalidArgumentError(
                    f"the date format {text[:60]!r} has {piece[:20]!r}; yyyy, yy, mm, dd, hh, mi, ss,"
                    " ff3, ff6 and ff9 are known"
                )
            made.append(result)
        else:
            made.append(piece.replace("%", "%%"))
    return "".join(made)


_YEAR = r"(?:[1-9]\d{3}|0[1-9]\d{2}|00[1-9]\d|000[1-9])"
_WIDTHS = {"%g": 3, "%f": 6, "%n": 9}


def own_pattern(text: str) -> str | None:
    """The regular expression that texts of a format in MaxCompute's letters match as a whole.

    Every part has all of its digits: ``2025112`` is no ``yyyymmdd``, where strptime would take it for the
    second of November. None if the year is not in the format exactly once: no text has a date then.
    """
    years = 0
    made: list[str] = []
    for piece in _OWN_PIECE.findall(text):
        directive = _OWN.get(piece.lower())
        years += directive == "%Y"
        made.append(
            re.escape(piece)
            if directive is None
            else _YEAR
            if directive == "%Y"
            else rf"\d{{{_WIDTHS.get(directive, 2)}}}"
        )
    return "".join(made) if years == 1 else None


def java_format(text: str) -> str:
    """A format in Java's letters as strftime's directives.

    Raises:
        InvalidArgumentError: it has letters that mean nothing here.
    """
    made: list[str] = []
    for match in _JAVA_PIECE.finditer(text):
        piece = match[0]
        if piece[0] == "'":
            made.append(piece[1:-1].replace("''", "'").replace("%", "%%") or "'")
        elif match[1]:
            result = _JAVA.get(piece)
            if result is None:
                raise InvalidArgumentError(
                    f"the date format {text[:60]!r} has {piece[:20]!r}, which has no meaning here"
                )
            made.append(result)
        else:
            made.append(piece.replace("%", "%%"))
    return "".join(made)


_UNITS = {
    "yyyy": "year",
    "year": "year",
    "yy": "year",
    "q": "quarter",
    "quarter": "quarter",
    "mm": "month",
    "month": "month",
    "mon": "month",
    "week": "week",
    "ww": "week",
    "w": "week",
    "dd": "day",
    "day": "day",
    "d": "day",
    "hh": "hour",
    "hour": "hour",
    "hh24": "hour",
    "mi": "minute",
    "minute": "minute",
    "ss": "second",
    "second": "second",
    "ff3": "millisecond",
    "ff6": "microsecond",
}


def unit_of(text: str) -> str:
    """A unit of dateadd, datediff, datetrunc and datepart by its usual name.

    Raises:
        InvalidArgumentError: it is none.
    """
    result = _UNITS.get(text.strip().lower())
    if result is None:
        raise InvalidArgumentError(
            f"{text[:40]!r} is no unit of time; yyyy, mm, week, dd, hh, mi, ss and ff3 are"
        )
    return result
