"""MaxCompute's functions of arrays, maps and structs.

The module is long because it is one list, and the forms that arrays, maps and structs take are shared by
its entries.
"""

from __future__ import annotations

from collections.abc import Sequence

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.duck_forms import joined_list, let, map_of_entries, quoted
from fletching.sql.functions.function_calls import (
    MAX_ELEMENTS,
    Call,
    Function,
    or_nothing,
    unless_large,
)
from fletching.sql.functions.number_functions import brought
from fletching.sql.functions.sql_types import (
    BIGINT,
    DOUBLE,
    INT,
    UNKNOWN,
    SqlType,
    array_of,
    common_type,
    map_of,
    struct_of,
)

__all__ = ["COLLECTION_FUNCTIONS"]

# --- making them -----------------------------------------------------------------------------


def _array(call: Call) -> str:
    return f"[{', '.join(brought(call, range(len(call))))}]"


def _struct(call: Call) -> str:
    fields = [f"'col{number}': {text}" for number, text in enumerate(call.arguments, 1)]
    return "{" + ", ".join(fields) + "}"


def _named_struct(call: Call) -> str:
    if len(call) % 2:
        raise InvalidArgumentError("named_struct takes pairs of names and values")
    fields = [f"{quoted(call.constant(i, 'names'))}: {call[i + 1]}" for i in range(0, len(call), 2)]
    return "{" + ", ".join(fields) + "}"


def _map(call: Call) -> str:
    if len(call) % 2:
        raise InvalidArgumentError("map takes pairs of keys and values")
    keys = brought(call, range(0, len(call), 2))
    values = brought(call, range(1, len(call), 2))
    if len(keys) < 2:
        return f"map([{', '.join(keys)}], [{', '.join(values)}])"
    entries = ", ".join(f"{{'k': {key}, 'v': {v}}}" for key, v in zip(keys, values, strict=True))
    return map_of_entries(f"[{entries}]")


def _map_entries_type(types: Sequence[SqlType]) -> SqlType:
    inner = types[0].inner if types[0].name == "MAP" and types[0].inner else (UNKNOWN, UNKNOWN)
    return array_of(struct_of(("key", "value"), inner))


def _from_entries_type(types: Sequence[SqlType]) -> SqlType:
    inner = types[0].element.inner
    return map_of(*inner) if len(inner) == 2 else SqlType("MAP")


def _element_type(types: Sequence[SqlType]) -> SqlType:
    return types[0].element


# --- looking at them -------------------------------------------------------------------------


def _size(call: Call) -> str:
    size = "cardinality" if call.kind(0) == "map" else "len"
    return f"coalesce(CAST({size}({call[0]}) AS INTEGER), -1)"


def _index(call: Call) -> str:
    """INDEX of an array counts from 0; of a map it is a key."""
    if call.kind(0) == "map" or call.kind(1) == "text":
        return f"{call[0]}[{call[1]}]"
    return f"CASE WHEN {call[1]} < 0 THEN NULL ELSE {call[0]}[{call[1]} + 1] END"


def _field(call: Call) -> str:
    return f"struct_extract({call[0]}, {quoted(call.constant(1, 'field'))})"


def _array_contains(call: Call) -> str:
    """Null if it is not found among elements of which one is null."""
    return (
        f"CASE WHEN list_contains({call[0]}, {call[1]}) THEN TRUE"
        f" WHEN {call[1]} IS NULL OR {call[0]} IS NULL THEN NULL ELSE FALSE END"
    )


def _array_join(call: Call) -> str:
    items = call.texts(0)
    if len(call) == 3:
        items = f"list_transform({items}, lambda y_: coalesce(y_, {call[2]}))"
    return joined_list(items, call[1])


def _distinct(value: str) -> str:
    """Each element once, in the order in which they come first; null is one, too."""
    return let(
        ["a_"],
        [value],
        "list_transform(list_filter(range(1, len(a_) + 1), lambda i_: len(list_filter(a_[1:i_ - 1],"
        " lambda o_: o_ IS NOT DISTINCT FROM a_[i_])) = 0), lambda i_: a_[i_])",
    )


def _array_union(call: Call) -> str:
    nothing = f"{call[0]} IS NULL OR {call[1]} IS NULL"
    return (
        f"CASE WHEN {nothing} THEN NULL ELSE {_distinct(f'list_concat({call[0]}, {call[1]})')} END"
    )


