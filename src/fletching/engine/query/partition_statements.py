"""Partitions that are dropped by a condition or renamed."""

from __future__ import annotations

from fletching.engine.query.looking import all_partitions
from fletching.engine.query.row_statements import change
from fletching.engine.query.script_run import Outcome, ScriptRun
from fletching.errors import (
    InvalidArgumentError,
    NoSuchPartitionError,
)
from fletching.protocol.messages.admin import (
    CreatePartition,
    DropPartition,
)
from fletching.sql.dialect import exp
from fletching.sql.query_sources import located
from fletching.sql.statement_kinds import (
    ComputedChange,
    DropPartitions,
    RenamePartition,
)
from fletching.types import PartitionSpec

__all__ = ["drop_partitions", "equal", "rename_partition", "same_partition"]


def drop_partitions(run: ScriptRun, statement: DropPartitions) -> Outcome:
    """Drops the partitions for which a condition holds, in one transaction each."""
    table = statement.table
    info = run.describe(table)
    run.authorize(DropPartition(table=table, partition=PartitionSpec()))
    columns = [(c.name, c.type) for c in info.schema.partition_columns]
    known = {name.casefold() for name, _ in columns}
    for column in statement.condition.find_all(exp.Column):
        if column.name.casefold() not in known:
            raise located(
                InvalidArgumentError(f"{table} has no partition column {column.name}"), column
            )
    partitions = list(all_partitions(run.verbs, table))
    chosen = [partitions[i] for i in _matching(run, columns, partitions, statement.condition)]
    if not chosen and not statement.if_exists:
        raise NoSuchPartitionError(f"no partition of {table} fulfils the condition")
    for partition in chosen:
        request = DropPartition(table=table, partition=partition, if_exists=True)
        run.authorize(request)
        run.verbs.call(request)
    return Outcome()


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
    if not any(same_partition(old, one) for one in all_partitions(run.verbs, table)):
        raise NoSuchPartitionError(f"there is no partition {old} in {table}")
    if same_partition(old, new):
        return Outcome()
    run.verbs.call(create)
    try:
        update = exp.Update(
            this=exp.to_table(str(table), dialect="hive"),
            expressions=[equal(name, value) for name, value in new],
            where=exp.Where(this=exp.and_(*(equal(name, value) for name, value in old))),
        )
        outcome = change(run, ComputedChange(table, update))
    except BaseException:
        run.verbs.call(DropPartition(table=table, partition=new, if_exists=True))
        raise
    run.verbs.call(drop)
    return outcome


def equal(name: str, value: str) -> exp.EQ:
    """A column that is equal to a text."""
    return exp.EQ(
        this=exp.column(exp.to_identifier(name, quoted=True)), expression=exp.Literal.string(value)
    )


def same_partition(one: PartitionSpec, other: PartitionSpec) -> bool:
    """Whether two name the same values, whatever the order and case of their columns."""
    return {name.casefold(): value for name, value in one} == {
        name.casefold(): value for name, value in other
    }
