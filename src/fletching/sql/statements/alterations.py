"""Statements about tables that are no SQL elsewhere: ALTER, SHOW, DESC, TRUNCATE, CLONE, USE, schemas.

They are read from tokens, word by word, since their grammar is MaxCompute's own; each complaint names the word
where the statement stopped making sense.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import starmap

import pyarrow as pa

from fletching.errors import InvalidArgumentError, SqlSyntaxError
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
from fletching.sql.parsing.dialect import Parsed, equal, exp, parse_predicate
from fletching.sql.statements.clusterings import CLUSTERING, clustering
from fletching.sql.statements.statement_kinds import (
    AddMissingColumns,
    Changes,
    Clone,
    DescribeQuery,
    DescribeSchemaQuery,
    DropPartitions,
    MergePartitions,
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
from fletching.sql.statements.table_properties import (
    DISABLED,
    ENABLED,
    LIFECYCLE,
    check_property_names,
)
from fletching.sql.statements.token_reader import TokenReader, qualified
from fletching.types import PartitionSpec, TableName

__all__ = ["alteration_of"]


def alteration_of(parsed: Parsed, namespace: Namespace) -> Statement:
    """Reads a statement that the dialect left as tokens.

    Raises:
        SqlSyntaxError: a word that does not belong there.
        InvalidArgumentError: it is understood but not supported.
    """
    return _Reader(parsed, namespace).statement()


class _Reader(TokenReader):
    # --- statements --------------------------------------------------------------------------

    def statement(self) -> Statement:
        word = self.name("a statement")
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
        result = read()
        self.end()
        return result

    def _alter(self) -> Statement:
        if self.take("MATERIALIZED"):
            self.need("VIEW")
            return self._alter_materialized(self.table())
        if self.take("VIEW"):
            table = self.table()
            if self.take("RENAME", "TO"):
                return Changes((RenameTable(table=table, new_name=self._new_name(table)),))
            if self.take("CHANGEOWNER", "TO"):
                return Changes((AlterTable(table=table, owner=self.text("an owner")),))
            raise self.unknown("ALTER VIEW", "RENAME TO and CHANGEOWNER TO")
        self.need("TABLE")
        table = self.table()
        if self.take("PARTITION"):
            return self._alter_partition(table, self.partition())
        if self.take("ADD"):
            return self._add(table)
        if self.take("DROP"):
            return self._drop(table)
        if self.take("CHANGE"):
            self.take("COLUMN")
            return Changes(tuple(self._change(table)))
        if self.take("RENAME", "COLUMN"):
            name = self.name("a column")
            self.need("TO")
            new = self.name("a column")
            return Changes((RenameColumn(table=table, name=name, new_name=new),))
        if self.take("RENAME", "TO"):
            return Changes((RenameTable(table=table, new_name=self._new_name(table)),))
        if self.take("SET"):
            return Changes((self._settings(table),))
        if self.take("UNSET", "TBLPROPERTIES"):
            self.exists()
            names = self.listed(lambda: self.text("a property's name"))
            check_property_names(names)
            return Changes((AlterTable(table=table, remove_properties=tuple(names)),))
        if self.take("CHANGEOWNER", "TO"):
            return Changes((AlterTable(table=table, owner=self.text("an owner")),))
        if self.take("TOUCH"):
            partitions = self.partitions() or [PartitionSpec()]
            return Changes(tuple(TouchTable(table=table, partition=item) for item in partitions))
        if self.take("MERGE", "SMALLFILES") or self.take("COMPACT", "MINOR"):
            return Changes((CompactTable(table=table),))
        if self.take("MERGE"):
            return self._merge(table)
        if self.take("DISABLE", "LIFECYCLE"):
            properties = {LIFECYCLE: DISABLED}
            return Changes((AlterTable(table=table, set_properties=properties),))
        if self.take("ENABLE", "LIFECYCLE"):
            return Changes((AlterTable(table=table, remove_properties=(LIFECYCLE,)),))
        if self.take("COMPACT", "MAJOR"):
            return Changes((CompactTable(table=table, purge=True),))
        if self.take("NOT", "CLUSTERED"):
            return Changes((AlterTable(table=table, remove_properties=(CLUSTERING,)),))
        if self.take("RANGE", "CLUSTERED", "BY"):
            return Changes((self._clustered(table, ranged=True),))
        if self.take("CLUSTERED", "BY"):
            return Changes((self._clustered(table, ranged=False),))
        raise self.unknown(
            "ALTER TABLE",
            "ADD, DROP and CHANGE of columns, ADD, DROP and RENAME of partitions, RENAME TO, SET of LIFECYCLE,"
            " COMMENT and TBLPROPERTIES, ENABLE and DISABLE LIFECYCLE, CHANGEOWNER TO, CLUSTERED BY, TOUCH,"
            " MERGE of SMALLFILES and PARTITION, and COMPACT",
        )

    def _alter_materialized(self, table: TableName) -> Statement:
        """Such a view is always as its tables are, and no other query is rewritten to read it."""
        if self.take("REBUILD"):
            self.partitions()
        elif not self.take("DISABLE", "REWRITE"):
            raise self.unknown("ALTER MATERIALIZED VIEW", "REBUILD and DISABLE REWRITE")
        return Changes((DescribeTable(table=table),))

    def _new_name(self, table: TableName) -> str:
        parts = self.parts()
        if len(parts) > 1 and qualified(parts, self._namespace) != TableName(
            table.project, parts[-1], table.schema
        ):
            raise InvalidArgumentError("RENAME TO leaves a table in its project and schema")
        return parts[-1]

    def _alter_partition(self, table: TableName, partition: PartitionSpec) -> Statement:
        if self.take("RENAME", "TO", "PARTITION"):
            return RenamePartition(table, partition, self.partition())
        if self.take("TOUCH"):
            return Changes((TouchTable(table=table, partition=partition),))
        if self.take("MERGE", "SMALLFILES") or self.take("COMPACT", "MINOR"):
            return Changes((CompactTable(table=table),))
        if self.take("COMPACT", "MAJOR"):
            return Changes((CompactTable(table=table, purge=True),))
        if self.take("SET", "PARTITIONPROPERTIES"):
            properties = self.pairs()
            return Changes(
                (AlterTable(table=table, partition=partition, set_properties=properties),)
            )
        for word, state in (("DISABLE", DISABLED), ("ENABLE", ENABLED)):
            if self.take(word, "LIFECYCLE"):
                properties = {LIFECYCLE: state}
                return Changes(
                    (AlterTable(table=table, partition=partition, set_properties=properties),)
                )
        if self.take("SET", "LIFECYCLE"):
            raise InvalidArgumentError(
                "a lifecycle is that of a whole table; a partition's is switched off by DISABLE LIFECYCLE"
            )
        raise self.unknown(
            "ALTER TABLE .. PARTITION",
            "RENAME TO, SET PARTITIONPROPERTIES, ENABLE and DISABLE LIFECYCLE, TOUCH, MERGE SMALLFILES and COMPACT",
        )

    def _add(self, table: TableName) -> Statement:
        missing = self.take("IF", "NOT", "EXISTS")
        if self.word() == "PARTITION":
            partitions = self.partitions()
            return Changes(
                tuple(
                    CreatePartition(table=table, partition=item, if_not_exists=missing)
                    for item in partitions
                )
            )
        if not self.take("COLUMNS") and not self.take("COLUMN"):
            raise self.wrong("COLUMNS or PARTITION is expected")
        missing |= self.take("IF", "NOT", "EXISTS")
        fields = self.listed(self.column) if self.word() == "(" else [self.column()]
        request = AddColumns(table=table, arrow_schema=encode_schema(pa.schema(fields)))
        return AddMissingColumns(request) if missing else Changes((request,))

    def _drop(self, table: TableName) -> Statement:
        exists = self.exists()
        if self.take("COLUMNS") or self.take("COLUMN"):
            inside = self.take("(")
            names = [self.name("a column")]
            while self.take(","):
                names.append(self.name("a column"))
            if inside:
                self.need(")")
            return Changes((DropColumns(table=table, names=tuple(names)),))
        if self.word() != "PARTITION":
            raise self.wrong("COLUMNS or PARTITION is expected")
        partitions, conditions = self._partitions()
        if conditions:
            conditions += [exp.and_(*starmap(equal, item)) for item in partitions]
            return DropPartitions(table, exp.or_(*conditions), exists)
        return Changes(
            tuple(
                DropPartition(table=table, partition=item, if_exists=exists) for item in partitions
            )
        )

    def _merge(self, table: TableName) -> Statement:
        exists = self.exists()
        partitions, conditions = self._partitions()
        if not partitions and not conditions:
            raise self.wrong("SMALLFILES, or PARTITION and its values, is expected")
        self.need("OVERWRITE", "PARTITION")
        into = self.partition()
        self.take("PURGE")
        return MergePartitions(table, tuple(partitions), tuple(conditions), into, exists)

    def _partitions(self) -> tuple[list[PartitionSpec], list[exp.Expr]]:
        """Partitions by their values, and conditions on them, each behind its PARTITION."""
        partitions: list[PartitionSpec] = []
        conditions: list[exp.Expr] = []
        while self.take("PARTITION"):
            started = self._position
            try:
                partitions.append(self.partition())
            except SqlSyntaxError:
                self._position = started
                conditions.append(self._condition())
            self.take(",")
        return partitions, conditions

    def _condition(self) -> exp.Expr:
        """A condition on partition columns in parentheses; a comma means AND."""
        self.need("(")
        first, depth, parts = self._position, 1, []
        while self._position < len(self._tokens):
            word = self.word()
            depth += (word == "(") - (word == ")")
            if depth == 0:
                break
            if depth == 1 and word == ",":
                parts.append((first, self._position))
                first = self._position + 1
            self._position += 1
        parts.append((first, self._position))
        self.need(")")
        if any(start == end for start, end in parts):
            raise self.wrong("a condition is expected")
        texts = [
            self._source[self._tokens[start].start : self._tokens[end - 1].end + 1]
            for start, end in parts
        ]
        return parse_predicate(" AND ".join(f"({text})" for text in texts))

    def _change(self, table: TableName) -> Iterator[Request]:
        """CHANGE COLUMN: a new name, type, comment, place, or whether it may be null."""
        name = self.name("a column")
        if self.take("RENAME", "TO"):
            yield RenameColumn(table=table, name=name, new_name=self.name("a column"))
            return
        if self.take("NULL"):
            yield AlterColumn(table=table, name=name, nullable=True)
            return
        if self.take("NOT", "NULL"):
            yield AlterColumn(table=table, name=name, nullable=False)
            return
        if self.word() == "COMMENT" and self.is_text(1):
            self.take("COMMENT")
            yield AlterColumn(table=table, name=name, comment=self.text("a comment"))
            return
        if self.word() in {"SET", "DROP"} and self.word(1) == "DEFAULT":
            raise InvalidArgumentError("the DEFAULT of a column cannot be changed")
        new = self.name("the new name of the column")
        if new.casefold() != name.casefold():
            yield RenameColumn(table=table, name=name, new_name=new)
        kind = comment = after = None
        if self._position < len(self._tokens) and self.word() not in {"COMMENT", "AFTER", "FIRST"}:
            kind = str(self.odps_type())
        while self._position < len(self._tokens):
            if self.take("COMMENT"):
                comment = self.text("a comment")
            elif self.take("AFTER"):
                after = self.name("a column")
            elif self.take("FIRST"):
                after = ""
            else:
                raise self.wrong("COMMENT, AFTER or FIRST is expected")
        if kind is not None or comment is not None or after is not None:
            yield AlterColumn(table=table, name=new, type=kind, comment=comment, after=after)

    def _settings(self, table: TableName) -> Request:
        if self.take("LIFECYCLE"):
            return AlterTable(table=table, lifecycle_days=self.number("LIFECYCLE"))
        if self.take("COMMENT"):
            self.take("=")
            return AlterTable(table=table, comment=self.text("a comment"))
        if self.take("TBLPROPERTIES"):
            properties = self.pairs()
            check_property_names(properties)
            return AlterTable(table=table, set_properties=properties)
        raise self.unknown("ALTER TABLE .. SET", "LIFECYCLE, COMMENT and TBLPROPERTIES")

    def _clustered(self, table: TableName, *, ranged: bool) -> Request:
        def ordered() -> tuple[str, str]:
            name = self.name("a column")
            descending = self.take("DESC")
            if not descending:
                self.take("ASC")
            return name, "DESC" if descending else "ASC"

        names = self.listed(lambda: self.name("a column"))
        columns = self.listed(ordered) if self.take("SORTED", "BY") else []
        buckets = 0
        if self.take("INTO"):
            buckets = self.number("INTO .. BUCKETS")
            self.need("BUCKETS")
        text = clustering(names, columns, buckets, ranged=ranged)
        return AlterTable(table=table, set_properties={CLUSTERING: text})

    # --- looking -----------------------------------------------------------------------------

    def _show(self) -> Statement:
        namespace = self._namespace
        if self.take("PARTITIONS"):
            table = self.table()
            result = self.partitions()
            return ShowPartitionsQuery(table, result[0] if result else PartitionSpec())
        if self.take("CREATE", "TABLE") or self.take("CREATE", "VIEW"):
            return ShowCreateQuery(self.table())
        if self.take("SCHEMAS") or self.take("DATABASES"):
            return ShowSchemasQuery(
                self.name("a project") if self.take("IN") else namespace.project
            )
        if self.take("FUNCTIONS"):
            return ShowFunctionsQuery(self._like())
        if self.take("FLAGS"):
            return ShowFlagsQuery()
        if self.take("HISTORY", "FOR", "TABLE"):
            return ShowHistoryQuery(self.table())
        views = self.take("VIEWS")
        if not views and not self.take("TABLES"):
            raise self.unknown(
                "SHOW",
                "TABLES, VIEWS, PARTITIONS, CREATE TABLE, SCHEMAS, FUNCTIONS, FLAGS and HISTORY FOR TABLE",
            )
        project, schema = namespace.project, namespace.schema
        if self.take("IN") or self.take("FROM"):
            parts = self.parts()
            if len(parts) == 2:
                project, schema = parts
            elif namespace.schemas_enabled:
                schema = parts[0]
            else:
                project = parts[0]
        return ShowTablesQuery(project, schema, self._like(), views)

    def _like(self) -> str | None:
        if self.take("LIKE"):
            return self.text("the pattern")
        return self.text("the pattern") if self.is_text() else None

    def _describe(self) -> Statement:
        extended = self.take("EXTENDED")
        # Alone, before a dot or before PARTITION it is a table's name.
        if self.word() == "SCHEMA" and self.word(1) not in {"", ";", ".", "PARTITION"}:
            self.take("SCHEMA")
            return DescribeSchemaQuery(*self._schema_parts())
        if not self.take("TABLE"):
            self.take("VIEW")
        table = self.table()
        result = self.partitions()
        return DescribeQuery(table, extended, result[0] if result else PartitionSpec())

    # --- the rest ----------------------------------------------------------------------------

    def _truncate(self) -> Statement:
        self.take("TABLE")
        table = self.table()
        partitions = self.partitions() or [PartitionSpec()]
        first, *more = [TruncateTable(table=table, partition=item) for item in partitions]
        return RowChange(first, tuple(more))

    def _clone(self) -> Statement:
        self.need("TABLE")
        source = self.table()
        partitions = tuple(self.partitions())
        self.need("TO")
        table = self.table()
        how = ""
        if self.exists():
            how = self.name("OVERWRITE or IGNORE").upper()
            if how not in {"OVERWRITE", "IGNORE"}:
                raise self.wrong("OVERWRITE or IGNORE is expected")
        return Clone(source, table, partitions, how)

    def _analyze(self) -> Statement:
        """Statistics are kept all the time; the table has to exist."""
        self.need("TABLE")
        table = self.table()
        self.partitions()
        self.need("COMPUTE", "STATISTICS")
        self._position = len(self._tokens)
        return Changes((DescribeTable(table=table),))

    def _use(self) -> Statement:
        if self.take("SCHEMA"):
            return Use(self._namespace.project, self.name("a schema"))
        project = self.name("a project")
        return Use(project, self.name("a schema") if self.take(".") else "")

    def _create_schema(self) -> Statement:
        self.need("SCHEMA")
        missing = self.take("IF", "NOT", "EXISTS")
        project, schema = self._schema_parts()
        return Changes((CreateSchema(project=project, schema=schema, if_not_exists=missing),))

    def _drop_schema(self) -> Statement:
        self.need("SCHEMA")
        exists = self.exists()
        project, schema = self._schema_parts()
        return Changes((DropSchema(project=project, schema=schema, if_exists=exists),))

    def _schema_parts(self) -> tuple[str, str]:
        first = self.name("a schema")
        return (
            (first, self.name("a schema")) if self.take(".") else (self._namespace.project, first)
        )
