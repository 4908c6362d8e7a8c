"""ODPS data types: their codes, their text, and the tree in between (docs/conformance.md, "Types").

::

    type    = name | decimal | char | varchar | array | map | struct | vector
    decimal = "DECIMAL" [ "(" precision [ "," scale ] ")" ]        bare: (54, 18)
    char    = ("CHAR" | "VARCHAR") "(" length ")"
    array   = "ARRAY" "<" type ">"
    map     = "MAP" "<" type "," type ">"
    vector  = "VECTOR" "(" type "," dimension ")"
    struct  = "STRUCT" "<" field { "," field } ">"
    field   = name ":" type [ "NOT" "NULL" ] [ "COMMENT" text ]    name may be `backquoted`

Words are case-insensitive and blanks are free. Formatting is lower case, without blanks, nullability
and comments, and backquotes only names that need it: the form PyODPS parses.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import re
from collections.abc import Iterator

from fletching.errors import UsageError

__all__ = [
    "LENGTH_LIMITS",
    "MAX_TYPE_DEPTH",
    "MAX_TYPE_TEXT",
    "OdpsField",
    "OdpsType",
    "TypeCode",
    "TypeScanner",
    "format_type",
    "parse_type",
    "quote_name",
]

MAX_TYPE_TEXT = 256 * 1024
"""Longest text, in characters, that is parsed: far above real schemas, far below a nuisance."""

MAX_TYPE_DEPTH = 32
"""Deepest nesting that is parsed; deeper would recurse without a use."""


class TypeCode(enum.IntEnum):
    """The ``Type`` number of the write schema."""

    BIGINT = 0
    DOUBLE = 1
    BOOLEAN = 2
    DATETIME = 3
    STRING = 4
    DECIMAL = 5
    TINYINT = 6
    SMALLINT = 7
    INT = 8
    CHAR = 9
    VARCHAR = 10
    BINARY = 11
    DATE = 12
    TIMESTAMP = 13
    FLOAT = 14
    INTERVAL_YEAR_MONTH = 15
    INTERVAL_DAY_TIME = 16
    ARRAY = 17
    MAP = 18
    STRUCT = 19
    JSON = 20
    TIMESTAMP_NTZ = 21
    BLOB = 22
    VARIANT = 23
    VECTOR = 1017
    """No number is known: never sent, a vector travels as an ARRAY."""

    @property
    def wire(self) -> int:
        """The number as sent."""
        return TypeCode.ARRAY.value if self is TypeCode.VECTOR else self.value


_SIMPLE = {
    code.name: code
    for code in TypeCode
    if code
    not in {
        TypeCode.DECIMAL,
        TypeCode.CHAR,
        TypeCode.VARCHAR,
        TypeCode.ARRAY,
        TypeCode.MAP,
        TypeCode.STRUCT,
        TypeCode.VECTOR,
    }
}
_SIMPLE["INTEGER"] = TypeCode.INT

DEFAULT_DECIMAL = (54, 18)
MAX_DECIMAL_PRECISION = 76
LENGTH_LIMITS = {TypeCode.CHAR: 255, TypeCode.VARCHAR: 65535}


@dataclasses.dataclass(frozen=True, slots=True)
class OdpsField:
    """A named child of a nested type: ``element``, ``key``, ``value`` or a struct's field."""

    name: str
    type: OdpsType
    nullable: bool = True
    comment: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class OdpsType:
    """One ODPS type; which of the parameters are set depends on ``code``."""

    code: TypeCode
    precision: int | None = None
    scale: int | None = None
    length: int | None = None
    """Characters of CHAR and VARCHAR, elements of VECTOR."""
    fields: tuple[OdpsField, ...] = ()

    def __str__(self) -> str:
        """The type's text, see `format_type`."""
        return format_type(self)

    def walk(self) -> Iterator[OdpsType]:
        """This type and all nested ones, depth-first: the order of column ids."""
        yield self
        for field in self.fields:
            yield from field.type.walk()

    @property
    def node_count(self) -> int:
        """How many column ids a column of this type has."""
        return sum(1 for _ in self.walk())


def array_of(element: OdpsType) -> OdpsType:
    """ARRAY<element>."""
    return OdpsType(TypeCode.ARRAY, fields=(OdpsField("element", element),))


