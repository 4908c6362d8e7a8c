"""MaxCompute's functions of dates and times."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.conversions import between, in_years, since_1970
from fletching.sql.functions.duck_forms import quoted
from fletching.sql.functions.format_letters import java_format, own_format, own_pattern, unit_of
from fletching.sql.functions.function_calls import Call, Function
from fletching.sql.functions.generated_partitions import TRUNCATED_FORMATS
from fletching.sql.functions.sql_types import (
    DATE,
    DATETIME,
    INTERVAL_DAY_TIME,
    INTERVAL_YEAR_MONTH,
    STRING,
    TIMESTAMP,
    SqlType,
)
from fletching.sql.functions.time_zones import offset_minutes, to_local, to_utc

__all__ = ["TIME_FUNCTIONS", "truncated_day"]

_DAYS = frozenset({"year", "quarter", "month", "week", "day"})


def _to_date(call: Call) -> str:
    if len(call) == 1:
        return call.day(0)
    return f"CAST({_parsed(call)} AS TIMESTAMP_MS)"


def _parsed(call: Call) -> str:
    """A text read by a format in MaxCompute's letters; null if it is not written so."""
    written = call.constant(1, "format")
    directives, pattern = own_format(written), own_pattern(written)
    if pattern is None:
        return "CAST(NULL AS TIMESTAMP)"
    # What does not fit is an empty text, which is no date: the text itself stands here once.
    return f"try_strptime(regexp_extract({call.text(0)}, {quoted(f'^(?:{pattern})$')}), {quoted(directives)})"


def _to_char(call: Call) -> str:
    if len(call) == 1:
        return call.text(0)
    return f"strftime({call.moment(0)}, {quoted(own_format(call.constant(1, 'format')))})"


def _date_format(call: Call) -> str:
    return f"strftime({call.moment(0)}, {quoted(java_format(call.constant(1, 'format')))})"


def _from_unixtime(call: Call) -> str:
    moment = to_local(since_1970(f"CAST({call[0]} AS BIGINT)"), call.zone)
    if len(call) == 1:
        return f"CAST({moment} AS TIMESTAMP_MS)"
    return f"strftime({moment}, {quoted(java_format(call.constant(1, 'format')))})"


def _unix_timestamp(call: Call) -> str:
    if not len(call):
        moment = call.now
    elif len(call) == 1:
        moment = call.moment(0)
    else:
        directives = quoted(java_format(call.constant(1, "format")))
        moment = f"try_strptime({call.text(0)}, {directives})"
    return f"CAST(floor(epoch({to_utc(moment, call.zone)})) AS BIGINT)"


def _dateadd(call: Call) -> str:
    unit = unit_of(call.constant(2, "unit")) if len(call) == 3 else "day"
    target = _moved(call.types[0], unit)
    kind = "DATE" if target == DATE else "TIMESTAMP"
    added = in_years(f"CAST({call.moment(0)} + {_many(call, unit)} AS {kind})", kind)
    return f"CAST({added} AS {target.duck()})"


_YEARS = {
    "year": 1,
    "quarter": 4,
    "month": 12,
    "week": 53,
    "day": 366,
    "hour": 366 * 24,
    "minute": 366 * 24 * 60,
    "second": 366 * 86_400,
    "millisecond": 366 * 86_400_000,
    "microsecond": 366 * 86_400_000_000,
}
"""How many of a unit a year has at most."""


def _many(call: Call, unit: str) -> str:
    """The second argument as so many of a unit; null if it is more than there are in the years from 1 to 9999."""
    count = f"trunc({call[1]})" if call.kind(1) in {"double", "decimal"} else call[1]
    most = 10_000 * _YEARS[unit]
    width = "INTEGER" if unit in _DAYS else "BIGINT"
    return (
        f"to_{unit}s(CAST({between(f'CAST({count} AS BIGINT)', str(-most), str(most))} AS {width}))"
    )


def _moved(given: SqlType, unit: str) -> SqlType:
    return DATE if given.kind == "date" and unit in _DAYS else DATETIME


