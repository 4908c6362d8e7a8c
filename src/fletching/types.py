"""Small values that several rooms share: names, partition specifications, half-open ranges."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import numbers
import re
import uuid
from collections.abc import Iterator, Mapping

from fletching.errors import UsageError

__all__ = [
    "DEFAULT_PROJECT",
    "DEFAULT_SCHEMA",
    "ByteRange",
    "PartitionLike",
    "PartitionSpec",
    "RowRange",
    "TableName",
]

DEFAULT_PROJECT = "demo"
"""Whose tables are meant when no project is named."""

DEFAULT_SCHEMA = "default"
"""The schema (namespace) a table belongs to when none is named."""

RESULTS_PROJECT = "__results"
"""A project in whose tables earlier releases kept large results of statements. Nobody is shown it or
may name it, and retention drops its tables."""


UNLISTED_MARK = "~"
"""Stands in the names of tables that are being filled before anybody sees them; no other name has it."""


def is_text(value: str) -> bool:
    """Whether a text has a form in UTF-8: no lone surrogates, which stand for bytes that were no text."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class TableName:
    """A table's full name. Names compare as written; the catalog looks them up case-insensitively."""

    project: str
    name: str
    schema: str = DEFAULT_SCHEMA

    def __str__(self) -> str:
        return f"{self.project}.{self.schema}.{self.name}"

    def unlisted(self, table_id: str) -> TableName:
        """What a table of this name is called until it is renamed to it."""
        return TableName(self.project, f"{self.name}{UNLISTED_MARK}{table_id}", self.schema)

    @property
    def wanted(self) -> TableName:
        """The name that an unlisted table is made for; of any other its own."""
        return TableName(self.project, self.name.partition(UNLISTED_MARK)[0], self.schema)

    @property
    def unlisted_id(self) -> str:
        """The id of the table that is or was unlisted under this name; empty for an ordinary name."""
        return self.name.partition(UNLISTED_MARK)[2]


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class RowRange:
    """Rows ``start`` (included) to ``end`` (excluded), counted from 0."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise UsageError(f"row range {self.start}..{self.end} is not 0 <= start <= end")

    @property
    def length(self) -> int:
        """How many rows the range holds."""
        return self.end - self.start


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class ByteRange:
    """Bytes ``start`` (included) to ``end`` (excluded), counted from 0."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise UsageError(f"byte range {self.start}..{self.end} is not 0 <= start <= end")

    @property
    def length(self) -> int:
        """How many bytes the range holds."""
        return self.end - self.start

    def shifted(self, offset: int) -> ByteRange:
        """The same range, ``offset`` bytes further on."""
        return ByteRange(self.start + offset, self.end + offset)


# A key, "=", then a quoted or a bare value. Quoted values may hold the separators. Nothing is
# ever given back (possessive repeats), so that a hostile text costs linear time.
_PART = re.compile(
    r"""\s*+(?P<key>[^=,/'"\s]++)\s*+=\s*+(?:'(?P<single>[^']*+)'|"(?P<double>[^"]*+)"|(?P<bare>[^,/'"\s]*+(?:\s++[^,/'"\s]++)*+))\s*+(?P<end>[,/]|\Z)""",
)


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class PartitionSpec:
    """Partition columns and their values, in order: ``pt=20260101,region=eu``.

    A spec may name all of a table's partition columns (a partition) or a leading part of them
    (a prefix). Values are text, as everywhere in the Storage API.
    """

    items: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str | PartitionSpec | Mapping[str, object] | None) -> PartitionSpec:
        """Reads ``k=v[,k2=v2]``; ``/`` also separates, values may be quoted.

        Values of a dict are texts, numbers, truths, days or moments, which become the text that SQL writes.

        Raises:
            UsageError: the text is not of this form, or names a key twice; a value of a dict is none, such
                as a null.
        """
        if text is None:
            return cls()
        if isinstance(text, PartitionSpec):
            return text
        if isinstance(text, Mapping):
            pairs = tuple(
                (_name(key), text_of_value(f"partition column {key}", value))
                for key, value in text.items()
            )
            if len({key.casefold() for key, _ in pairs}) != len(pairs):
                raise UsageError(f"partition {dict(pairs)} names a column twice")
            return cls(pairs)
        if not isinstance(text, str):
            raise UsageError(
                f"a partition is text such as 'pt=20260101' or a dict, not {type(text).__name__}"
            )
        if not text.strip():
            return cls()
        items: list[tuple[str, str]] = []
        position = 0
        while True:
            match = _PART.match(text, position)
            if match is None:
                raise UsageError(f"partition {text!r} is not of the form key=value[,key=value]")
            bare = match["bare"]
            value = match["single"] if bare is None else bare.strip()
            if value is None:
                value = match["double"]
            items.append((match["key"].strip("`"), value))
            position = match.end()
            if not match["end"]:
                break
        if len({key.casefold() for key, _ in items}) != len(items):
            raise UsageError(f"partition {text!r} names a column twice")
        return cls(tuple(items))

    def __str__(self) -> str:
        """``k=v,k2=v2``; a value is quoted when it holds a separator or quote."""
        return ",".join(f"{key}={_quoted(value)}" for key, value in self.items)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def values(self) -> tuple[str, ...]:
        """The values in order."""
        return tuple(value for _, value in self.items)


def _name(key: object) -> str:
    if not isinstance(key, str):
        raise UsageError(f"a partition column is named by text, not by {key!r}")
    return key


_VALUES = (str, numbers.Integral, float, decimal.Decimal, dt.date, uuid.UUID)
"""Python types of values whose text means them; numpy's single values have such a text, too."""


def text_of_value(what: str, value: object) -> str:
    """The text of a partition column's value, or of a property's: ``what`` names it.

    Raises:
        UsageError: the value has no text of its own, as a null has none.
    """
    if hasattr(value, "as_py"):
        value = value.as_py()
    single = type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0
    if isinstance(value, bytes) or not (single or isinstance(value, _VALUES)):
        raise UsageError(f"{what} has a value, and {value!r} is none")
    text = str(value)
    if text in {"True", "False"} and not isinstance(value, str):
        return text.lower()
    if text.lower() in {"nan", "nat", "inf", "-inf"} and not isinstance(value, str):
        raise UsageError(f"{what} has a value, and {value!r} is none")
    return text


def _quoted(value: str) -> str:
    if not re.search(r"""[,/'"=]|^\s|\s$""", value):
        return value
    quote = '"' if "'" in value else "'"
    return f"{quote}{value}{quote}"


PartitionLike = str | PartitionSpec | Mapping[str, object]
"""What names a partition: ``"pt=20260101,region=eu"``, a `PartitionSpec`, or a dict of columns and values."""
