"""Values in other types, as CAST and MaxCompute's own conversions give them, in DuckDB's SQL."""

from __future__ import annotations

import re

from fletching.sql.functions.duck_forms import is_constant, let, map_of_entries, quoted
from fletching.sql.functions.sql_types import NULL, SqlType
from fletching.sql.functions.time_zones import to_local, to_utc

__all__ = [
    "FIRST_SECOND",
    "LAST_SECOND",
    "YEAR",
    "as_text",
    "between",
    "beyond",
    "converted",
    "convertible",
    "decimal_text",
    "in_years",
    "misspelt",
    "moment_text",
    "since_1970",
]

_NESTED = frozenset({"array", "map", "struct"})


def convertible(given: SqlType, wanted: SqlType) -> bool:
    """Whether CAST knows a way between two types; true if one of them is not known."""
    kinds = given.kind, wanted.kind
    if not kinds[0] or not kinds[1] or "null" in kinds:
        return True
    if kinds[0] not in _NESTED:
        return kinds[1] not in _NESTED
    if kinds[0] != kinds[1]:
        return kinds[1] == "text"
    if given.kind != "struct":
        return all(map(convertible, given.inner, wanted.inner))
    pairs = _fields(given, wanted)
    return pairs is not None and all(
        own is None or convertible(given.inner[own], item)
        for own, item in zip(pairs, wanted.inner, strict=True)
    )


def _fields(given: SqlType, wanted: SqlType) -> list[int | None] | None:
    """Of each field of a STRUCT where it is in another one; None where that has none, or a field that is lost.

    Fields are found by name in any case, as INSERT finds them; where no name is known, by their order, as the
    fields that ``struct(..)`` makes have no names of anybody's choice.
    """
    known = {name.casefold(): number for number, name in enumerate(given.names)}
    pairs = [known.get(name.casefold()) for name in wanted.names]
    if not any(number is not None for number in pairs):
        same = len(given.names) == len(wanted.names)
        return list(range(len(pairs))) if same else None
    used = {number for number in pairs if number is not None}
    return pairs if len(used) == len(given.names) else None


_WHOLE_TEXT = "'^\\s*([+-]?\\d+)(?:\\.\\d*)?\\s*$'"
YEAR = "(?:[1-9]\\d{0,3}|0[1-9]\\d{0,2}|00[1-9]\\d?|000[1-9])"
"""A year from 1 to 9999, as a regular expression."""

_SHORT = 100
"""A value of more characters of SQL is computed once and has a name, where it is needed several times."""

_DAY = rf"{YEAR}-\d{{1,2}}-\d{{1,2}}"
_MOMENT = rf"^\s*{_DAY}(?:[ T][\d:.]*)?\s*$"
_WITH_ZONE = rf"^\s*({_DAY}[ T][\d:]+)(\.\d*)?\s*(?:Z|UTC|GMT|([+-]\d\d)(?::?([0-5]\d))?)\s*$"
"""How a date or time is written, and one with its distance from UTC."""
_NO_NUMBER_TEXT = "'[_(]|0[xXbB]'"
"""In texts that have a form as a number to DuckDB alone: ``1_0``, ``0x1``, ``nan(1)``."""


def misspelt(text: str, kind: str) -> str:
    """Whether DuckDB reads a text as a value of a kind that it does not spell; empty if it reads no such.

    Args:
        text: in DuckDB's SQL.
        kind: of the type, as `SqlType.kind` has it.
    """
    if kind in {"whole", "double", "decimal"}:
        return f"regexp_matches({text}, {_NO_NUMBER_TEXT})"
    return ""


def moment_text(text: str, zone: str = "") -> str:
    """A text that DuckDB reads as the date or time that it is written as, else null.

    Args:
        text: in DuckDB's SQL.
        zone: the statement's, whose clocks are read: to these a text with hours from UTC is brought.
    """
    if is_constant(text):
        if re.match(_MOMENT, text[1:-1]):
            return text
        return _without_zone(text, zone) if re.match(_WITH_ZONE, text[1:-1]) else "NULL"
    if len(text) > _SHORT:
        return let(["written"], [text], moment_text("written", zone))
    return (
        f"CASE WHEN regexp_matches({text}, '{_MOMENT}') THEN {text}"
        f" WHEN regexp_matches({text}, '{_WITH_ZONE}') THEN {_without_zone(text, zone)} END"
    )


