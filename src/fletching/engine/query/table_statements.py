"""CREATE .. AS and .. LIKE, CLONE, columns that are missing, and views."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import pyarrow as pa

from fletching.engine.query.assignment import assigned
from fletching.engine.query.printing import VIEW_MATERIALIZED
from fletching.engine.query.query_runner import VIEW_NAMESPACE, VIEW_SCHEMAS, VIEW_TEXT, Query
from fletching.engine.query.result_types import casts_of
from fletching.engine.query.row_statements import insert, with_key
from fletching.engine.query.row_writing import cast_to, filled_table, stage_rows
from fletching.engine.query.script_run import Outcome, ScriptRun
from fletching.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NoSuchProjectError,
    NoSuchTableError,
)
from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages.admin import AddColumns, CreateTable, DropTable, TableInfo
from fletching.protocol.types.arrow_types import arrow_field, odps_type_of_field
from fletching.protocol.types.odps_types import parse_type
from fletching.sql.parsing.dialect import equal, exp
from fletching.sql.statements.statement_kinds import (
    AddMissingColumns,
    Clone,
    CreateAs,
    CreateLike,
    CreateView,
    Target,
)
from fletching.sql.statements.table_properties import LIFECYCLE
from fletching.types import PartitionSpec, TableName

__all__ = ["add_missing", "clone", "create_as", "create_like", "create_view", "drop_view"]


def create_as(run: ScriptRun, statement: CreateAs) -> Outcome:
    """Creates a table of a query's columns and writes its rows."""
    request = statement.request
    run.authorize(request)
    key = next(run.keys)
    if run.exists(request.table):
        return _there_already(request.table, if_not_exists=request.if_not_exists)
    with run.query(statement.tree) as query:
        query.cast(_partition_casts(query, request.partition_columns, run.time_zone))
        result, batches = query.run()
        order = _partitions_last(result, [name for name, _ in request.partition_columns])
        data = pa.schema(
            [result.field(i) for i in order[: len(result) - len(request.partition_columns)]]
        )
        partitions = [
            (name, kind or str(odps_type_of_field(result.field(i))))
            for (name, kind), i in zip(request.partition_columns, order[len(data) :], strict=True)
        ]
        made = CreateTable(
            table=request.table,
            arrow_schema=encode_schema(data),
            partition_columns=tuple(partitions),
            partition_comments=request.partition_comments,
            comment=request.comment,
            properties=request.properties,
            lifecycle_days=request.lifecycle_days,
        )
        schema = pa.schema(
            [*data, *(arrow_field(name, parse_type(kind)) for name, kind in partitions)]
        )
        try:
            with filled_table(run.verbs, made, key) as table:
                rows = stage_rows(
                    run.verbs,
                    table,
                    (batch.select(order) for batch in batches),
                    partition=PartitionSpec(),
                    overwrite=False,
                    columns_of=cast_to(schema),
                    schema=schema,
                    key=_rows_key(key),
                    statement=run.text,
                ).commit()
        except AlreadyExistsError:  # another was faster
            return _there_already(request.table, if_not_exists=request.if_not_exists)
    return Outcome(affected=rows)


def _rows_key(key: str) -> str:
    """The key of rows in a table that gets its name by a change with a key: they do not finish the statement."""
    return f"rows-{key}"


def _there_already(table: TableName, *, if_not_exists: bool) -> Outcome:
    """What it means that there is the table that a statement makes.

    Raises:
        AlreadyExistsError: that is not allowed.
    """
    if if_not_exists:
        return Outcome(affected=0)
    raise AlreadyExistsError(f"there is a table {table} already")


def _partition_casts(query: Query, columns: Sequence[tuple[str, str]], zone: str) -> list[str]:
    """What a query's columns are cast to where PARTITIONED BY says a type: the rule is that of INSERT."""
    kinds = {name.casefold(): kind for name, kind in columns if kind}
    casts = casts_of(query.types) or ["{}"] * len(query.types)
    for index, (name, given) in enumerate(zip(query.columns, query.types, strict=True)):
        kind = kinds.get(name.casefold())
        if kind is not None:
            casts[index] = assigned(given, arrow_field(name, parse_type(kind)), kind, zone)
    return casts


