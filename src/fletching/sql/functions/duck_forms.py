"""Forms of DuckDB's SQL that several functions and conversions are written in."""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["joined_list", "let", "map_of_entries", "quoted"]


def quoted(text: str) -> str:
    """A text literal of DuckDB's."""
    return "'" + text.replace("'", "''") + "'"


def let(names: Sequence[str], values: Sequence[str], body: str) -> str:
    """``body`` with names for values, each computed once."""
    for name, value in reversed(list(zip(names, values, strict=True))):
        body = f"list_transform([{value}], lambda {name}: {body})[1]"
    return body


_CONSTANT = re.compile(r"'(?:[^']|'')*'")


def is_constant(text: str) -> bool:
    """Whether an expression is a text between quotes."""
    return _CONSTANT.fullmatch(text) is not None


def joined_list(items: str, separator: str) -> str:
    """The texts of a list, but for nulls, with a separator between them."""
    if is_constant(separator):
        return f"array_to_string({items}, {separator})"
    # DuckDB's own takes a constant separator only.
    kept = f"list_filter({items}, lambda j_: j_ IS NOT NULL)"
    return (
        f"CASE WHEN {items} IS NULL OR {separator} IS NULL THEN NULL WHEN len({kept}) = 0 THEN ''"
        f" ELSE list_reduce({kept}, lambda l_, r_: l_ || {separator} || r_) END"
    )


def map_of_entries(entries: str, key: str = "k") -> str:
    """A map of a list of structs; of those with the same key the last one stays.

    Args:
        entries: the list.
        key: the name of the structs' first field.
    """
    later = f"len(list_filter(e_[i_ + 1:], lambda o_: o_.{key} = e_[i_].{key})) = 0"
    kept = (
        f"list_transform(list_filter(range(1, len(e_) + 1), lambda i_: {later}), lambda i_: e_[i_])"
    )
    once = f"list_unique(list_transform(e_, lambda o_: o_.{key})) = len(e_)"
    return let(
        ["e_"],
        [entries],
        f"CASE WHEN {once} THEN map_from_entries(e_) ELSE map_from_entries({kept}) END",
    )