_HAS = "len(list_filter({other}, lambda o_: o_ IS NOT DISTINCT FROM x_)) {sign} 0"


def _array_intersect(call: Call) -> str:
    return _distinct(f"list_filter({call[0]}, lambda x_: {_HAS.format(other=call[1], sign='>')})")


def _array_except(call: Call) -> str:
    return _distinct(f"list_filter({call[0]}, lambda x_: {_HAS.format(other=call[1], sign='=')})")


def _array_repeat(call: Call) -> str:
    made = f"list_transform(range({or_nothing(call[1], MAX_ELEMENTS)}), lambda i_: {call[0]})"
    return unless_large(
        call[1], MAX_ELEMENTS, "array_repeat would make an array of too many elements", made
    )


_TOO_MANY = "sequence would make an array of too many elements"


def _sequence(call: Call) -> str:
    if call.kind(0) in {"date", "time"}:
        step = call[2] if len(call) == 3 else "to_days(1)"
        first, last = call.moment(0), call.moment(1)
        size = f"abs(epoch({last}) - epoch({first})) // greatest(abs(epoch({step})), 1)"
        end = f"CASE WHEN {size} > {MAX_ELEMENTS} THEN {first} ELSE {last} END"
        made = f"CAST(generate_series({first}, {end}, {step}) AS {call.types[0].duck()}[])"
        return unless_large(size, MAX_ELEMENTS, _TOO_MANY, made)
    first, last = call[0], call[1]
    step = call[2] if len(call) == 3 else f"CASE WHEN {first} <= {last} THEN 1 ELSE -1 END"
    size = (
        f"abs(CAST({last} AS HUGEINT) - CAST({first} AS HUGEINT))"
        f" // greatest(abs(CAST({step} AS HUGEINT)), 1)"
    )
    end = f"CASE WHEN {size} > {MAX_ELEMENTS} THEN {first} ELSE {last} END"
    return unless_large(size, MAX_ELEMENTS, _TOO_MANY, f"generate_series({first}, {end}, {step})")


def _sort_array(call: Call) -> str:
    if len(call) == 1 or call[1].upper() == "TRUE":
        return f"list_sort({call[0]}, 'ASC', 'NULLS FIRST')"
    if call[1].upper() == "FALSE":
        return f"list_sort({call[0]}, 'DESC', 'NULLS LAST')"
    raise InvalidArgumentError("sort_array takes true or false as its second argument")


def _array_sort(call: Call) -> str:
    """By a comparator: each element is put behind those that are not above it."""
    if len(call) == 1:
        return f"list_sort({call[0]}, 'ASC', 'NULLS LAST')"
    compare = call.function(1, [2])
    above = let(compare.names, ["y_", "x_"], compare.body)
    kept = f"list_filter(a_, lambda y_: ({above}) <= 0)"
    rest = f"list_filter(a_, lambda y_: ({above}) > 0)"
    put = let(["x_"], ["w_[1]"], f"list_concat(list_concat({kept}, [x_]), {rest})")
    wrapped = f"list_transform({call[0]}, lambda e_: [e_])"
    return f"CASE WHEN len({call[0]}) = 0 THEN {call[0]} ELSE list_reduce({wrapped}, lambda a_, w_: {put}) END"


def _arrays_zip(call: Call) -> str:
    items = ", ".join(f"'{number}': {text}[i_]" for number, text in enumerate(call.arguments))
    longest = ", ".join(f"len({text})" for text in call.arguments)
    return f"list_transform(range(1, greatest({longest}) + 1), lambda i_: {{{items}}})"


def _zip_type(types: Sequence[SqlType]) -> SqlType:
    return array_of(struct_of(map(str, range(len(types))), (item.element for item in types)))


def _combinations(call: Call) -> str:
    if call.number(1, "size") != 2:
        raise InvalidArgumentError("combinations makes pairs only")
    return (
        f"flatten(list_transform(range(1, len({call[0]})), lambda i_: list_transform("
        f"range(i_ + 1, len({call[0]}) + 1), lambda j_: [{call[0]}[i_], {call[0]}[j_]])))"
    )


# --- lambdas ---------------------------------------------------------------------------------


