"""Tables for training: an iterable dataset that is shared by ranks and workers, and can be resumed.

`FletchingDataset` reads a snapshot in the order of `fletching.connectors.sampling`: shuffled by seed
and epoch, the same for any number of readers. It counts the rows that it has handed over, so that
`state_dict` says exactly what remains; the same state continues in one process, in a worker of a
``StatefulDataLoader``, or, merged with the states of all readers, among another number of them.
"""

from __future__ import annotations

import collections
import contextlib
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from fletching.client import Scan, Table
from fletching.client.argument_checks import mapping_of, whole_number
from fletching.connectors.narrowing import missing, narrowed, scan_of
from fletching.connectors.reading_order import Batch, OrderedRows, ahead, take, with_contents
from fletching.connectors.sampling import EpochOrder, Interval, Position, remaining_of
from fletching.errors import UsageError
from fletching.protocol.types.blob_type import is_blob

try:
    import torch
    from torch.utils.data import IterableDataset, get_worker_info

    from fletching.connectors.tensors import column_tensor, fill_value, stacked
    from fletching.connectors.training_snapshot import SnapshotReader, TrainingSnapshot, agreed
    from fletching.connectors.worker_contents import Contents
except ImportError as error:
    raise missing("torch", error) from error

__all__ = ["FletchingDataset"]

_STATE_VERSION = 1
CHUNK_ROWS = 4096
"""Rows read as one range: the smaller, the better shuffled and the more requests."""
BLOCK_CHUNKS = 16
"""Chunks that are permuted together, and held in memory."""
ROWS_AT_ONCE = 64
"""Rows that are made at once where they are handed out one by one."""

Decoder = Callable[[bytes], object]

State = dict[str, Any]
"""Where a training stands, as JSON."""


class _Resumed(NamedTuple):
    """Where the next iteration goes on, and among whom that is shared."""

    intervals: list[Interval]
    by_ranks: bool
    by_workers: bool


