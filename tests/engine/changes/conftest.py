"""Tables of one embedded engine, and a look at them as a change sees them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.client import Client, Table
from fletching.engine.changes.attempts import Draft
from fletching.engine.changes.computed_changes import ComputedChanges
from fletching.engine.changes.made_changes import Intent
from fletching.protocol.messages.changes import DeleteRows

_NUMBERS = itertools.count()
MakeTable = Callable[..., Table]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client over a folder of its own."""
    with fletching.connect(tmp_path_factory.mktemp("changes") / "data", create=True) as client:
        yield client


@pytest.fixture
def new_table(local: Client) -> MakeTable:
    """Makes tables; each part that is given is a segment."""

    def make(schema: pa.Schema | str, *parts: Any, **options: Any) -> Table:
        table = local.create_table(f"t{next(_NUMBERS)}", schema, **options)
        for part in parts:
            table.append(part)
        return table

    return make


class _EnoughError(Exception):
    """Leaves a change before it changes anything."""


def engine_of(table: Table) -> Any:
    """The engine that an embedded client asks."""
    transport: Any = table.channel.transport
    return transport.engine


def seen(table: Table, look: Callable[[ComputedChanges], Any]) -> Any:
    """What ``look`` finds in a table that is pinned for a change, which is not made."""
    results: list[Any] = []

    def compute(computed: ComputedChanges) -> Draft:
        results.append(look(computed))
        raise _EnoughError

    with contextlib.suppress(_EnoughError):
        request = DeleteRows(table=table.full_name, where="x")
        engine_of(table).compute_changes(request, Intent(operation="delete"), compute)
    return results[0]
