"""Whether a request's values are of the types that its fields say, and its texts are texts.

Requests are made of what callers give, and a value of another type would be found out where it is first
counted, compared or written: by an error that names neither the argument nor what belongs there. So would
a text with half of a surrogate pair, as Python makes of bytes that are no UTF-8 in names of files and
arguments: it can be encoded nowhere.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable

import msgspec

from fletching.errors import UsageError
from fletching.protocol.messages.requests import Request

__all__ = ["check_field_types"]

_WORDS: dict[object, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    bytes: "bytes",
    type(None): "None",
}

_Test = Callable[[object], bool]


def check_field_types(request: Request) -> None:
    """Looks at the types of a request's values, not at their limits; costs some microseconds.

    Raises:
        UsageError: a value is of another type, or has a text that cannot be encoded; it names the field,
            which is called as the argument.
    """
    for name, exact, test, wanted in _fields(type(request)):
        value = getattr(request, name)
        if type(value) not in exact and not test(value):
            raise UsageError(f"{name} is {wanted}, not {_shown(value)}")
        _check_texts(name, value)


def _check_texts(name: str, value: object) -> None:
    if isinstance(value, str):
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise UsageError(
                    f"{name} has {value[error.start]!a}, which is half of a character: {value[:60]!a}"
                ) from None
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_texts(name, key)
            _check_texts(name, item)
    elif isinstance(value, tuple):
        for item in value:
            _check_texts(name, item)
    elif dataclasses.is_dataclass(value) or isinstance(value, msgspec.Struct):
        for field in getattr(value, "__match_args__", ()):
            _check_texts(name, getattr(value, field))


def _shown(value: object) -> str:
    if isinstance(value, str | int | float):
        return repr(value) if len(repr(value)) <= 60 else type(value).__name__
    return type(value).__name__


@functools.cache
def _fields(kind: type[Request]) -> tuple[tuple[str, frozenset[object], _Test, str], ...]:
    """Of each field of a kind of request its name, types that need no look inside, test and words."""
    hints = typing.get_type_hints(kind)
    return tuple(
        (
            field.name,
            _exact(hints[field.name]),
            _test_of(hints[field.name]),
            _words_of(hints[field.name]),
        )
        for field in msgspec.structs.fields(kind)
    )


def _exact(hint: object) -> frozenset[object]:
    if typing.get_origin(hint) in {types.UnionType, typing.Union}:
        return frozenset().union(*map(_exact, typing.get_args(hint)))
    return (
        frozenset({hint}) if isinstance(hint, type) and not typing.get_args(hint) else frozenset()
    )


def _test_of(hint: object) -> _Test:
    origin = typing.get_origin(hint)
    inner = typing.get_args(hint)
    if origin in {types.UnionType, typing.Union}:
        tests = [_test_of(each) for each in inner]
        return lambda value: any(test(value) for test in tests)
    if origin is tuple and inner[-1] is Ellipsis:
        item = _test_of(inner[0])
        return lambda value: isinstance(value, tuple) and all(map(item, value))
    if origin is tuple:
        parts = [_test_of(each) for each in inner]
        return lambda value: (
            isinstance(value, tuple)
            and len(value) == len(parts)
            and all(test(each) for test, each in zip(parts, value, strict=True))
        )
    if origin is dict:
        key, item = map(_test_of, inner)
        return lambda value: (
            isinstance(value, dict) and all(map(key, value)) and all(map(item, value.values()))
        )
    assert isinstance(hint, type), hint
    if hint is float:
        return lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return lambda value: isinstance(value, int) and not isinstance(value, bool)
    return lambda value: isinstance(value, hint)


def _words_of(hint: object) -> str:
    inner = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin in {types.UnionType, typing.Union}:
        return " or ".join(dict.fromkeys(map(_words_of, inner)))
    if origin is tuple:
        return f"a list, each {_words_of(inner[0])}"
    if origin is dict:
        return f"a dict of {_words_of(inner[0])} to {_words_of(inner[1])}"
    return _WORDS.get(hint, f"a {hint.__name__}" if isinstance(hint, type) else str(hint))