def _without_zone(text: str, zone: str) -> str:
    def part(number: int, absent: str) -> str:
        return f"coalesce(nullif(regexp_extract({text}, '{_WITH_ZONE}', {number}), ''), '{absent}')"

    plain = f"{part(1, '')} || {part(3, '+00')} || ':' || {part(4, '00')}"
    moment = to_local(f"make_timestamp(epoch_us(TRY_CAST({plain} AS TIMESTAMPTZ)))", zone)
    return f"CAST({in_years(moment)} AS VARCHAR) || {part(2, '')}"


def between(text: str, least: str, most: str) -> str:
    """A value if it is above one bound and below another, else null; the value stands in it once."""
    return f"nullif(greatest(nullif(least({text}, {most}), {most}), {least}), {least})"


def in_years(moment: str, kind: str = "TIMESTAMP") -> str:
    """A date or time of DuckDB's SQL that was computed: null outside of the years from 1 to 9999.

    Args:
        moment: the value.
        kind: its type, ``TIMESTAMP`` or ``DATE``.
    """
    last = "0000-12-31" if kind == "DATE" else "0000-12-31 23:59:59.999999"
    return between(moment, f"{kind} '{last}'", f"{kind} '10000-01-01'")


FIRST_SECOND, LAST_SECOND = -62_135_596_800, 253_402_300_799
"""Of the years from 1 to 9999, since 1970."""


def since_1970(seconds: str) -> str:
    """The time that lies a number of seconds behind 1970 in UTC; null outside of the years from 1 to 9999."""
    kept = between(seconds, str(FIRST_SECOND - 1), str(LAST_SECOND + 1))
    return f"make_timestamp(CAST({kept} * 1000000 AS BIGINT))"


def converted(text: str, given: SqlType, wanted: SqlType, zone: str = "") -> str:
    """A value in another type, as CAST gives it: null where it has no form there.

    Args:
        text: the value in DuckDB's SQL.
        given: its type, as far as it is known.
        wanted: the type that it is brought to.
        zone: the statement's; numbers of seconds count in UTC.
    """
    target = wanted.duck()
    nested = given.kind == wanted.kind and given.kind in _NESTED
    if nested and given != wanted and given.inner and wanted.inner:
        # By the rules for single values, which DuckDB's casts of nested ones do not know.
        return f"CAST({_rebuilt(text, given, wanted, zone)} AS {target})"
    if wanted.kind == "whole":
        if given.kind in {"double", "decimal"}:
            text = f"trunc({text})"  # cut, not rounded
        elif given.kind == "text":
            text = f"regexp_extract({text}, {_WHOLE_TEXT}, 1)"
        elif given.kind == "time":
            # Of milliseconds DuckDB would make nanoseconds, which end in the year 2262.
            text = f"epoch({to_utc(f'CAST({text} AS TIMESTAMP)', zone)})"
    elif wanted.kind == "double" and given.kind == "text":
        wrong = f"{misspelt('{0}', 'double')} OR {beyond('{0}', target)}"
        body = f"CASE WHEN NOT ({wrong}) THEN TRY_CAST({{0}} AS {target}) END"
        if len(text) <= _SHORT:
            return body.format(text)
        return f"list_transform([{text}], lambda written: {body.format('written')})[1]"
    elif wanted.kind in {"double", "decimal"}:
        if given.kind == "text":
            text = f"CASE WHEN NOT {misspelt(text, 'decimal')} THEN {text} END"
        elif given.kind == "time":
            text = f"(epoch_us({to_utc(f'CAST({text} AS TIMESTAMP)', zone)}) / 1000000.0::DOUBLE)"
    elif wanted.kind == "text":
        made = as_text(text, given.kind) or f"TRY_CAST({text} AS {target})"
        return f"left({made}, {wanted.precision})" if wanted.precision else made
    elif wanted.kind == "time" and given.kind in {"whole", "double", "decimal"}:
        number = f"CAST({text} AS BIGINT)" if given.kind == "whole" else text
        text = to_local(since_1970(number), zone)
    elif wanted.kind in {"date", "time"} and given.kind == "text":
        text = moment_text(text, zone)
    elif wanted.name == "BINARY" and given.kind == "text":
        return f"encode({text})"
    elif wanted.name == "BOOLEAN" and given.kind in {"double", "decimal"}:
        return f"({text} <> 0)"
    return f"TRY_CAST({text} AS {target})"


