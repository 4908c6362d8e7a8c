"""What DuckDB says of a statement, in our words: MaxCompute's types, no class, no piece of our own SQL."""

from __future__ import annotations

import re
from collections.abc import Mapping

import duckdb

from fletching.engine.query.query_limits import QueryLimits
from fletching.errors import FletchingError, InvalidArgumentError, SqlSyntaxError

__all__ = ["complaint_of"]

_PREFIX = re.compile(r"^[A-Za-z ]+(?:Error|Exception): ")
_CUTS = re.compile(
    r"\n\n?LINE |\n\n?\s*Candidate| Candidate bindings?:| when casting from source column"
    r"| You might need to add explicit type casts| - scalar subqueries can| Use \"SET "
    r"| Consider (?:using|adding|casting)|\nDid you mean"
)

_TYPES: Mapping[str, str] = {
    "INTEGER_LITERAL": "INT",
    "STRING_LITERAL": "STRING",
    "INTEGER": "INT",
    "INT8": "TINYINT",
    "INT16": "SMALLINT",
    "INT32": "INT",
    "INT64": "BIGINT",
    "INT128": "DECIMAL(38,0)",
    "HUGEINT": "DECIMAL(38,0)",
    "VARCHAR": "STRING",
    "BLOB": "BINARY",
    "TIMESTAMP_MS": "DATETIME",
    "TIMESTAMP_S": "DATETIME",
    "TIMESTAMP_NS": "TIMESTAMP",
    "BOOL": "BOOLEAN",
    "UNNEST": "explode",
    "LIST": "ARRAY",
}
_TYPE = re.compile(r"\b(?:" + "|".join(_TYPES) + r")\b")

_MESSAGES: Mapping[str, str] = {
    r"Referenced column \"(?P<n>[^\"]+)\"(?: was)? not found": "there is no column {n}",
    r"Referenced table \"(?P<n>[^\"]+)\" not found": "there is no table or alias {n} here",
    r"(?:Values list|Table) \"(?P<n>[^\"]+)\" does not have a column named \"(?P<m>[^\"]+)\"": (
        "there is no column {m} in {n}"
    ),
    r"Column \"(?P<n>[^\"]+)\" in \w+ list not found": "there is no column {n}",
    r"Ambiguous reference to column name \"(?P<n>[^\"]+)\"": "the column {n} is ambiguous",
    r"column \"(?P<n>[^\"]+)\" must appear in the GROUP BY": (
        "the column {n} is neither grouped by nor inside an aggregate"
    ),
    r"No function matches the given name and argument types '(?P<n>[^(']+)\((?P<t>.*)\)'": (
        "{n} does not take values of the types {t}"
    ),
    r"Could not choose a best candidate function for the function call \"(?P<n>[^(]+)\((?P<t>.*)\)\"": (
        "{n} does not take values of the types {t}"
    ),
    r"Cannot compare values of type (?P<n>.+?) and (?:values of )?type (?P<m>.+?)(?: - .*|\.?$)": (
        "values of the types {n} and {m} cannot be compared"
    ),
    r"Cannot deduce template type|Cannot create a list of types": (
        "values of types that do not go together stand in one array"
    ),
    r"UNNEST\(\) can only be applied to lists": "explode takes an array or a map",
    r"Cannot extract field '(?P<n>[^']+)' from expression \"(?P<m>[^\"]+)\"": (
        "{m} is no STRUCT: it has no field {n}"
    ),
    r"Unimplemented type for cast \((?P<n>.+) -> (?P<m>.+)\)": (
        "values of the type {n} cannot become {m}"
    ),
    r"Type (?P<t>.+) with value (?P<n>\S+) can't be cast because the value is out of range for the destination"
    r" type (?P<m>\S+)": "{n} is out of range of {m}",
    r"Type (?P<t>.+) with value '?(?P<n>.+?)'? can't be cast to the destination type (?P<m>\S+)": (
        "'{n}' is no {m}"
    ),
    r"Star expression \"COLUMNS.*(?:resulted in|empty)|No matching columns": (
        "the pattern in backticks fits no column"
    ),
    r"STAR expression is only allowed": "* stands alone, or in count(*)",
    r"SELECT clause without selection list": "SELECT lacks what it selects",
    r"Ambiguous reference to table \"(?P<n>[^\"]+)\"": "several tables are called {n} here",
    r"Duplicate CTE name \"(?P<n>[^\"]+)\"": "WITH has two queries of the CTE name {n}",
    r"window \"(?P<n>[^\"]+)\" does not exist": "there is no window {n}",
    r"Could not find key \"?(?P<n>[^\" ]+)\"? in struct": "there is no field {n}",
    r"Invalid LIST argument during lambda": "a function with a lambda takes an array first",
    r"More than one row returned by a subquery": (
        "a subquery that stands for one value has more than one row"
    ),
    r"Subquery returns (?P<n>\d+) columns - expected (?P<m>\d+)": (
        "a subquery has {n} columns where {m} are expected"
    ),
    r"Set operations can only apply": "the queries of a set operation have different numbers of columns",
    r"Window functions are not supported here": "a window function takes OVER (..)",
    r"QUANTILE can only take parameters": "a percentile is between 0 and 1",
    r"Values were not provided for the following parameters": (
        "there is no value for a parameter of the text"
    ),
    r"VALUES lists must all be the same length": "the rows of VALUES have different numbers of columns",
    r"Unknown TimeZone '(?P<n>[^']*)'": (
        "there is no time zone '{n}'; they are named as in Asia/Shanghai, PST, GMT+8 or +05:30"
    ),
    r"Could not convert Timestamp to higher precision": (
        "a DATETIME stands beside a TIMESTAMP, which counts nanoseconds from 1677 to 2262, and is not in those years"
    ),
    # What a function of ours refuses, as `fletching.sql.functions.function_calls.failing` writes it.
    r"Could not convert string 'refused: (?P<n>.*)' to BOOL": "{n}",
    r"(?P<n>Could not (?:convert|cast) .*)": "{n}",
    r"argument in function \"\w+\" must be a constant expression": (
        "what is put between texts has to be constant"
    ),
    r"(?:ORDER|PARTITION) BY window expressions cannot be volatile": (
        "a window is not ordered or divided by what is random: compute that in a subquery first"
    ),
    r"^(?P<n>missing [\])].*|bad .*|no argument for .*|invalid (?:escape|perl|char|repeat|nam|rep).*|trailing .*)$": (
        "the pattern is no regular expression that is known here: {n}"
    ),
}