def _partitions_last(schema: pa.Schema, partitions: list[str]) -> list[int]:
    """The places of a query's columns as a table has them: those that its rows are divided by behind the others."""
    indices = {field.name.casefold(): i for i, field in enumerate(schema)}
    missing = [name for name in partitions if name.casefold() not in indices]
    if missing:
        raise InvalidArgumentError(
            f"PARTITIONED BY names the column {missing[0]}, which the query does not have"
        )
    last = [indices[name.casefold()] for name in partitions]
    return [i for i in range(len(schema)) if i not in last] + last


def create_like(run: ScriptRun, statement: CreateLike) -> Outcome:
    """Creates an empty table with the columns of another."""
    run.verbs.call(with_key(run, _like(run, statement)))
    return Outcome()


def _like(run: ScriptRun, statement: CreateLike) -> CreateTable:
    """What creates it; the caller may."""
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
            if key not in {VIEW_TEXT, VIEW_NAMESPACE, VIEW_SCHEMAS, VIEW_MATERIALIZED, LIFECYCLE}
        },
        primary_key=source.primary_key,
        lifecycle_days=statement.lifecycle_days,
        if_not_exists=statement.if_not_exists,
    )
    run.authorize(request)
    return request


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
        run.verbs.call(with_key(run, request))
    return Outcome()


def clone(run: ScriptRun, statement: Clone) -> Outcome:
    """Copies columns and rows of a table."""
    there = run.exists(statement.table)
    key = next(run.keys)
    if there and statement.if_exists in {"", "IGNORE"}:
        ignored = statement.if_exists == "IGNORE"
        return _there_already(statement.table, if_not_exists=ignored)
    tree = exp.select("*").from_(exp.to_table(str(statement.source), dialect="hive"))
    if statement.partitions:
        tree = tree.where(
            exp.or_(
                *(
                    exp.and_(*(equal(name, value) for name, value in item))
                    for item in statement.partitions
                )
            )
        )
    # Moments are copied as they are: no time zone has to show them.
    in_utc = dataclasses.replace(run, flags={})
    if there:
        return Outcome(
            affected=insert(in_utc, [Target(statement.table, tree, overwrite=True)], [key])
        )
    made = _like(run, CreateLike(statement.table, statement.source))
    with filled_table(run.verbs, made, key) as table:
        rows = insert(in_utc, [Target(table, tree, overwrite=False)], [_rows_key(key)])
    return Outcome(affected=rows)


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
    properties = {
        VIEW_TEXT: statement.text,
        VIEW_NAMESPACE: f"{run.namespace.project}.{run.namespace.schema}",
        **({VIEW_SCHEMAS: "true"} if run.namespace.schemas_enabled else {}),
    }
    if statement.partitioned_on is not None:
        known = {name.casefold() for name in schema.names}
        unknown = [name for name in statement.partitioned_on if name.casefold() not in known]
        if unknown:
            raise InvalidArgumentError(
                f"PARTITIONED ON names {', '.join(unknown)}: the query has no such column"
            )
        properties[VIEW_MATERIALIZED] = json.dumps(statement.partitioned_on)
    request = CreateTable(
        table=statement.table,
        arrow_schema=encode_schema(schema),
        comment=statement.comment,
        properties=properties,
        lifecycle_days=statement.lifecycle_days,
        if_not_exists=statement.if_not_exists,
    )
    run.authorize(request)
    if statement.replace and run.exists(statement.table):
        there = _view(run, statement.table)
        run.authorize(DropTable(table=statement.table, if_exists=True))
        # In one transaction: a view that cannot be made does not cost the one that there is.
        run.verbs.replace_view(with_key(run, request), there.table_id)
        return Outcome()
    run.verbs.call(with_key(run, request))
    return Outcome()


def drop_view(run: ScriptRun, table: TableName, *, if_exists: bool) -> Outcome:
    """Forgets a view; a table is left alone."""
    try:
        info = _view(run, table)
    except (NoSuchTableError, NoSuchProjectError):
        if if_exists:
            return Outcome()
        raise
    request = DropTable(table=table, if_exists=if_exists, table_id=info.table_id)
    run.authorize(request)
    run.verbs.call(with_key(run, request))
    return Outcome()


def _view(run: ScriptRun, table: TableName) -> TableInfo:
    """What the catalog knows of a view.

    Raises:
        InvalidArgumentError: it is a table.
    """
    info = run.describe(table)
    if VIEW_TEXT not in info.properties:
        raise InvalidArgumentError(f"{table} is a table: DROP TABLE drops it")
    return info