def _transform(call: Call) -> str:
    by = call.function(1, [1, 2])
    if len(by.names) == 1:
        return f"list_transform({call[0]}, lambda {by.names[0]}: {by.body})"
    # Places count from 0 here, from 1 in DuckDB.
    body = let([by.names[1]], ["p_ - 1"], by.body)
    return f"list_transform({call[0]}, lambda {by.names[0]}, p_: {body})"


def _filter(call: Call) -> str:
    by = call.function(1, [1, 2])
    if len(by.names) == 1:
        return f"list_filter({call[0]}, lambda {by.names[0]}: {by.body})"
    body = let([by.names[1]], ["p_ - 1"], by.body)
    return f"list_filter({call[0]}, lambda {by.names[0]}, p_: {body})"


def _matches(call: Call) -> tuple[str, str, str]:
    by = call.function(1, [1])
    result = f"list_transform({call[0]}, lambda {by.names[0]}: {by.body})"
    return (
        result,
        "len(list_filter(m_, lambda b_: b_)) > 0",
        "len(list_filter(m_, lambda b_: NOT b_)) > 0",
    )


def _any_match(call: Call) -> str:
    result, matched, _ = _matches(call)
    return let(
        ["m_"],
        [result],
        f"CASE WHEN {matched} THEN TRUE WHEN list_count(m_) < len(m_) THEN NULL WHEN m_ IS NULL"
        " THEN NULL ELSE FALSE END",
    )


def _all_match(call: Call) -> str:
    result, _, failing = _matches(call)
    return let(
        ["m_"],
        [result],
        f"CASE WHEN {failing} THEN FALSE WHEN list_count(m_) < len(m_) THEN NULL WHEN m_ IS NULL"
        " THEN NULL ELSE TRUE END",
    )


def _reduce(call: Call) -> str:
    """REDUCE: a beginning, a step for each element, and what is made of the end."""
    step = call.function(2, [2])
    start = call[1]
    known = call.types[1] if len(call.types) > 1 else UNKNOWN
    lifted = call.lambdas[2] is not None and known.kind == "whole"
    if lifted:
        start = f"CAST({start} AS BIGINT)"
    body = let(step.names, ["s_", "x_"], step.body)
    made = f"list_reduce({call[0]}, lambda s_, x_: {body}, {start})"
    if len(call) == 4:
        end = call.function(3, [1])
        made = let(end.names, [made], end.body)
    return made


def _reduce_type(types: Sequence[SqlType]) -> SqlType:
    last = types[3] if len(types) == 4 else types[1]
    return BIGINT if last == INT else last


def _zip_with(call: Call) -> str:
    by = call.function(2, [2])
    body = let(by.names, [f"{call[0]}[i_]", f"{call[1]}[i_]"], by.body)
    return (
        f"list_transform(range(1, greatest(len({call[0]}), len({call[1]})) + 1), lambda i_: {body})"
    )


def _map_by(call: Call, key: str, value: str, condition: str = "") -> str:
    entries = f"map_entries({call[0]})"
    if condition:
        entries = f"list_filter({entries}, lambda e_: {condition})"
    made = f"list_transform({entries}, lambda e_: {{'k': {key}, 'v': {value}}})"
    return f"map_from_entries({made})" if key == "e_.key" else map_of_entries(made)


def _entry(call: Call, index: int = 1) -> str:
    by = call.function(index, [2])
    return let(by.names, ["e_.key", "e_.value"], by.body)


def _map_zip_with(call: Call) -> str:
    by = call.function(2, [3])
    keys = _distinct(f"list_concat(map_keys({call[0]}), map_keys({call[1]}))")
    body = let(by.names, ["k_", f"{call[0]}[k_]", f"{call[1]}[k_]"], by.body)
    return f"map_from_entries(list_transform({keys}, lambda k_: {{'k': k_, 'v': {body}}}))"


def _lambda_array(types: Sequence[SqlType]) -> SqlType:
    return array_of(types[-1])


def _map_from_arrays(call: Call) -> str:
    keys, values = call[0], call[1]
    made = f"list_transform(range(1, len({keys}) + 1), lambda i_: {{'k': {keys}[i_], 'v': {values}[i_]}})"
    return map_of_entries(made)


