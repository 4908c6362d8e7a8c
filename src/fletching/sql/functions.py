"""MaxCompute's functions, each as what DuckDB computes it with.

A template has ``{0}``, ``{1}``, ... for the arguments and ``{*}`` for all of them. What depends on constants or types is a function of `Call`. Names are in lower case; a name
that is not here is refused with the nearest ones.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Callable, Sequence
from typing import Any

from fletching.errors import InvalidArgumentError
from fletching.sql.format_letters import java_format, own_format, unit_of

__all__ = ["AGGREGATES", "FUNCTIONS", "Call", "Function", "find_function"]


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One call of a function, on its way to DuckDB's SQL.

    Attributes:
        name: as written.
        arguments: the arguments in DuckDB's SQL.
        constants: per argument, its text if it is a constant text.
        kinds: per argument, what is known of its type: ``text``, ``whole``, ``double``, ``decimal``,
            ``date``, ``time``, ``boolean``, ``array``, ``map``, ``binary`` or an empty text.
        now: the statement's moment, as a timestamp literal.
    """

    name: str
    arguments: Sequence[str]
    constants: Sequence[str | None]
    kinds: Sequence[str]
    now: str

    def constant(self, index: int, what: str) -> str:
        """An argument that has to be a constant text.

        Raises:
            InvalidArgumentError: it is something else.
        """
        found = self.constants[index]
        if found is None:
            raise InvalidArgumentError(f"{self.name} needs a constant text for its {what}")
        return found

    def moment(self, index: int) -> str:
        """An argument as a time; text is read as one, what is none is null."""
        text = self.arguments[index]
        if self.kinds[index] == "date":
            return text
        if self.kinds[index] == "time":
            # DuckDB would take milliseconds to nanoseconds, which end in the year 2262.
            return f"CAST({text} AS TIMESTAMP)"
        return f"TRY_CAST({text} AS TIMESTAMP)"


@dataclasses.dataclass(frozen=True, slots=True)
class Function:
    """A function: how many arguments it takes and what it becomes.

    Attributes:
        least, most: of the arguments; None for any number.
        make: a template, or a function of the call.
        kind: of the result, where it does not depend on the arguments.
        aggregate: whether it may have OVER, FILTER and DISTINCT; ``{over}`` in its template is where
            these go, behind the template without it.
    """

    least: int
    most: int | None
    make: str | Callable[[Call], str]
    kind: str = ""
    aggregate: bool = False

    def sql(self, call: Call, *, over: str = "", nulls: str = "", order: str = "") -> str:
        """The call in DuckDB's SQL.

        Args:
            call: the call.
            over: FILTER and OVER, as they stand behind an aggregate.
            nulls: IGNORE NULLS, as it stands inside a window function.
            order: ORDER BY, as it stands inside an aggregate.

        Raises:
            InvalidArgumentError: the number of arguments is wrong, or a constant means nothing.
        """
        count = len(call.arguments)
        if count < self.least or (self.most is not None and count > self.most):
            wanted = str(self.least) if self.most == self.least else f"{self.least} to {self.most}"
            if self.most is None:
                wanted = f"at least {self.least}"
            raise InvalidArgumentError(f"{call.name} takes {wanted} arguments, not {count}")
        if callable(self.make):
            return self.make(call)
        places = {
            "*": ", ".join(call.arguments),
            "over": over,
            "nulls": nulls,
            "order": f" {order}" if order else "",
            **{str(index): text for index, text in enumerate(call.arguments)},
        }
        # In one pass: what an argument says is never a place of the template.
        return _PLACE.sub(lambda match: places[match[1]], self.make)


_PLACE = re.compile(r"\{(\*|\d+|over|nulls|order)\}")


def quoted(text: str) -> str:
    """A text literal of DuckDB's."""
    return "'" + text.replace("'", "''") + "'"


def _same(*names: str, least: int = 1, most: int | None = 1, kind: str = "") -> dict[str, Function]:
    """Functions that DuckDB has by the same name."""
    return {name: Function(least, most, f"{name}({{*}})", kind) for name in names}


def _concat(call: Call) -> str:
    return "(" + " || ".join(f"CAST({text} AS VARCHAR)" for text in call.arguments) + ")"


def _concat_of_any(call: Call) -> str:
    if "array" in call.kinds:
        return f"list_concat({', '.join(call.arguments)})"
    return _concat(call)


