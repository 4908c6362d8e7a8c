"""Two changes at once leave what one after the other leaves, in one of the two orders, or one is refused."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.postgresql import client_of

import fletching
from fletching import faultpoints
from fletching.client import Client, Table
from fletching.engine.changes.keyed_merge import KeyedMerge
from fletching.errors import ConflictError, FletchingError

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("n", pa.int64())])
NUMBERS = itertools.count()


def rows(*ids: int, n: int = 0) -> pa.Table:
    return pa.table({"id": list(ids), "n": [n] * len(ids)}, SCHEMA)


CATALOGS = ["sqlite", "postgresql"]


@pytest.fixture(scope="module")
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """Over a folder, whose catalog is where the test's parameter says."""
    with client_of(request, tmp_path_factory.mktemp("conflicts") / "data") as opened:
        yield opened


def build(client: Client, *, keyed: bool) -> Table:
    table = client.create_table(f"t{next(NUMBERS)}", SCHEMA, primary_key=["id"] if keyed else ())
    for first in (1, 4, 7):
        table.append(rows(first, first + 1, first + 2))
    table.delete("id = 5")
    return table


def content(table: Table) -> list[tuple[int, int]]:
    rows = table.scan().to_table()
    assert table.count_rows() == rows.num_rows
    return sorted(zip(rows["id"].to_pylist(), rows["n"].to_pylist(), strict=True))


Verb = Callable[[Table], Any]

VERBS: dict[str, Verb] = {
    "delete": lambda table: table.delete("id IN (2, 8)"),
    "delete all": lambda table: table.delete("id > 0"),
    "update": lambda table: table.update({"n": "n + 10"}, where="id <= 4"),
    "merge": lambda table: table.merge(rows(2, 20, n=3), on=["id"]),
    "merge away": lambda table: table.merge(
        rows(3, 9), on=["id"], when_matched="delete", when_not_matched=None
    ),
    "sync": lambda table: table.merge(
        rows(1, 20, n=7), on=["id"], when_not_matched_by_source="delete"
    ),
    "replace": lambda table: table.overwrite(rows(2, 20, n=9), where="id IN (2, 20)"),
    "truncate": lambda table: table.truncate(),
}
OTHERS: dict[str, Verb] = {
    **VERBS,
    "append": lambda table: table.append(rows(20, n=5)),
    "upsert": lambda table: table.upsert(rows(2, 20, n=6), on=["id"]),
    "overwrite": lambda table: table.overwrite(rows(2, 30, n=8)),
    "restore": lambda table: table.restore(2),
    "compact": lambda table: engine(table).compact(table.full_name, min_segments=2, purge=True),
    "add column": lambda table: table.add_columns("extra INT"),
}


def engine(table: Table) -> Any:
    transport: Any = table.channel.transport  # an embedded one
    return transport.engine


def attempt(verb: Verb, table: Table) -> bool:
    try:
        verb(table)
    except ConflictError:
        return False
    return True


def outcomes(client: Client, first: Verb, second: Verb, *, keyed: bool) -> list[Any]:
    """What the two leave one after the other, in either order, and the other alone."""
    results = []
    for verbs in ((first, second), (second, first), (second,)):
        table = build(client, keyed=keyed)
        try:
            for verb in verbs:
                verb(table)
        except FletchingError:
            continue
        results.append(content(table))
    return results


# Every pair over each database, with a key and without: a run of the suite takes a part of them, the
# exhaustive one all.
EXHAUSTIVE = bool(os.environ.get("FLETCHING_TEST_EXHAUSTIVE"))
PAIRS = [
    (catalog, verb, other, keyed)
    for row, verb in enumerate(VERBS)
    for column, other in enumerate(OTHERS)
    for part, catalog in enumerate(CATALOGS)
    for keyed in (False, True)
    if EXHAUSTIVE or ((row + 3 * column) % 7 == 3 * part and (row + column) % 2 == keyed)
]


@pytest.mark.parametrize(("client", "verb", "other", "keyed"), PAIRS, indirect=["client"])
def test_a_change_and_what_commits_while_it_works(
    client: Client, monkeypatch: pytest.MonkeyPatch, verb: str, other: str, keyed: bool
) -> None:
    expected = outcomes(client, VERBS[verb], OTHERS[other], keyed=keyed)
    table = build(client, keyed=keyed)
    waiting = [OTHERS[other]]

    def reach(point: str) -> None:
        if point == "change.segments_durable" and waiting:
            waiting.pop()(table)

    with monkeypatch.context() as patch:
        patch.setattr(faultpoints, "reach", reach)
        done = attempt(VERBS[verb], table)
    assert not waiting
    if other == "compact":
        assert done, "upkeep made a change fail"
    assert content(table) in (expected if not done else expected[:2])
    assert [item for item in engine(table).verify() if item.problems] == []


KEYED: dict[str, Verb] = {
    "upsert": lambda table: table.upsert(rows(2, 5, 20, n=6)),
    "delete keys": lambda table: table.delete_keys({"id": [2, 3, 20]}),
}


