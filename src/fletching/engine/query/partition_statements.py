"""Partitions that are dropped by a condition, renamed, or merged."""

from __future__ import annotations

import hashlib

from fletching.engine.changes.partition_moves import PartitionMove
from fletching.engine.query.looking import all_partitions
from fletching.engine.query.row_statements import change, with_key
from fletching.engine.query.script_run import Outcome, ScriptRun
from fletching.errors import InvalidArgumentError, NoSuchPartitionError
from fletching.protocol.messages.admin import CreatePartition, DropPartition
from fletching.sql.parsing.dialect import equal, exp
from fletching.sql.queries.query_sources import located
from fletching.sql.statements.statement_kinds import (
    ComputedChange,
    DropPartitions,
    MergePartitions,
    RenamePartition,
)
from fletching.types import PartitionSpec, TableName

__all__ = [
    "drop_partition",
    "drop_partitions",
    "merge_partitions",
    "rename_partition",
    "same_partition",
]

_RENAME, _MERGE = "rename partition", "merge partitions"
"""What a table's history calls rows that change their partition."""


def drop_partition(run: ScriptRun, request: DropPartition) -> None:
    """Drops a partition, or all those that have the values of its first columns, or of some of them."""
    wanted = request.partition
    columns = run.describe(request.table).schema.partition_columns
    known = {column.name.casefold() for column in columns}
    given = {name.casefold() for name, _ in wanted}
    if given < known:
        condition = exp.and_(*(equal(name, value) for name, value in wanted))
        drop_partitions(run, DropPartitions(request.table, condition, request.if_exists))
        return
    run.authorize(request)
    run.verbs.call(with_key(run, request))


def drop_partitions(run: ScriptRun, statement: DropPartitions) -> Outcome:
    """Drops the partitions for which a condition holds, in one transaction each."""
    table = statement.table
    info = run.describe(table)
    run.authorize(DropPartition(table=table, partition=PartitionSpec()))
    columns = [(c.name, c.type) for c in info.schema.partition_columns]
    _check_columns(table, columns, statement.condition)
    partitions = list(all_partitions(run.verbs, table))
    chosen = [partitions[i] for i in _matching(run, columns, partitions, statement.condition)]
    if not chosen and not statement.if_exists and not run.has_begun:
        raise NoSuchPartitionError(f"no partition of {table} fulfils the condition")
    for partition in chosen:
        # A repetition finds other partitions, and so cannot count them.
        digest = hashlib.sha256(str(partition).encode("utf-8", "surrogatepass")).digest()
        request = DropPartition(
            table=table,
            partition=partition,
            if_exists=True,
            idempotency_key=run.key(int.from_bytes(digest[:8])),
        )
        run.authorize(request)
        run.verbs.call(request)
    return Outcome()


def _check_columns(table: TableName, columns: list[tuple[str, str]], condition: exp.Expr) -> None:
    known = {name.casefold() for name, _ in columns}
    for column in condition.find_all(exp.Column):
        if column.name.casefold() not in known:
            raise located(
                InvalidArgumentError(f"{table} has no partition column {column.name}"), column
            )


def _matching(
    run: ScriptRun,
    columns: list[tuple[str, str]],
    partitions: list[PartitionSpec],
    condition: exp.Expr,
) -> list[int]:
    """Which partitions a condition chooses, worked out as a query over their values."""
    if not partitions:
        return []
    rows = [
        exp.Tuple(
            expressions=[
                exp.Literal.number(number),
                *(exp.Literal.string(value) for _, value in partition),
            ]
        )
        for number, partition in enumerate(partitions)
    ]
    names = ["partition number", *(name for name, _ in columns)]
    values = exp.Values(
        expressions=rows,
        alias=exp.TableAlias(
            this=exp.to_identifier("raw", quoted=True),
            columns=[exp.to_identifier(name, quoted=True) for name in names],
        ),
    )
    typed = exp.Select(
        expressions=[
            exp.column(exp.to_identifier(names[0], quoted=True)),
            *(
                exp.alias_(
                    exp.cast(
                        exp.column(exp.to_identifier(name, quoted=True)), kind, dialect="hive"
                    ),
                    name,
                    quoted=True,
                )
                for name, kind in columns
            ),
        ],
        from_=exp.From(this=values),
    )
    tree = (
        exp.select(exp.column(exp.to_identifier(names[0], quoted=True)))
        .from_(typed.subquery("partitions"))
        .where(condition.copy())
    )
    with run.query(tree) as query:
        _, batches = query.run()
        return sorted(number for batch in batches for number in batch.column(0).to_pylist())