def _concat_ws(call: Call) -> str:
    separator = call.arguments[0]
    parts = [
        f"array_to_string({text}, {separator})" if kind == "array" else f"CAST({text} AS VARCHAR)"
        for text, kind in zip(call.arguments[1:], call.kinds[1:], strict=True)
    ]
    return f"concat_ws({separator}, {', '.join(parts)})"


def _first_of(call: Call) -> str:
    """Greatest and least are null as soon as one argument is."""
    nulls = " OR ".join(f"{text} IS NULL" for text in call.arguments)
    return f"CASE WHEN {nulls} THEN NULL ELSE {call.name.lower()}({', '.join(call.arguments)}) END"


def _decode(call: Call) -> str:
    value, *rest = call.arguments
    pairs = [
        f"WHEN {value} IS NOT DISTINCT FROM {rest[i]} THEN {rest[i + 1]}"
        for i in range(0, len(rest) - 1, 2)
    ]
    otherwise = f" ELSE {rest[-1]}" if len(rest) % 2 else ""
    return f"CASE {' '.join(pairs)}{otherwise} END"


def _substr(call: Call) -> str:
    text = f"CAST({call.arguments[0]} AS VARCHAR)"
    start = call.arguments[1]
    start = "1" if start == "0" else start
    return f"substring({', '.join([text, start, *call.arguments[2:]])})"


def _trim(call: Call) -> str:
    side = {"trim": "trim", "ltrim": "ltrim", "rtrim": "rtrim"}[call.name.lower()]
    first, *rest = call.arguments
    return f"{side}({', '.join([f'CAST({first} AS VARCHAR)', *rest])})"


def _instr(call: Call) -> str:
    text, wanted = (f"CAST({one} AS VARCHAR)" for one in call.arguments[:2])
    if len(call.arguments) == 2:
        return f"CAST(instr({text}, {wanted}) AS BIGINT)"
    if len(call.arguments) == 4 and call.arguments[3] != "1":
        raise InvalidArgumentError("instr finds the first occurrence only")
    start = call.arguments[2]
    tail = f"instr(substring({text}, {start}), {wanted})"
    return f"CAST(CASE WHEN {tail} = 0 THEN 0 ELSE {tail} + {start} - 1 END AS BIGINT)"


def _locate(call: Call) -> str:
    wanted, text, *rest = call.arguments
    return _instr(dataclasses.replace(call, arguments=[text, wanted, *rest]))


def _regexp_replace(call: Call) -> str:
    text, pattern, by = call.arguments[:3]
    if len(call.arguments) == 4 and call.arguments[3] == "1":
        return f"regexp_replace({text}, {pattern}, {by})"
    if len(call.arguments) == 4 and call.arguments[3] != "0":
        raise InvalidArgumentError("regexp_replace replaces the first occurrence (1) or all (0)")
    return f"regexp_replace({text}, {pattern}, {by}, 'g')"


def _split_part(call: Call) -> str:
    if len(call.arguments) == 3:
        return "split_part({}, {}, {})".format(*call.arguments)
    text, separator, first, last = call.arguments
    parts = f"list_slice(string_split({text}, {separator}), {first}, {last})"
    return f"array_to_string({parts}, {separator})"


def _str_to_map(call: Call) -> str:
    text = call.arguments[0]
    first = call.arguments[1] if len(call.arguments) > 1 else "','"
    second = call.arguments[2] if len(call.arguments) > 2 else "':'"
    pair = f"string_split(p, {second})"
    entries = (
        f"list_transform(string_split({text}, {first}),"
        f" lambda p: {{'k': {pair}[1], 'v': {pair}[2]}})"
    )
    return f"map_from_entries({entries})"


def _json_object(call: Call) -> str:
    return f"({call.arguments[0]} ->> {call.arguments[1]})"


# --- times -----------------------------------------------------------------------------------


def _to_date(call: Call) -> str:
    if len(call.arguments) == 1:
        return f"TRY_CAST({call.arguments[0]} AS DATE)"
    directives = quoted(own_format(call.constant(1, "format")))
    return f"CAST(try_strptime(CAST({call.arguments[0]} AS VARCHAR), {directives}) AS TIMESTAMP_MS)"


def _to_char(call: Call) -> str:
    if len(call.arguments) == 1:
        return f"CAST({call.arguments[0]} AS VARCHAR)"
    return f"strftime({call.moment(0)}, {quoted(own_format(call.constant(1, 'format')))})"


