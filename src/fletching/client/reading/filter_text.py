"""``filter=`` as the SQL predicate that a request carries: text as it is, pyarrow expressions converted.

pyarrow does not show what an expression is made of, but writes it down when it is pickled: as an
Arrow file without rows whose schema metadata lists functions, fields and literals in prefix order::

    call: and_kleene | call: equal | field_ref: a | literal: 0 | end: equal | ... | end: and_kleene

``literal: n`` and ``options: n`` are column n of the file's one record batch.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from fletching import ipc
from fletching.errors import UsageError

__all__ = ["ArrowExpression", "Condition", "filter_text", "literal_text"]


class ArrowExpression(Protocol):
    """A ``pyarrow.compute.Expression``, as far as a type checker needs to know it from other things."""

    def is_valid(self) -> object:
        """The expression's own test for null."""

    def isin(self, values: Any) -> object:
        """The expression's own test for some values."""


Condition = str | ArrowExpression
"""Which rows: an SQL predicate as text, or an expression of pyarrow's."""


def filter_text(condition: object, name: str = "filter") -> str | None:
    """The predicate to send.

    Args:
        condition: an SQL predicate, a ``pyarrow.compute.Expression``, or None.
        name: of the argument.

    Raises:
        UsageError: it is something else, or an expression with a function, type or value that no
            predicate can say.
    """
    if condition is None or isinstance(condition, str):
        return condition
    if not isinstance(condition, pc.Expression):
        raise UsageError(
            f"{name} takes an SQL predicate as text or a pyarrow.compute.Expression, not"
            f" {type(condition).__name__}"
        )
    return _Reader(condition).condition()


COMPARISONS = {
    "equal": "=",
    "not_equal": "!=",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
}
_MATCH, _SKIP, _EMIT_NULL, _INCONCLUSIVE = range(4)  # what is_in makes of nulls


class _Reader:
    """Reads the items of a written expression one after the other."""

    def __init__(self, expression: pc.Expression) -> None:
        try:
            written = expression.__reduce__()[1][0]
            with pa.ipc.open_file(written) as file:
                self._values = file.get_batch(0) if file.num_record_batches else None
            header = next(iter(ipc.messages(written))).header.table
        except (pa.ArrowException, ValueError, TypeError) as error:
            raise UsageError(f"the filter cannot be converted to a predicate: {error}") from error
        self._items: Iterator[tuple[str, str]] = iter(
            [
                ((pair.blob(0) or b"").decode(), (pair.blob(1) or b"").decode())
                for pair in header.tables(2)
            ]
        )
        self._held: tuple[str, str] | None = None

    # --- items -------------------------------------------------------------------------------

    def _next(self) -> tuple[str, str]:
        item, self._held = self._held or next(self._items, ("", "")), None
        return item

    def _peek(self) -> tuple[str, str]:
        if self._held is None:
            self._held = next(self._items, ("", ""))
        return self._held

    def _value(self, number: str) -> pa.Scalar:
        assert self._values is not None
        return self._values.column(int(number))[0]

    def _options(self) -> dict[str, pa.Scalar]:
        if self._peek()[0] != "options":
            return {}
        scalar = self._value(self._next()[1])
        return {name: scalar[name] for name in scalar.type.names}

    def _end(self) -> None:
        self._next()

    # --- conditions --------------------------------------------------------------------------

    def condition(self) -> str:
        kind, text = self._peek()
        if kind == "literal":
            scalar = self._value(self._next()[1])
            if scalar.type not in (pa.bool_(), pa.null()):
                raise UsageError(f"the filter is the value {scalar}, not a condition")
            return literal_text(scalar)
        if kind != "call":
            return self._operand()
        self._next()
        if text in COMPARISONS:
            result = f"{self._operand()} {COMPARISONS[text]} {self._operand()}"
            self._end()
            return result
        convert = _FUNCTIONS.get(text)
        if convert is None:
            raise UsageError(
                f"the function {text} of the filter has no form as a predicate; comparisons, &, |, ~,"
                " isin, is_null, is_valid, is_nan, match_like, starts_with, ends_with and"
                " match_substring have"
            )
        return convert(self)

    def connected(self, word: str) -> str:
        # A chain nests to the left, as deep as it is long: unrolled, not recursed into.
        depth = 1
        function = {"AND": "and_kleene", "OR": "or_kleene"}[word]
        while self._peek() == ("call", function):
            self._next()
            depth += 1
        parts = [self.condition()]
        for _ in range(depth):
            parts.append(self.condition())
            self._end()
        return "(" + f" {word} ".join(f"({part})" for part in parts) + ")"

    def and_not(self) -> str:
        result = f"(({self.condition()}) AND NOT ({self.condition()}))"
        self._end()
        return result

    def invert(self) -> str:
        result = f"NOT ({self.condition()})"
        self._end()
        return result

    def is_null(self) -> str:
        operand = self._operand()
        nan = self._options().get("nan_is_null")
        self._end()
        if nan is not None and nan.as_py():
            return f"({operand} IS NULL OR isnan({operand}))"
        return f"{operand} IS NULL"

    def is_valid(self) -> str:
        operand = self._operand()
        self._end()
        return f"{operand} IS NOT NULL"

    def is_nan(self) -> str:
        operand = self._operand()
        self._end()
        return f"isnan({operand})"

    def is_in(self) -> str:
        operand = self._operand()
        options = self._options()
        self._end()
        nulls = options["null_matching_behavior"].as_py()
        scalars = options["value_set"].values
        listed, null_listed, nan_listed = [], False, False
        for scalar in scalars:
            if not scalar.is_valid:
                null_listed = True
            elif pa.types.is_floating(scalar.type) and math.isnan(scalar.as_py()):
                nan_listed = True
            else:
                listed.append(literal_text(scalar))
        if null_listed and nulls == _INCONCLUSIVE:
            listed.append("NULL")
        result = [f"{operand} IN ({', '.join(listed)})"] if listed else []
        if nan_listed:
            result.append(f"isnan({operand})")
        if nulls in (_EMIT_NULL, _INCONCLUSIVE):
            return f"({' OR '.join(result)})" if result else f"({operand} IS NULL AND NULL)"
        if nulls == _MATCH and null_listed:
            return f"({' OR '.join([f'{operand} IS NULL', *result])})"
        if not result:
            return "false"
        return f"({operand} IS NOT NULL AND ({' OR '.join(result)}))"

    def like(self, before: str, after: str, *, pattern: bool = False) -> str:
        operand = self._operand()
        options = self._options()
        self._end()
        if options["ignore_case"].as_py():
            raise UsageError("a filter that ignores case has no form as a predicate")
        wanted = options["pattern"].as_py()
        wanted = wanted.decode() if isinstance(wanted, bytes) else wanted
        if not pattern:
            for character in "\\%_":
                wanted = wanted.replace(character, "\\" + character)
        return f"{operand} LIKE {_quoted(before + wanted + after)}"

    # --- operands ----------------------------------------------------------------------------

    def _operand(self) -> str:
        kind, text = self._next()
        match kind:
            case "field_ref":
                return _name(text)
            case "nested_field_ref":
                return ".".join(self._operand() for _ in range(int(text)))
            case "literal":
                return literal_text(self._value(text))
            case "call" if text == "struct_field":
                result = self._operand()
                wanted = self._options().get("field_ref")
                self._end()
                name = None if wanted is None else wanted.as_py()
                name = name.decode() if isinstance(name, bytes) else name
                if not isinstance(name, str) or "[" in name:
                    raise UsageError("struct_field takes the name of a field in a filter")
                return ".".join([result, *(_name(part) for part in name.split(".") if part)])
        raise UsageError(
            f"the function {text} of the filter has no form as a predicate: comparisons are of"
            " columns, fields of structs and values"
        )