def _datediff(call: Call) -> str:
    unit = unit_of(call.constant(2, "unit")) if len(call) == 3 else "day"
    later, earlier = (f"CAST({call.moment(i)} AS TIMESTAMP)" for i in range(2))
    return f"date_diff('{unit}', {earlier}, {later})"


def _datetrunc(call: Call) -> str:
    unit = unit_of(call.constant(1, "unit"))
    kind = "DATE" if call.kind(0) == "date" else "TIMESTAMP_MS"
    return f"CAST(date_trunc('{unit}', {call.moment(0)}) AS {kind})"


def _truncated_type(types: Sequence[SqlType]) -> SqlType:
    return DATE if types[0].kind == "date" else DATETIME


def _date_trunc(call: Call) -> str:
    return _datetrunc(
        dataclasses.replace(
            call,
            arguments=call.arguments[::-1],
            constants=call.constants[::-1],
            types=call.types[::-1],
        )
    )


def truncated_day(call: Call) -> str:
    """TRUNC of a date to a unit: a text, as in Hive."""
    return (
        f"strftime(date_trunc('{unit_of(call.constant(1, 'unit'))}', {call.moment(0)}), '%Y-%m-%d')"
    )


def _datepart(call: Call) -> str:
    return f"date_part('{unit_of(call.constant(1, 'unit'))}', {call.moment(0)})"


def _part(unit: str, add: int = 0, width: str = "INTEGER") -> Callable[[Call], str]:
    def make(call: Call) -> str:
        moment = call.moment(0)
        if unit in {"hour", "minute", "second"} and call.kind(0) == "text":
            # A time of a day has these, too.
            moment = f"coalesce({moment}, TRY_CAST('1970-01-01 ' || {call[0]} AS TIMESTAMP))"
        result = f"date_part('{unit}', {moment})"
        return f"CAST({result} + {add} AS {width})" if add else f"CAST({result} AS {width})"

    return make


def _isdate(call: Call) -> str:
    return f"({_parsed(call)} IS NOT NULL)"


def _lastday(call: Call) -> str:
    return f"CAST(last_day({call.moment(0)}) AS TIMESTAMP_MS)"


def _last_day(call: Call) -> str:
    return f"strftime(last_day({call.moment(0)}), '%Y-%m-%d')"


def _next_day(call: Call) -> str:
    days = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
    wanted = call.constant(1, "day")[:2].upper()
    if wanted not in days:
        raise InvalidArgumentError(f"{wanted!r} is no day of the week")
    date = call.day(0)
    gap = f"((({days.index(wanted) + 1} - isodow({date}) + 6) % 7) + 1)"
    later = in_years(f"CAST({date} + to_days(CAST({gap} AS INTEGER)) AS DATE)", "DATE")
    return f"strftime({later}, '%Y-%m-%d')"


def _add_months(call: Call) -> str:
    later = in_years(f"CAST({call.day(0)} + {_many(call, 'month')} AS DATE)", "DATE")
    return f"strftime({later}, '%Y-%m-%d')"


def _days_later(sign: str) -> Callable[[Call], str]:
    def make(call: Call) -> str:
        return in_years(f"CAST({call.day(0)} {sign} {_many(call, 'day')} AS DATE)", "DATE")

    return make


def _months_between(call: Call) -> str:
    """Whole months between equal or last days of months; else days count as a 31st each."""
    later, earlier = (f"CAST({call.moment(i)} AS TIMESTAMP)" for i in range(2))
    months = f"((year({later}) - year({earlier})) * 12 + (month({later}) - month({earlier})))"
    same = (
        f"(day({later}) = day({earlier}) OR (CAST({later} AS DATE) = last_day({later})"
        f" AND CAST({earlier} AS DATE) = last_day({earlier})))"
    )
    seconds = (
        f"((day({later}) - day({earlier})) * 86400 + (epoch({later}) - epoch(date_trunc('day', {later})))"
        f" - (epoch({earlier}) - epoch(date_trunc('day', {earlier}))))"
    )
    return (
        f"CAST(CASE WHEN {same} THEN {months} ELSE {months} + {seconds} / 2678400.0::DOUBLE END"
        " AS DOUBLE)"
    )