@pytest.mark.parametrize(
    ("client", "verb", "other"),
    [
        (catalog, verb, other)
        for row, verb in enumerate(KEYED)
        for column, other in enumerate([*OTHERS, "delete keys"])
        for part, catalog in enumerate(CATALOGS)
        if EXHAUSTIVE or (row + column) % 8 == 4 * part or (other, catalog) == ("restore", "sqlite")
    ],
    indirect=["client"],
)
def test_upserts_never_fail_because_of_others(
    client: Client, monkeypatch: pytest.MonkeyPatch, verb: str, other: str
) -> None:
    second = KEYED.get(other) or OTHERS[other]
    expected = outcomes(client, second, KEYED[verb], keyed=True)[0]
    table = build(client, keyed=True)
    waiting = [second]
    prepare = KeyedMerge.prepare.__func__  # type: ignore[attr-defined]  # a class method

    def prepared(cls: Any, *arguments: Any, **options: Any) -> Any:
        made = prepare(cls, *arguments, **options)
        if waiting:
            waiting.pop()(table)
        return made

    with monkeypatch.context() as patch:
        patch.setattr(KeyedMerge, "prepare", classmethod(prepared))
        KEYED[verb](table)
    assert content(table) == expected
    assert [item for item in engine(table).verify() if item.problems] == []


UPDATING: dict[str, Verb] = {
    "merge": VERBS["merge"],
    "replace": VERBS["replace"],
    "statement": lambda table: engine_sql(
        table,
        "merge into {t} using (select 2 as i union all select 20 as i) s on {t}.id = s.i "
        "when matched then update set n = {t}.n + 1 when not matched then insert (id, n) values (s.i, 7)",
    ),
}


def engine_sql(table: Table, text: str) -> None:
    Client(table.channel, project=table.full_name.project).sql(text.format(t=table.name))


@pytest.mark.parametrize("client", ["sqlite"], indirect=True)
@pytest.mark.parametrize("verb", UPDATING)
@pytest.mark.parametrize("other", ["upsert", "compact"])
def test_keys_are_looked_for_where_the_change_reads(
    client: Client, monkeypatch: pytest.MonkeyPatch, verb: str, other: str
) -> None:
    """What others move before a change looks for its keys is in no row's way."""
    second = OTHERS[other]
    expected = outcomes(client, second, UPDATING[verb], keyed=True)[0]
    table = build(client, keyed=True)
    waiting = [second]
    prepare = KeyedMerge.prepare.__func__  # type: ignore[attr-defined]  # a class method

    def prepared(cls: Any, *arguments: Any, **options: Any) -> Any:
        if waiting:
            waiting.pop()(table)
        return prepare(cls, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(KeyedMerge, "prepare", classmethod(prepared))
        UPDATING[verb](table)
    assert not waiting
    assert content(table) == expected


@pytest.mark.parametrize(
    ("came", "attempts"), [([30, 31], 1), ([20], 2), ([2, 30], 2)], ids=["others", "new", "known"]
)
def test_a_merge_begins_anew_for_rows_that_match_alone(
    client: Client, monkeypatch: pytest.MonkeyPatch, came: list[int], attempts: int
) -> None:
    """One that met a writer who appends all the time would else never get done."""
    table = build(client, keyed=False)
    begun = 0

    def reach(point: str) -> None:
        nonlocal begun
        if point == "change.segments_durable":
            begun += 1
            if begun == 1 or came == [30, 31]:
                table.append(rows(*came, n=5))

    with monkeypatch.context() as patch:
        patch.setattr(faultpoints, "reach", reach)
        table.merge(rows(2, 20, n=3), on=["id"])
    assert begun == attempts
    other = build(client, keyed=False)
    other.append(rows(*came, n=5))
    other.merge(rows(2, 20, n=3), on=["id"])
    assert content(table) == content(other)


@pytest.mark.parametrize(
    ("other", "keyed"),
    [
        (other, number % 2 == 0)
        for number, other in enumerate([*VERBS, "append", "upsert", "restore", "add column"])
    ],
)
def test_compaction_loses_no_change_and_brings_no_row_back(
    client: Client, monkeypatch: pytest.MonkeyPatch, other: str, keyed: bool
) -> None:
    alone = build(client, keyed=keyed)
    OTHERS[other](alone)
    table = build(client, keyed=keyed)
    waiting = [OTHERS[other]]

    def reach(point: str) -> None:
        if point == "compact.written" and waiting:
            waiting.pop()(table)

    before = content(table)
    with monkeypatch.context() as patch:
        patch.setattr(faultpoints, "reach", reach)
        engine(table).compact(table.full_name, min_segments=2, purge=True)
    assert content(table) == content(alone)
    assert content(table.as_of(4)) == before
    if keyed:
        table.upsert(rows(4, 20, n=1))
        assert len({number for number, _ in content(table)}) == table.count_rows()
    assert [item for item in engine(table).verify() if item.problems] == []


def test_many_writers_of_disjoint_rows_all_succeed(client: Client) -> None:
    table = client.create_table(f"t{next(NUMBERS)}", SCHEMA)
    table.append(rows(*range(64)))
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for each in range(number, 64, 8):
                table.update({"n": "n + id"}, where=f"id = {each}")
        except FletchingError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert content(table) == [(number, number) for number in range(64)]


def test_a_failed_change_leaves_nothing(client: Client, tmp_path: Path) -> None:
    with fletching.connect(tmp_path / "data", create=True) as fresh:
        table = build(fresh, keyed=False)
        store = engine(table).context.store
        before = {info.key for info in store.list("tables")}
        with pytest.raises(FletchingError):
            table.update({"n": "cast(n as bigint) + 1", "id": "if(id = 9, null, id)"})
        table.append(rows(1))
        with pytest.raises(ConflictError):
            table.update(values={"n": 1}, if_version=1)
        assert len({info.key for info in store.list("tables")} - before) == 1