def _date_format(call: Call) -> str:
    return f"strftime({call.moment(0)}, {quoted(java_format(call.constant(1, 'format')))})"


def _from_unixtime(call: Call) -> str:
    moment = f"make_timestamp(CAST({call.arguments[0]} AS BIGINT) * 1000000)"
    if len(call.arguments) == 1:
        return f"CAST({moment} AS TIMESTAMP_MS)"
    return f"strftime({moment}, {quoted(java_format(call.constant(1, 'format')))})"


def _unix_timestamp(call: Call) -> str:
    if not call.arguments:
        moment = call.now
    elif len(call.arguments) == 1:
        moment = call.moment(0)
    else:
        moment = (
            f"try_strptime({call.arguments[0]}, {quoted(java_format(call.constant(1, 'format')))})"
        )
    return f"CAST(floor(epoch({moment})) AS BIGINT)"


def _dateadd(call: Call) -> str:
    unit = unit_of(call.constant(2, "unit"))
    moment = call.moment(0)
    added = f"{moment} + to_{unit}s(CAST({call.arguments[1]} AS {_WIDTHS.get(unit, 'BIGINT')}))"
    if call.kinds[0] == "date" and unit in {"year", "quarter", "month", "week", "day"}:
        return f"CAST({added} AS DATE)"
    return f"CAST({added} AS TIMESTAMP_MS)"


_WIDTHS = dict.fromkeys(["year", "quarter", "month", "week", "day"], "INTEGER")


def _datediff(call: Call) -> str:
    unit = unit_of(call.constant(2, "unit")) if len(call.arguments) == 3 else "day"
    later, earlier = (f"CAST({call.moment(i)} AS TIMESTAMP)" for i in range(2))
    return f"date_diff('{unit}', {earlier}, {later})"


def _datetrunc(call: Call) -> str:
    unit = unit_of(call.constant(1, "unit"))
    kind = "DATE" if call.kinds[0] == "date" else "TIMESTAMP_MS"
    return f"CAST(date_trunc('{unit}', {call.moment(0)}) AS {kind})"


def _datepart(call: Call) -> str:
    return f"date_part('{unit_of(call.constant(1, 'unit'))}', {call.moment(0)})"


def _part(unit: str, add: int = 0) -> Callable[[Call], str]:
    def make(call: Call) -> str:
        found = f"date_part('{unit}', {call.moment(0)})"
        return f"({found} + {add})" if add else found

    return make


def _as_date(template: str) -> Callable[[Call], str]:
    def make(call: Call) -> str:
        rest = call.arguments[1:]
        return template.format(f"TRY_CAST({call.arguments[0]} AS DATE)", *rest)

    return make


def _isdate(call: Call) -> str:
    directives = quoted(own_format(call.constant(1, "format")))
    return f"(try_strptime({call.arguments[0]}, {directives}) IS NOT NULL)"


def _last_day(call: Call) -> str:
    kind = "DATE" if call.name.lower() == "last_day" else "TIMESTAMP_MS"
    return f"CAST(last_day({call.moment(0)}) AS {kind})"


def _next_day(call: Call) -> str:
    days = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
    wanted = call.constant(1, "day")[:2].upper()
    if wanted not in days:
        raise InvalidArgumentError(f"{wanted!r} is no day of the week")
    date = f"TRY_CAST({call.arguments[0]} AS DATE)"
    gap = f"((({days.index(wanted) + 1} - isodow({date}) + 6) % 7) + 1)"
    return f"CAST({date} + to_days(CAST({gap} AS INTEGER)) AS DATE)"


# --- arrays, maps, structs -------------------------------------------------------------------


def _struct(call: Call) -> str:
    fields = [f"'col{number}': {text}" for number, text in enumerate(call.arguments, 1)]
    return "{" + ", ".join(fields) + "}"


def _named_struct(call: Call) -> str:
    if len(call.arguments) % 2:
        raise InvalidArgumentError("named_struct takes pairs of names and values")
    fields = [
        f"{quoted(call.constant(i, 'names'))}: {call.arguments[i + 1]}"
        for i in range(0, len(call.arguments), 2)
    ]
    return "{" + ", ".join(fields) + "}"


def _map(call: Call) -> str:
    if len(call.arguments) % 2:
        raise InvalidArgumentError("map takes pairs of keys and values")
    keys, values = call.arguments[::2], call.arguments[1::2]
    return f"map([{', '.join(keys)}], [{', '.join(values)}])"


