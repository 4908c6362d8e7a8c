"""Tables with a past, and the rows that they must have, for the comparison of engines with pyarrow.

The rows are random ones of every comparable type, with nulls, NaN, negative zero and nested values, in partitions
or not; some were deleted, and a column came later. A table may be empty as well.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import pyarrow as pa
from tests.sql.random_predicates import Writer, evaluated, rows

from fletching.client import Client, Scan, Table
from fletching.sql.predicates.predicate_compiler import compile_predicate

__all__ = ["changed_table", "random_condition", "random_scan"]

_LATER = pa.field("later", pa.float64())


def changed_table(
    client: Client, rand: random.Random, name: str, without: Sequence[str] = ()
) -> tuple[Table, pa.Table]:
    """A table, and its rows by an independent hand; ``id`` tells which are which.

    Args:
        client: where to.
        rand: decides what has happened to it.
        name: of the table.
        without: columns that an engine has no type for.
    """
    parts = []
    first = 0
    partitioned = rand.random() < 0.5
    table = None
    for length in rand.choice([(0, 0), (1, 7), (20, 40)]):
        data = rows(rand, length).drop_columns(list(without))
        data = data.add_column(0, "id", pa.array(range(first, first + length), pa.int64()))
        if table is None:
            schema = data.schema
            table = client.create_table(name, schema, partition_by=["day"] if partitioned else None)
        else:
            table = table.add_columns(pa.schema([_LATER]))
            values = [rand.choice([None, -0.0, 0.5, float("nan")]) for _ in range(length)]
            data = data.append_column(_LATER, pa.array(values, _LATER.type))
        if partitioned:
            days = pa.array([rand.choice(["d1", "d2"]) for _ in range(length)], pa.string())
            data = data.append_column("day", days)
        if length:
            table.append(data)
        parts.append(data)
        first += length
    assert table is not None
    whole = pa.concat_tables(parts, promote_options="default")
    deleted = [number for number in range(first) if rand.random() < 0.2]
    if deleted:
        table.delete(f"id IN ({', '.join(map(str, deleted))})")
    kept = [number for number in range(first) if number not in deleted]
    return table, whole.take(pa.array(kept, pa.int64())).select(table.scan().schema.names)


def random_condition(rand: random.Random, table: Table, unknown: Sequence[str] = ()) -> str:
    """A condition on a table's rows.

    Args:
        rand: decides which.
        table: whose rows.
        unknown: what must not be in it, as a whole word.
    """
    while True:
        text = Writer(rand).condition(rand.choice([0, 1, 2]))[0]
        words = set(text.replace("(", " ").replace(")", " ").split())
        if not words & set(unknown):
            break
    if rand.random() < 0.3:
        text = f"({text}) AND later {rand.choice(['IS NULL', '>= 0', '<> 0.5', 'IS NOT NULL'])}"
    if "day" in table.scan().schema.names and rand.random() < 0.5:
        text = f"({text}) AND day = 'd{rand.randint(1, 2)}'"
    return text


def random_scan(rand: random.Random, table: Table, rows: pa.Table) -> tuple[Scan, pa.Table]:
    """A scan with a condition, as text or as an expression, or with a limit, and the rows that it has.

    With a limit these are the whole table's, of which the scan has that many.

    Args:
        rand: decides which.
        table: of `changed_table`.
        rows: its rows.
    """
    kind = rand.randrange(4)
    if kind == 0:
        return table.scan(), rows
    if kind == 1:
        return table.scan(limit=rand.randint(0, rows.num_rows + 1)), rows
    text = random_condition(rand, table)
    fields = {field.name: field for field in rows.schema}
    compiled = compile_predicate(text, fields).expression
    kept = rows.filter(pa.array(evaluated(rows, compiled), pa.bool_()))
    return table.scan(filter=text if kind == 2 else compiled), kept
