"""CREATE .. AS and .. LIKE, CLONE, columns that are missing, and views."""

from __future__ import annotations

import pyarrow as pa

from fletching.engine.query.partition_statements import equal
from fletching.engine.query.query_runner import (
    VIEW_NAMESPACE,
    VIEW_TEXT,
)
from fletching.engine.query.row_statements import insert
from fletching.engine.query.row_writing import cast_to, write_rows
from fletching.engine.query.script_run import Outcome, ScriptRun
from fletching.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NoSuchTableError,
)
from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages.admin import (
    AddColumns,
    CreateTable,
    DropTable,
)
from fletching.sql.dialect import exp
from fletching.sql.statement_kinds import (
    AddMissingColumns,
    Clone,
    CreateAs,
    CreateLike,
    CreateView,
    Target,
)
from fletching.sql.table_properties import LIFECYCLE
from fletching.types import PartitionSpec, TableName

__all__ = ["add_missing", "clone", "create_as", "create_like", "create_view", "drop_view"]


def create_as(run: ScriptRun, statement: CreateAs) -> Outcome:
    """Creates a table of a query's columns and writes its rows."""
    request = statement.request
    run.authorize(request)
    if run.exists(request.table):
        if request.if_not_exists:
            return Outcome(affected=0)
        raise AlreadyExistsError(f"there is a table {request.table} already")
    with run.query(statement.tree) as query:
        schema, batches = query.run()
        made = CreateTable(
            table=request.table,
            arrow_schema=encode_schema(schema),
            comment=request.comment,
            properties=request.properties,
            lifecycle_days=request.lifecycle_days,
        )
        run.verbs.call(made)
        try:
            rows = write_rows(
                run.verbs,
                request.table,
                batches,
                partition=PartitionSpec(),
                overwrite=False,
                columns_of=cast_to(schema),
                schema=schema,
            )
        except BaseException:
            run.verbs.call(DropTable(table=request.table, if_exists=True))
            raise
    return Outcome(affected=rows)


def create_like(run: ScriptRun, statement: CreateLike) -> Outcome:
    """Creates an empty table with the columns of another."""
    source = run.describe(statement.source)
    request = CreateTable(
        table=statement.table,
        arrow_schema=source.arrow_schema,
        partition_columns=tuple(
            (column.name, column.type) for column in source.schema.partition_columns
        ),
        partition_comments=tuple(column.comment for column in source.schema.partition_columns),
        comment=source.comment,
        properties={
            key: value
            for key, value in source.properties.items()
            if key not in {VIEW_TEXT, VIEW_NAMESPACE, LIFECYCLE}
        },
        primary_key=source.primary_key,
        lifecycle_days=statement.lifecycle_days,
        if_not_exists=statement.if_not_exists,
    )
    run.authorize(request)
    run.verbs.call(request)
    return Outcome()


def add_missing(run: ScriptRun, statement: AddMissingColumns) -> Outcome:
    """Adds the columns that are not there yet."""
    request = statement.request
    info = run.describe(request.table)
    known = {
        column.name.casefold()
        for column in (*info.schema.data_columns, *info.schema.partition_columns)
    }
    wanted = pa.ipc.read_schema(pa.py_buffer(request.arrow_schema))
    missing = [field for field in wanted if field.name.casefold() not in known]
    if missing:
        request = AddColumns(table=request.table, arrow_schema=encode_schema(pa.schema(missing)))
        run.authorize(request)
        run.verbs.call(request)
    return Outcome()


def clone(run: ScriptRun, statement: Clone) -> Outcome:
    """Copies columns and rows of a table."""
    there = run.exists(statement.table)
    if there and not statement.if_exists:
        raise AlreadyExistsError(f"there is a table {statement.table} already")
    if there and statement.if_exists == "IGNORE":
        return Outcome(affected=0)
    if not there:
        create_like(run, CreateLike(statement.table, statement.source))
    tree = exp.select("*").from_(exp.to_table(str(statement.source), dialect="hive"))
    if statement.partitions:
        tree = tree.where(
            exp.or_(
                *(
                    exp.and_(*(equal(name, value) for name, value in one))
                    for one in statement.partitions
                )
            )
        )
    return Outcome(affected=insert(run, Target(statement.table, tree, overwrite=there)))


def create_view(run: ScriptRun, statement: CreateView) -> Outcome:
    """Keeps a query under a name, after binding it once."""
    with run.query(statement.tree) as query:
        schema, _ = query.run()
    if statement.columns:
        if len(statement.columns) != len(schema):
            raise InvalidArgumentError(
                f"the view names {len(statement.columns)} columns, its query has {len(schema)}"
            )
        schema = pa.schema(
            [field.with_name(name) for field, name in zip(schema, statement.columns, strict=True)]
        )
    request = CreateTable(
        table=statement.table,
        arrow_schema=encode_schema(schema),
        comment=statement.comment,
        properties={
            VIEW_TEXT: statement.text,
            VIEW_NAMESPACE: f"{run.namespace.project}.{run.namespace.schema}",
        },
        lifecycle_days=statement.lifecycle_days,
        if_not_exists=statement.if_not_exists,
    )
    run.authorize(request)
    if statement.replace and run.exists(statement.table):
        drop_view(run, statement.table, if_exists=True)
    run.verbs.call(request)
    return Outcome()


def drop_view(run: ScriptRun, table: TableName, *, if_exists: bool) -> Outcome:
    """Forgets a view; a table is left alone."""
    try:
        info = run.describe(table)
    except NoSuchTableError:
        if if_exists:
            return Outcome()
        raise
    if VIEW_TEXT not in info.properties:
        raise InvalidArgumentError(f"{table} is a table: DROP TABLE drops it")
    request = DropTable(table=table, if_exists=if_exists)
    run.authorize(request)
    run.verbs.call(request)
    return Outcome()