def _size(call: Call) -> str:
    size = "cardinality" if call.kinds[0] == "map" else "len"
    return f"coalesce(CAST({size}({call.arguments[0]}) AS BIGINT), -1)"


def _element(call: Call) -> str:
    value, key = call.arguments
    return f"{value}[{key}]"


def _sequence(call: Call) -> str:
    return f"generate_series({', '.join(call.arguments)})"


def _sort_array(call: Call) -> str:
    if len(call.arguments) == 1 or call.arguments[1].upper() == "TRUE":
        return f"list_sort({call.arguments[0]}, 'ASC', 'NULLS FIRST')"
    return f"list_sort({call.arguments[0]}, 'DESC', 'NULLS LAST')"


def _round(call: Call) -> str:
    if len(call.arguments) == 1:
        return f"round({call.arguments[0]})"
    return f"round({call.arguments[0]}, CAST({call.arguments[1]} AS INTEGER))"


def _trunc(call: Call) -> str:
    if len(call.arguments) == 1:
        return f"trunc({call.arguments[0]})"
    if call.constants[1] is not None:
        return f"CAST(date_trunc('{unit_of(call.constant(1, 'unit'))}', {call.moment(0)}) AS DATE)"
    digits = f"power(10, {call.arguments[1]})"
    return f"(trunc({call.arguments[0]} * {digits}) / {digits})"


def _log(call: Call) -> str:
    if len(call.arguments) == 1:
        return f"ln({call.arguments[0]})"
    return f"(ln({call.arguments[1]}) / ln({call.arguments[0]}))"


def _now(call: Call) -> str:
    return f"CAST({call.now} AS TIMESTAMP_MS)"


def _today(call: Call) -> str:
    return f"CAST({call.now} AS DATE)"


_DIRECT = {
    **_same("ascii", "chr", "md5", "soundex", kind="text"),
    **_same("abs", "degrees", "radians", "negative"),
    **_same("sqrt", "cbrt", "exp", "ln", "log2", "log10", kind="double"),
    **_same("sin", "cos", "tan", "cot", "asin", "acos", "atan", kind="double"),
    **_same("atan2", least=2, most=2, kind="double"),
    **_same("isnan", kind="boolean"),
    **_same("coalesce", most=None),
    **_same("nullif", least=2, most=2),
    **_same("map_keys", "map_values", kind="array"),
}

