"""The kinds of values that requests carry: how each is read, written and bounded.

A kind reads both forms in which a value travels, the text of a query parameter or header and the
value of a JSON field; `check` holds the limits, for values that were read as well as for those that
another transport hands over. What cannot be understood is `InvalidParameterError`, what is understood
but out of range `InvalidArgumentError`; neither echoes more than a short piece of the input.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from fletching.errors import InvalidArgumentError, InvalidParameterError, UsageError
from fletching.protocol.http import headers as header_names
from fletching.protocol.http.numbers import parse_integer
from fletching.protocol.messages.manifest import SourceKind
from fletching.protocol.messages.vocabulary import MAX_IDENTIFIER
from fletching.types import PartitionSpec, is_text

__all__ = [
    "ABSENT",
    "MAX_PARTITION_TEXT",
    "Absent",
    "AnyKind",
    "Codings",
    "ContentCoding",
    "Flag",
    "Identifier",
    "Integer",
    "Kind",
    "Listed",
    "Partition",
    "Record",
    "SourceKinds",
    "Text",
    "Unread",
    "Word",
    "parse_partition",
]

MAX_PARTITION_TEXT = 8192
"""Longest partition specification, in characters."""

_INT64 = range(-(2**63), 2**63)


class Absent(enum.Enum):
    """The type of `ABSENT`."""

    ABSENT = enum.auto()


ABSENT = Absent.ABSENT
"""Stands for a value that was not sent, so that the request's own default holds."""

_V = TypeVar("_V")


class Kind(Generic[_V]):
    """A kind of value; this one reads nothing and writes the value as it is."""

    null_is_value = False
    """Whether a JSON null says something else than an absent field."""

    def from_text(self, text: str, name: str) -> _V | Absent:
        """Reads a query parameter or a header, which is not empty."""
        return self.from_json(text, name)

    def from_json(self, value: object, name: str) -> _V | Absent:
        """Reads a JSON field."""
        raise NotImplementedError

    def to_json(self, value: _V) -> object:
        """The value in a JSON field; its text in a query parameter or header follows from it."""
        return value

    def check(self, value: _V, name: str) -> None:
        """Refuses what is beyond the limits."""


AnyKind = Kind[Any]
"""A kind of whatever values."""


@dataclasses.dataclass(frozen=True)
class Text(Kind[str]):
    """A text of bounded length."""

    limit: int | None = None

    def from_json(self, value: object, name: str) -> str | Absent:
        """A string as it is."""
        if not isinstance(value, str):
            raise InvalidParameterError(f"{name} is not a string")
        return value

    def check(self, value: str, name: str) -> None:
        """Bounds the length: a text is refused, never cut, and no byte that is none is replaced."""
        if not is_text(value):
            raise InvalidParameterError(f"{name} is not UTF-8")
        if self.limit is not None and len(value) > self.limit:
            raise InvalidParameterError(
                f"{name} has {len(value)} characters, above the limit of {self.limit}"
            )


@dataclasses.dataclass(frozen=True)
class Identifier(Text):
    """A text that names something: not empty."""

    limit: int | None = MAX_IDENTIFIER

    def from_json(self, value: object, name: str) -> str | Absent:
        """A string; an empty one was not sent."""
        return super().from_json(value, name) or ABSENT

    def check(self, value: str, name: str) -> None:
        """Bounds the length."""
        if not value:
            raise InvalidParameterError(f"{name} is missing")
        super().check(value, name)