def _zone_moved(to_utc: bool) -> Callable[[Call], str]:
    def make(call: Call) -> str:
        text = call.constant(1, "time zone")
        moment = f"CAST({call.moment(0)} AS TIMESTAMP)"
        if call.kind(0) == "whole":
            # As the clocks of the statement show it, like every other moment that is given.
            moment = to_local(f"make_timestamp(CAST({call[0]} AS BIGINT) * 1000)", call.zone)
        minutes, zone = offset_minutes(text), quoted(text)
        if minutes is not None:
            moved = in_years(f"({moment} {'-' if to_utc else '+'} to_minutes({minutes}))")
        else:
            first, second = (zone, "'UTC'") if to_utc else ("'UTC'", zone)
            moved = in_years(f"timezone({second}, timezone({first}, {moment}))")
        return f"CAST({moved} AS TIMESTAMP_MS)"

    return make


def _now(call: Call) -> str:
    return f"CAST({call.now} AS TIMESTAMP_MS)"


def _today(call: Call) -> str:
    return f"CAST({call.now} AS DATE)"


def _named(template: str) -> Callable[[Call], str]:
    return lambda call: f"strftime({call.moment(0)}, '{template}')"


def _trunc_time(call: Call) -> str:
    """What a moment is called that is cut to a unit: a partition of AUTO PARTITIONED BY."""
    unit = call.constant(1, "unit")
    directives = TRUNCATED_FORMATS.get(unit.lower())
    if directives is None:
        raise InvalidArgumentError(
            f"trunc_time cuts to {', '.join(TRUNCATED_FORMATS)}, not {unit[:60]!r}"
        )
    return f"strftime({call.moment(0)}, {quoted(directives)})"


_DAY_TIME = re.compile(
    r"\s*([+-]?)([0-9]{1,9}) ([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})(?:\.([0-9]{1,9}))?\s*"
)
_YEAR_MONTH = re.compile(r"\s*([+-]?)([0-9]{1,6})-([0-9]{1,2})\s*")
_NANOS = 1_000_000_000


def _interval_day_time(call: Call) -> str:
    """Days, hours, minutes and seconds in a constant text, as seconds and the nanoseconds from there."""
    text = call.constant(0, "interval")
    result = _DAY_TIME.fullmatch(text)
    if result is None or int(result[3]) > 23 or int(result[4]) > 59 or int(result[5]) > 59:
        raise InvalidArgumentError(f"{text[:60]!r} is no interval: days h:m:s, as in '2 12:30:00'")
    seconds = int(result[2]) * 86400 + int(result[3]) * 3600 + int(result[4]) * 60 + int(result[5])
    nanos = seconds * _NANOS + int((result[6] or "").ljust(9, "0"))
    whole, rest = divmod(-nanos if result[1] == "-" else nanos, _NANOS)
    return f"struct_pack(sec := CAST({whole} AS BIGINT), nano := CAST({rest} AS INTEGER))"


def _interval_year_month(call: Call) -> str:
    """Years and months in a constant text, as months."""
    text = call.constant(0, "interval")
    result = _YEAR_MONTH.fullmatch(text)
    if result is None or int(result[3]) > 11:
        raise InvalidArgumentError(f"{text[:60]!r} is no interval: years-months, as in '10-11'")
    months = int(result[2]) * 12 + int(result[3])
    return f"CAST({-months if result[1] == '-' else months} AS INTEGER)"


