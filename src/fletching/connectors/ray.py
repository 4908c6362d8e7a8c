"""Tables in Ray Data: a source with parallel read tasks, and a sink with one commit."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from fletching.client import CommitMessage, Scan, Table
from fletching.client.reading.expressions import pushdown
from fletching.client.reading.planned_scan import plan
from fletching.client.tabular.alignment import joined
from fletching.client.tabular.plain_layouts import plain_layouts
from fletching.client.writing.write_session import WriteSession
from fletching.connectors.narrowing import missing, narrowed, scan_of
from fletching.connectors.task_writes import abort_quietly, begin, commit, write_attempt
from fletching.errors import UsageError
from fletching.protocol.types.arrow_types import narrowest
from fletching.protocol.types.row_selection import matching_rows

if TYPE_CHECKING:
    from ray.data.datasource import WriteResult
    from ray.data.expressions import Expr

try:
    import ray.data
    from ray.data import Datasink, Datasource
    from ray.data.block import BlockAccessor, BlockMetadata
    from ray.data.datasource import ReadTask
except ImportError as error:
    raise missing("ray", error) from error

__all__ = ["TableDatasink", "TableDatasource", "read_table", "write_table"]


TASK_BYTES = 64 << 20
LEAST_TASK_BYTES = 1 << 20
"""About so many stored bytes make a read task; fewer where else processors had nothing to do."""


def read_table(source: Table | Scan, **ray_options: object) -> ray.data.Dataset:
    """A dataset over one version of a table.

    Columns and conditions of the dataset's first operations are taken into the scan as far as they
    surely mean the same there; what remains of a condition is evaluated in the read tasks.

    Args:
        source: what to read. Its version is the newest one now, or the scan's own.
        ray_options: for ``ray.data.read_datasource``: ``concurrency``, ``ray_remote_args``, and
            ``override_num_blocks``: by default a read task for each 64 MiB as stored, and two for each
            processor where they have a MiB each.

    Raises:
        UsageError: neither a table nor a scan, a scan with both a filter and a limit, or without
            columns.
        ServiceError: the service refused.
    """
    datasource = TableDatasource(scan_of(source))
    # Ray would begin with two hundred tasks, each of which takes longer to start than a MiB to read.
    ray_options.setdefault("override_num_blocks", datasource.task_count())
    return ray.data.read_datasource(datasource, **ray_options)


def write_table(
    dataset: ray.data.Dataset,
    table: Table,
    mode: str = "append",
    *,
    idempotency_key: str | None = None,
    **ray_options: object,
) -> int:
    """Writes a dataset's rows from its tasks, and commits once when all are done; returns how many.

    Tasks that are repeated, or run twice, change nothing; if the job fails, nothing is visible.

    Args:
        dataset: its columns by name.
        table: where to.
        mode: ``append``, or ``overwrite`` for the rows that the table has; with no rows it then has
            none.
        idempotency_key: a write with the key of an earlier one changes nothing, so that a job whose
            driver died at the end can be run again.
        ray_options: for ``Dataset.write_datasink``: ``concurrency``, ``ray_remote_args``.

    Raises:
        UsageError: no dataset of Ray, no table, or another mode.
        ServiceError: the service refused to begin or to commit.
    """
    if not isinstance(dataset, ray.data.Dataset):
        raise UsageError(f"a dataset of Ray is written, not a {type(dataset).__name__}")
    sink = TableDatasink(table, mode, idempotency_key)
    try:
        dataset.write_datasink(sink, **ray_options)
        return sink.finished()
    except BaseException:
        # Also where Ray does not say so: cancelled, or refused before the first task.
        sink.abort()
        raise


class TableDatasource(Datasource):  # type: ignore[misc]  # Ray is not there to look at
    """Reads a scan at one version, a range of rows for each task."""

    def __init__(self, scan: Scan) -> None:
        super().__init__()
        if not scan.schema.names:
            raise UsageError("Ray has no rows without columns: choose at least one column")
        planned = plan(scan)
        self._rows, self._bytes = planned.row_count, planned.byte_size
        self._scan = planned.scan
        # Ray's own names, which its older releases do not set.
        self._predicate_expr: Expr | None = None
        self._projection_map: dict[str, str] | None = None

    def get_name(self) -> str:
        """What Ray calls the tasks."""
        return f"Fletching({self._scan.table.name})"

    def estimate_inmemory_data_size(self) -> int | None:
        """The stored bytes of the rows: what is stored is what arrives."""
        return self._bytes

    def task_count(self) -> int:
        """How many read tasks there are unless the caller says so."""
        cluster = ray.cluster_resources() if ray.is_initialized() else {}
        processors = int(cluster.get("CPU", os.cpu_count() or 1))
        wanted = max(-(-self._bytes // TASK_BYTES), 2 * processors)
        return max(1, min(wanted, self._bytes // LEAST_TASK_BYTES))

    def supports_projection_pushdown(self) -> bool:
        """Columns are chosen by the scan."""
        return True

    def supports_predicate_pushdown(self) -> bool:
        """Conditions are evaluated by the scan, or in the read task. A limit comes before them."""
        return self._scan.limit is None

    def apply_predicate(self, predicate_expr: Expr) -> TableDatasource:
        """The source with a further condition."""
        clone = copy.copy(self)
        before = self._predicate_expr
        clone._predicate_expr = (  # noqa: SLF001  # Ray's own name, in a copy of this source
            predicate_expr if before is None else before & predicate_expr
        )
        return clone

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: object = None
    ) -> list[ReadTask]:
        """A task for each of about `parallelism` ranges of rows."""
        del data_context
        count = max(1, min(parallelism, self._rows))
        bounds = [self._rows * part // count for part in range(count + 1)]
        columns = None if self._projection_map is None else list(self._projection_map)
        if columns == []:
            # Ray counts the rows of blocks, and a block without columns has none.
            columns = [narrowest(self._scan.schema)]
        predicate = self._predicate_expr
        expression = None if predicate is None else predicate.to_pyarrow()
        whole = self._scan.schema
        wanted = list(whole.names) if columns is None else columns
        schema = plain_layouts(joined([], pa.schema([whole.field(name) for name in wanted]))).schema
        tasks = []
        for start, end in itertools.pairwise(bounds):
            unknown = expression is not None or self._scan.filters
            metadata = BlockMetadata(
                num_rows=None if unknown else end - start,
                size_bytes=self._bytes * (end - start) // max(1, self._rows),
                input_files=None,
                exec_stats=None,
            )
            read = _Range(self._scan, start, end, tuple(wanted), expression)
            tasks.append(
                ReadTask(read, metadata, schema=schema, per_task_row_limit=per_task_row_limit)
            )
        return tasks


@dataclasses.dataclass(frozen=True)
class _Range:
    """Reads a range of rows where it is called; pickles."""

    scan: Scan
    start: int
    end: int
    columns: tuple[str, ...]
    expression: pc.Expression | None

    def __call__(self) -> Iterable[pa.Table]:
        scan, residual = self.scan, None
        wanted = list(self.columns)
        if self.expression is None:
            source = narrowed(scan, wanted)
        else:
            parts = pushdown(self.expression, scan.schema)
            residual = parts.residual
            read = [*wanted, *sorted(parts.columns - set(wanted))]
            source = narrowed(scan, read, parts.pushed)
        sent = False
        with source.session() as session:
            for batch in session.rows(self.start, self.end).to_batches():
                kept = batch if residual is None else matching_rows(batch, residual)
                yield plain_layouts(pa.Table.from_batches([kept.select(wanted)]))
                sent = True
            if not sent:
                # An empty block of the right columns: Ray takes the dataset's schema from blocks.
                yield plain_layouts(joined([], session.schema).select(wanted))


class TableDatasink(Datasink[CommitMessage]):  # type: ignore[misc]  # likewise
    """Writes blocks into one write session: a stream for each attempt of a task."""

    def __init__(
        self, table: Table, mode: str = "append", idempotency_key: str | None = None
    ) -> None:
        self._table = table
        self._key = idempotency_key
        self._session: WriteSession = begin(table, mode)
        self._rows: int | None = None

    def get_name(self) -> str:
        """What Ray calls the tasks."""
        return f"Fletching({self._table.name})"

    def on_write_start(self, schema: pa.Schema = None) -> None:
        """Nothing: the session was opened when the sink was made, also for a job without rows."""

    def write(self, blocks: Iterable[pa.Table], ctx: object) -> CommitMessage:
        """Writes a task's blocks, durable but not visible."""
        # Ray does not number the attempts at a task.
        del ctx
        tables = (BlockAccessor.for_block(block).to_arrow() for block in blocks)
        return write_attempt(self._session, (each for each in tables if each.num_rows))

    def on_write_complete(self, write_result: WriteResult[CommitMessage]) -> None:
        """Commits the streams of the attempts that Ray kept."""
        self._rows = commit(self._session, write_result.write_returns, self._key)

    def on_write_failed(self, error: Exception) -> None:
        """Drops what was written; if that cannot be said now, the session expires by itself."""
        del error
        self.abort()

    def abort(self) -> None:
        """Ends the session, unless it was committed."""
        if self._rows is None:
            abort_quietly(self._session)

    def finished(self) -> int:
        """Rows committed; commits the nothing of a job for which Ray called no task."""
        if self._rows is None:
            self._rows = commit(self._session, [], self._key)
        return self._rows
