"""What is wrong with a text of SQL, in our words: what, where, near which text.

Before it is parsed its tokens say some of it: how it begins, what is open, what is missing. The grammar passes over
some of these, and of others it could say only where it gave up, which is further on. What it does complain
about is said anew. Tokens are sqlglot's; this module knows nothing of them but their text, kind and location.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fletching.errors import SqlSyntaxError
from fletching.sql.parsing.near_names import did_you_mean, nearest

if TYPE_CHECKING:
    from sqlglot.tokenizer_core import Token

__all__ = ["PIECE", "QUOTED", "check_tokens", "location_of_token", "meant_keyword", "syntax_error"]

QUOTED = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]*`|--[^\n]*|/\*.*?\*/"""
"""A text, a name or a comment, as a pattern in which ``.`` is any character: nothing in one counts."""

PIECE = re.compile(f"{QUOTED}|.", re.DOTALL)
"""One of these, or one character: of what is not closed the first one."""

_BEGINNINGS = (
    *("SELECT", "WITH", "FROM", "VALUES", "INSERT", "CREATE", "DROP", "ALTER", "DELETE", "UPDATE"),
    *("MERGE", "SHOW", "DESC", "DESCRIBE", "TRUNCATE", "CLONE", "ANALYZE", "USE", "SET", "EXPLAIN"),
)
_CREATED = ("TABLE", "VIEW", "SCHEMA", "OR", "EXTERNAL", "TEMPORARY", "MATERIALIZED", "FUNCTION")
_KEYWORDS = (
    *_BEGINNINGS,
    *(
        "WHERE",
        "GROUP",
        "ORDER",
        "HAVING",
        "LIMIT",
        "OFFSET",
        "JOIN",
        "UNION",
        "INTERSECT",
        "EXCEPT",
    ),
    *("INTO", "OVERWRITE", "PARTITION", "PARTITIONED", "LATERAL", "VIEW", "TABLE", "DISTINCT"),
    *(
        "BETWEEN",
        "OVER",
        "QUALIFY",
        "USING",
        "WHEN",
        "MATCHED",
        "THEN",
        "ELSE",
        "LIKE",
        "LIFECYCLE",
    ),
    *("COMMENT", "TBLPROPERTIES", "LEFT", "RIGHT", "INNER", "OUTER", "CROSS", "ROWS", "PRECEDING"),
)

_WANTS_MORE = frozenset(
    {
        *("ON", "WHERE", "HAVING", "GROUP_BY", "ORDER_BY", "PARTITION_BY", "QUALIFY", "AND", "OR"),
        *("COMMA", "SELECT", "OVER"),
    }
)
_BEGINS_ANEW = frozenset(
    {
        *("R_PAREN", "COMMA", "FROM", "WHERE", "HAVING", "GROUP_BY", "ORDER_BY", "QUALIFY"),
        *("LIMIT", "UNION", "AND", "OR"),
    }
)
_OPENING = {"L_PAREN": "R_PAREN", "L_BRACKET": "R_BRACKET", "L_BRACE": "R_BRACE"}

_RANGES = {"TINYINT": 8, "SMALLINT": 16, "INT": 32, "BIGINT": 64}
"""Bits of the types that a suffix gives a whole number."""


def location_of_token(token: Token) -> str:
    """Where a token begins, in words."""
    # sqlglot counts to a token's last character.
    return f"line {token.line}, column {token.col - (token.end - token.start)}"


def check_tokens(chunk: Sequence[Token], text: str) -> None:
    """Refuses a statement that cannot be one.

    Args:
        chunk: its tokens.
        text: what they stand in.

    Raises:
        SqlSyntaxError: with the word and its place.
    """
    _check_beginning(chunk)
    _check_pairs(chunk)
    _check_clauses(chunk)
    for token, after in zip(chunk, [*chunk[1:], None], strict=True):
        kind, then = token.token_type.name, None if after is None else after.token_type.name
        if kind in _WANTS_MORE and (then is None or then in _BEGINS_ANEW):
            raise _wrong(f"something is missing behind {token.text!r}", token)
        if kind == "ALIAS" and then in {None, "COMMA", "R_PAREN"}:
            raise _wrong(f"a name is missing behind {token.text!r}", token)
        if kind in {"ROWS", "RANGE"} and then == "BETWEEN":
            _check_frame(chunk, token)
        if kind == "NUMBER" and "e" in token.text.lower() and not _has_double(token.text):
            raise _wrong(f"{token.text[:40]!r} is beyond DOUBLE", token)
        if (
            kind == "NUMBER"
            and after is not None
            and then == "DCOLON"
            and after.start == token.start
        ):
            _check_suffix(token, chunk, text)