FUNCTIONS: dict[str, Function] = {
    **_DIRECT,
    # texts
    "concat": Function(1, None, _concat_of_any),
    "concat_ws": Function(2, None, _concat_ws, "text"),
    "length": Function(1, 1, "CAST(length(CAST({0} AS VARCHAR)) AS BIGINT)", "whole"),
    "lengthb": Function(1, 1, "CAST(strlen(CAST({0} AS VARCHAR)) AS BIGINT)", "whole"),
    "char_length": Function(1, 1, "CAST(length(CAST({0} AS VARCHAR)) AS BIGINT)", "whole"),
    "octet_length": Function(1, 1, "CAST(strlen(CAST({0} AS VARCHAR)) AS BIGINT)", "whole"),
    "substr": Function(2, 3, _substr, "text"),
    "substring": Function(2, 3, _substr, "text"),
    "substring_index": Function(
        3,
        3,
        "CASE WHEN {2} >= 0 THEN array_to_string(list_slice(string_split({0}, {1}), 1, {2}), {1})"
        " ELSE array_to_string(list_slice(string_split({0}, {1}), {2}, -1), {1}) END",
        "text",
    ),
    "left": Function(2, 2, "left({0}, {1})", "text"),
    "right": Function(2, 2, "right({0}, {1})", "text"),
    "upper": Function(1, 1, "upper(CAST({0} AS VARCHAR))", "text"),
    "toupper": Function(1, 1, "upper(CAST({0} AS VARCHAR))", "text"),
    "ucase": Function(1, 1, "upper(CAST({0} AS VARCHAR))", "text"),
    "lower": Function(1, 1, "lower(CAST({0} AS VARCHAR))", "text"),
    "tolower": Function(1, 1, "lower(CAST({0} AS VARCHAR))", "text"),
    "lcase": Function(1, 1, "lower(CAST({0} AS VARCHAR))", "text"),
    "initcap": Function(
        1,
        1,
        "array_to_string(list_transform(string_split({0}, ' '),"
        " lambda w: upper(w[1]) || lower(w[2:])), ' ')",
        "text",
    ),
    "trim": Function(1, 2, _trim, "text"),
    "ltrim": Function(1, 2, _trim, "text"),
    "rtrim": Function(1, 2, _trim, "text"),
    "lpad": Function(3, 3, "lpad({0}, CAST({1} AS INTEGER), {2})", "text"),
    "rpad": Function(3, 3, "rpad({0}, CAST({1} AS INTEGER), {2})", "text"),
    "repeat": Function(2, 2, "repeat({0}, {1})", "text"),
    "space": Function(1, 1, "repeat(' ', {0})", "text"),
    "reverse": Function(1, 1, "reverse({0})"),
    "replace": Function(3, 3, "replace({0}, {1}, {2})", "text"),
    "translate": Function(3, 3, "translate({0}, {1}, {2})", "text"),
    "instr": Function(2, 4, _instr, "whole"),
    "locate": Function(2, 3, _locate, "whole"),
    "find_in_set": Function(
        2, 2, "coalesce(CAST(list_position(string_split({1}, ','), {0}) AS BIGINT), 0)", "whole"
    ),
    "split": Function(2, 2, "string_split_regex({0}, {1})", "array"),
    "split_part": Function(3, 4, _split_part, "text"),
    "regexp_replace": Function(3, 4, _regexp_replace, "text"),
    "regexp_extract": Function(
        2, 3, lambda c: f"regexp_extract({', '.join([*c.arguments, '1'][:3])})", "text"
    ),
    "regexp_substr": Function(2, 2, "regexp_extract({0}, {1})", "text"),
    "regexp_extract_all": Function(
        2, 3, lambda c: f"regexp_extract_all({', '.join([*c.arguments, '1'][:3])})", "array"
    ),
    "regexp_count": Function(2, 2, "CAST(len(regexp_extract_all({0}, {1})) AS BIGINT)", "whole"),
    "regexp_instr": Function(
        2,
        2,
        "CAST(CASE WHEN regexp_matches({0}, {1}) THEN instr({0}, regexp_extract({0}, {1})) ELSE 0 END"
        " AS BIGINT)",
        "whole",
    ),
    "rlike": Function(2, 2, "regexp_matches({0}, {1})", "boolean"),
    "regexp_like": Function(2, 2, "regexp_matches({0}, {1})", "boolean"),
    "sha": Function(1, 1, "sha1({0})", "text"),
    "sha1": Function(1, 1, "sha1({0})", "text"),
    "sha256": Function(1, 1, "sha256({0})", "text"),
    "sha2": Function(2, 2, "sha256({0})", "text"),
    "base64": Function(1, 1, "to_base64({0})", "text"),
    "unbase64": Function(1, 1, "from_base64({0})", "binary"),
    "hex": Function(1, 1, "hex({0})", "text"),
    "unhex": Function(1, 1, "unhex({0})", "binary"),
    "url_encode": Function(1, 1, "url_encode({0})", "text"),
    "url_decode": Function(1, 1, "url_decode({0})", "text"),
    "levenshtein": Function(2, 2, "levenshtein({0}, {1})", "whole"),
    "get_json_object": Function(2, 2, _json_object, "text"),
    "json_extract": Function(2, 2, "json_extract({0}, {1})"),
    "to_json": Function(1, 1, "CAST(to_json({0}) AS VARCHAR)", "text"),
    "uuid": Function(0, 0, "CAST(uuid() AS VARCHAR)", "text"),
    "format_number": Function(
        2,
        2,
        lambda c: (
            f"format('{{:,.{int(c.arguments[1])}f}}', CAST({c.arguments[0]} AS DOUBLE))"
            if c.arguments[1].isdigit()
            else _refuse_format(c)
        ),
        "text",
    ),
    # numbers
    "ceil": Function(1, 1, "CAST(ceil({0}) AS BIGINT)", "whole"),
    "ceiling": Function(1, 1, "CAST(ceil({0}) AS BIGINT)", "whole"),
    "floor": Function(1, 1, "CAST(floor({0}) AS BIGINT)", "whole"),
    "round": Function(1, 2, _round),
    "bround": Function(
        1, 2, lambda c: f"round_even({', '.join([*c.arguments, '0'][:2])})", "double"
    ),
    "trunc": Function(1, 2, _trunc),
    "truncate": Function(1, 2, _trunc),
    "pow": Function(2, 2, "power({0}, {1})", "double"),
    "power": Function(2, 2, "power({0}, {1})", "double"),
    "log": Function(1, 2, _log, "double"),
    "sign": Function(1, 1, "CAST(sign({0}) AS DOUBLE)", "double"),
    "pi": Function(0, 0, "pi()", "double"),
    "e": Function(0, 0, "exp(1)", "double"),
    "rand": Function(0, 1, lambda _call: "random()", "double"),
    "greatest": Function(1, None, _first_of),
    "least": Function(1, None, _first_of),
    "mod": Function(2, 2, "({0} % nullif({1}, 0))"),
    "pmod": Function(2, 2, "((({0} % nullif({1}, 0)) + {1}) % nullif({1}, 0))"),
    "bin": Function(1, 1, "bin({0})", "text"),
    "factorial": Function(1, 1, "CAST(factorial(CAST({0} AS INTEGER)) AS BIGINT)", "whole"),
    "shiftleft": Function(2, 2, "({0} << CAST({1} AS INTEGER))", "whole"),
    "shiftright": Function(2, 2, "({0} >> CAST({1} AS INTEGER))", "whole"),
    "sinh": Function(1, 1, "sinh({0})", "double"),
    "cosh": Function(1, 1, "cosh({0})", "double"),
    "tanh": Function(1, 1, "tanh({0})", "double"),
    "positive": Function(1, 1, "{0}"),
    # conditions
    "if": Function(
        2,
        3,
        lambda c: (
            f"CASE WHEN {c.arguments[0]} THEN {c.arguments[1]}"
            f" ELSE {c.arguments[2] if len(c.arguments) == 3 else 'NULL'} END"
        ),
    ),
    "nvl": Function(2, 2, "coalesce({0}, {1})"),
    "ifnull": Function(2, 2, "coalesce({0}, {1})"),
    "nvl2": Function(3, 3, "CASE WHEN {0} IS NOT NULL THEN {1} ELSE {2} END"),
    "decode": Function(3, None, _decode),
    "isnull": Function(1, 1, "({0} IS NULL)", "boolean"),
    "isnotnull": Function(1, 1, "({0} IS NOT NULL)", "boolean"),
    # dates and times
    "getdate": Function(0, 0, _now, "time"),
    "now": Function(0, 0, _now, "time"),
    "current_timestamp": Function(0, 0, _now, "time"),
    "current_date": Function(0, 0, _today, "date"),
    "curdate": Function(0, 0, _today, "date"),
    "to_date": Function(1, 2, _to_date),
    "to_char": Function(1, 2, _to_char, "text"),
    "date_format": Function(2, 2, _date_format, "text"),
    "from_unixtime": Function(1, 2, _from_unixtime),
    "unix_timestamp": Function(0, 2, _unix_timestamp, "whole"),
    "to_millis": Function(1, 1, lambda c: f"epoch_ms({c.moment(0)})", "whole"),
    "dateadd": Function(3, 3, _dateadd),
    "datediff": Function(2, 3, _datediff, "whole"),
    "datetrunc": Function(2, 2, _datetrunc),
    "date_trunc": Function(
        2,
        2,
        lambda c: _datetrunc(
            dataclasses.replace(
                c, arguments=c.arguments[::-1], constants=c.constants[::-1], kinds=c.kinds[::-1]
            )
        ),
    ),
    "datepart": Function(2, 2, _datepart, "whole"),
    "year": Function(1, 1, _part("year"), "whole"),
    "quarter": Function(1, 1, _part("quarter"), "whole"),
    "month": Function(1, 1, _part("month"), "whole"),
    "day": Function(1, 1, _part("day"), "whole"),
    "dayofmonth": Function(1, 1, _part("day"), "whole"),
    "hour": Function(1, 1, _part("hour"), "whole"),
    "minute": Function(1, 1, _part("minute"), "whole"),
    "second": Function(1, 1, _part("second"), "whole"),
    "weekofyear": Function(1, 1, _part("week"), "whole"),
    "weekday": Function(1, 1, _part("isodow", -1), "whole"),
    "dayofweek": Function(1, 1, _part("dow", 1), "whole"),
    "dayofyear": Function(1, 1, _part("doy"), "whole"),
    "last_day": Function(1, 1, _last_day),
    "lastday": Function(1, 1, _last_day),
    "next_day": Function(2, 2, _next_day, "date"),
    "add_months": Function(
        2, 2, _as_date("CAST({0} + to_months(CAST({1} AS INTEGER)) AS DATE)"), "date"
    ),
    "date_add": Function(
        2, 2, _as_date("CAST({0} + to_days(CAST({1} AS INTEGER)) AS DATE)"), "date"
    ),
    "date_sub": Function(
        2, 2, _as_date("CAST({0} - to_days(CAST({1} AS INTEGER)) AS DATE)"), "date"
    ),
    "months_between": Function(
        2,
        2,
        lambda c: (
            f"(date_diff('month', {c.moment(1)}, {c.moment(0)})"
            f" + (date_part('day', {c.moment(0)}) - date_part('day', {c.moment(1)})) / 31.0)"
        ),
        "double",
    ),
    "isdate": Function(2, 2, _isdate, "boolean"),
    "date": Function(1, 1, "TRY_CAST({0} AS DATE)", "date"),
    # arrays, maps, structs
    "array": Function(0, None, "[{*}]", "array"),
    "map": Function(0, None, _map, "map"),
    "struct": Function(1, None, _struct),
    "named_struct": Function(2, None, _named_struct),
    "size": Function(1, 1, _size, "whole"),
    "array_contains": Function(2, 2, "list_contains({0}, {1})", "boolean"),
    "array_distinct": Function(1, 1, "list_distinct({0})", "array"),
    "array_join": Function(2, 2, "array_to_string({0}, {1})", "text"),
    "array_max": Function(1, 1, "list_max({0})"),
    "array_min": Function(1, 1, "list_min({0})"),
    "array_position": Function(
        2, 2, "coalesce(CAST(list_position({0}, {1}) AS BIGINT), 0)", "whole"
    ),
    "array_remove": Function(2, 2, "list_filter({0}, lambda x: x IS DISTINCT FROM {1})", "array"),
    "array_union": Function(2, 2, "list_distinct(list_concat({0}, {1}))", "array"),
    "array_intersect": Function(2, 2, "list_intersect({0}, {1})", "array"),
    "array_except": Function(
        2, 2, "list_distinct(list_filter({0}, lambda x: NOT list_contains({1}, x)))", "array"
    ),
    "array_repeat": Function(2, 2, "list_transform(range({1}), lambda i: {0})", "array"),
    "array_sort": Function(1, 1, "list_sort({0})", "array"),
    "arrays_overlap": Function(2, 2, "list_has_any({0}, {1})", "boolean"),
    "flatten": Function(1, 1, "flatten({0})", "array"),
    "sort_array": Function(1, 2, _sort_array, "array"),
    "slice": Function(3, 3, "list_slice({0}, {1}, {1} + {2} - 1)", "array"),
    "sequence": Function(2, 3, _sequence, "array"),
    "element_at": Function(2, 2, _element),
    "map_concat": Function(1, None, "map_concat({*})", "map"),
    "map_from_entries": Function(1, 1, "map_from_entries({0})", "map"),
    "map_entries": Function(1, 1, "map_entries({0})", "array"),
    "str_to_map": Function(1, 3, _str_to_map, "map"),
    "transform": Function(2, 2, "list_transform({0}, {1})", "array"),
    "filter": Function(2, 2, "list_filter({0}, {1})", "array"),
    "any_match": Function(2, 2, "(len(list_filter({0}, {1})) > 0)", "boolean"),
    "all_match": Function(2, 2, "(len(list_filter({0}, {1})) = len({0}))", "boolean"),
    "explode": Function(1, 1, "unnest({0})"),
}