def map_of(key: OdpsType, value: OdpsType) -> OdpsType:
    """MAP<key,value>."""
    fields = (OdpsField("key", key, nullable=False), OdpsField("value", value))
    return OdpsType(TypeCode.MAP, fields=fields)


_BARE_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def quote_name(name: str) -> str:
    """A column or field name, backquoted if it is not a plain identifier."""
    if _BARE_NAME.fullmatch(name):
        return name
    return "`" + name.replace("`", "``") + "`"


def format_type(odps_type: OdpsType) -> str:
    """The type's text in lower case: ``array<struct<a:bigint>>``."""
    code = odps_type.code
    name = code.name.lower()
    if code is TypeCode.DECIMAL:
        return f"decimal({odps_type.precision},{odps_type.scale})"
    if code in LENGTH_LIMITS:
        return f"{name}({odps_type.length})"
    if code is TypeCode.VECTOR:
        return f"vector({odps_type.fields[0].type},{odps_type.length})"
    if code is TypeCode.STRUCT:
        inner = ",".join(f"{quote_name(field.name)}:{field.type}" for field in odps_type.fields)
        return f"struct<{inner}>"
    if odps_type.fields:
        return f"{name}<{','.join(str(field.type) for field in odps_type.fields)}>"
    return name


_TOKEN = re.compile(
    r"""\s*(?:
        (?P<word>\w+)
      | `(?P<quoted>(?:[^`]|``)+)`
      | '(?P<single>(?:[^'\\]|\\.|'')*)'
      | "(?P<double>(?:[^"\\]|\\.|"")*)"
      | (?P<mark>[<>(),:])
      | (?P<end>\Z)
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class TypeScanner:
    """Cuts type and column text into words, backquoted names, strings and marks; one token ahead.

    ``kind`` is ``word``, ``quoted``, ``string``, ``mark`` or ``end``; ``value`` the token's text.
    """

    def __init__(self, text: str, start: int = 0, *, max_length: int = MAX_TYPE_TEXT) -> None:
        """Starts at the first token at or after character ``start``.

        Raises:
            UsageError: the text is longer than ``max_length``.
        """
        if len(text) > max_length:
            raise UsageError(
                f"type text of {len(text)} characters is above the limit of {max_length}"
            )
        self.text = text
        self._position = start
        self.kind = ""
        self.value = ""
        self.start = 0
        self.token_start = 0
        self.advance()

    def advance(self) -> str:
        """Moves to the next token; returns the value of the one left behind."""
        left = self.value
        match = _TOKEN.match(self.text, self._position)
        if match is None:
            raise self.error("cannot be read")
        self.start = match.start()
        self._position = match.end()
        kind = str(match.lastgroup)
        # Where the token itself begins, behind the blanks and before a quote.
        self.token_start = match.start(kind) - (kind in {"quoted", "single", "double"})
        value = match[kind]
        if kind == "quoted":
            value = value.replace("``", "`")
        elif kind in {"single", "double"}:
            quote = "'" if kind == "single" else '"'
            kind, value = "string", _ESCAPE.sub(r"\1", value.replace(quote * 2, quote))
        self.kind, self.value = kind, value
        return left

    def error(self, complaint: str) -> UsageError:
        """A `UsageError` that names the text and the place."""
        near = self.text[self.start : self.start + 20].strip() or "the end"
        shown = self.text if len(self.text) <= 80 else self.text[:77] + "..."
        return UsageError(f"type text {shown!r} {complaint} at character {self.start} ({near!r})")

    def accept(self, mark: str) -> bool:
        """Consumes the mark if it is next."""
        if self.kind == "mark" and self.value == mark:
            self.advance()
            return True
        return False

    def expect(self, mark: str) -> None:
        """Consumes the mark or raises."""
        if not self.accept(mark):
            raise self.error(f"lacks {mark!r}")

    def accept_word(self, word: str) -> bool:
        """Consumes the (upper-case) word if it is next."""
        if self.kind == "word" and self.value.upper() == word:
            self.advance()
            return True
        return False

    def name(self) -> str:
        """Consumes a column or field name, bare or backquoted."""
        if self.kind not in {"word", "quoted"}:
            raise self.error("lacks a name")
        return self.advance()

    def number(self) -> int:
        """Consumes an unsigned integer of at most nine digits."""
        if self.kind != "word" or not re.fullmatch("[0-9]{1,9}", self.value):
            raise self.error("lacks a number")
        return int(self.advance())

    def constraints(self) -> tuple[bool, str]:
        """Consumes ``[NOT NULL | NULL] [COMMENT text]``; returns (nullable, comment)."""
        nullable, comment = True, ""
        while True:
            if self.accept_word("NOT"):
                if not self.accept_word("NULL"):
                    raise self.error("lacks NULL after NOT")
                nullable = False
            elif self.accept_word("NULL"):
                nullable = True
            elif self.accept_word("COMMENT"):
                if self.kind != "string":
                    raise self.error("lacks a quoted text after COMMENT")
                comment = self.advance()
            else:
                return nullable, comment

    def type(self, depth: int = 0) -> OdpsType:
        """Consumes one type."""
        if depth > MAX_TYPE_DEPTH:
            raise self.error(f"nests deeper than {MAX_TYPE_DEPTH}")
        if self.kind != "word":
            raise self.error("lacks a type name")
        name = self.value.upper()
        code = _SIMPLE.get(name)
        if code is not None:
            self.advance()
            return OdpsType(code)
        handler = {
            "DECIMAL": self._decimal,
            "CHAR": self._text,
            "VARCHAR": self._text,
            "ARRAY": self._array,
            "MAP": self._map,
            "STRUCT": self._struct,
            "VECTOR": self._vector,
        }.get(name)
        if handler is None:
            raise self.error("has an unknown type")
        self.advance()
        return handler(TypeCode[name], depth + 1)

    def _decimal(self, code: TypeCode, _depth: int) -> OdpsType:
        precision, scale = DEFAULT_DECIMAL
        if self.accept("("):
            precision, scale = self.number(), 0
            if self.accept(","):
                scale = self.number()
            self.expect(")")
        if not (1 <= precision <= MAX_DECIMAL_PRECISION and scale <= precision):
            raise self.error(
                f"has decimal({precision},{scale}): precision must be 1 to"
                f" {MAX_DECIMAL_PRECISION} and scale at most the precision"
            )
        return OdpsType(code, precision=precision, scale=scale)

    def _text(self, code: TypeCode, _depth: int) -> OdpsType:
        self.expect("(")
        length = self.number()
        self.expect(")")
        limit = LENGTH_LIMITS[code]
        if not 1 <= length <= limit:
            raise self.error(f"has a {code.name} length of {length}, not 1 to {limit}")
        return OdpsType(code, length=length)

    def _array(self, _code: TypeCode, depth: int) -> OdpsType:
        self.expect("<")
        element = self.type(depth)
        self.expect(">")
        return array_of(element)

    def _map(self, _code: TypeCode, depth: int) -> OdpsType:
        self.expect("<")
        key = self.type(depth)
        self.expect(",")
        value = self.type(depth)
        self.expect(">")
        return map_of(key, value)

    def _vector(self, code: TypeCode, depth: int) -> OdpsType:
        self.expect("(")
        element = self.type(depth)
        self.expect(",")
        dimension = self.number()
        self.expect(")")
        if dimension < 1:
            raise self.error("has a vector without elements")
        return OdpsType(code, length=dimension, fields=(OdpsField("element", element),))

    def _struct(self, code: TypeCode, depth: int) -> OdpsType:
        self.expect("<")
        fields: list[OdpsField] = []
        seen: set[str] = set()
        while True:
            name = self.name()
            if name.casefold() in seen:
                raise self.error(f"names the struct field {name!r} twice")
            seen.add(name.casefold())
            self.expect(":")
            field_type = self.type(depth)
            nullable, comment = self.constraints()
            fields.append(OdpsField(name, field_type, nullable, comment))
            if not self.accept(","):
                break
        self.expect(">")
        return OdpsType(code, fields=tuple(fields))


def parse_type(text: str) -> OdpsType:
    """Reads one ODPS type string.

    Raises:
        UsageError: the text is not a type, or is too long or too deep; names the place.
    """
    return _parsed_once(text) if len(text) <= _REMEMBERED_TEXT else _parsed(text)


def _parsed(text: str) -> OdpsType:
    scanner = TypeScanner(text)
    parsed = scanner.type()
    if scanner.kind != "end":
        raise scanner.error("goes on after the type")
    return parsed


_REMEMBERED_TEXT = 1000
# Tables have few types, and every reply names them again; short texts are some hundred bytes each.
_parsed_once = functools.lru_cache(maxsize=1024)(_parsed)