@dataclasses.dataclass(frozen=True)
class Integer(Kind[int | None]):
    """A whole number.

    Attributes:
        least, most: its bounds.
        or_zero: 0 is allowed as well, and means that nothing was said.
        zero_is: what 0 is read as.
    """

    least: int = 0
    most: int | None = None
    or_zero: bool = False
    zero_is: int | Absent | None = 0

    def from_text(self, text: str, name: str) -> int | Absent | None:
        """Decimal digits; see `parse_integer`."""
        number = parse_integer(text)
        if number is None:
            raise InvalidParameterError(f"query parameter {name} is not an integer: {text[:40]!r}")
        return number or self.zero_is

    def from_json(self, value: object, name: str) -> int | Absent | None:
        """A JSON integer."""
        if not isinstance(value, int) or isinstance(value, bool) or value not in _INT64:
            raise InvalidParameterError(f"{name} is not a 64-bit integer")
        return value or self.zero_is

    def check(self, value: int | None, name: str) -> None:
        """Bounds the number."""
        if value is None:
            return
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidParameterError(f"{name} is not a whole number: {str(value)[:40]!r}")
        if value == 0 and self.or_zero:
            return
        if value < self.least:
            zero = "0 or " if self.or_zero else ""
            raise InvalidArgumentError(f"{name} is {value}; it must be {zero}at least {self.least}")
        if self.most is not None and value > self.most:
            raise InvalidArgumentError(f"{name} is {value}, above the limit of {self.most}")


class Flag(Kind[bool]):
    """True or false."""

    def from_text(self, text: str, name: str) -> bool | Absent:
        """``true`` or ``false`` in any case."""
        word = text.lower()
        if word not in {"true", "false"}:
            raise InvalidParameterError(
                f"query parameter {name} is not true or false: {text[:40]!r}"
            )
        return word == "true"

    def from_json(self, value: object, name: str) -> bool | Absent:
        """A JSON boolean."""
        if not isinstance(value, bool):
            raise InvalidParameterError(f"{name} is not true or false")
        return value


@dataclasses.dataclass(frozen=True)
class Word(Kind[enum.StrEnum | None]):
    """One of a fixed set of words, in any case."""

    words: type[enum.StrEnum]
    null_is_value: bool = False

    def from_json(self, value: object, name: str) -> enum.StrEnum | Absent | None:
        """The word; an empty text was not sent."""
        if value is None and self.null_is_value:
            return None
        if not isinstance(value, str):
            raise InvalidParameterError(f"{name} is not a string")
        if not value:
            return ABSENT
        for word in self.words:
            if word.value.lower() == value.lower():
                return word
        known = ", ".join(word.value for word in self.words)
        raise InvalidArgumentError(f"{name} is {value[:40]!r}, not one of {known}")

    def to_json(self, value: enum.StrEnum | None) -> object:
        """The protocol's spelling."""
        return None if value is None else value.value


class Partition(Kind[PartitionSpec]):
    """A partition specification."""

    def from_json(self, value: object, name: str) -> PartitionSpec | Absent:
        """See `parse_partition`."""
        if not isinstance(value, str):
            raise InvalidParameterError(f"{name} is not a string")
        return parse_partition(value, name)

    def to_json(self, value: PartitionSpec) -> object:
        """Its text."""
        return str(value)

    def check(self, value: PartitionSpec, name: str) -> None:
        """Bounds the length of the text."""
        _check_partition_text(str(value), name)


def parse_partition(text: str, where: str) -> PartitionSpec:
    """Reads a partition specification out of a request.

    Raises:
        InvalidArgumentError: it has no readable form, or is longer than `MAX_PARTITION_TEXT`.
    """
    _check_partition_text(text, where)
    try:
        return PartitionSpec.parse(text)
    except UsageError as exc:
        raise InvalidArgumentError(f"{where}: {exc.message[:300]}") from exc


def _check_partition_text(text: str, where: str) -> None:
    if len(text) > MAX_PARTITION_TEXT:
        raise InvalidArgumentError(
            f"{where} has {len(text)} characters, above the limit of {MAX_PARTITION_TEXT}"
        )


