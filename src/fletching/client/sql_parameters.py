"""Values in place of ``?`` and ``:name`` in SQL text, each in the form that means exactly it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pyarrow as pa

from fletching.client.argument_checks import text_of
from fletching.client.reading.filter_text import literal_text
from fletching.client.tabular.python_values import python_array
from fletching.errors import UsageError
from fletching.sql.parsing.syntax_errors import QUOTED

__all__ = ["with_parameters"]

_WORD = re.compile(rf"{QUOTED}|::|\?|:[A-Za-z_]\w*", re.DOTALL)


def with_parameters(text: str, parameters: Sequence[object] | Mapping[str, object] | None) -> str:
    """The text with values in the places of its parameters.

    Args:
        text: SQL with ``?`` for a sequence, ``:name`` for a mapping.
        parameters: Python values or Arrow scalars; a list stands for a list in parentheses.

    Raises:
        UsageError: there are more places than values or the reverse, or a value has no SQL form.
    """
    text_of("a statement", text)
    if parameters is None:
        return text
    if isinstance(parameters, str | bytes) or not isinstance(parameters, Sequence | Mapping):
        raise UsageError(
            f"parameters are a list, or a dict by name, not {type(parameters).__name__}"
        )
    named = isinstance(parameters, Mapping)
    used: set[object] = set()
    count = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal count
        word = match[0]
        if word == "?" and not named:
            if count >= len(parameters):
                raise UsageError(f"the text has more places than the {count} parameters")
            value = parameters[count]  # type: ignore[index]  # a sequence
            used.add(count)
            count += 1
        elif word[0] == ":" and word != "::" and named:
            key = word[1:]
            if key not in parameters:
                raise UsageError(f"there is no value for the parameter :{key}")
            used.add(key)
            value = parameters[key]  # type: ignore[call-overload]  # a mapping
        else:
            return word
        return _literal(value)

    made = _WORD.sub(replace, text)
    unused = len(parameters) - len(used)
    if unused:
        raise UsageError(f"{unused} parameters have no place in the text")
    return made


def _literal(value: object) -> str:
    if isinstance(value, list | tuple | set | frozenset):
        if not value:
            raise UsageError("an empty list has no form in SQL")
        return f"({', '.join(_literal(item) for item in value)})"
    if isinstance(value, pa.Scalar):
        return literal_text(value)
    try:
        # As a value of a column: pyarrow's own scalars drop what pandas' moments have below a microsecond.
        (scalar,) = python_array([value], None, "parameter")
    except UsageError as error:
        raise UsageError(f"a {type(value).__name__} has no form in SQL") from error
    return literal_text(scalar)
