"""Arguments of the client's verbs that are looked at before anything is asked or written.

What goes into a request as it is needs nothing here: a request's values are looked at by its fields
(`fletching.protocol.messages.field_types`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from fletching.errors import UsageError
from fletching.types import text_of_value

__all__ = ["items_of", "mapping_of", "names_of", "properties_of", "text_of", "whole_number"]

_V = TypeVar("_V")


def whole_number(name: str, value: object, *, least: int = 0) -> int:
    """A count or a place, as 64 bits hold it.

    Raises:
        UsageError: no whole number, or one below ``least``.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 1 << 63:
        raise UsageError(f"{name} is a whole number from {least} on, not {value!r}")
    return value


def text_of(name: str, value: object) -> str:
    """A name, a statement, a token.

    Raises:
        UsageError: it is no text, or one with half of a surrogate pair, which cannot be sent.
    """
    if not isinstance(value, str):
        raise UsageError(f"{name} is text, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        raise UsageError(f"{name} is no Unicode text: {exc}") from exc
    return value


def names_of(name: str, values: Iterable[str] | None) -> tuple[str, ...]:
    """Names of columns or properties; one name stands for itself, None for no name.

    Raises:
        UsageError: neither a name nor a list of names.
    """
    if values is None:
        return ()
    if isinstance(values, str):
        return (values,)
    if not isinstance(values, Iterable):
        raise UsageError(f"{name} is a list of names, not {type(values).__name__}")
    result = tuple(values)
    for each in result:
        if not isinstance(each, str):
            raise UsageError(f"{name} is a list of names, and {each!r} is none")
    return result


def items_of(name: str, values: Iterable[_V]) -> Iterable[_V]:
    """Several values, such as blobs or references.

    Raises:
        UsageError: nothing that can be iterated, or one text.
    """
    if not isinstance(values, Iterable) or isinstance(values, str | bytes):
        raise UsageError(f"{name} is a list, not {type(values).__name__}")
    return values


def mapping_of(name: str, values: Mapping[str, _V] | None) -> dict[str, _V]:
    """Values by column or property; None for none.

    Raises:
        UsageError: no dict, or a key that is no name.
    """
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise UsageError(f"{name} is a dict by name, not {type(values).__name__}")
    for each in values:
        if not isinstance(each, str):
            raise UsageError(f"{name} is a dict by name, and {each!r} is no name")
    return dict(values)


def properties_of(values: Mapping[str, object] | None) -> dict[str, str]:
    """Properties, which are texts by name; numbers, truths and days become the text that SQL writes.

    Raises:
        UsageError: no dict, a key that is no name, or a value that has no text of its own, such as None.
    """
    return {
        key: text_of_value(f"{key!r} of properties", each)
        for key, each in mapping_of("properties", values).items()
    }
