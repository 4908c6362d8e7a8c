"""Calls of functions on their way from MaxCompute's dialect to DuckDB's SQL."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.conversions import converted, moment_text
from fletching.sql.functions.duck_forms import quoted
from fletching.sql.functions.sql_types import (
    BIGINT,
    BINARY,
    BOOLEAN,
    DATE,
    DATETIME,
    DOUBLE,
    INT,
    STRING,
    UNKNOWN,
    SqlType,
    common_type,
)

__all__ = [
    "Call",
    "Function",
    "Lambda",
    "NullConstantError",
    "Result",
    "counted_arguments",
    "failing",
]


def counted_arguments(count: int | str) -> str:
    """``1 argument``, ``2 arguments``."""
    return f"{count} argument{'' if str(count).endswith(' 1') or count in {1, '1'} else 's'}"


MAX_TEXT_BYTES = 8 << 20
"""Longest text that a function makes of shorter ones, as long as MaxCompute's longest."""

MAX_ELEMENTS = 10_000_000
"""Most elements of an ARRAY that a function makes of less: DuckDB's own bound of memory is not about values."""


def or_nothing(number: str, most: object) -> str:
    """A number, or 0 if it is above the most that it may be: what fails shall not be made first."""
    return f"CASE WHEN {number} > {most} THEN 0 ELSE {number} END"


def unless_large(size: str, most: int, what: str, made: str) -> str:
    """``made``, or a failure that names ``what`` if a size is above the most that it may be.

    DuckDB works constants out before it looks at conditions, so ``made`` has to be small by itself.
    """
    failure = failing(f"{what}, above the limit of {most}")
    checked = f"CASE WHEN {size} > {most} THEN {failure} ELSE FALSE END"
    return f"CASE WHEN {checked} THEN NULL ELSE {made} END"


def failing(message: str) -> str:
    """A boolean that cannot be computed, with a message of ours.

    Not DuckDB's ``error``: what may fail so counts as changing from row to row there, which no PARTITION BY
    or ORDER BY of a window may.
    """
    return f"CAST({quoted(REFUSED + message)} AS BOOLEAN)"


REFUSED = "refused: "
"""What a text begins with that stands for a complaint: that it cannot become a boolean is told as that."""


@dataclasses.dataclass(frozen=True, slots=True)
class Lambda:
    """A lambda: its parameters and its body in DuckDB's SQL."""

    names: Sequence[str]
    body: str


