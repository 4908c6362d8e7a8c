"""One snapshot for a training job: kept while it is read, given up by who opened it."""

from __future__ import annotations

import gc
import pickle
import time
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from fletching.client import Client, Table

torch = pytest.importorskip("torch")

from fletching.connectors import training_snapshot  # noqa: E402  # after the skip
from fletching.connectors.training_snapshot import SnapshotReader, TrainingSnapshot, agreed  # noqa: E402  # after the skip

pytestmark = pytest.mark.engines


@pytest.fixture
def table(http_client: Client) -> Table:
    table = http_client.create_table("t", "id BIGINT, name STRING")
    table.append(pa.table({"id": range(100), "name": [f"n{n}" for n in range(100)]}))
    return table


def test_it_says_what_is_read(table: Table) -> None:
    snapshot = TrainingSnapshot(table.scan(["id"], filter="id < 50"))
    version = table.versions(limit=1)[0].version
    assert (snapshot.identity, snapshot.rows) == (f"version {version}", 100)
    assert (snapshot.filter, snapshot.filtered) == ("id < 50", True)
    assert snapshot.schema.names == ["id"]
    assert snapshot.table.endswith("t")


def test_filters_that_are_written_alike_are_told_apart(table: Table) -> None:
    ends = [*range(20)]
    filters = [
        TrainingSnapshot(
            table.scan(filter=(pc.field("id") + 0).isin([*ends, several, *ends]))
        ).filter
        for several in (50, 51, 50)
    ]
    assert filters[0] == filters[2] != filters[1]
    short = TrainingSnapshot(table.scan(filter=pc.field("id") + 0 > 5))
    assert short.filter == "true AND (add_checked(id, 0) > 5)"
    assert short.filtered


def test_ranges_of_one_moment(table: Table) -> None:
    snapshot = TrainingSnapshot(table.scan(["id"]))
    table.delete("id < 90")
    reader = snapshot.opened()
    assert reader.rows([(5, 8), (98, 100)])["id"].to_pylist() == [5, 6, 7, 98, 99]
    empty = reader.rows([])
    assert (empty.num_rows, empty.schema.names) == (0, ["id"])


def test_who_opened_it_ends_it(table: Table, open_sessions: Any) -> None:
    before = open_sessions()
    snapshot = TrainingSnapshot(table.scan())
    carried = pickle.loads(pickle.dumps(snapshot))
    assert len(open_sessions()) == len(before) + 1
    carried.close()
    del carried
    gc.collect()
    assert snapshot.opened().rows([(0, 1)]).num_rows == 1
    snapshot.close()
    snapshot.close()
    assert open_sessions() == before
    TrainingSnapshot(table.scan())
    gc.collect()
    assert open_sessions() == before


def test_a_carried_one_reads_without_the_secret(table: Table) -> None:
    snapshot = TrainingSnapshot(table.scan(["id"]))
    pickled = pickle.dumps(snapshot)
    assert b"secret" not in pickled
    reader = pickle.loads(pickled).opened()
    assert reader.rows([(3, 4)])["id"].to_pylist() == [3]
    snapshot.close()


def test_a_carried_one_reads_other_versions_without_it_too(
    table: Table, open_sessions: Any
) -> None:
    before = open_sessions()
    first = TrainingSnapshot(table.scan(["id"]))
    table.delete("id < 90")
    later = TrainingSnapshot(table.scan(["id"]))
    assert (first.rows, later.rows) == (100, 10)
    again = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(later))))
    assert b"secret" not in pickle.dumps(again)
    old = again.like(first.identity)
    assert old.opened().rows([(5, 6)])["id"].to_pylist() == [5]
    assert again.like(later.identity) is again
    for each in (old, first, later):
        each.close()
    assert open_sessions() == before


@pytest.mark.parametrize(
    ("ahead", "kept_after"),
    [(0, 3600), (30 * 86400, 60), (-30 * 86400, 3600)],
    ids=["right", "ahead", "behind"],
)
def test_it_is_kept_whatever_the_clock_here_says(
    table: Table, monkeypatch: pytest.MonkeyPatch, ahead: int, kept_after: int
) -> None:
    snapshot = TrainingSnapshot(table.scan(["id"]))
    refreshed: list[object] = []

    def refresh(self: Any) -> Any:
        refreshed.append(self)
        return self

    monkeypatch.setattr(type(snapshot.session), "refresh", refresh)
    here = time.time() + ahead
    passed = [0.0]
    began = time.monotonic()
    clock = SimpleNamespace(time=lambda: here, monotonic=lambda: began + passed[0])
    monkeypatch.setattr(training_snapshot, "time", clock)
    reader = SnapshotReader(snapshot.session)
    for passed[0] in (0.0, kept_after - 1.0):
        reader.rows([(0, 1)])
        assert refreshed == []
    passed[0] = kept_after + 1.0
    reader.rows([(0, 1)])
    assert refreshed == [snapshot.session]


def test_without_a_group_each_process_has_its_own(table: Table) -> None:
    made: list[TrainingSnapshot] = []

    def make() -> TrainingSnapshot:
        made.append(TrainingSnapshot(table.scan()))
        return made[-1]

    assert agreed(None, make) is made[0]
    assert agreed(1, make) is made[1]
