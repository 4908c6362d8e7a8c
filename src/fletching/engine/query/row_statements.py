"""INSERT, DELETE, UPDATE and MERGE: rows that a query computes on their way into a table."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import pyarrow as pa

from fletching.engine.changes.made_changes import Intent
from fletching.engine.query.assignment import assigned
from fletching.engine.query.query_runner import VIEW_TEXT, ChangedTable
from fletching.engine.query.result_types import casts_of
from fletching.engine.query.row_writing import StagedRows, cast_to, stage_rows
from fletching.engine.query.script_run import Outcome, ScriptRun, changed_rows
from fletching.errors import ConflictError, FletchingError, InvalidArgumentError
from fletching.protocol.messages.changes import ChangeRequest, DeleteRows, MergeRows, UpdateRows
from fletching.protocol.messages.requests import CreateWriteSession, Request
from fletching.protocol.messages.responses import Changed
from fletching.protocol.types.arrow_types import arrow_field
from fletching.protocol.types.odps_types import parse_type
from fletching.sql.functions.generated_partitions import (
    GENERATED,
    GeneratedPartition,
    generated_partition,
)
from fletching.sql.functions.time_zones import has_moments
from fletching.sql.parsing.dialect import exp, parse_predicate
from fletching.sql.parsing.near_names import did_you_mean
from fletching.sql.predicates.predicate_compiler import compile_condition
from fletching.sql.queries.query_sources import located
from fletching.sql.queries.row_changes import CONTROLS, ROW, SEGMENT, row_changes_of
from fletching.sql.statements.statement_kinds import ComputedChange, Target
from fletching.sql.statements.table_definitions import DEFAULT_KEY
from fletching.types import PartitionSpec

if TYPE_CHECKING:
    from fletching.engine.changes.attempts import Draft
    from fletching.engine.changes.computed_changes import ComputedChanges
    from fletching.engine.changes.partition_moves import PartitionMove


__all__ = ["change", "insert", "with_key"]

_INSERT_ATTEMPTS = 5

_Request = TypeVar("_Request", bound=Request[Any])


def insert(run: ScriptRun, targets: Sequence[Target], keys: Sequence[str] = ()) -> int:
    """Writes the rows of a query into a table, or those of several; returns how many.

    The commit of each target has a key, by default the next one of the run.

    No row of one target is visible before those of all others are stored, so that what cannot be computed for
    one changes none. What others committed first is read anew: the query is run again, a few times at most.
    """
    tables = [str(target.table).casefold() for target in targets]
    # Of a table that is written to twice, the first commit is no change by others.
    alone = [tables.count(table) == 1 for table in tables]
    keys = keys or [next(run.keys) for _ in targets]
    staged: list[StagedRows] = []
    with contextlib.ExitStack() as left:
        for target, is_alone, key in zip(targets, alone, keys, strict=True):
            staged.append(_stored(run, target, is_alone, key, _INSERT_ATTEMPTS))
            left.callback(staged[-1].abort)
        return sum(
            [_visible(run, *each) for each in zip(targets, alone, keys, staged, strict=True)],
        )


def _stored(run: ScriptRun, target: Target, alone: bool, key: str, attempts: int) -> StagedRows:
    for _ in range(attempts - 1):
        with contextlib.suppress(ConflictError):
            return _insert(run, target, alone, key)
    return _insert(run, target, alone, key)


def _visible(run: ScriptRun, target: Target, alone: bool, key: str, staged: StagedRows) -> int:
    for attempts in range(_INSERT_ATTEMPTS - 1, 0, -1):
        with contextlib.suppress(ConflictError):
            return staged.commit()
        staged = _stored(run, target, alone, key, attempts)
    return staged.commit()


def _insert(run: ScriptRun, target: Target, alone: bool, key: str) -> StagedRows:
    info = run.describe(target.table)
    if VIEW_TEXT in info.properties:
        raise InvalidArgumentError(f"{info.table} is a view: nothing can be inserted into it")
    data = pa.ipc.read_schema(pa.py_buffer(info.arrow_schema))
    partition_types = {
        column.name.casefold(): arrow_field(column.name, parse_type(column.type))
        for column in info.schema.partition_columns
    }
    named = {name.casefold() for name, _ in target.static} | {
        name.casefold() for name in target.dynamic
    }
    if named - set(partition_types):
        raise InvalidArgumentError(
            f"{', '.join(sorted(named - set(partition_types)))} is no partition column of"
            f" {info.table}"
        )
    # What PARTITION does not name comes with the rows: where it is listed, or behind the others.
    static = {name.casefold() for name, _ in target.static}
    dynamic = {key: field for key, field in partition_types.items() if key not in static}
    generated = generated_partition(
        info.properties.get(GENERATED),
        data.names,
        (column.name for column in info.schema.partition_columns),
    )
    given = named | {name.casefold() for name in target.columns}
    if generated is not None and generated.name.casefold() in given:
        generated = None
    if generated is not None:
        del dynamic[generated.name.casefold()]
    fields = _columns(target, data, dynamic)
    tree, fields = _with_defaults(target, data, fields)
    if generated is not None:
        made = partition_types[generated.name.casefold()]
        tree, fields = _with_generated(tree, fields, generated, made)
    partition = PartitionSpec(target.static)
    request = CreateWriteSession(
        table=target.table, partition=partition, overwrite=target.overwrite
    )
    run.authorize(request)
    with run.query(tree) as query:
        if len(query.columns) != len(fields):
            raise InvalidArgumentError(
                f"the query has {len(query.columns)} columns where {info.table} takes"
                f" {len(fields)}: {', '.join(field.name for field in fields)}"
            )
        types = {column.name: column.type for column in info.schema.data_columns}
        query.cast(
            [
                assigned(given, field, types.get(field.name, ""), run.time_zone)
                for given, field in zip(query.types, fields, strict=True)
            ]
        )
        _, batches = query.run(targets=fields)
        schema = pa.schema(fields)
        return stage_rows(
            run.verbs,
            target.table,
            batches,
            partition=partition,
            overwrite=target.overwrite,
            columns_of=cast_to(schema),
            schema=schema,
            # Rows that take the place of those they were computed from: what came since would be lost.
            replaces_version=query.version_of(target.table) if alone and target.overwrite else None,
            key=key,
            statement=run.text,
        )


def _with_defaults(
    target: Target, data: pa.Schema, fields: list[pa.Field]
) -> tuple[exp.Expr, list[pa.Field]]:
    """The query and its columns, with the DEFAULTs of those that the statement leaves out."""
    named = {field.name.casefold() for field in fields}
    missing = [
        field
        for field in data
        if field.name.casefold() not in named and DEFAULT_KEY in (field.metadata or {})
    ]
    if not missing:
        return target.tree, fields
    values = [parse_predicate(field.metadata[DEFAULT_KEY].decode()) for field in missing]
    return _with_more(target.tree, len(fields), values), [*fields, *missing]


def _with_generated(
    tree: exp.Expr, fields: list[pa.Field], generated: GeneratedPartition, made: pa.Field
) -> tuple[exp.Expr, list[pa.Field]]:
    """The query and its columns, with the partition column that is made of one of them."""
    names = [field.name.casefold() for field in fields]
    if generated.column.casefold() not in names:
        raise InvalidArgumentError(
            f"the rows lack {generated.column}, of which partition column {generated.name} is made"
        )
    call = exp.Anonymous(
        this="trunc_time",
        expressions=[
            _given(names.index(generated.column.casefold())),
            exp.Literal.string(generated.unit),
        ],
    )
    return _with_more(tree, len(fields), [call]), [*fields, made]


def _given(number: int) -> exp.Expr:
    return exp.column(exp.to_identifier(f"v{number}", quoted=True))


def _with_more(tree: exp.Expr, count: int, values: Sequence[exp.Expr]) -> exp.Expr:
    """A query of ``count`` columns with more behind them, which may name those by `_given`."""
    inner = exp.Subquery(
        this=tree.copy(),
        alias=exp.TableAlias(
            this=exp.to_identifier("given", quoted=True),
            columns=[exp.to_identifier(f"v{i}", quoted=True) for i in range(count)],
        ),
    )
    return exp.Select(expressions=[*map(_given, range(count)), *values], from_=exp.From(this=inner))


def with_key(run: ScriptRun, request: _Request) -> _Request:
    """A change of a statement with the next key of its run, if it takes one."""
    if "idempotency_key" not in type(request).__struct_fields__:
        return request
    return msgspec.structs.replace(request, idempotency_key=next(run.keys))


def change(
    run: ScriptRun,
    statement: ComputedChange,
    *,
    key: str = "",
    operation: str = "",
    move: PartitionMove | None = None,
) -> Outcome:
    """Deletes, updates or merges rows that a query chooses, in one commit.

    Args:
        run: of the statement.
        statement: what is changed.
        key: of the change; by default the next one of the run.
        operation: what the table's history calls it; by default what the statement does.
        move: partitions that come and go with the rows.
    """
    table, tree = statement.table, statement.tree
    info = run.describe(table)
    if VIEW_TEXT in info.properties:
        raise InvalidArgumentError(f"{info.table} is a view: its rows cannot be changed")
    fields = [
        *pa.ipc.read_schema(pa.py_buffer(info.arrow_schema)),
        *(
            arrow_field(column.name, parse_type(column.type))
            for column in info.schema.partition_columns
        ),
    ]
    request: ChangeRequest[Changed] = DeleteRows(table=table, where=statement.where)
    if isinstance(tree, exp.Update):
        request = UpdateRows(table=table, where="")
    elif isinstance(tree, exp.Merge):
        request = MergeRows(table=table, session_id="", on=())
    run.authorize(request)
    request = msgspec.structs.replace(request, idempotency_key=key or next(run.keys))
    if statement.where and _is_filter(tree, fields, run.time_zone):
        return changed_rows(run.verbs.call(request))
    types = {column.name: column.type for column in info.schema.data_columns}
    columns = {field.name: field for field in fields}
    try:
        wanted = row_changes_of(
            tree,
            list(columns),
            generated=generated_partition(
                info.properties.get(GENERATED),
                [column.name for column in info.schema.data_columns],
                (column.name for column in info.schema.partition_columns),
            ),
            defaults={
                field.name: parse_predicate(field.metadata[DEFAULT_KEY].decode())
                for field in fields
                if DEFAULT_KEY in (field.metadata or {})
            },
        )
    except InvalidArgumentError as error:
        raise located(error, tree) from error

    positions = [pa.field(str(number), pa.int64()) for number in range(CONTROLS)]
    targets = [*positions, *(columns[name] for name in (*wanted.columns, *wanted.keys))]

    intent = Intent.of_statement(operation or wanted.operation, run.text)

    def compute(computed: ComputedChanges) -> Draft:
        changed = ChangedTable(
            table,
            computed.view.table.version,
            lambda names, predicate: computed.batches(names, (SEGMENT, ROW), predicate),
        )
        with run.query(wanted.tree, changed) as query:
            # Values are in the middle: in front of them places and actions, behind them keys.
            casts = casts_of(query.types) or ["{}"] * len(query.types)
            for index, name in enumerate(wanted.columns, CONTROLS):
                casts[index] = assigned(
                    query.types[index], columns[name], types.get(name, ""), run.time_zone
                )
            query.cast(casts)
            ordered = any(action.kind == "update" for action in wanted.actions)
            _, batches = query.run(order="1, 2" if ordered else "", targets=targets)
            draft = computed.work(batches, wanted.actions, wanted.keys)
            draft.move = move
            return draft

    return changed_rows(run.verbs.compute_changes(request, intent, compute))


def _columns(target: Target, data: pa.Schema, dynamic: dict[str, pa.Field]) -> list[pa.Field]:
    """The columns of the rows that are inserted, in their order."""
    if not target.columns:
        return [*data, *dynamic.values()]
    by_name = {**{field.name.casefold(): field for field in data}, **dynamic}
    unknown = [name for name in target.columns if name.casefold() not in by_name]
    if unknown:
        near = did_you_mean(unknown[0], (field.name for field in by_name.values()))
        raise InvalidArgumentError(f"{target.table} has no column {', '.join(unknown)}{near}")
    listed = [by_name[name.casefold()] for name in target.columns]
    return [*listed, *(field for field in dynamic.values() if field not in listed)]


def _is_filter(tree: exp.Expr, fields: list[pa.Field], zone: str) -> bool:
    """Whether a scan can choose the rows of a DELETE by itself, without opening most segments."""
    known = {field.name.casefold(): field for field in fields}
    try:
        result = compile_condition(
            tree.args["where"].this.copy(), known, table=tree.this.alias_or_name
        )
    except FletchingError:
        return False
    if zone and any(has_moments(known[name.casefold()].type) for name in result.columns):
        return False  # a filter takes times for those of UTC
    return not tree.this.alias  # the filter's text knows the table by its own name
