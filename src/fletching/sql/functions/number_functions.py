"""MaxCompute's functions of numbers and conditions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.conversions import converted
from fletching.sql.functions.duck_forms import let
from fletching.sql.functions.function_calls import Call, Function, failing
from fletching.sql.functions.sql_types import (
    BIGINT,
    DATETIME,
    DOUBLE,
    STRING,
    SqlType,
    common_type,
    decimal,
)
from fletching.sql.functions.time_functions import truncated_day

__all__ = ["BUCKET", "NUMBER_FUNCTIONS", "UNSEEN_FUNCTIONS", "brought"]

BUCKET = "bucket of"
"""The bucket that TABLESAMPLE puts a value into; of null, a row at random."""


def _doubles(*names: str) -> dict[str, Function]:
    return {name: Function(1, 1, f"{name}({{0}})", "double", "d") for name in names}


def _within(condition: str, *names: str) -> dict[str, Function]:
    """Functions that are null outside of the numbers that they are for."""
    return {
        name: Function(1, 1, f"CASE WHEN {condition} THEN {name}({{0}}) END", "double", "d")
        for name in names
    }


def brought(call: Call, indices: Sequence[int]) -> list[str]:
    """Arguments brought to the type that they have in common, where it has to be said."""
    wanted = common_type([call.types[i] for i in indices])
    made: list[str] = []
    for i in indices:
        given = call.types[i]
        needs = (
            wanted.name
            and given.name
            and given != wanted
            and given.kind not in {"null", wanted.kind}
        )
        made.append(converted(call[i], given, wanted, call.zone) if needs else call[i])
    return made


def _greatest_type(types: Sequence[SqlType]) -> SqlType:
    kinds = {item.kind for item in types} - {"null"}
    if "text" in kinds and kinds <= {"text", "whole", "double", "decimal"} and len(kinds) > 1:
        return DOUBLE
    if kinds == {"text", "time"}:
        return DATETIME
    return common_type(types)


def _compared(call: Call) -> list[str]:
    wanted = _greatest_type(call.types)
    return [
        converted(text, given, wanted, call.zone)
        if wanted.name and given.name and given.kind not in {"null", wanted.kind}
        else text
        for text, given in zip(call.arguments, call.types, strict=True)
    ]


def _greatest(call: Call) -> str:
    """Null is the smallest of all values."""
    return f"greatest({', '.join(_compared(call))})"


def _least(call: Call) -> str:
    nulls = " OR ".join(f"{text} IS NULL" for text in call.arguments)
    return f"CASE WHEN {nulls} THEN NULL ELSE least({', '.join(_compared(call))}) END"


def _ordinal(call: Call) -> str:
    values = ", ".join(call.arguments[1:])
    return f"list_sort([{values}], 'ASC', 'NULLS FIRST')[{call[0]}]"


def _decode(call: Call) -> str:
    value, *rest = call.arguments
    if len(call) == 2:
        # The other function of this name: bytes to a text.
        charset = call.constant(1, "character set").strip().upper().replace("-", "")
        if call.kind(0) != "binary" or charset not in {"UTF8", "USASCII", "ASCII"}:
            raise InvalidArgumentError(
                "decode takes bytes and 'UTF-8', or a value and pairs of what it may be and stands for"
            )
        return f"decode({value})"
    results = list(range(2, len(call), 2))
    if len(call) % 2 == 0:
        results.append(len(call) - 1)
    texts = dict(zip(results, brought(call, results), strict=True))
    pairs = [
        f"WHEN {value} IS NOT DISTINCT FROM {rest[i]} THEN {texts[i + 2]}"
        for i in range(0, len(rest) - 1, 2)
    ]
    otherwise = f" ELSE {texts[len(call) - 1]}" if len(call) % 2 == 0 else ""
    return f"CASE {' '.join(pairs)}{otherwise} END"


def _decode_type(types: Sequence[SqlType]) -> SqlType:
    if len(types) == 2:
        return STRING
    results = list(types[2::2])
    if len(types) % 2 == 0:
        results.append(types[-1])
    return common_type(results)


def _if(call: Call) -> str:
    branches = brought(call, range(1, len(call)))
    otherwise = branches[1] if len(branches) == 2 else "NULL"
    return f"CASE WHEN {call[0]} THEN {branches[0]} ELSE {otherwise} END"


def _coalesce(call: Call) -> str:
    return f"coalesce({', '.join(brought(call, range(len(call))))})"


def _nvl2(call: Call) -> str:
    item, other = brought(call, [1, 2])
    return f"CASE WHEN {call[0]} IS NOT NULL THEN {item} ELSE {other} END"


def _round(call: Call) -> str:
    value = _not_whole(call)
    if len(call) == 1:
        return f"round({value})"
    digits = call[1]
    if call.kind(0) != "decimal" and digits.isdecimal() and 0 < int(digits) <= 18:
        # As the number is read: 125.315 is a little less in binary, and becomes 125.32 all the same.
        read = f"TRY_CAST(CAST({value} AS VARCHAR) AS DECIMAL(38, {digits}))"
        return f"coalesce(CAST({read} AS DOUBLE), round({value}, {digits}))"
    return f"round({value}, CAST({digits} AS INTEGER))"


def _not_whole(call: Call) -> str:
    return f"CAST({call[0]} AS DOUBLE)" if call.kind(0) == "whole" else call[0]


def _rounded_type(types: Sequence[SqlType]) -> SqlType:
    first = types[0]
    if first.kind == "decimal":
        return decimal(first.precision, first.scale)
    return first if first.kind in {"date", "time"} else DOUBLE


def _whole_or_decimal(name: str) -> Function:
    """CEIL and FLOOR: a BIGINT, unless a DECIMAL is too large for it."""
    return Function(1, 1, lambda call: f"CAST({name}({call[0]}) AS BIGINT)", "whole", "n")


def _trunc(call: Call) -> str:
    if len(call) == 2 and call.constants[1] is not None:
        return truncated_day(call)
    text = converted(call[0], call.types[0], DOUBLE) if call.kind(0) == "text" else _not_whole(call)
    if len(call) == 1:
        return f"trunc({text})"
    if call.kind(0) == "decimal":
        return f"trunc({text}, CAST({call[1]} AS INTEGER))"
    # By decimal digits, as they are read: 10 ** n would not be exact for negative ones.
    return let(
        ["n_"],
        [f"power(10.0::DOUBLE, CAST({call[1]} AS INTEGER))"],
        f"(CASE WHEN {call[1]} >= 0 THEN trunc({text} * n_) / n_"
        f" ELSE trunc({text} / power(10.0::DOUBLE, -({call[1]}))) * power(10.0::DOUBLE, -({call[1]})) END)",
    )


def _log(call: Call) -> str:
    if len(call) == 1:
        return f"CASE WHEN {call[0]} > 0 THEN ln({call[0]}) END"
    return (
        f"CASE WHEN {call[0]} > 0 AND {call[0]} <> 1 AND {call[1]} > 0"
        f" THEN ln({call[1]}) / ln({call[0]}) END"
    )


def _conv(call: Call) -> str:
    """A number in one base as one in another."""
    for index in (1, 2):
        if re.fullmatch(r"-?\d+", call[index]) and not 2 <= int(call[index]) <= 36:
            raise InvalidArgumentError("conv takes bases from 2 to 36")
    digits = f"string_split(lower(regexp_replace({call[0]}, '^-', '')), '')"
    value = (
        f"list_reduce(list_transform(list_filter({digits}, lambda c_: c_ <> ''), lambda c_: CAST(instr("
        "'0123456789abcdefghijklmnopqrstuvwxyz', c_) - 1 AS HUGEINT)),"
        f" lambda a_, d_: a_ * {call[1]} + d_, CAST(0 AS HUGEINT))"
    )
    made = f"upper(to_base(CAST({value} AS BIGINT), CAST({call[2]} AS INTEGER)))"
    return f"CASE WHEN {call[0]} LIKE '-%' THEN '-' || {made} ELSE {made} END"


def _same_type(types: Sequence[SqlType]) -> SqlType:
    return DOUBLE if types[0].kind == "text" else types[0]


def _widest(types: Sequence[SqlType]) -> SqlType:
    return common_type([_same_type([item]) for item in types])


def _width_bucket(call: Call) -> str:
    value, low, high, count = call.arguments
    return (
        f"CASE WHEN {value} < {low} THEN 0 WHEN {value} >= {high} THEN {count} + 1"
        f" ELSE CAST(floor(({value} - {low}) * {count} / ({high} - {low})) AS BIGINT) + 1 END"
    )


def _bucket(call: Call) -> str:
    value = "random()" if call.kind(0) == "null" else call[0]
    return f"CAST(hash({value}) % {call[1]} AS BIGINT)"


def _sample(call: Call) -> str:
    """Whether a row is in the y-th of x parts, by the hash of its columns or at random."""
    parts = call.number(0, "number of parts")
    wanted = call.number(1, "part") if len(call) > 1 else 1
    if not 1 <= wanted <= parts:
        raise InvalidArgumentError("sample takes a part from 1 to the number of parts")
    columns = call.arguments[2:]
    value = f"hash({', '.join(columns)})" if columns else "hash(random())"
    return f"({value} % {parts} = {wanted - 1})"


def _random(call: Call) -> str:
    del call
    return "random()"


def _shift_unsigned(call: Call) -> str:
    bits = 64 if call.types[0] == BIGINT else 32
    return (
        f"CASE WHEN {call[0]} >= 0 THEN CAST({call[0]} AS BIGINT) >> CAST({call[1]} AS INTEGER)"
        f" ELSE CAST((CAST({call[0]} AS HUGEINT) + power(2, {bits})::HUGEINT) // power(2, {call[1]})::HUGEINT"
        " AS BIGINT) END"
    )


NUMBER_FUNCTIONS: dict[str, Function] = {
    **_doubles(
        "cbrt",
        "exp",
        "sin",
        "cos",
        "tan",
        "cot",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "degrees",
        "radians",
    ),
    **_within("{0} > 0", "ln", "log2", "log10"),
    **_within("{0} >= 0", "sqrt"),
    **_within("{0} BETWEEN -1 AND 1", "asin", "acos"),
    "abs": Function(1, 1, "abs({0})", _same_type, "n"),
    "negative": Function(1, 1, "(- {0})", _same_type, "n"),
    "positive": Function(1, 1, "{0}", _same_type, "n"),
    "atan2": Function(2, 2, "atan2({0}, {1})", "double", "d"),
    "isnan": Function(1, 1, "isnan({0})", "boolean", "d"),
    "ceil": _whole_or_decimal("ceil"),
    "ceiling": _whole_or_decimal("ceil"),
    "floor": _whole_or_decimal("floor"),
    "round": Function(1, 2, _round, _rounded_type, "n."),
    "bround": Function(
        1, 2, lambda c: f"round_even({', '.join([*c.arguments, '0'][:2])})", _rounded_type, "n."
    ),
    "trunc": Function(1, 2, _trunc, _rounded_type),
    "truncate": Function(1, 2, _trunc, _rounded_type),
    "pow": Function(2, 2, "power({0}, {1})", "double", "d"),
    "power": Function(2, 2, "power({0}, {1})", "double", "d"),
    "log": Function(1, 2, _log, "double", "d"),
    "sign": Function(1, 1, "CAST(sign({0}) AS DOUBLE)", "double", "n"),
    "signum": Function(1, 1, "CAST(sign({0}) AS DOUBLE)", "double", "n"),
    "pi": Function(0, 0, "pi()", "double"),
    "e": Function(0, 0, "exp(1)", "double"),
    "rand": Function(0, 1, _random, "double"),
    "random": Function(0, 1, _random, "double"),
    "greatest": Function(1, None, _greatest, _greatest_type),
    "least": Function(1, None, _least, _greatest_type),
    "ordinal": Function(2, None, _ordinal, lambda t: common_type(t[1:])),
    "mod": Function(2, 2, "({0} % nullif({1}, 0))", _widest, "n"),
    "pmod": Function(2, 2, "((({0} % nullif({1}, 0)) + {1}) % nullif({1}, 0))", _widest, "n"),
    "bin": Function(1, 1, "bin({0})", "text", "w"),
    "conv": Function(3, 3, _conv, "text", "tww"),
    "factorial": Function(
        1,
        1,
        "CASE WHEN {0} BETWEEN 0 AND 20 THEN CAST(factorial(CAST({0} AS INTEGER)) AS BIGINT) END",
        "whole",
        "w",
    ),
    "shiftleft": Function(2, 2, "({0} << CAST({1} AS INTEGER))", "first"),
    "shiftright": Function(2, 2, "({0} >> CAST({1} AS INTEGER))", "first"),
    "shiftrightunsigned": Function(2, 2, _shift_unsigned, "whole"),
    "bit_count": Function(1, 1, "CAST(bit_count({0}) AS INTEGER)", "int", "w"),
    "width_bucket": Function(4, 4, _width_bucket, "whole", "n"),
    "sample": Function(1, None, _sample, "boolean"),
    # conditions
    "if": Function(2, 3, _if, lambda t: common_type(t[1:])),
    "coalesce": Function(1, None, _coalesce, "common"),
    "nvl": Function(2, 2, _coalesce, "common"),
    "ifnull": Function(2, 2, _coalesce, "common"),
    "nvl2": Function(3, 3, _nvl2, lambda t: common_type(t[1:])),
    "nullif": Function(2, 2, "nullif({0}, {1})", "first"),
    "zeroifnull": Function(1, 1, "coalesce({0}, 0)", "first"),
    "nullifzero": Function(1, 1, "nullif({0}, 0)", "first"),
    "decode": Function(2, None, _decode, _decode_type),
    "isnull": Function(1, 1, "({0} IS NULL)", "boolean"),
    "isnotnull": Function(1, 1, "({0} IS NOT NULL)", "boolean"),
    "assert_true": Function(
        1,
        1,
        f"CASE WHEN CASE WHEN {{0}} THEN FALSE ELSE {failing('the assertion does not hold')} END THEN NULL END",
    ),
}

UNSEEN_FUNCTIONS: dict[str, Function] = {BUCKET: Function(2, 2, _bucket, "whole")}
"""Functions that forms of a query are rewritten with, and that nobody has to know of."""