@dataclasses.dataclass(frozen=True)
class Listed(Kind[Sequence[_V]]):
    """A JSON list of one kind of values."""

    kind: Kind[_V]
    called: str = "texts"
    least: int = 0

    def from_json(self, value: object, name: str) -> Sequence[_V] | Absent:
        """Each item in turn."""
        if not isinstance(value, list):
            raise InvalidParameterError(f"{name} is not a list of {self.called}")
        result = (self.kind.from_json(item, name) for item in value)
        return tuple(item for item in result if not isinstance(item, Absent))

    def to_json(self, value: Sequence[_V]) -> object:
        """Each item in turn."""
        return [self.kind.to_json(item) for item in value]

    def check(self, value: Sequence[_V], name: str) -> None:
        """Each item in turn."""
        if len(value) < self.least:
            raise InvalidArgumentError(f"{name} is missing or empty")
        for item in value:
            self.kind.check(item, name)


@dataclasses.dataclass(frozen=True)
class Record(Kind[object]):
    """A JSON object that is a value of its own.

    Attributes:
        make: makes the value of the attributes that were sent.
        items: attribute, wire name and kind of each.
        constants: what is written beside them.
    """

    make: Callable[..., object]
    items: tuple[tuple[str, str, AnyKind], ...]
    constants: Mapping[str, object] = dataclasses.field(default_factory=dict)

    def from_json(self, value: object, name: str) -> object | Absent:
        """Each item in turn; unknown ones are ignored, null ones absent."""
        if not isinstance(value, dict):
            raise InvalidParameterError(f"{name} is not an object")
        result: dict[str, object] = {}
        for attribute, wire, kind in self.items:
            given = value.get(wire)
            if wire not in value or (given is None and not kind.null_is_value):
                continue
            item = kind.from_json(given, f"{name}.{wire}")
            if item is not ABSENT:
                result[attribute] = item
        return self.make(**result)

    def to_json(self, value: object) -> object:
        """Each item in turn, and the constants."""
        items = {wire: kind.to_json(getattr(value, attr)) for attr, wire, kind in self.items}
        return {**items, **self.constants}

    def check(self, value: object, name: str) -> None:
        """Each item in turn."""
        for attribute, wire, kind in self.items:
            item = getattr(value, attribute)
            if item is not None:
                kind.check(item, f"{name}.{wire}")


class Codings(Kind[tuple[str, ...]]):
    """The content codings or Arrow codecs that a client takes, most wanted first."""

    def from_json(self, value: object, name: str) -> tuple[str, ...] | Absent:
        """See `accepted_codings`."""
        if not isinstance(value, str):
            raise InvalidParameterError(f"{name} is not a string")
        return header_names.accepted_codings(value)

    def to_json(self, value: tuple[str, ...]) -> object:
        """The header's text."""
        return ",".join(value)


class SourceKinds(Kind[tuple[SourceKind, ...]]):
    """The ways to stored bytes that a client has; those that are not known here are none."""

    def from_json(self, value: object, name: str) -> tuple[SourceKind, ...] | Absent:
        """A list of words."""
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise InvalidParameterError(f"{name} is not a list of texts")
        known = {kind.value: kind for kind in SourceKind}
        return tuple(dict.fromkeys(known[word] for word in value if word in known))

    def to_json(self, value: tuple[SourceKind, ...]) -> object:
        """The words."""
        return [kind.value for kind in value]


class ContentCoding(Kind[str]):
    """The coding of a body."""

    def from_json(self, value: object, name: str) -> str | Absent:
        """A token; ``identity`` is none."""
        if not isinstance(value, str):
            raise InvalidParameterError(f"{name} is not a string")
        coding = value.strip().lower()
        return ABSENT if coding in {"", "identity"} else coding


@dataclasses.dataclass(frozen=True)
class Unread(Kind[object]):
    """A JSON field that is only looked at: a request has no attribute for it.

    Attributes:
        look: raises if the value is not acceptable.
    """

    look: Callable[[object, str], object]

    def from_json(self, value: object, name: str) -> object | Absent:
        """Looks, and forgets."""
        self.look(value, name)
        return ABSENT
