"""Statements read word by word from their tokens; each complaint names the word where it stopped making sense."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from fletching.errors import InvalidArgumentError, SqlSyntaxError, UsageError
from fletching.protocol.types.arrow_types import arrow_field
from fletching.protocol.types.odps_types import OdpsType, TypeScanner
from fletching.sql.parsing.dialect import MAX_SQL_TEXT, Parsed
from fletching.sql.parsing.near_names import did_you_mean
from fletching.sql.statements.statement_kinds import Namespace
from fletching.types import PartitionSpec, TableName

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["TokenReader", "qualified"]


def qualified(parts: Sequence[str], namespace: Namespace) -> TableName:
    """The table that a name of one to three parts stands for."""
    if len(parts) == 3:
        return TableName(parts[0], parts[2], parts[1])
    if len(parts) == 2 and namespace.schemas_enabled:
        return TableName(namespace.project, parts[1], parts[0])
    project = parts[0] if len(parts) == 2 else namespace.project
    return TableName(project, parts[-1], namespace.schema)


_T = TypeVar("_T")


class TokenReader:
    """Reads the pieces that statements about tables are made of."""

    def __init__(self, parsed: Parsed, namespace: Namespace) -> None:
        self._tokens = list(parsed.tokens)
        self._source = parsed.source
        self._position = 0
        self._namespace = namespace

    # --- words -------------------------------------------------------------------------------

    def word(self, ahead: int = 0) -> str:
        """A word ahead, in upper case; empty behind the end."""
        position = self._position + ahead
        return str(self._tokens[position].text).upper() if position < len(self._tokens) else ""

    def take(self, *words: str) -> bool:
        """Goes past these words, if they are next."""
        if all(self.word(i) == word and not self.is_text(i) for i, word in enumerate(words)):
            self._position += len(words)
            return True
        return False

    def need(self, *words: str) -> None:
        """Goes past words that have to be next."""
        for word in words:
            if not self.take(word):
                raise self.wrong(f"{word} is expected")

    def is_text(self, ahead: int = 0) -> bool:
        """Whether a word ahead is a text in quotes."""
        position = self._position + ahead
        return position < len(self._tokens) and self._tokens[position].token_type.name == "STRING"

    def wrong(self, what: str) -> SqlSyntaxError:
        """An error about the word that is next."""
        position = min(self._position, len(self._tokens) - 1)
        token = self._tokens[position]
        column = token.col - (token.end - token.start)
        where = f"at line {token.line}, column {column}"
        if self._position >= len(self._tokens):
            return SqlSyntaxError(f"the statement cannot be parsed: {what} at its end, {where}")
        near = self._source[token.start :].split("\n")[0][:40].strip()
        return SqlSyntaxError(f"the statement cannot be parsed: {what} {where}, near {near!r}")

    def end(self) -> None:
        """Refuses what is behind the statement."""
        if self._position < len(self._tokens):
            raise self.wrong("the statement should end")

    def name(self, what: str = "a name") -> str:
        """A name, which is next."""
        if self._position >= len(self._tokens) or self.is_text() or not self.named():
            raise self.wrong(f"{what} is expected")
        self._position += 1
        return str(self._tokens[self._position - 1].text)

    def named(self) -> bool:
        """Whether a name is next."""
        token = self._tokens[self._position]
        return token.token_type.name == "IDENTIFIER" or token.text.replace("_", "a").isalnum()

    def text(self, what: str) -> str:
        """A text in quotes, which is next."""
        if not self.is_text():
            raise self.wrong(f"{what} in quotes is expected")
        self._position += 1
        return str(self._tokens[self._position - 1].text)

    def number(self, what: str) -> int:
        """A whole number, which is next."""
        text = self.word()
        if not (text.isascii() and text.isdigit()) or int(text[:19]) >= 2**31:
            raise InvalidArgumentError(f"{what} needs a whole number")
        self._position += 1
        return int(text)

    def parts(self) -> list[str]:
        """The parts of a table's name."""
        parts = [self.name("the name of a table")]
        while self.take("."):
            parts.append(self.name("the rest of a name"))
            if len(parts) > 3:
                raise self.wrong("a name has at most three parts")
        return parts

    def table(self) -> TableName:
        """A table by its name."""
        return qualified(self.parts(), self._namespace)

    def exists(self) -> bool:
        """Goes past IF EXISTS, if it is next."""
        return self.take("IF", "EXISTS")

    def listed(self, read: Callable[[], _T]) -> list[_T]:
        """Items in parentheses with commas between them."""
        self.need("(")
        result = [read()]
        while self.take(","):
            result.append(read())
        self.need(")")
        return result

    # --- pieces ------------------------------------------------------------------------------

    def partition(self) -> PartitionSpec:
        """``PARTITION (a='1', b=2)``, from its parenthesis on."""
        items = self.listed(self.partition_item)
        if len({name.lower() for name, _ in items}) != len(items):
            raise InvalidArgumentError("a partition names each of its columns once")
        return PartitionSpec(tuple(items))

    def partition_item(self) -> tuple[str, str]:
        """One column and its value."""
        name = self.name("a partition column")
        if not self.take("=") and not self.take("=="):
            raise self.wrong("a partition is given as column='value'; = is expected")
        return name, self.value()

    def value(self) -> str:
        """A plain value: a text, a number, a word like true."""
        sign = "-" if self.take("-") else ""
        if self._position >= len(self._tokens) or self.word() in {"(", ")", ","}:
            raise self.wrong("a value is expected")
        self._position += 1
        return sign + str(self._tokens[self._position - 1].text)

    def partitions(self) -> list[PartitionSpec]:
        """``PARTITION (..) [,] PARTITION (..)``; empty if there is none."""
        result: list[PartitionSpec] = []
        while self.take("PARTITION"):
            result.append(self.partition())
            self.take(",")
        return result

    def odps_type(self) -> OdpsType:
        """A type, which is next."""
        if self._position >= len(self._tokens) or not self.named():
            raise self.wrong("a type is expected")
        start = self._tokens[self._position].start
        try:
            end = self._tokens[-1].end + 1
            scanner = TypeScanner(self._source[:end], start, max_length=MAX_SQL_TEXT)
            result = scanner.type()
        except UsageError as error:
            raise self.wrong(f"{self.word()[:40].lower()!r} is no type") from error
        while (
            self._position < len(self._tokens)
            and self._tokens[self._position].start < scanner.token_start
        ):
            self._position += 1
        return result

    def column(self) -> pa.Field:
        """A column with its type and what is said of it."""
        name = self.name("the name of a column")
        kind = self.odps_type()
        nullable, comment = True, ""
        while True:
            if self.take("NOT", "NULL"):
                nullable = False
            elif self.take("COMMENT"):
                comment = self.text("a comment")
            elif self.word() == "DEFAULT":
                raise InvalidArgumentError(
                    "a column that is added has no DEFAULT: rows that are there would lack it"
                )
            elif not self.take("NULL"):
                break
        try:
            return arrow_field(name, kind, nullable=nullable, comment=comment)
        except UsageError as error:
            raise InvalidArgumentError(f"column {name}: {error.message}") from error

    def pairs(self) -> dict[str, str]:
        """Properties: names and values in parentheses."""

        def pair() -> tuple[str, str]:
            key = self.text("a property's name") if self.is_text() else self.name()
            self.need("=")
            return key, self.value()

        return dict(self.listed(pair))

    def unknown(self, what: str, known: str) -> InvalidArgumentError:
        """An error about a form that is not known, with those that are."""
        if self._position >= len(self._tokens):
            return InvalidArgumentError(f"{what} lacks what is to be altered: {known} are known")
        token = self._tokens[self._position]
        column = token.col - (token.end - token.start)
        near = did_you_mean(self.word(), re.findall(r"[A-Z]{2,}", known))
        return InvalidArgumentError(
            f"{what} .. {self.word()[:40]} is not supported; {known} are{near}, at line {token.line},"
            f" column {column}"
        )