_FUNCTIONS: dict[str, Callable[[_Reader], str]] = {
    "and_kleene": lambda reader: reader.connected("AND"),
    "or_kleene": lambda reader: reader.connected("OR"),
    "and_not_kleene": _Reader.and_not,
    "invert": _Reader.invert,
    "is_null": _Reader.is_null,
    "is_valid": _Reader.is_valid,
    "is_nan": _Reader.is_nan,
    "is_in": _Reader.is_in,
    "match_like": lambda reader: reader.like("", "", pattern=True),
    "starts_with": lambda reader: reader.like("", "%"),
    "ends_with": lambda reader: reader.like("%", ""),
    "match_substring": lambda reader: reader.like("%", "%"),
}


# --- literals --------------------------------------------------------------------------------


def _name(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


def literal_text(scalar: pa.Scalar) -> str:
    """An Arrow scalar in the form of a literal that means exactly it.

    Raises:
        UsageError: its type has no such form.
    """
    types = pa.types
    data_type = scalar.type
    if not scalar.is_valid:
        return "NULL"
    if types.is_dictionary(data_type):
        return literal_text(scalar.value)
    if types.is_boolean(data_type):
        return "true" if scalar.as_py() else "false"
    if types.is_integer(data_type):
        return str(scalar.as_py())
    if types.is_floating(data_type):
        value = float(scalar.as_py())
        return f"{value!r}D" if math.isfinite(value) else f"CAST('{value}' AS DOUBLE)"
    if types.is_decimal(data_type):
        return format(scalar.as_py(), "f")
    if any(kind(data_type) for kind in _TEXTS):
        return _quoted(scalar.as_py())
    if any(kind(data_type) for kind in _BINARIES):
        return f"X'{scalar.as_py().hex()}'"
    if types.is_date(data_type):
        return f"DATE '{scalar.as_py().isoformat()}'"
    if types.is_timestamp(data_type):
        return _moment(scalar.value * _UNITS[data_type.unit])
    raise UsageError(f"a value of type {data_type} has no form in a filter")


_TEXTS: Sequence[Callable[[pa.DataType], bool]] = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
)
_BINARIES: Sequence[Callable[[pa.DataType], bool]] = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_binary_view,
)


def _moment(nanoseconds: int) -> str:
    seconds, fraction = divmod(nanoseconds, 10**9)
    try:
        moment = _EPOCH + dt.timedelta(seconds=seconds)
    except OverflowError as error:
        raise UsageError("a time of the filter is outside the years 1 to 9999") from error
    return f"TIMESTAMP '{moment.replace(tzinfo=None).isoformat(' ')}.{fraction:09d}'"
