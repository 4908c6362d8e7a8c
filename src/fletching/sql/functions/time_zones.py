"""The time zone of statements: what SET odps.sql.timezone says, and moments on their way from and to UTC.

A DATETIME or TIMESTAMP is a moment, stored and sent in UTC. A statement reads and writes it as the clocks of
its time zone show it: what comes from tables is brought to that zone, what goes into results and tables is
brought back, so that everything between works on local time. Functions that count from 1970 in UTC are told
here how to get there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import InvalidArgumentError
from fletching.ipc.type_tree import any_below

__all__ = [
    "TIME_ZONE",
    "TO_LOCAL",
    "TO_UTC",
    "checked_time_zone",
    "has_moments",
    "offset_minutes",
    "time_zone_of",
    "to_local",
    "to_utc",
]

TIME_ZONE = "odps.sql.timezone"
"""The flag that names the time zone of the statements behind it."""

TO_LOCAL, TO_UTC = "fletching_to_local", "fletching_to_utc"
"""Functions of a time and a zone that move it as tables' times are moved: DuckDB's own know another edition of the
time zone database, and of an hour that comes twice the second."""

_UTC = frozenset({"", "utc", "gmt", "z", "utc0", "gmt0", "etc/utc", "etc/gmt", "zulu", "etc/zulu"})
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,40}(?:/[A-Za-z0-9_+-]{1,40}){0,2}")
_OFFSET = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?([0-5]\d))?", re.IGNORECASE)
_MOST_HOURS = 18
"""From UTC, as Java has it: no clock is further from it than 14 hours."""


def checked_time_zone(text: str) -> str:
    """The name of a time zone in the database of them; empty for UTC.

    Args:
        text: a name as in ``Asia/Shanghai``, or hours and minutes from UTC: ``GMT+8``, ``+05:30``.

    Raises:
        InvalidArgumentError: there is no such zone.
    """
    name = text.strip()
    if name.lower() in _UTC:
        return ""
    minutes = offset_minutes(name)
    if minutes == 0:
        return ""
    if minutes is not None and minutes % 60:
        return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    if minutes is not None:
        # The database counts west of Greenwich.
        name = f"Etc/GMT{-minutes // 60:+}"
    try:
        if _NAME.fullmatch(name) is None:
            raise pa.ArrowInvalid(name)
        pc.assume_timezone(pa.scalar(0, pa.timestamp("ms")), name)
        ZoneInfo(name)
    except (pa.ArrowException, KeyError, OSError, ValueError):
        raise InvalidArgumentError(
            f"there is no time zone {text[:60]!r}; they are named as in Asia/Shanghai, UTC or GMT+8"
        ) from None
    return name


def offset_minutes(text: str) -> int | None:
    """Minutes from UTC that a zone says by number; None of one that has a name."""
    result = _OFFSET.fullmatch(text.strip())
    if result is None or int(result[2]) > _MOST_HOURS:
        return None
    minutes = int(result[2]) * 60 + int(result[3] or 0)
    return -minutes if result[1] == "-" else minutes


def time_zone_of(flags: Mapping[str, str]) -> str:
    """The time zone that flags choose; empty for UTC.

    Raises:
        InvalidArgumentError: there is no such zone.
    """
    return checked_time_zone(flags.get(TIME_ZONE, ""))


def has_moments(data_type: pa.DataType) -> bool:
    """Whether values of an Arrow type are times of a day in a year, or have some inside."""
    return any_below(data_type, pa.types.is_timestamp)


def to_utc(moment: str, zone: str) -> str:
    """A local time of DuckDB's SQL in UTC. Of an hour that comes twice it is the first one."""
    return _moved(TO_UTC, moment, zone)


def to_local(moment: str, zone: str) -> str:
    """A time of DuckDB's SQL, given in UTC, as the clocks of a zone show it."""
    return _moved(TO_LOCAL, moment, zone)


def _moved(function: str, moment: str, zone: str) -> str:
    return f"{function}(CAST({moment} AS TIMESTAMP), '{zone}')" if zone else moment