def _has_double(text: str) -> bool:
    """Whether a number is near to a DOUBLE: infinity is near to none, and zero to no other one."""
    try:
        value = float(text)
    except ValueError:
        return True  # it is another check's
    digits = text.lower().partition("e")[0]
    return not math.isinf(value) and (value != 0 or not digits.strip("0."))


def _check_beginning(chunk: Sequence[Token]) -> None:
    first, word = chunk[0], str(chunk[0].text)
    if first.token_type.name in {"L_PAREN", "PARAMETER"}:
        return
    upper = word.upper()
    if upper not in _BEGINNINGS or first.token_type.name in {"STRING", "IDENTIFIER"}:
        near = did_you_mean(word, _BEGINNINGS)
        raise _wrong(f"no statement begins with {word[:40]!r}{near}", first, ",")
    kinds = [token.token_type.name for token in chunk[:4]]
    if kinds[:1] == ["WITH"] and kinds[2:] == ["L_PAREN", "SELECT"]:
        raise _wrong(f"AS is missing behind {str(chunk[1].text)[:40]!r}", chunk[1], ",")
    if upper in {"CREATE", "DROP"}:
        what = str(chunk[1].text) if len(chunk) > 1 else ""
        if what.upper() not in _CREATED:
            shown = f" {what[:40]!r}" if what else ""
            near = did_you_mean(what, _CREATED)
            token = chunk[min(1, len(chunk) - 1)]
            raise _wrong(
                f"{upper}{shown} is not supported; {upper} TABLE, VIEW and SCHEMA are{near}",
                token,
                ",",
            )


def _check_pairs(chunk: Sequence[Token]) -> None:
    """Every parenthesis has its partner."""
    opened: list[Token] = []
    for token in chunk:
        kind = token.token_type.name
        if kind in _OPENING:
            opened.append(token)
        elif kind in _OPENING.values():
            if not opened or _OPENING[opened[-1].token_type.name] != kind:
                raise _wrong(f"{token.text!r} closes nothing", token, ",")
            opened.pop()
    if opened:
        raise _wrong(f"{opened[-1].text!r} is not closed", opened[-1], ",")


def _check_clauses(chunk: Sequence[Token]) -> None:
    """GROUP and ORDER have their BY, and LIMIT its number: behind a name they are not another name for it."""
    if chunk[0].text.upper() not in _QUERIES:
        return
    for before, token, after in zip(chunk, chunk[1:], [*chunk[2:], None], strict=False):
        lacks = _LACKED.get(token.text.upper())
        kind = token.token_type.name
        if lacks is None or kind not in {"VAR", "LIMIT"} or before.text.upper() == "WITHIN":
            continue
        ends = after is None or after.token_type.name in _BEGINS_ANEW or lacks == "BY"
        if before.token_type.name in _ENDS_A_VALUE and ends:
            raise _wrong(f"{lacks} is missing behind {token.text!r}", token)


_QUERIES = frozenset({"SELECT", "WITH", "FROM", "INSERT", "("})
_LACKED = {"GROUP": "BY", "ORDER": "BY", "LIMIT": "a number"}
_ENDS_A_VALUE = frozenset({"VAR", "IDENTIFIER", "R_PAREN", "R_BRACKET", "STAR", "NUMBER", "STRING"})


def _check_frame(chunk: Sequence[Token], rows: Token) -> None:
    """``ROWS BETWEEN`` has its two ends."""
    depth = 0
    for token in chunk[list(chunk).index(rows) + 1 :]:
        kind = token.token_type.name
        depth += (kind == "L_PAREN") - (kind == "R_PAREN")
        if depth == 0 and kind == "AND":
            return
        if depth < 0:
            break
    raise _wrong(f"{rows.text.upper()} BETWEEN lacks AND and the frame's other end", rows, ",")