def _refuse_format(call: Call) -> str:
    raise InvalidArgumentError(f"{call.name} needs a constant number of digits")


def _aggregate(least: int, most: int | None, template: Any, kind: str = "") -> Function:
    return Function(least, most, template, kind, aggregate=True)


AGGREGATES: dict[str, Function] = {
    "count": _aggregate(0, None, "count({*}){over}", "whole"),
    "sum": _aggregate(1, 1, "sum({0}){over}"),
    "avg": _aggregate(1, 1, "avg({0}){over}"),
    "min": _aggregate(1, 1, "min({0}){over}"),
    "max": _aggregate(1, 1, "max({0}){over}"),
    "median": _aggregate(1, 1, "median({0}){over}", "double"),
    "stddev": _aggregate(1, 1, "stddev_pop({0}){over}", "double"),
    "stddev_pop": _aggregate(1, 1, "stddev_pop({0}){over}", "double"),
    "stddev_samp": _aggregate(1, 1, "stddev_samp({0}){over}", "double"),
    "variance": _aggregate(1, 1, "var_pop({0}){over}", "double"),
    "var_pop": _aggregate(1, 1, "var_pop({0}){over}", "double"),
    "var_samp": _aggregate(1, 1, "var_samp({0}){over}", "double"),
    "corr": _aggregate(2, 2, "corr({0}, {1}){over}", "double"),
    "covar_pop": _aggregate(2, 2, "covar_pop({0}, {1}){over}", "double"),
    "covar_samp": _aggregate(2, 2, "covar_samp({0}, {1}){over}", "double"),
    "wm_concat": _aggregate(2, 2, "string_agg(CAST({1} AS VARCHAR), {0}{order}){over}", "text"),
    "collect_list": _aggregate(
        1, 1, "coalesce(list({0}{order}) FILTER (WHERE {0} IS NOT NULL){over}, [])", "array"
    ),
    "collect_set": _aggregate(
        1,
        1,
        "coalesce(list(DISTINCT {0}{order}) FILTER (WHERE {0} IS NOT NULL){over}, [])",
        "array",
    ),
    "array_agg": _aggregate(1, 1, "list({0}{order}){over}", "array"),
    "percentile": _aggregate(2, 2, "quantile_cont(CAST({0} AS DOUBLE), {1}){over}"),
    "percentile_approx": _aggregate(2, 3, "quantile_cont(CAST({0} AS DOUBLE), {1}){over}"),
    "approx_percentile": _aggregate(2, 3, "quantile_cont(CAST({0} AS DOUBLE), {1}){over}"),
    "approx_distinct": _aggregate(1, 1, "approx_count_distinct({0}){over}", "whole"),
    "any_value": _aggregate(1, 1, "any_value({0}){over}"),
    "arg_max": _aggregate(2, 2, "arg_max({1}, {0}){over}"),
    "arg_min": _aggregate(2, 2, "arg_min({1}, {0}){over}"),
    "max_by": _aggregate(2, 2, "arg_max({0}, {1}){over}"),
    "min_by": _aggregate(2, 2, "arg_min({0}, {1}){over}"),
    "count_if": _aggregate(1, 1, "CAST(count_if({0}){over} AS BIGINT)", "whole"),
    "bool_and": _aggregate(1, 1, "bool_and({0}){over}", "boolean"),
    "bool_or": _aggregate(1, 1, "bool_or({0}){over}", "boolean"),
    "bitwise_and_agg": _aggregate(1, 1, "bit_and({0}){over}", "whole"),
    "bitwise_or_agg": _aggregate(1, 1, "bit_or({0}){over}", "whole"),
    "bitwise_xor_agg": _aggregate(1, 1, "bit_xor({0}){over}", "whole"),
    "histogram": _aggregate(1, 1, "histogram({0}){over}", "map"),
    "map_agg": _aggregate(2, 2, "map_from_entries(list(({0}, {1})){over})", "map"),
    "grouping": _aggregate(1, 1, "grouping({0})", "whole"),
    "grouping_id": _aggregate(1, None, "grouping_id({*})", "whole"),
    # windows
    "row_number": _aggregate(0, 0, "row_number(){over}", "whole"),
    "rank": _aggregate(0, 0, "rank(){over}", "whole"),
    "dense_rank": _aggregate(0, 0, "dense_rank(){over}", "whole"),
    "percent_rank": _aggregate(0, 0, "percent_rank(){over}", "double"),
    "cume_dist": _aggregate(0, 0, "cume_dist(){over}", "double"),
    "ntile": _aggregate(1, 1, "ntile({0}){over}", "whole"),
    "lag": _aggregate(1, 3, "lag({*}{nulls}){over}"),
    "lead": _aggregate(1, 3, "lead({*}{nulls}){over}"),
    "first_value": _aggregate(1, 2, "first_value({0}{nulls}){over}"),
    "last_value": _aggregate(1, 2, "last_value({0}{nulls}){over}"),
    "nth_value": _aggregate(2, 3, "nth_value({0}, {1}{nulls}){over}"),
}


def find_function(name: str) -> Function:
    """Looks a function up.

    Raises:
        InvalidArgumentError: there is none; the message names the nearest.
    """
    lowered = name.lower()
    found = FUNCTIONS.get(lowered) or AGGREGATES.get(lowered)
    if found is not None:
        return found
    near = difflib.get_close_matches(lowered, [*FUNCTIONS, *AGGREGATES], n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise InvalidArgumentError(f"there is no function {name[:60]}{hint}")