def _map_from_entries(call: Call) -> str:
    names = call.types[0].element.names
    if len(names) != 2:
        return f"map_from_entries({call[0]})"
    key = '"' + names[0].replace('"', '""') + '"'
    return map_of_entries(call[0], key)


def _multimap(call: Call) -> str:
    """A map of each key to all of its values."""
    names = call.types[0].element.names or ("key", "value")
    key, value = ('"' + name.replace('"', '""') + '"' for name in names[:2])
    keys = _distinct(f"list_transform(e_, lambda o_: o_.{key})")
    of_key = f"list_transform(list_filter(e_, lambda o_: o_.{key} = k_), lambda o_: o_.{value})"
    return let(
        ["e_"],
        [call[0]],
        f"map_from_entries(list_transform({keys}, lambda k_: {{'k': k_, 'v': {of_key}}}))",
    )


def _multimap_type(types: Sequence[SqlType]) -> SqlType:
    inner = types[0].element.inner
    return map_of(inner[0], array_of(inner[1])) if len(inner) == 2 else SqlType("MAP")


def _normalize(call: Call) -> str:
    """Each element divided by the norm of all: the p-th root of the sum of their p-th powers."""
    norm = f"power(list_sum(list_transform(a_, lambda x_: power(abs(x_), {call[1]}))), 1.0::DOUBLE / {call[1]})"
    body = (
        f"CASE WHEN {call[1]} = 0 OR list_count(a_) < len(a_) OR {norm} = 0 THEN a_"
        f" ELSE list_transform(a_, lambda x_: x_ / {norm}) END"
    )
    return let(["a_"], [f"CAST({call[0]} AS DOUBLE[])"], body)


