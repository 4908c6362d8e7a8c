"""Statements about tables that are no SQL elsewhere: ALTER, SHOW, DESC, TRUNCATE, CLONE, USE, schemas.

They are read from tokens, word by word, since their grammar is MaxCompute's own; each complaint names the word
where the statement stopped making sense.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from fletching.errors import InvalidArgumentError, SqlSyntaxError, UsageError
from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages.admin import (
    AddColumns,
    CreatePartition,
    CreateSchema,
    DescribeTable,
    DropPartition,
    DropSchema,
)
from fletching.protocol.messages.changes import (
    AlterColumn,
    AlterTable,
    CompactTable,
    DropColumns,
    RenameColumn,
    RenameTable,
    TouchTable,
    TruncateTable,
)
from fletching.protocol.messages.requests import Request
from fletching.protocol.types.arrow_types import arrow_field
from fletching.protocol.types.odps_types import OdpsType, TypeScanner
from fletching.sql.clusterings import CLUSTERING, clustering
from fletching.sql.dialect import MAX_SQL_TEXT, Parsed, parse_predicate
from fletching.sql.near_names import did_you_mean
from fletching.sql.statement_kinds import (
    AddMissingColumns,
    Changes,
    Clone,
    DescribeQuery,
    DropPartitions,
    Namespace,
    RenamePartition,
    RowChange,
    ShowCreateQuery,
    ShowFlagsQuery,
    ShowFunctionsQuery,
    ShowHistoryQuery,
    ShowPartitionsQuery,
    ShowSchemasQuery,
    ShowTablesQuery,
    Statement,
    Use,
)
from fletching.types import PartitionSpec, TableName

__all__ = ["alteration_of", "qualified"]


def qualified(parts: Sequence[str], namespace: Namespace) -> TableName:
    """The table that a name of one to three parts stands for."""
    if len(parts) == 3:
        return TableName(parts[0], parts[2], parts[1])
    if len(parts) == 2 and namespace.schemas_enabled:
        return TableName(namespace.project, parts[1], parts[0])
    project = parts[0] if len(parts) == 2 else namespace.project
    return TableName(project, parts[-1], namespace.schema)


def alteration_of(parsed: Parsed, namespace: Namespace) -> Statement:
    """Reads a statement that the dialect left as tokens.

    Raises:
        SqlSyntaxError: a word that does not belong there.
        InvalidArgumentError: it is understood but not supported.
    """
    return _Reader(parsed, namespace).statement()


class _Reader:
    def __init__(self, parsed: Parsed, namespace: Namespace) -> None:
        self._tokens = list(parsed.tokens)
        self._source = parsed.source
        self._place = 0
        self._namespace = namespace

    # --- words -------------------------------------------------------------------------------

    def _word(self, ahead: int = 0) -> str:
        place = self._place + ahead
        return str(self._tokens[place].text).upper() if place < len(self._tokens) else ""

    def _take(self, *words: str) -> bool:
        """Goes past these words, if they are next."""
        if all(self._word(i) == word and not self._is_text(i) for i, word in enumerate(words)):
            self._place += len(words)
            return True
        return False

    def _need(self, *words: str) -> None:
        for word in words:
            if not self._take(word):
                raise self._wrong(f"{word} is expected")

    def _is_text(self, ahead: int = 0) -> bool:
        place = self._place + ahead
        return place < len(self._tokens) and self._tokens[place].token_type.name == "STRING"

    def _wrong(self, what: str) -> SqlSyntaxError:
        place = min(self._place, len(self._tokens) - 1)
        token = self._tokens[place]
        column = token.col - (token.end - token.start)
        where = f"at line {token.line}, column {column}"
        if self._place >= len(self._tokens):
            return SqlSyntaxError(f"the statement cannot be parsed: {what} at its end, {where}")
        near = self._source[token.start :].split("\n")[0][:40].strip()
        return SqlSyntaxError(f"the statement cannot be parsed: {what} {where}, near {near!r}")

    def _end(self) -> None:
        if self._place < len(self._tokens):
            raise self._wrong("the statement should end")

    def _name(self, what: str = "a name") -> str:
        if self._place >= len(self._tokens) or self._is_text() or not self._named():
            raise self._wrong(f"{what} is expected")
        self._place += 1
        return str(self._tokens[self._place - 1].text)

    def _named(self) -> bool:
        token = self._tokens[self._place]
        return token.token_type.name == "IDENTIFIER" or token.text.replace("_", "a").isalnum()

    def _text(self, what: str) -> str:
        if not self._is_text():
            raise self._wrong(f"{what} in quotes is expected")
        self._place += 1
        return str(self._tokens[self._place - 1].text)

    def _number(self, what: str) -> int:
        text = self._word()
        if not text.isdigit() or int(text[:19]) >= 2**31:
            raise InvalidArgumentError(f"{what} needs a whole number")
        self._place += 1
        return int(text)

    def _parts(self) -> list[str]:
        parts = [self._name("the name of a table")]
        while self._take("."):
            parts.append(self._name("the rest of a name"))
            if len(parts) > 3:
                raise self._wrong("a name has at most three parts")
        return parts

    def _table(self) -> TableName:
        return qualified(self._parts(), self._namespace)

    def _exists(self) -> bool:
        return self._take("IF", "EXISTS")

    def _list(self, read: Callable[[], Any]) -> list[Any]:
        """Items in parentheses with commas between them."""
        self._need("(")
        found = [read()]
        while self._take(","):
            found.append(read())
        self._need(")")
        return found

    # --- pieces ------------------------------------------------------------------------------

    def _partition(self) -> PartitionSpec:
        """``PARTITION (a='1', b=2)``, from its parenthesis on."""
        items = self._list(self._partition_item)
        if len({name.lower() for name, _ in items}) != len(items):
            raise InvalidArgumentError("a partition names each of its columns once")
        return PartitionSpec(tuple(items))

    def _partition_item(self) -> tuple[str, str]:
        name = self._name("a partition column")
        if not self._take("=") and not self._take("=="):
            raise self._wrong("a partition is given as column='value'; = is expected")
        return name, self._value()

    def _value(self) -> str:
        """A plain value: a text, a number, a word like true."""
        sign = "-" if self._take("-") else ""
        if self._place >= len(self._tokens) or self._word() in {"(", ")", ","}:
            raise self._wrong("a value is expected")
        self._place += 1
        return sign + str(self._tokens[self._place - 1].text)

    def _partitions(self) -> list[PartitionSpec]:
        """``PARTITION (..) [,] PARTITION (..)``; empty if there is none."""
        found: list[PartitionSpec] = []
        while self._take("PARTITION"):
            found.append(self._partition())
            self._take(",")
        return found

    def _type(self) -> OdpsType:
        if self._place >= len(self._tokens):
            raise self._wrong("a type is expected")
        start = self._tokens[self._place].start
        try:
            end = self._tokens[-1].end + 1
            scanner = TypeScanner(self._source[:end], start, max_length=MAX_SQL_TEXT)
            found = scanner.type()
        except UsageError as error:
            raise self._wrong(f"{self._word()[:40].lower()!r} is no type") from error
        while (
            self._place < len(self._tokens)
            and self._tokens[self._place].start < scanner.token_start
        ):
            self._place += 1
        return found

    def _column(self) -> Any:
        name = self._name("the name of a column")
        kind = self._type()
        nullable, comment = True, ""
        while True:
            if self._take("NOT", "NULL"):
                nullable = False
            elif self._take("COMMENT"):
                comment = self._text("a comment")
            elif self._word() == "DEFAULT":
                raise InvalidArgumentError(
                    "a column that is added has no DEFAULT: rows that are there would lack it"
                )
            elif not self._take("NULL"):
                break
        try:
            return arrow_field(name, kind, nullable=nullable, comment=comment)
        except UsageError as error:
            raise InvalidArgumentError(f"column {name}: {error.message}") from error

    def _pairs(self) -> dict[str, str]:
        def pair() -> tuple[str, str]:
            key = self._text("a property's name") if self._is_text() else self._name()
            self._need("=")
            return key, self._value()

        return dict(self._list(pair))

    # --- statements --------------------------------------------------------------------------

    def statement(self) -> Statement:
        word = self._name("a statement")
        read: Callable[[], Statement] = {
            "ALTER": self._alter,
            "SHOW": self._show,
            "DESC": self._describe,
            "DESCRIBE": self._describe,
            "TRUNCATE": self._truncate,
            "CLONE": self._clone,
            "ANALYZE": self._analyze,
            "USE": self._use,
            "CREATE": self._create_schema,
            "DROP": self._drop_schema,
        }[word.upper()]
        found = read()
        self._end()
        return found

    def _alter(self) -> Statement:
        if self._take("VIEW"):
            table = self._table()
            if self._take("RENAME", "TO"):
                return Changes((RenameTable(table=table, new_name=self._new_name(table)),))
            if self._take("CHANGEOWNER", "TO"):
                return Changes((AlterTable(table=table, owner=self._text("an owner")),))
            raise self._unknown("ALTER VIEW", "RENAME TO and CHANGEOWNER TO")
        self._need("TABLE")
        table = self._table()
        if self._take("PARTITION"):
            return self._alter_partition(table, self._partition())
        if self._take("ADD"):
            return self._add(table)
        if self._take("DROP"):
            return self._drop(table)
        if self._take("CHANGE"):
            self._take("COLUMN")
            return Changes(tuple(self._change(table)))
        if self._take("RENAME", "COLUMN"):
            name = self._name("a column")
            self._need("TO")
            new = self._name("a column")
            return Changes((RenameColumn(table=table, name=name, new_name=new),))
        if self._take("RENAME", "TO"):
            return Changes((RenameTable(table=table, new_name=self._new_name(table)),))
        if self._take("SET"):
            return Changes((self._settings(table),))
        if self._take("UNSET", "TBLPROPERTIES"):
            self._exists()
            names = self._list(lambda: self._text("a property's name"))
            return Changes((AlterTable(table=table, remove_properties=tuple(names)),))
        if self._take("CHANGEOWNER", "TO"):
            return Changes((AlterTable(table=table, owner=self._text("an owner")),))
        if self._take("TOUCH"):
            partitions = self._partitions() or [PartitionSpec()]
            return Changes(tuple(TouchTable(table=table, partition=one) for one in partitions))
        if self._take("MERGE", "SMALLFILES") or self._take("COMPACT", "MINOR"):
            return Changes((CompactTable(table=table),))
        if self._take("COMPACT", "MAJOR"):
            return Changes((CompactTable(table=table, purge=True),))
        if self._take("NOT", "CLUSTERED"):
            return Changes((AlterTable(table=table, remove_properties=(CLUSTERING,)),))
        if self._take("RANGE", "CLUSTERED", "BY"):
            return Changes((self._clustered(table, ranged=True),))
        if self._take("CLUSTERED", "BY"):
            return Changes((self._clustered(table, ranged=False),))
        raise self._unknown(
            "ALTER TABLE",
            "ADD, DROP and CHANGE of columns, ADD, DROP and RENAME of partitions, RENAME TO, SET of LIFECYCLE,"
            " COMMENT and TBLPROPERTIES, CHANGEOWNER TO, CLUSTERED BY, TOUCH, MERGE SMALLFILES and COMPACT",
        )

    def _unknown(self, what: str, known: str) -> InvalidArgumentError:
        if self._place >= len(self._tokens):
            return InvalidArgumentError(f"{what} lacks what is to be altered: {known} are known")
        token = self._tokens[self._place]
        column = token.col - (token.end - token.start)
        near = did_you_mean(self._word(), re.findall(r"[A-Z]{2,}", known))
        return InvalidArgumentError(
            f"{what} .. {self._word()[:40]} is not supported; {known} are{near}, at line {token.line},"
            f" column {column}"
        )

    def _new_name(self, table: TableName) -> str:
        parts = self._parts()
        if len(parts) > 1 and qualified(parts, self._namespace) != TableName(
            table.project, parts[-1], table.schema
        ):
            raise InvalidArgumentError("RENAME TO leaves a table in its project and schema")
        return parts[-1]

    def _alter_partition(self, table: TableName, partition: PartitionSpec) -> Statement:
        if self._take("RENAME", "TO", "PARTITION"):
            return RenamePartition(table, partition, self._partition())
        if self._take("TOUCH"):
            return Changes((TouchTable(table=table, partition=partition),))
        if self._take("MERGE", "SMALLFILES") or self._take("COMPACT", "MINOR"):
            return Changes((CompactTable(table=table),))
        if self._take("COMPACT", "MAJOR"):
            return Changes((CompactTable(table=table, purge=True),))
        raise self._unknown(
            "ALTER TABLE .. PARTITION", "RENAME TO, TOUCH, MERGE SMALLFILES and COMPACT"
        )

    def _add(self, table: TableName) -> Statement:
        missing = self._take("IF", "NOT", "EXISTS")
        if self._word() == "PARTITION":
            partitions = self._partitions()
            return Changes(
                tuple(
                    CreatePartition(table=table, partition=one, if_not_exists=missing)
                    for one in partitions
                )
            )
        if not self._take("COLUMNS") and not self._take("COLUMN"):
            raise self._wrong("COLUMNS or PARTITION is expected")
        missing |= self._take("IF", "NOT", "EXISTS")
        fields = self._list(self._column) if self._word() == "(" else [self._column()]
        request = AddColumns(table=table, arrow_schema=encode_schema(pa.schema(fields)))
        return AddMissingColumns(request) if missing else Changes((request,))

    def _drop(self, table: TableName) -> Statement:
        exists = self._exists()
        if self._take("COLUMNS") or self._take("COLUMN"):
            inside = self._take("(")
            names = [self._name("a column")]
            while self._take(","):
                names.append(self._name("a column"))
            if inside:
                self._need(")")
            return Changes((DropColumns(table=table, names=tuple(names)),))
        if self._word() != "PARTITION":
            raise self._wrong("COLUMNS or PARTITION is expected")
        requests: list[Request] = []
        while self._take("PARTITION"):
            started = self._place
            try:
                partition = self._partition()
            except SqlSyntaxError:
                self._place = started
                if requests:
                    raise
                return DropPartitions(table, self._condition(), exists)
            requests.append(DropPartition(table=table, partition=partition, if_exists=exists))
            self._take(",")
        return Changes(tuple(requests))

    def _condition(self) -> Any:
        """A condition on partition columns in parentheses; a comma means AND."""
        self._need("(")
        first, depth, pieces = self._place, 1, []
        while self._place < len(self._tokens):
            word = self._word()
            depth += (word == "(") - (word == ")")
            if depth == 0:
                break
            if depth == 1 and word == ",":
                pieces.append((first, self._place))
                first = self._place + 1
            self._place += 1
        pieces.append((first, self._place))
        self._need(")")
        if any(start == end for start, end in pieces):
            raise self._wrong("a condition is expected")
        texts = [
            self._source[self._tokens[start].start : self._tokens[end - 1].end + 1]
            for start, end in pieces
        ]
        return parse_predicate(" AND ".join(f"({text})" for text in texts))

    def _change(self, table: TableName) -> Iterator[Request]:
        """CHANGE COLUMN: a new name, type, comment, place, or whether it may be null."""
        name = self._name("a column")
        if self._take("RENAME", "TO"):
            yield RenameColumn(table=table, name=name, new_name=self._name("a column"))
            return
        if self._take("NULL"):
            yield AlterColumn(table=table, name=name, nullable=True)
            return
        if self._take("NOT", "NULL"):
            yield AlterColumn(table=table, name=name, nullable=False)
            return
        if self._word() == "COMMENT" and self._is_text(1):
            self._take("COMMENT")
            yield AlterColumn(table=table, name=name, comment=self._text("a comment"))
            return
        if self._word() in {"SET", "DROP"} and self._word(1) == "DEFAULT":
            raise InvalidArgumentError("the DEFAULT of a column cannot be changed")
        new = self._name("the new name of the column")
        if new.casefold() != name.casefold():
            yield RenameColumn(table=table, name=name, new_name=new)
        kind = comment = after = None
        if self._place < len(self._tokens) and self._word() not in {"COMMENT", "AFTER", "FIRST"}:
            kind = str(self._type())
        while self._place < len(self._tokens):
            if self._take("COMMENT"):
                comment = self._text("a comment")
            elif self._take("AFTER"):
                after = self._name("a column")
            elif self._take("FIRST"):
                after = ""
            else:
                raise self._wrong("COMMENT, AFTER or FIRST is expected")
        if kind is not None or comment is not None or after is not None:
            yield AlterColumn(table=table, name=new, type=kind, comment=comment, after=after)

    def _settings(self, table: TableName) -> Request:
        if self._take("LIFECYCLE"):
            return AlterTable(table=table, lifecycle_days=self._number("LIFECYCLE"))
        if self._take("COMMENT"):
            self._take("=")
            return AlterTable(table=table, comment=self._text("a comment"))
        if self._take("TBLPROPERTIES"):
            return AlterTable(table=table, set_properties=self._pairs())
        raise self._unknown("ALTER TABLE .. SET", "LIFECYCLE, COMMENT and TBLPROPERTIES")

    def _clustered(self, table: TableName, *, ranged: bool) -> Request:
        def ordered() -> tuple[str, str]:
            name = self._name("a column")
            descending = self._take("DESC")
            if not descending:
                self._take("ASC")
            return name, "DESC" if descending else "ASC"

        names = self._list(lambda: self._name("a column"))
        columns = self._list(ordered) if self._take("SORTED", "BY") else []
        buckets = 0
        if self._take("INTO"):
            buckets = self._number("INTO .. BUCKETS")
            self._need("BUCKETS")
        text = clustering(names, columns, buckets, ranged=ranged)
        return AlterTable(table=table, set_properties={CLUSTERING: text})

    # --- looking -----------------------------------------------------------------------------

    def _show(self) -> Statement:
        namespace = self._namespace
        if self._take("PARTITIONS"):
            table = self._table()
            found = self._partitions()
            return ShowPartitionsQuery(table, found[0] if found else PartitionSpec())
        if self._take("CREATE", "TABLE") or self._take("CREATE", "VIEW"):
            return ShowCreateQuery(self._table())
        if self._take("SCHEMAS") or self._take("DATABASES"):
            return ShowSchemasQuery(
                self._name("a project") if self._take("IN") else namespace.project
            )
        if self._take("FUNCTIONS"):
            return ShowFunctionsQuery(self._like())
        if self._take("FLAGS"):
            return ShowFlagsQuery()
        if self._take("HISTORY", "FOR", "TABLE"):
            return ShowHistoryQuery(self._table())
        views = self._take("VIEWS")
        if not views and not self._take("TABLES"):
            raise self._unknown(
                "SHOW",
                "TABLES, VIEWS, PARTITIONS, CREATE TABLE, SCHEMAS, FUNCTIONS, FLAGS and HISTORY FOR TABLE",
            )
        project, schema = namespace.project, namespace.schema
        if self._take("IN") or self._take("FROM"):
            parts = self._parts()
            if len(parts) == 2:
                project, schema = parts
            elif namespace.schemas_enabled:
                schema = parts[0]
            else:
                project = parts[0]
        return ShowTablesQuery(project, schema, self._like(), views)

    def _like(self) -> str | None:
        if self._take("LIKE"):
            return self._text("the pattern")
        return self._text("the pattern") if self._is_text() else None

    def _describe(self) -> Statement:
        extended = self._take("EXTENDED")
        if not self._take("TABLE"):
            self._take("VIEW")
        table = self._table()
        found = self._partitions()
        return DescribeQuery(table, extended, found[0] if found else PartitionSpec())

    # --- the rest ----------------------------------------------------------------------------

    def _truncate(self) -> Statement:
        self._take("TABLE")
        table = self._table()
        partitions = self._partitions() or [PartitionSpec()]
        first, *more = [TruncateTable(table=table, partition=one) for one in partitions]
        return RowChange(first, tuple(more))

    def _clone(self) -> Statement:
        self._need("TABLE")
        source = self._table()
        partitions = tuple(self._partitions())
        self._need("TO")
        table = self._table()
        how = ""
        if self._exists():
            how = self._name("OVERWRITE or IGNORE").upper()
            if how not in {"OVERWRITE", "IGNORE"}:
                raise self._wrong("OVERWRITE or IGNORE is expected")
        return Clone(source, table, partitions, how)

    def _analyze(self) -> Statement:
        """Statistics are kept all the time; the table has to exist."""
        self._need("TABLE")
        table = self._table()
        self._partitions()
        self._need("COMPUTE", "STATISTICS")
        self._place = len(self._tokens)
        return Changes((DescribeTable(table=table),))

    def _use(self) -> Statement:
        if self._take("SCHEMA"):
            return Use(self._namespace.project, self._name("a schema"))
        project = self._name("a project")
        return Use(project, self._name("a schema") if self._take(".") else "")

    def _create_schema(self) -> Statement:
        self._need("SCHEMA")
        missing = self._take("IF", "NOT", "EXISTS")
        project, schema = self._schema_parts()
        return Changes((CreateSchema(project=project, schema=schema, if_not_exists=missing),))

    def _drop_schema(self) -> Statement:
        self._need("SCHEMA")
        exists = self._exists()
        project, schema = self._schema_parts()
        return Changes((DropSchema(project=project, schema=schema, if_exists=exists),))

    def _schema_parts(self) -> tuple[str, str]:
        first = self._name("a schema")
        return (
            (first, self._name("a schema")) if self._take(".") else (self._namespace.project, first)
        )