class NullConstantError(Exception):
    """An argument that has to be a constant text is null: so is the call, whose author answers."""


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One call of a function.

    Attributes:
        name: as written.
        arguments: the arguments in DuckDB's SQL.
        constants: per argument, its text if it is a constant text.
        types: per argument, its type as far as it is known.
        now: the statement's moment, as a timestamp literal.
        lambdas: per argument, its pieces if it is a lambda.
        zone: the time zone that times are written in; empty for UTC.
    """

    name: str
    arguments: Sequence[str]
    constants: Sequence[str | None]
    types: Sequence[SqlType]
    now: str
    lambdas: Sequence[Lambda | None] = ()
    zone: str = ""

    def __len__(self) -> int:
        return len(self.arguments)

    def __getitem__(self, index: int) -> str:
        """An argument in DuckDB's SQL."""
        return self.arguments[index]

    def kind(self, index: int) -> str:
        """What is known of an argument's type."""
        return self.types[index].kind if index < len(self.types) else ""

    def constant(self, index: int, what: str) -> str:
        """An argument that has to be a constant text.

        Raises:
            InvalidArgumentError: it is something else.
            NullConstantError: it is null.
        """
        if self.kind(index) == "null":
            raise NullConstantError
        result = self.constants[index]
        if result is None:
            raise InvalidArgumentError(f"{self.name} needs a constant text for its {what}")
        return result

    def number(self, index: int, what: str) -> int:
        """An argument that has to be a constant whole number.

        Raises:
            InvalidArgumentError: it is something else.
        """
        text = self.arguments[index].replace(" ", "").strip("()")
        if not re.fullmatch(r"-?\d{1,18}", text):
            raise InvalidArgumentError(f"{self.name} needs a constant whole number for its {what}")
        return int(text)

    def function(self, index: int, parameters: Sequence[int]) -> Lambda:
        """An argument that has to be a lambda.

        Raises:
            InvalidArgumentError: it is something else, or has another number of parameters.
        """
        result = self.lambdas[index] if index < len(self.lambdas) else None
        if result is None:
            raise InvalidArgumentError(
                f"{self.name} needs a lambda (x -> ..) as its argument {index + 1}"
            )
        if len(result.names) not in parameters:
            raise InvalidArgumentError(
                f"the lambda of {self.name} takes {parameters[0]} parameters, not {len(result.names)}"
            )
        return result

    def text(self, index: int) -> str:
        """An argument as text."""
        if self.kind(index) == "text":
            return self.arguments[index]
        if self.kind(index) in {"binary", "decimal", "array", "map", "struct"}:
            return converted(self.arguments[index], self.types[index], STRING)
        return f"CAST({self.arguments[index]} AS VARCHAR)"

    def texts(self, index: int) -> str:
        """An array of texts, each as `text` writes it."""
        element = self.types[index].element
        if element.kind == "text":
            return self.arguments[index]
        each = dataclasses.replace(self, arguments=["x_"], types=[element]).text(0)
        return f"list_transform({self.arguments[index]}, lambda x_: {each})"

    def moment(self, index: int) -> str:
        """An argument as a time; text is read as one, what is none is null."""
        text = self.arguments[index]
        if self.kind(index) == "date":
            return text
        if self.kind(index) == "time":
            # DuckDB would take milliseconds to nanoseconds, which end in the year 2262.
            return f"CAST({text} AS TIMESTAMP)"
        return f"TRY_CAST({moment_text(text, self.zone) if self.kind(index) == 'text' else text} AS TIMESTAMP)"

    def day(self, index: int) -> str:
        """An argument as a date."""
        if self.kind(index) == "date":
            return self.arguments[index]
        text = self.arguments[index]
        return f"TRY_CAST({moment_text(text, self.zone) if self.kind(index) == 'text' else text} AS DATE)"


Result = str | Callable[[Sequence[SqlType]], SqlType]

_RESULTS: dict[str, SqlType] = {
    "text": STRING,
    "whole": BIGINT,
    "int": INT,
    "double": DOUBLE,
    "boolean": BOOLEAN,
    "date": DATE,
    "time": DATETIME,
    "binary": BINARY,
    "array": SqlType("ARRAY"),
    "map": SqlType("MAP"),
    "": UNKNOWN,
}

_TAKES = {"t": STRING, "d": DOUBLE, "w": BIGINT, "n": DOUBLE, "b": BOOLEAN}