def rename_partition(run: ScriptRun, statement: RenamePartition) -> Outcome:
    """Moves the rows of a partition to another, which must not be there, and drops it, in one transaction."""
    table, old, new = statement.table, statement.partition, statement.new
    info = run.describe(table)
    names = {c.name.casefold(): c.name for c in info.schema.partition_columns}
    for spec in (old, new):
        if {name.casefold() for name, _ in spec} != set(names):
            raise InvalidArgumentError(
                f"RENAME takes all partition columns of {table}: {', '.join(names.values())}"
            )
    _authorize_move(run, table, old, new)
    key = next(run.keys)
    if not any(same_partition(old, item) for item in all_partitions(run.verbs, table)):
        raise NoSuchPartitionError(f"there is no partition {old} in {table}")
    if same_partition(old, new):
        return Outcome()
    moved = ComputedChange(table, _moved(table, [old], new, stays=True))
    move = PartitionMove(new, is_new=True, sources=[old])
    return change(run, moved, key=key, operation=_RENAME, move=move)


def merge_partitions(run: ScriptRun, statement: MergePartitions) -> Outcome:
    """Moves the rows of partitions to one, in place of those that it has, and drops them, in one transaction."""
    table, into = statement.table, statement.into
    info = run.describe(table)
    columns = [(c.name, c.type) for c in info.schema.partition_columns]
    known = {name.casefold() for name, _ in columns}
    if {name.casefold() for name, _ in into} != known:
        raise InvalidArgumentError(
            f"OVERWRITE takes all partition columns of {table}: {', '.join(n for n, _ in columns)}"
        )
    _authorize_move(run, table, into, into)
    key = next(run.keys)
    present = list(all_partitions(run.verbs, table))
    sources = _merged(run, statement, columns, present)
    others = [item for item in sources if not same_partition(into, item)]
    if not others:
        return Outcome(affected=0)
    is_there = any(same_partition(into, item) for item in present)
    stays = not is_there or len(others) < len(sources)
    moved = ComputedChange(table, _moved(table, others, into, stays=stays))
    move = PartitionMove(into, is_new=not is_there, sources=others)
    return change(run, moved, key=key, operation=_MERGE, move=move)


def _authorize_move(
    run: ScriptRun, table: TableName, ends: PartitionSpec, comes: PartitionSpec
) -> None:
    run.authorize(DropPartition(table=table, partition=ends))
    run.authorize(CreatePartition(table=table, partition=comes))


def _merged(
    run: ScriptRun,
    statement: MergePartitions,
    columns: list[tuple[str, str]],
    present: list[PartitionSpec],
) -> list[PartitionSpec]:
    """The partitions that a statement names or whose values fulfil one of its conditions.

    Raises:
        NoSuchPartitionError: there is none, and it does not say IF EXISTS.
    """
    table = statement.table
    chosen: set[int] = set()
    for condition in statement.conditions:
        _check_columns(table, columns, condition)
        result = _matching(run, columns, present, condition)
        if not result and not statement.if_exists:
            raise NoSuchPartitionError(f"no partition of {table} fulfils the condition")
        chosen.update(result)
    for partition in statement.partitions:
        wanted = {name.casefold(): value for name, value in partition}
        for name in wanted.keys() - {name.casefold() for name, _ in columns}:
            raise InvalidArgumentError(f"{table} has no partition column {name}")
        result = [
            number
            for number, item in enumerate(present)
            if wanted.items() <= {name.casefold(): value for name, value in item}.items()
        ]
        if not result and not statement.if_exists:
            raise NoSuchPartitionError(f"there is no partition {partition} in {table}")
        chosen.update(result)
    return [present[number] for number in sorted(chosen)]


def _moved(
    table: TableName, sources: list[PartitionSpec], into: PartitionSpec, *, stays: bool
) -> exp.Expr:
    """The change that gives rows of partitions other values; unless it ``stays``, what is there goes."""
    target = exp.to_table(str(table), dialect="hive")
    values = [equal(name, value) for name, value in into]
    chosen = exp.or_(*(exp.and_(*(equal(n, v) for n, v in item)) for item in sources))
    if stays:
        return exp.Update(this=target, expressions=values, where=exp.Where(this=chosen))
    here = exp.and_(*(value.copy() for value in values))
    one_row = exp.select(exp.alias_(exp.Literal.number(1), "one")).subquery("once")
    return exp.Merge(
        this=target,
        using=one_row,
        on=exp.or_(chosen, here.copy()),
        whens=exp.Whens(
            expressions=[
                exp.When(matched=True, condition=here, then=exp.Var(this="DELETE")),
                exp.When(matched=True, then=exp.Update(expressions=values)),
            ]
        ),
    )


def same_partition(left: PartitionSpec, other: PartitionSpec) -> bool:
    """Whether two name the same values, whatever the order and case of their columns."""
    return {name.casefold(): value for name, value in left} == {
        name.casefold(): value for name, value in other
    }