class FletchingDataset(IterableDataset[Batch]):  # type: ignore[misc]  # torch is not there to look at
    """Rows of a table or scan as dicts of tensors, for ``torch.utils.data.DataLoader``.

    Give it to a loader with ``batch_size=None`` and let the dataset make the batches: a batch is cut
    out of Arrow columns without a Python object for each row. Numbers without nulls become tensors
    of their type (lists of fixed size: with one dimension more), in memory shared with the batch
    where that may be written to; booleans, dates (days) and times (in the column's unit) become
    tensors as well; text, binary and nested columns lists of Python values. Cells of BLOB columns
    are fetched, a batch at a time and ahead of use, and go through ``decode``. A loader looks at each value
    of a list for arrays to convert; with ``collate_fn=dict`` it hands on what the dataset made.

    Args:
        source: what to read. Every process of a job must read the same snapshot: give
            ``table.as_of(version)``, or let `torch.distributed`, where it is initialised, agree on
            the first process's.
        batch_size: rows of a batch; None for one row after the other.
        columns: the wanted ones; None for the scan's.
        filter: a further SQL predicate.
        shuffle: permute the rows; needs memory for ``block_rows`` rows.
        seed: of the permutation.
        drop_last: leave out a last batch that is short, and give every rank the same number of rows.
        rank: which of `world_size` processes this is; by default `torch.distributed`'s, or 0.
        world_size: how many processes share the rows.
        decode: for BLOB columns, what makes a value of the blob's bytes; without one, the bytes.
        fill_null: for columns of numbers, the value for null. Without one, nulls of a floating
            column are NaN, and those of others are refused.
        prefetch: batches that are made ahead by a thread, once that saves time: what is at hand is made
            where it is used. 0 for no thread.
        chunk_rows: see `CHUNK_ROWS`.
        block_rows: rows permuted together, by default 16 chunks.

    Raises:
        UsageError: arguments that do not fit together, or a scan with a limit.
    """

    def __init__(
        self,
        source: Table | Scan,
        batch_size: int | None = None,
        *,
        columns: Sequence[str] | None = None,
        filter: str | None = None,  # noqa: A002  # the query's own word
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        rank: int | None = None,
        world_size: int | None = None,
        decode: Mapping[str, Decoder] | None = None,
        fill_null: Mapping[str, object] | None = None,
        prefetch: int = 2,
        chunk_rows: int = CHUNK_ROWS,
        block_rows: int | None = None,
    ) -> None:
        super().__init__()
        if (rank is None) != (world_size is None):
            raise UsageError("rank and world_size belong together")
        if rank is not None and world_size is not None:
            rank, world_size = _whole("rank", rank), _whole("world_size", world_size, least=1)
            if rank >= world_size:
                raise UsageError(f"rank {rank} is none of {world_size}")
        scan = narrowed(scan_of(source), columns, filter)
        if scan.limit is not None:
            raise UsageError("a dataset has no limit: leave it to the loop that reads")
        if scan.columns == ():
            raise UsageError("a batch without columns says nothing: choose at least one column")
        self._batch_size = None if batch_size is None else _whole("batch_size", batch_size, least=1)
        self._shuffle = shuffle
        self._seed = _whole("seed", seed)
        self._drop_last = drop_last
        self._rank = rank
        self._world_size = world_size
        self._decode = mapping_of("decode", decode)
        for name, function in self._decode.items():
            if not callable(function):
                raise UsageError(f"decode has a function for {name}, not {function!r}")
        self._fill_null = mapping_of("fill_null", fill_null)
        self._prefetch = _whole("prefetch", prefetch)
        self._chunk_rows = _whole("chunk_rows", chunk_rows, least=1)
        self._block_rows = (
            BLOCK_CHUNKS * self._chunk_rows
            if block_rows is None
            else _whole("block_rows", block_rows, least=1)
        )
        # In memory of all processes, since a loader's workers have copies of the dataset: the epoch, and
        # the seed of the loader's iteration that has gone on where a state was taken.
        self._shared = torch.zeros(2, dtype=torch.int64).share_memory_()
        self._remaining: list[Interval] | None = None
        self._resumed: _Resumed | None = None
        self._snapshot = agreed(rank, lambda: TrainingSnapshot(scan))
        self._check_columns()

    @property
    def _epoch(self) -> int:
        return int(self._shared[0].item())

    def __getstate__(self) -> State:
        """A worker that is no fork has no `torch.distributed` to ask for its rank."""
        return {**self.__dict__, "_rank_of_loader": self._rank_and_size()}

    def __setstate__(self, state: State) -> None:
        """A copy's workers share an epoch as well."""
        self.__dict__.update(state)
        self._shared.share_memory_()

    # --- what a loop calls -------------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that the next iteration reads: another order where rows are shuffled.

        Also in workers that a loader keeps from one epoch to the next.
        """
        epoch = _whole("epoch", epoch)
        if epoch != self._epoch:
            self._shared[0] = epoch
            self._remaining = self._resumed = None

    def close(self) -> None:
        """Gives the snapshot up, which else goes with the dataset: workers read no longer. Idempotent."""
        self._snapshot.close()

    def __iter__(self) -> Iterator[Batch]:
        """Reads this reader's share of the epoch, or what remains of it after `load_state_dict`."""
        # Not when the first batch is asked for: a reader that has none yet has a state too.
        order = self._order()
        self._remaining = self._share(order)
        self._resumed = None
        return self._read(order, self._remaining)

    def _read(self, order: EpochOrder, remaining: list[Interval]) -> Iterator[Batch]:
        # A worker's computing is beside the training already.
        in_worker = get_worker_info() is not None
        for batch, position in ahead(
            self._batches(order, remaining), self._prefetch, waits_alone=in_worker
        ):
            # Handed over from here on: a state taken by whoever gets the batch is without its rows.
            self._remaining = remaining = order.advanced(remaining, position)
            yield batch
        self._remaining = []

    def __len__(self) -> int:
        """Batches (or rows, without a batch size) of this rank's share of a whole epoch.

        With any number of workers, since these share whole batches.

        Raises:
            TypeError: a filter decides, which only reading tells.
        """
        if self._snapshot.filtered:
            raise TypeError("with a filter, only reading tells how many rows there are")
        order = self._order()
        rows = order.rows_of(self._share_of_rank(order, order.everything()))
        size = self._batch_size or 1
        return rows // size if self._drop_last else -(-rows // size)

    def state_dict(self) -> State:
        """What this reader has still to read of its epoch, as JSON-able values.

        Rows count as read once they were handed over; those read ahead do not.
        """
        remaining = self._remaining if self._resumed is None else self._resumed.intervals
        return {
            **self._settings(),
            "epoch": self._epoch,
            "remaining": None
            if remaining is None
            else [[*each.start, *each.end] for each in remaining],
        }

    def load_state_dict(self, state: State) -> None:
        """Makes the next iteration go on where a state was taken.

        Args:
            state: of the same reader, or one that `merge_states` made of all readers' states. If the
                table has changed since, the version that the state is of is read again. One that is
                loaded outside of workers is shared by those of the loader.

        Raises:
            UsageError: no state, or it is of another table, filter, seed or size of blocks; the message
                names both values.
            VersionNotFoundError: the version that the state is of is gone.
        """
        state = mapping_of("state", state)
        epoch = _whole("epoch of the state", state.get("epoch", 0))
        snapshot = self._snapshot
        if state.get("table") == snapshot.table:
            snapshot = snapshot.like(str(state.get("snapshot")))
        mine = {
            **self._settings(),
            "table": snapshot.table,
            "snapshot": snapshot.identity,
            "rows": snapshot.rows,
            "filter": snapshot.filter,
        }
        for key, value in mine.items():
            if state.get(key) != value:
                raise UsageError(
                    f"the training state has {key} {state.get(key)!r}, this dataset {value!r}"
                )
        if snapshot is not self._snapshot:
            self._snapshot.close()
            self._snapshot = snapshot
        self._shared[0] = epoch
        self._remaining = self._resumed = None
        remaining = state.get("remaining")
        if remaining is not None:
            merged, in_worker = bool(state.get("merged")), get_worker_info() is not None
            self._resumed = _Resumed(remaining_of(remaining), merged, merged or not in_worker)
            if not in_worker:
                self._shared[1] = 0

    @staticmethod
    def merge_states(states: Sequence[State]) -> State:
        """One state of the states of all readers, to go on with another number of them.

        Args:
            states: of every rank and worker, taken in the same epoch; or what has them in it, such as
                the state of a ``StatefulDataLoader`` for each rank, or a checkpoint of Lightning.

        Raises:
            UsageError: no state, or states that do not belong together.
        """
        readers = list(_states_in(states))
        if not readers:
            raise UsageError("there are no states to merge")
        first = readers[0]
        remaining: list[list[int]] = []
        for state in readers:
            differing = [k for k in first if k != "remaining" and state.get(k) != first[k]]
            if differing:
                raise UsageError(
                    f"the states differ in {differing[0]}: {first[differing[0]]!r} and "
                    f"{state.get(differing[0])!r}"
                )
            if state["remaining"] is None:
                raise UsageError("a state of a reader that has not begun cannot be merged")
            remaining.extend(state["remaining"])
        return {**first, "remaining": sorted(remaining), "merged": True}

    # --- the epoch -----------------------------------------------------------------------------

    _rank_of_loader: tuple[int, int] | None = None

    def _settings(self) -> State:
        return {
            "state_version": _STATE_VERSION,
            "table": self._snapshot.table,
            "snapshot": self._snapshot.identity,
            "rows": self._snapshot.rows,
            "filter": self._snapshot.filter,
            "seed": self._seed,
            "shuffle": self._shuffle,
            "chunk_rows": self._chunk_rows,
            "block_rows": self._block_rows,
        }

    def _order(self) -> EpochOrder:
        return EpochOrder(
            self._snapshot.rows,
            self._seed,
            self._epoch,
            self._shuffle,
            self._chunk_rows,
            self._block_rows,
        )

    def _rank_and_size(self) -> tuple[int, int]:
        if self._rank is not None and self._world_size is not None:
            return self._rank, self._world_size
        distributed = torch.distributed
        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
        if self._rank_of_loader is not None and get_worker_info() is not None:
            return self._rank_of_loader
        return 0, 1

    def _share(self, order: EpochOrder) -> list[Interval]:
        info = get_worker_info()
        resumed = self._resumed
        if resumed is not None and resumed.by_workers and info is not None:
            # The loader's next iteration has copies of the same state; each has a seed of its own.
            iteration = info.seed - info.id
            if self._shared[1] == 0:
                self._shared[1] = iteration
            elif self._shared[1] != iteration:
                resumed = None
        share = order.everything() if resumed is None else resumed.intervals
        if resumed is None or resumed.by_ranks:
            share = self._share_of_rank(order, share)
        if info is None or (resumed is not None and not resumed.by_workers):
            return share
        # Whole batches, so that no worker but the last has a short one.
        unit = None if self._snapshot.filtered else self._batch_size or 1
        return order.shares(share, info.num_workers, unit=unit)[info.id]

    def _share_of_rank(self, order: EpochOrder, whole: Sequence[Interval]) -> list[Interval]:
        rank, world_size = self._rank_and_size()
        unit = None if self._snapshot.filtered else 1
        return order.shares(whole, world_size, unit=unit, equal=self._drop_last)[rank]

    def _check_columns(self) -> None:
        names = set(self._snapshot.schema.names)
        for what, given in (("decode", self._decode), ("fill_null", self._fill_null)):
            unknown = sorted(set(given) - names)
            if unknown:
                raise UsageError(f"{what} names {', '.join(unknown)}, which is not read")
        self._fill_null = {
            name: fill_value(self._snapshot.schema.field(name), value)
            for name, value in self._fill_null.items()
        }
        plain = sorted(n for n in self._decode if not is_blob(self._snapshot.schema.field(n).type))
        if plain:
            raise UsageError(f"decode is for BLOB columns; {', '.join(plain)} is none")

    # --- reading -------------------------------------------------------------------------------

    def _batches(
        self, order: EpochOrder, share: Sequence[Interval]
    ) -> Iterator[tuple[Batch, Position]]:
        """Batches, each with the position after its rows."""
        reader = self._snapshot.opened()
        cut = self._cut(reader, order, share)
        schema, ahead_of_use = self._snapshot.schema, self._prefetch > 0
        # Once for all batches: pyarrow makes a column's type anew while nobody has it.
        fields = list(schema)
        for rows, position, blobs in with_contents(
            cut, schema, reader.blobs, ahead_of_use=ahead_of_use
        ):
            yield from self._handed(fields, rows, position, blobs)

    def _cut(
        self, reader: SnapshotReader, order: EpochOrder, share: Sequence[Interval]
    ) -> Iterator[tuple[pa.Table, Position]]:
        """The rows of each batch, or some where single rows are handed out, and the position after."""
        size = self._batch_size or ROWS_AT_ONCE
        pending: collections.deque[OrderedRows] = collections.deque()
        held = 0
        for rows in self._rows(reader, order, share):
            if rows.length:
                pending.append(rows)
                held += rows.length
            while held >= size:
                held -= size
                yield take(pending, size)
        if pending and not (self._drop_last and self._batch_size):
            yield take(pending, held)

    def _handed(
        self,
        fields: Sequence[pa.Field],
        rows: pa.Table,
        position: Position,
        blobs: Mapping[str, list[bytes | None]],
    ) -> Iterator[tuple[Batch, Position]]:
        values: Batch = {}
        for number, field in enumerate(fields):
            contents = blobs.get(field.name)
            values[field.name] = (
                column_tensor(field, rows.column(number), self._fill_null.get(field.name))
                if contents is None
                else self._decoded(field.name, contents)
            )
        if self._batch_size is not None:
            yield values, position
            return
        before = Position(position.block, position.row - rows.num_rows)
        for row in range(rows.num_rows):
            yield (
                {name: each[row] for name, each in values.items()},
                Position(before.block, before.row + row + 1),
            )

    def _rows(
        self, reader: SnapshotReader, order: EpochOrder, share: Sequence[Interval]
    ) -> Iterator[OrderedRows]:
        for interval in share:
            block, row = interval.start
            while Position(block, row) < interval.end:
                stop = interval.end.row if interval.end.block == block else None
                yield self._block(reader, order, block, row, stop)
                block, row = block + 1, 0

    def _block(
        self, reader: SnapshotReader, order: EpochOrder, block: int, row: int, stop: int | None
    ) -> OrderedRows:
        """The rows of a block from `row` on, up to `stop`, in the order of reading."""
        ranges = order.ranges(block)
        if not order.shuffle and not self._snapshot.filtered:
            ((start, end),) = ranges
            end = end if stop is None else start + stop
            return OrderedRows(reader.rows([(start + row, end)]), block, row)
        table = reader.rows(ranges)
        if order.shuffle:
            table = table.take(pa.array(order.permutation(block, table.num_rows)))
        return OrderedRows(table.slice(row, None if stop is None else stop - row), block, row)

    def _decoded(self, name: str, contents: list[bytes | None]) -> object:
        decode = self._decode.get(name)
        if decode is None:
            return Contents(contents)
        return stacked([None if each is None else decode(each) for each in contents])


def _states_in(value: object) -> Iterator[State]:
    """The states of readers in a loader's state, or in whatever else has them in it.

    Raises:
        UsageError: a loader's state is older than what it has handed over.
    """
    if isinstance(value, Mapping):
        if "state_version" in value:
            yield dict(value)
            return
        if value.get("_steps_since_snapshot"):
            raise UsageError(
                "the loader has handed over batches since the states of its readers were taken: "
                "let it take them at each batch (snapshot_every_n_steps=1)"
            )
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _states_in(each)


def _whole(name: str, value: object, *, least: int = 0) -> int:
    """A whole number, also one of numpy's or a tensor's; see `whole_number`."""
    if not isinstance(value, bool):
        with contextlib.suppress(TypeError):
            value = operator.index(value)  # type: ignore[arg-type]  # asked for just now
    return whole_number(name, value, least=least)
