"""``fletching bench``: how fast tables move between here and a server or folder, measured now."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import statistics
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pyarrow as pa
import typer

from fletching.cli.cli_options import JsonOutput, placed
from fletching.cli.location import Location
from fletching.cli.output import bytes_figure, print_json, print_table, progress
from fletching.cli.quickstart.job import Meter, Step

if TYPE_CHECKING:
    from fletching.client import Client, Table

__all__ = ["bench"]

BATCH_ROWS = 65_536
COLUMNS = 5
SEED = 20_260_101


@placed
def bench(
    location: Location,
    megabytes: Annotated[
        int, typer.Option("--megabytes", min=1, help="Size of the table that is moved.")
    ] = 256,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds; medians are shown.")] = 5,
    connections: Annotated[
        int, typer.Option("--connections", min=1, help="Streams and connections at once.")
    ] = 2,
    as_json: JsonOutput = False,
) -> None:
    """Measure writing and reading a table, through HTTP or in a folder.

    A table of numeric columns is made under a name of its own and dropped at the end.
    """
    batches = _batches(megabytes * 1_000_000)
    rows = sum(batch.num_rows for batch in batches)
    result: dict[str, list[Step]] = {}
    with location.open(create=True) as client, progress("bench", quiet=as_json) as task:

        def report(_step: str, moved: int, size: int) -> None:
            task.add(moved, size)

        for _ in range(rounds):
            with _table(client, batches[0].schema) as table:
                for name, run in _steps(table, batches, connections):
                    task.restart(name, rows)
                    meter = Meter(table.name, name, report)
                    run(meter)
                    result.setdefault(name, []).append(meter.step())
    _print(result, as_json=as_json)


def _batches(size: int) -> list[pa.RecordBatch]:
    """Seeded numeric batches of about ``size`` bytes together; one batch's memory, many times."""
    random = np.random.default_rng(SEED)
    batch = pa.record_batch(
        {
            f"c{number}": pa.array(random.integers(0, 2**62, BATCH_ROWS, np.int64))
            for number in range(COLUMNS)
        }
    )
    return [batch] * max(1, round(size / batch.nbytes))


@contextlib.contextmanager
def _table(client: Client, schema: pa.Schema) -> Iterator[Table]:
    name = f"bench_{secrets.token_hex(6)}"
    table = client.create_table(name, schema)
    try:
        yield table
    finally:
        client.drop_table(name, if_exists=True)


def _steps(
    table: Table, batches: list[pa.RecordBatch], connections: int
) -> Iterator[tuple[str, Callable[[Meter], None]]]:
    def write(streams: int) -> Callable[[Meter], None]:
        def run(meter: Meter) -> None:
            table.overwrite(meter.counted(iter(batches)), streams=streams)

        return run

    def read(at_once: int, columns: list[str] | None = None) -> Callable[[Meter], None]:
        def run(meter: Meter) -> None:
            for batch in table.with_options(connections=at_once).scan(columns=columns).to_batches():
                meter.count(batch)

        return run

    several = sorted({1, connections})
    for count in several:
        yield f"write, {count} stream{'s' * (count > 1)}", write(count)
    for count in several:
        yield f"read, {count} connection{'s' * (count > 1)}", read(count)
    yield f"read 1 of {COLUMNS} columns", read(1, [batches[0].schema.names[0]])


def _print(results: dict[str, list[Step]], *, as_json: bool) -> None:
    if as_json:
        print_json([dataclasses.asdict(step) for steps in results.values() for step in steps])
        return
    print_table(
        ["step", "bytes", "GB/s", "least", "most"],
        [
            (
                name,
                bytes_figure(steps[0].bytes),
                f"{statistics.median(speeds):.2f}",
                f"{min(speeds):.2f}",
                f"{max(speeds):.2f}",
            )
            for name, steps in results.items()
            for speeds in [[step.gigabytes_per_second for step in steps]]
        ],
        figures=["bytes", "GB/s", "least", "most"],
        caption="Median, least and most of the rounds. Writes include the fsync.",
    )