TIME_FUNCTIONS: dict[str, Function] = {
    "getdate": Function(0, 0, _now, "time"),
    "now": Function(0, 0, _now, "time"),
    "current_timestamp": Function(0, 0, _now, "time"),
    "current_date": Function(0, 0, _today, "date"),
    "curdate": Function(0, 0, _today, "date"),
    "current_timezone": Function(0, 0, lambda c: quoted(c.zone or "UTC"), "text"),
    "to_date": Function(1, 2, _to_date, lambda t: DATE if len(t) == 1 else DATETIME),
    "to_char": Function(1, 2, _to_char, "text"),
    "to_datetime": Function(1, 1, lambda c: f"CAST({c.moment(0)} AS TIMESTAMP_MS)", "time"),
    "to_timestamp": Function(
        1,
        2,
        lambda c: (
            f"CAST({c.moment(0)} AS TIMESTAMP_NS)"
            if len(c) == 1
            else f"CAST({_to_date(c)} AS TIMESTAMP_NS)"
        ),
        lambda _types: SqlType("TIMESTAMP"),
    ),
    "date_format": Function(2, 2, _date_format, "text"),
    "from_unixtime": Function(
        1, 2, _from_unixtime, lambda t: DATETIME if len(t) == 1 else STRING, "w."
    ),
    "unix_timestamp": Function(0, 2, _unix_timestamp, "whole"),
    "to_millis": Function(1, 1, lambda c: f"epoch_ms({to_utc(c.moment(0), c.zone)})", "whole"),
    "from_utc_timestamp": Function(2, 2, _zone_moved(to_utc=False), "time"),
    "to_utc_timestamp": Function(2, 2, _zone_moved(to_utc=True), "time"),
    # The unit is not known from types alone: hours make a DATE a DATETIME.
    "dateadd": Function(2, 3, _dateadd, lambda t: t[0] if t[0].kind == "time" else SqlType()),
    "datediff": Function(2, 3, _datediff, "whole"),
    "date_diff": Function(2, 3, _datediff, "whole"),
    "datetrunc": Function(2, 2, _datetrunc, _truncated_type),
    "date_trunc": Function(2, 2, _date_trunc, lambda t: _truncated_type(t[::-1])),
    "datepart": Function(2, 2, _datepart, "whole"),
    "date_part": Function(
        2,
        2,
        lambda c: _datepart(
            dataclasses.replace(
                c, arguments=c.arguments[::-1], constants=c.constants[::-1], types=c.types[::-1]
            )
        ),
        "whole",
    ),
    "year": Function(1, 1, _part("year"), "int"),
    "quarter": Function(1, 1, _part("quarter"), "int"),
    "month": Function(1, 1, _part("month"), "int"),
    "day": Function(1, 1, _part("day"), "int"),
    "dayofmonth": Function(1, 1, _part("day"), "int"),
    "hour": Function(1, 1, _part("hour"), "int"),
    "minute": Function(1, 1, _part("minute"), "int"),
    "second": Function(1, 1, _part("second"), "int"),
    "weekofyear": Function(1, 1, _part("week", width="BIGINT"), "whole"),
    "weekday": Function(1, 1, _part("isodow", -1, "BIGINT"), "whole"),
    "dayofweek": Function(1, 1, _part("dow", 1), "int"),
    "dayofyear": Function(1, 1, _part("doy"), "int"),
    "dayname": Function(1, 1, _named("%a"), "text"),
    "monthname": Function(1, 1, _named("%b"), "text"),
    "last_day": Function(1, 1, _last_day, "text"),
    "lastday": Function(1, 1, _lastday, "time"),
    "next_day": Function(2, 2, _next_day, "text"),
    "add_months": Function(2, 2, _add_months, "text"),
    "date_add": Function(2, 2, _days_later("+"), "date"),
    "date_sub": Function(2, 2, _days_later("-"), "date"),
    "months_between": Function(2, 2, _months_between, "double"),
    "isdate": Function(2, 2, _isdate, "boolean"),
    "date": Function(1, 1, lambda c: c.day(0), "date"),
    "trunc_time": Function(2, 2, _trunc_time, "text"),
    "current_timestamp_ntz": Function(
        0, 0, lambda c: f"CAST({c.now} AS TIMESTAMP_NS)", lambda _types: TIMESTAMP
    ),
    "interval_day_time": Function(1, 1, _interval_day_time, lambda _types: INTERVAL_DAY_TIME),
    "interval_year_month": Function(1, 1, _interval_year_month, lambda _types: INTERVAL_YEAR_MONTH),
}