COLLECTION_FUNCTIONS: dict[str, Function] = {
    "array": Function(0, None, _array, lambda t: array_of(common_type(t))),
    "map": Function(0, None, _map, lambda t: map_of(common_type(t[::2]), common_type(t[1::2]))),
    "struct": Function(
        1, None, _struct, lambda t: struct_of((f"col{i + 1}" for i in range(len(t))), t)
    ),
    "named_struct": Function(2, None, _named_struct),
    "size": Function(1, 1, _size, "int", takes="c"),
    "cardinality": Function(1, 1, _size, "int", takes="c"),
    "index": Function(2, 2, _index, _element_type, takes="c."),
    "field": Function(2, 2, _field),
    "array_contains": Function(2, 2, _array_contains, "boolean", takes="ae"),
    "array_distinct": Function(1, 1, lambda c: _distinct(c[0]), "first", takes="a"),
    "array_join": Function(2, 3, _array_join, "text", takes="a."),
    "array_max": Function(1, 1, "list_max({0})", _element_type, takes="a"),
    "array_min": Function(1, 1, "list_min({0})", _element_type, takes="a"),
    "array_position": Function(
        2,
        2,
        "CASE WHEN {1} IS NULL THEN NULL WHEN {0} IS NULL THEN NULL"
        " ELSE coalesce(CAST(list_position({0}, {1}) AS BIGINT), 0) END",
        "whole",
        takes="ae",
    ),
    "array_remove": Function(
        2, 2, "list_filter({0}, lambda x_: x_ IS DISTINCT FROM {1})", "first", takes="ae"
    ),
    "array_union": Function(2, 2, _array_union, "first", takes="a"),
    "array_intersect": Function(2, 2, _array_intersect, "first", takes="a"),
    "array_except": Function(2, 2, _array_except, "first", takes="a"),
    "array_repeat": Function(2, 2, _array_repeat, lambda t: array_of(t[0])),
    "array_append": Function(2, 2, "list_append({0}, {1})", "first", takes="ae"),
    "array_prepend": Function(2, 2, "list_prepend({1}, {0})", "first", takes="ae"),
    "array_compact": Function(
        1, 1, "list_filter({0}, lambda x_: x_ IS NOT NULL)", "first", takes="a"
    ),
    "array_sort": Function(1, 2, _array_sort, "first", takes="a."),
    "arrays_overlap": Function(
        2,
        2,
        "CASE WHEN list_has_any({0}, {1}) THEN TRUE WHEN len({0}) > 0 AND len({1}) > 0 AND"
        " (list_count({0}) < len({0}) OR list_count({1}) < len({1})) THEN NULL WHEN {0} IS"
        " NULL OR {1} IS NULL THEN NULL ELSE FALSE END",
        "boolean",
        takes="a",
    ),
    "arrays_zip": Function(1, None, _arrays_zip, _zip_type, takes="a"),
    "combinations": Function(2, 2, _combinations, lambda t: array_of(t[0]), takes="a."),
    "ngrams": Function(
        2,
        2,
        "list_transform(range(1, greatest(len({0}) - {1} + 2, 2)), lambda i_: {0}[i_ : i_ +"
        " {1} - 1])",
        lambda t: array_of(t[0]),
        takes="aw",
    ),
    "flatten": Function(1, 1, "flatten({0})", _element_type, takes="a"),
    "sort_array": Function(1, 2, _sort_array, "first", takes="a."),
    "slice": Function(
        3,
        3,
        "CASE WHEN {1} < 0 THEN list_slice({0}, len({0}) + {1} + 1, len({0}) + {1} + {2})"
        " ELSE list_slice({0}, {1}, {1} + {2} - 1) END",
        "first",
        takes="aww",
    ),
    "sequence": Function(
        2, 3, _sequence, lambda t: array_of(t[0] if t[0].kind in {"date", "time"} else BIGINT)
    ),
    "element_at": Function(2, 2, "{0}[{1}]", _element_type, takes="c."),
    "map_concat": Function(1, None, "map_concat({*})", "first", takes="m"),
    "map_from_entries": Function(1, 1, _map_from_entries, _from_entries_type, takes="a"),
    "map_from_arrays": Function(
        2, 2, _map_from_arrays, lambda t: map_of(t[0].element, t[1].element), takes="a"
    ),
    "multimap_from_entries": Function(1, 1, _multimap, _multimap_type, takes="a"),
    "array_normalize": Function(2, 2, _normalize, lambda _types: array_of(DOUBLE), takes="ad"),
    "shuffle": Function(
        1,
        1,
        "list_transform(list_sort(list_transform({0}, lambda x_: {'r': random(), 'v': x_})), lambda s_: s_.v)",
        "first",
        takes="a",
    ),
    "map_entries": Function(1, 1, "map_entries({0})", _map_entries_type, takes="m"),
    "map_keys": Function(
        1,
        1,
        "map_keys({0})",
        lambda t: array_of(t[0].inner[0]) if t[0].inner else SqlType("ARRAY"),
        takes="m",
    ),
    "map_values": Function(1, 1, "map_values({0})", lambda t: array_of(t[0].element), takes="m"),
    "map_contains_key": Function(2, 2, "list_contains(map_keys({0}), {1})", "boolean", takes="m."),
    "map_filter": Function(
        2, 2, lambda c: _map_by(c, "e_.key", "e_.value", _entry(c)), "first", takes="m."
    ),
    "transform_keys": Function(
        2,
        2,
        lambda c: _map_by(c, _entry(c, len(c) - 1), "e_.value"),
        lambda t: map_of(t[1], t[0].element),
        takes="m.",
    ),
    "transform_values": Function(
        2,
        2,
        lambda c: _map_by(c, "e_.key", _entry(c)),
        lambda t: map_of(t[0].inner[0] if t[0].inner else UNKNOWN, t[1]),
        takes="m.",
    ),
    "map_zip_with": Function(
        3,
        3,
        _map_zip_with,
        lambda t: map_of(t[0].inner[0] if t[0].inner else UNKNOWN, t[2]),
        takes="mm.",
    ),
    "transform": Function(2, 2, _transform, _lambda_array, takes="a."),
    "filter": Function(2, 2, _filter, "first", takes="a."),
    "any_match": Function(2, 2, _any_match, "boolean", takes="a."),
    "exists": Function(2, 2, _any_match, "boolean", takes="a."),
    "all_match": Function(2, 2, _all_match, "boolean", takes="a."),
    "forall": Function(2, 2, _all_match, "boolean", takes="a."),
    "reduce": Function(3, 4, _reduce, _reduce_type, takes="a."),
    "aggregate": Function(3, 4, _reduce, _reduce_type, takes="a."),
    "array_reduce": Function(3, 4, _reduce, _reduce_type, takes="a."),
    "zip_with": Function(3, 3, _zip_with, _lambda_array, takes="aa."),
}