def complaint_of(error: BaseException, limits: QueryLimits) -> FletchingError:
    """An error of ours for one of DuckDB's."""
    if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory" in str(error):
        return InvalidArgumentError(
            f"the statement needs more than the {limits.memory_bytes >> 20} MiB of memory and"
            f" {limits.spill_bytes >> 20} MiB of temporary files that it may use"
        )
    text = _plain(error)
    for pattern, message in _MESSAGES.items():
        match = re.search(pattern, text)
        if match is not None:
            values = {key: value or "*" for key, value in match.groupdict().items()}
            return InvalidArgumentError(_typed(message.format(**values)))
    if isinstance(error, duckdb.ParserException):
        near = re.search(r"at or near \"([^\"]*)\"", text)
        what = f"a clause before {near[1]!r} is incomplete" if near else _typed(text)
        return SqlSyntaxError(f"the statement cannot be parsed: {what}")
    return InvalidArgumentError(_typed(text) or "the statement cannot be run")


def _plain(error: BaseException) -> str:
    """A message without the class and the piece of our own SQL that it quotes."""
    text = _CUTS.split(str(error))[0]
    text = _PREFIX.sub("", text)
    text = re.sub(r"\b_scan\d+\b", "the table", text)
    return " ".join(text.split())[:600].rstrip(" !.,")


def _typed(text: str) -> str:
    """A message with the dialect's names of types."""
    text = _TYPE.sub(lambda match: _TYPES[match[0]], text)
    return re.sub(r"\b([A-Z]+(?:\([\d, ]+\))?)((?:\[\])+)", _array, text)


def _array(match: re.Match[str]) -> str:
    depth = len(match[2]) // 2
    return "ARRAY<" * depth + match[1] + ">" * depth
