"""Partitions that are dropped by a condition, renamed, or merged."""

from __future__ import annotations

import contextlib

from fletching.engine.query.looking import all_partitions
from fletching.engine.query.row_statements import change
from fletching.engine.query.script_run import Outcome, ScriptRun
from fletching.errors import (
    ConflictError,
    FletchingError,
    InvalidArgumentError,
    NoSuchPartitionError,
)
from fletching.protocol.messages.admin import (
    CreatePartition,
    DropPartition,
)
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

_MOST_MOVES = 10
"""How often rows that came meanwhile are moved behind the others, before the statement gives up."""


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
    run.verbs.call(request)


def drop_partitions(run: ScriptRun, statement: DropPartitions) -> Outcome:
    """Drops the partitions for which a condition holds, in one transaction each."""
    table = statement.table
    info = run.describe(table)
    run.authorize(DropPartition(table=table, partition=PartitionSpec()))
    columns = [(c.name, c.type) for c in info.schema.partition_columns]
    _check_columns(table, columns, statement.condition)
    partitions = list(all_partitions(run.verbs, table))
    chosen = [partitions[i] for i in _matching(run, columns, partitions, statement.condition)]
    if not chosen and not statement.if_exists:
        raise NoSuchPartitionError(f"no partition of {table} fulfils the condition")
    for partition in chosen:
        request = DropPartition(table=table, partition=partition, if_exists=True)
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
    """Moves the rows of a partition to another, which must not be there, and drops it."""
    table, old, new = statement.table, statement.partition, statement.new
    info = run.describe(table)
    names = {c.name.casefold(): c.name for c in info.schema.partition_columns}
    for spec in (old, new):
        if {name.casefold() for name, _ in spec} != set(names):
            raise InvalidArgumentError(
                f"RENAME takes all partition columns of {table}: {', '.join(names.values())}"
            )
    drop = DropPartition(table=table, partition=old)
    create = CreatePartition(table=table, partition=new)
    for request in (drop, create):
        run.authorize(request)
    if not any(same_partition(old, item) for item in all_partitions(run.verbs, table)):
        raise NoSuchPartitionError(f"there is no partition {old} in {table}")
    if same_partition(old, new):
        return Outcome()
    run.verbs.call(create)
    return _move(run, table, [old], new, made=True)


def merge_partitions(run: ScriptRun, statement: MergePartitions) -> Outcome:
    """Moves the rows of partitions to one, in place of those that it has, and drops them.

    The rows change their partition in one commit, those that are replaced with them. Partitions that are
    left empty go after that: whoever looks in between sees empty ones.
    """
    table, into = statement.table, statement.into
    info = run.describe(table)
    columns = [(c.name, c.type) for c in info.schema.partition_columns]
    known = {name.casefold() for name, _ in columns}
    if {name.casefold() for name, _ in into} != known:
        raise InvalidArgumentError(
            f"OVERWRITE takes all partition columns of {table}: {', '.join(n for n, _ in columns)}"
        )
    drop = DropPartition(table=table, partition=into)
    create = CreatePartition(table=table, partition=into)
    for request in (drop, create):
        run.authorize(request)
    present = list(all_partitions(run.verbs, table))
    sources = _merged(run, statement, columns, present)
    if all(same_partition(into, item) for item in sources):
        return Outcome(affected=0)
    is_there = any(same_partition(into, item) for item in present)
    others = [item for item in sources if not same_partition(into, item)]
    stays = not is_there or len(others) < len(sources)
    if not is_there:
        run.verbs.call(create)
    return _move(run, table, others, into, made=not is_there, stays=stays)


def _move(
    run: ScriptRun,
    table: TableName,
    sources: list[PartitionSpec],
    into: PartitionSpec,
    *,
    made: bool,
    stays: bool = True,
) -> Outcome:
    """Moves the rows of partitions to another, and drops those partitions when they are empty.

    Whoever puts rows into one of them meanwhile has been told that they are there: they are moved as well,
    and not dropped with it.

    Args:
        run: of the statement.
        table: whose partitions they are.
        sources: where the rows are.
        into: where they go.
        made: whether that partition was made for them, and goes if they do not come.
        stays: whether the rows stay that are there.

    Raises:
        ConflictError: rows keep coming; those that were moved are moved.
    """
    affected = 0
    left = sources
    for number in range(_MOST_MOVES):
        tree = _moved(table, left, into, stays=stays or number > 0)
        try:
            affected += change(run, ComputedChange(table, tree)).affected or 0
        except BaseException:
            if made:
                with contextlib.suppress(FletchingError):
                    run.verbs.call(_drop_if_empty(table, into))
            raise
        left = [item for item in left if not _dropped(run, _drop_if_empty(table, item))]
        if not left:
            return Outcome(affected=affected)
    raise ConflictError(f"rows keep coming into {left[0]} of {table}; those before are in {into}")


def _drop_if_empty(table: TableName, partition: PartitionSpec) -> DropPartition:
    return DropPartition(table=table, partition=partition, if_exists=True, if_empty=True)


def _dropped(run: ScriptRun, request: DropPartition) -> bool:
    try:
        run.verbs.call(request)
    except ConflictError:
        return False
    return True


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
