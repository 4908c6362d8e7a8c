"""Previews: a few rows in one batch (PROTOCOL 2.4)."""

from __future__ import annotations

import contextlib
import functools

import pyarrow as pa
from typing_extensions import Buffer

from fletching.engine.reading.cutting import cut_rows, encode_cuts
from fletching.engine.reading.message_checks import MessageChecks
from fletching.engine.reading.physical_projection import ReplyLayout
from fletching.engine.reading.planning import ReadOptions, plan_rows
from fletching.engine.reading.read_plan import Computed, Literal, ReadPlan
from fletching.engine.reading.snapshot import Snapshot
from fletching.ipc.message import END_OF_STREAM
from fletching.objects.store import ObjectStore
from fletching.types import RowRange

__all__ = ["plan_preview"]

MAX_COMBINED_BYTES = 32 << 20
"""Above this a preview keeps the batches as stored: it would have to hold them all in memory."""


def plan_preview(
    snapshot: Snapshot,
    store: ObjectStore,
    layout: ReplyLayout,
    rows: int,
    *,
    checks: MessageChecks | None = None,
) -> ReadPlan:
    """The first rows of a snapshot, in one batch unless they are large or dictionary-encoded.

    Clients look for the rows they asked for in the first batch, while stored batches may be small.
    """
    plan = plan_rows(snapshot, store, layout, RowRange(0, rows), ReadOptions(), checks=checks)
    if rows == 0 or layout.has_dictionaries or (plan.length or 0) > MAX_COMBINED_BYTES:
        return plan
    return ReadPlan(
        schema=plan.schema,
        rows=rows,
        length=None,
        pieces=(
            Literal(layout.schema_message),
            Computed(functools.partial(_combined, plan), None),
            Literal(END_OF_STREAM),
        ),
        batches=plan.batches,
    )


def _combined(plan: ReadPlan) -> list[Buffer]:
    table = pa.Table.from_batches(list(plan.batches()), plan.schema)
    with contextlib.suppress(pa.ArrowNotImplementedError):
        # Some types pyarrow cannot join; their rows stay in the batches that they are stored in.
        table = table.combine_chunks()
    buffers: list[Buffer] = []
    for batch in table.to_batches():
        buffers += encode_cuts(batch, cut_rows(batch))
    return buffers
