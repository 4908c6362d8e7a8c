"""Tables as Dask dataframes: a partition for each range of a snapshot's rows; one commit for a write."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import pyarrow as pa

from fletching.client import CommitMessage, Scan, Table
from fletching.client.argument_checks import whole_number
from fletching.client.reading.planned_scan import plan
from fletching.client.tabular.alignment import joined
from fletching.client.tabular.plain_layouts import plain_layouts
from fletching.client.writing.write_session import WriteSession
from fletching.connectors.narrowing import missing, narrowed, scan_of
from fletching.connectors.task_writes import abort_quietly, begin, commit, write_attempt
from fletching.errors import UsageError

try:
    import dask
    import dask.dataframe
    import pandas as pd
except ImportError as error:
    raise missing("dask", error) from error

__all__ = ["read_table", "write_table"]

PARTITION_BYTES = 64 << 20
"""About so many stored bytes make a partition, unless the number of partitions is given."""


def read_table(source: Table | Scan, *, npartitions: int | None = None) -> dask.dataframe.DataFrame:
    """A dataframe over one version of a table: each partition is a range of its rows.

    Columns that a computation does not use are not read. Values have pandas' Arrow types, so that they
    are the same in each partition whether it has nulls or not.

    Args:
        source: what to read. Its version is the newest one now, or the scan's own.
        npartitions: how many; None for one for each 64 MiB as stored.

    Raises:
        UsageError: neither a table nor a scan, a scan with both a filter and a limit, or a number of
            partitions below 1.
        ServiceError: the service refused.
    """
    scan = scan_of(source)
    if npartitions is not None:
        whole_number("npartitions", npartitions, least=1)
    planned = plan(scan)
    count = npartitions or max(1, -(-planned.byte_size // PARTITION_BYTES))
    bounds = [planned.row_count * part // count for part in range(count + 1)]
    reader = _Ranges(planned.scan)
    return dask.dataframe.from_map(
        reader,
        list(itertools.pairwise(bounds)),
        meta=_frame(joined([], scan.schema)),
        label="fletching",
        enforce_metadata=False,
    )


def write_table(
    ddf: dask.dataframe.DataFrame,
    table: Table,
    *,
    mode: str = "append",
    idempotency_key: str | None = None,
    **compute_options: object,
) -> int:
    """Writes a dataframe's rows from the workers, and commits once; returns how many rows.

    A task that runs twice, or dies, changes nothing: only the attempts whose results arrive are
    committed. An index with a name is written as a column, as `Table.append` does; one without is not.

    Args:
        ddf: its columns by name.
        table: where to.
        mode: ``append``, or ``overwrite`` for the rows that the table has.
        idempotency_key: a write with the key of an earlier one changes nothing, so that a job whose
            driver died at the end can be run again.
        compute_options: for ``dask.compute``.

    Raises:
        UsageError: no dataframe of Dask, no table, another mode, or data that does not fit the table.
        ServiceError: the service refused; nothing is visible.
    """
    if not isinstance(ddf, dask.dataframe.DataFrame):
        raise UsageError(f"a dataframe of Dask is written, not a {type(ddf).__name__}")
    session = begin(table, mode)
    try:
        parts = ddf.to_delayed()
        tasks = [dask.delayed(_write_partition)(part, session) for part in parts]
        messages: Sequence[CommitMessage] = dask.compute(*tasks, **compute_options)
        return commit(session, messages, idempotency_key)
    except BaseException:
        abort_quietly(session)
        raise


def _write_partition(frame: pd.DataFrame, session: WriteSession) -> CommitMessage:
    # The frame itself: pyarrow would give columns of objects types of its own, and cut values to them.
    return write_attempt(session, [frame] if len(frame) else [])


@dataclasses.dataclass(frozen=True)
class _Ranges:
    """Reads ranges of a version's rows, in whatever process it is called; pickles."""

    scan: Scan

    def __call__(self, bounds: tuple[int, int], columns: Sequence[str]) -> pd.DataFrame:
        # Without a default, or Dask names no columns where none are wanted, and all come.
        scan = narrowed(self.scan, columns)
        with scan.session() as session:
            return _frame(session.rows(*bounds).to_table())

    def __dask_tokenize__(self) -> tuple[object, ...]:
        scan = self.scan
        channel = scan.table.channel
        # Dask takes a frame that it still has for a new one of the same token. So the token says whose
        # rows these are, and through which client they are read, for another may be closed by now.
        return (
            type(self).__qualname__,
            str(channel.reopen),
            id(channel.transport),
            str(scan.table.full_name),
            scan.version,
            scan.columns,
            None if scan.partitions is None else [str(each) for each in scan.partitions],
            str(scan.filter),
            None if scan.residual is None else scan.residual.written,
            scan.limit,
        )


def _frame(table: pa.Table) -> pd.DataFrame:
    return plain_layouts(table).to_pandas(types_mapper=pd.ArrowDtype)