def _rebuilt(text: str, given: SqlType, wanted: SqlType, zone: str) -> str:
    """A nested value of converted ones; a map is null if one of its keys is, and of equal keys the last stays."""
    # Nothing around it has as many types in it, so that no two names are the same.
    each = f"each{str(given).count('<')}"
    if given.kind == "array":
        made = converted(each, given.element, wanted.element, zone)
        return f"list_transform({text}, lambda {each}: {made})"
    if given.kind == "map":
        (key, value), (wanted_key, wanted_value) = given.inner, wanted.inner
        entry = (
            f"{{'k': {converted(f'{each}.key', key, wanted_key, zone)},"
            f" 'v': {converted(f'{each}.value', value, wanted_value, zone)}}}"
        )
        entries = f"list_transform(map_entries({text}), lambda {each}: {entry})"
        if key == wanted_key:
            return f"map_from_entries({entries})"
        without = f"len(list_filter({each}, lambda o_: o_.k IS NULL)) = 0"
        return let([each], [entries], f"CASE WHEN {without} THEN {map_of_entries(each)} END")
    pairs = _fields(given, wanted) or [None] * len(wanted.inner)
    fields = []
    for name, item, own in zip(wanted.names, wanted.inner, pairs, strict=True):
        own_text = "NULL" if own is None else f"struct_extract({each}, {quoted(given.names[own])})"
        source = NULL if own is None else given.inner[own]
        fields.append(f"{quoted(name)}: {converted(own_text, source, item, zone)}")
    made = f"{{{', '.join(fields)}}}"
    return let([each], [text], f"CASE WHEN {each} IS NOT NULL THEN {made} END")


def as_text(value: str, kind: str) -> str:
    """A value as text where DuckDB's cast to one writes another; empty where that is right.

    Args:
        value: in DuckDB's SQL.
        kind: of its type, as `SqlType.kind` has it.
    """
    if kind == "binary":
        return let(
            ["bytes_"], [value], "TRY(decode(bytes_))"
        )  # a query is nothing that may be tried
    if kind in _NESTED:
        return f"CAST(to_json({value}) AS VARCHAR)"
    return decimal_text(value) if kind == "decimal" else ""


def beyond(text: str, target: str) -> str:
    """Whether a text is a number above the greatest FLOAT or DOUBLE, or nearer to zero than any.

    DuckDB gives infinity or zero for it. Texts that are too short for such a number are not read twice.
    """
    number = f"TRY_CAST({text} AS {target})"
    return (
        f"((strlen({text}) > 38 OR contains({text}, 'e') OR contains({text}, 'E'))"
        f" AND (isinf({number}) AND regexp_matches({text}, '[0-9]')"
        f" OR {number} = 0 AND regexp_matches({text}, '^[^eE]*[1-9]')))"
    )


def decimal_text(value: str) -> str:
    """A DECIMAL as text: without zeros at the end of its fraction, as MaxCompute writes it.

    DuckDB writes no digit before the point of a type that has none there.
    """
    whole = f"regexp_replace(CAST({value} AS VARCHAR), '^(-?)\\.', '\\10.')"
    return f"rtrim(regexp_replace({whole}, '(\\.[0-9]*?)0+$', '\\1'), '.')"