@dataclasses.dataclass(frozen=True, slots=True)
class Function:
    """A function: how many arguments it takes and what it becomes.

    Attributes:
        least, most: of the arguments; None for any number.
        make: a template, or a function of the call. A template has ``{0}``, ``{1}``, ... for the
            arguments and ``{*}`` for all of them; an aggregate's also ``{distinct}``, ``{nulls}``,
            ``{order}`` and ``{over}``.
        result: its type: a kind, ``first`` or ``common`` for that of its arguments, or a function of
            their types.
        takes: per argument a letter, the last one for all that follow: ``t`` text, ``w`` a whole
            number, ``d`` a DOUBLE, ``n`` a number, ``b`` a boolean, ``a`` an ARRAY, ``m`` a MAP, ``c`` an
            ARRAY or a MAP, ``e`` an element of the first argument, ``.`` as it is.
        aggregate: whether it may have OVER, FILTER and DISTINCT.
    """

    least: int
    most: int | None
    make: str | Callable[[Call], str]
    result: Result = ""
    takes: str = "."
    aggregate: bool = False

    def type(self, types: Sequence[SqlType]) -> SqlType:
        """The type of a call with arguments of these types."""
        if callable(self.result):
            return self.result(types)
        if self.result == "first":
            return types[0] if types else UNKNOWN
        if self.result == "common":
            return common_type(types)
        return _RESULTS[self.result]

    def sql(
        self,
        call: Call,
        *,
        over: str = "",
        nulls: str = "",
        order: str = "",
        distinct: bool = False,
    ) -> str:
        """The call in DuckDB's SQL.

        Args:
            call: the call.
            over: FILTER and OVER, as they stand behind an aggregate.
            nulls: IGNORE NULLS, as it stands inside a window function.
            order: ORDER BY, as it stands inside an aggregate.
            distinct: whether an aggregate takes each value once.

        Raises:
            InvalidArgumentError: the number of arguments is wrong, or a constant means nothing.
        """
        count = len(call.arguments)
        if count < self.least or (self.most is not None and count > self.most):
            wanted = str(self.least) if self.most == self.least else f"{self.least} to {self.most}"
            if self.most is None:
                wanted = f"at least {self.least}"
            raise InvalidArgumentError(
                f"{call.name} takes {counted_arguments(wanted)}, not {count}"
            )
        arguments = [self._argument(call, index) for index in range(count)]
        call = dataclasses.replace(call, arguments=arguments)
        made = self.make
        if callable(made):
            try:
                made = made(call)
            except NullConstantError:
                return f"CAST(NULL AS {self.type(call.types).duck() or 'VARCHAR'})"
            if not self.aggregate:
                return made
        indices = {
            "*": ", ".join(arguments),
            "over": over,
            "nulls": nulls,
            "order": f" {order}" if order else "",
            "distinct": "DISTINCT " if distinct else "",
            **{str(index): text for index, text in enumerate(arguments)},
        }
        # In one pass: what an argument says is never a place of the template.
        return _PLACEHOLDER.sub(lambda match: indices[match[1]], made)

    def _argument(self, call: Call, index: int) -> str:
        letter = self.takes[min(index, len(self.takes) - 1)]
        text, given = (
            call.arguments[index],
            call.types[index] if index < len(call.types) else UNKNOWN,
        )
        if letter == "." or given.kind == "null":
            return text
        if letter in _COLLECTIONS:
            kinds, what = _COLLECTIONS[letter]
            if given.kind and given.kind not in kinds:
                raise InvalidArgumentError(
                    f"{call.name} takes {what} as its argument {index + 1}, not a value of type {given}"
                )
            return text
        if letter == "e":
            element = call.types[0].element if call.types[0].kind == "array" else UNKNOWN
            both = {given.kind, element.kind}
            if element.duck() and "text" in both and len(both - {""}) > 1:
                return converted(text, given, element, call.zone)
            return text
        if letter == "t":
            return call.text(index)
        wanted = _TAKES[letter]
        if letter == "n":
            return converted(text, given, DOUBLE, call.zone) if given.kind == "text" else text
        if letter == "d" and given.kind in {"whole", "decimal"}:
            return f"CAST({text} AS DOUBLE)"
        if given.kind == wanted.kind:
            return text
        return converted(text, given, wanted, call.zone)


_COLLECTIONS = {
    "a": (frozenset({"array"}), "an ARRAY"),
    "m": (frozenset({"map"}), "a MAP"),
    "c": (frozenset({"array", "map"}), "an ARRAY or a MAP"),
}

_PLACEHOLDER = re.compile(r"\{(\*|\d+|over|nulls|order|distinct)\}")


def refused(message: str) -> Callable[[Call], str]:
    """A function that is known and not supported."""

    def make(call: Call) -> str:
        raise InvalidArgumentError(message.format(name=call.name))

    return make