def _check_suffix(token: Token, chunk: Sequence[Token], text: str) -> None:
    """A number with the suffix of a whole type is one of its values."""
    index = next(i for i, item in enumerate(chunk) if item is token)
    bits = _RANGES.get(chunk[index + 2].token_type.name) if index + 2 < len(chunk) else None
    if bits is None:
        return
    digits = str(token.text)
    # The smallest value is written as the negative of a number that is beyond the greatest.
    signed = index > 0 and chunk[index - 1].token_type.name == "DASH"
    if not digits.isdecimal() or int(digits[:25]) >= (1 << (bits - 1)) + signed:
        written = text[token.start : token.end + 1][:40]
        kind = chunk[index + 2].token_type.name
        raise _wrong(f"{written!r} is no {kind}", token, ",")


def _wrong(what: str, token: Token, between: str = ",") -> SqlSyntaxError:
    return SqlSyntaxError(
        f"the statement cannot be parsed: {what}{between} at {location_of_token(token)}"
    )


def meant_keyword(chunk: Sequence[Token], line: int, column: int) -> str:
    """The end of a message about a place where parsing stopped, if a word before it looks like a keyword.

    ``SELECT a FORM t`` stops at ``t``, since ``FORM`` may be the name of the column.
    """
    stop = len(chunk)
    for i, token in enumerate(chunk):
        if (token.line, token.col) >= (line, column):
            stop = i
            break
    for token in reversed(chunk[max(stop - 2, 0) : stop + 1]):
        if token.token_type.name != "VAR" or token.text.upper() in _KEYWORDS:
            continue
        near = nearest(token.text, _KEYWORDS)
        if near:
            return f"; did you mean {' or '.join(near)} for {token.text[:40]!r}?"
    return ""


_MESSAGES: Mapping[str, str] = {
    r"^Expecting (?P<n>\S{1,20})$": "{n!r} is expected",
    r"^Expected table name": "the name of a table is expected",
    r"^Expected AS after CAST": "AS and a type are expected in CAST",
    r"^Expected TYPE after CAST": "a type is expected",
    r"^Expected END after CASE": "CASE lacks WHEN, THEN or END",
    r"^Failed to parse any statement following CTE": "WITH lacks the query behind it",
    r"^The number of provided arguments": "there are too many arguments",
    r"^(?:Invalid expression / )?Unexpected token": "unexpected",
    r"^Required keyword|<class": "something is missing",
    r"^(?P<n>expected [A-Z]+ behind .*)$": "{n}",
}
"""Patterns of its descriptions; of what none fits, nothing is repeated but the place."""


def syntax_error(
    error: Exception, what: str, source: str, before: int = 0, tokens: Sequence[Token] = ()
) -> SqlSyntaxError:
    """An error of ours for one of sqlglot's.

    Args:
        error: its error.
        what: what was parsed, such as ``statement``.
        source: its text.
        before: characters that stand before its first line and are not its own.
        tokens: the words of the statement.
    """
    details = getattr(error, "errors", None)
    if details:
        text = _placed(details[0], before, tokens)
    elif str(error).startswith("Error tokenizing"):
        text = _unclosed(source)
    else:
        text = "it is no SQL that is known here, at line 1, column 1"
    return SqlSyntaxError(f"the {what} cannot be parsed: {text[:300]}")


def _placed(details: Mapping[str, str | int], before: int, tokens: Sequence[Token]) -> str:
    line, last = int(details.get("line") or 1), int(details.get("col") or 1)
    near = str(details.get("highlight") or "")
    column = last - max(len(near) - 1, 0) if "\n" not in near else last
    if line == 1:
        column = max(column - before, 1)
    text = f"{_message(str(details.get('description')))} at line {line}, column {column}"
    near = near.strip()
    if near:
        text += f", near {near[:60]!r}"
    return text + meant_keyword(tokens, line, last)


def _message(description: str) -> str:
    for pattern, message in _MESSAGES.items():
        match = re.search(pattern, description)
        if match is not None:
            return message.format(**match.groupdict())
    return "something does not belong"


def _unclosed(text: str) -> str:
    """What a text that cannot be cut into words has too little of, and where it begins."""
    for match in PIECE.finditer(text):
        if match[0] in {"'", '"', "`"} or (
            text.startswith("/*", match.start()) and len(match[0]) == 1
        ):
            line = text.count("\n", 0, match.start()) + 1
            column = match.start() - text.rfind("\n", 0, match.start())
            what = "comment" if match[0] == "/" else "quote"
            near = text[match.start() : match.start() + 40].split("\n", maxsplit=1)[0]
            return f"a {what} is not closed, at line {line}, column {column}, near {near!r}"
    return "a character that means nothing, at line 1"
