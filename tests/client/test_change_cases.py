"""Cases of tables that change, each small: borders of batches, orders of operations, events, sessions, blobs."""

from __future__ import annotations

import datetime as dt
import itertools
import pickle
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest
from tests.processes import folder_in_memory

import fletching
from fletching import faultpoints
from fletching.client import Client, Table
from fletching.errors import (
    ConflictError,
    FletchingError,
    InvalidArgumentError,
    VersionNotFoundError,
)

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("v", pa.string())])
NAMES = (f"t{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        folder_in_memory() as folder,
        fletching.connect(folder / "data", create=True) as opened,
    ):
        yield opened


def made(client: Client, *, keyed: bool = False, schema: Any = SCHEMA) -> Table:
    return client.create_table(next(NAMES), schema, primary_key=["id"] if keyed else ())


def rows(*ids: int, v: str = "x") -> pa.Table:
    return pa.table({"id": list(ids), "v": [v] * len(ids)}, SCHEMA)


def in_batches(count: int, size: int) -> pa.RecordBatchReader:
    batches = rows(*range(count)).to_batches(max_chunksize=size)
    return pa.RecordBatchReader.from_batches(SCHEMA, iter(batches))


def ids(source: Any) -> list[int]:
    table = (source.scan() if isinstance(source, Table) else source).to_table()
    listed: list[int] = table["id"].to_pylist()
    return listed


def newest(table: Table) -> int:
    return table.versions(limit=1)[0].version


def events(table: Table, since: int, until: int | None = None) -> list[tuple[str, int, str]]:
    result = table.changes(since, until).to_table().to_pylist()
    return [(row["_change_type"], row["id"], row["v"]) for row in result]


# --- reading around deleted rows


@pytest.mark.parametrize("size", [1, 7, 60])
def test_rows_at_the_borders_of_batches(client: Client, size: int) -> None:
    table = made(client)
    table.append(in_batches(60, size))
    gone = {number for number in range(60) if number % size in {0, size - 1}}
    gone = {0, 59} if size == 1 else gone
    table.delete(f"id in ({', '.join(map(str, sorted(gone)))})")
    left = [number for number in range(60) if number not in gone]
    assert ids(table) == left
    (split,) = table.scan().splits(1)
    for start in range(len(left) + 1):
        with split.reader(start) as reader:
            assert reader.read_all()["id"].to_pylist() == left[start:]


def test_limits_count_rows_that_are_left(client: Client) -> None:
    """Those that went are not counted, also where they would have been the first to match."""
    table = made(client)
    table.append(in_batches(60, 10))
    table.delete("id >= 10 and id < 24 or id = 25")
    wanted = [24, 26, 27]
    assert ids(table.scan(filter="id >= 10", limit=3)) == wanted
    assert ids(table.scan(filter="id >= 10 and v = 'x'", limit=3)) == wanted
    statement = f"select id from {table.name} where id >= 10 order by id limit 3"
    assert client.sql(statement).to_table()["id"].to_pylist() == wanted
    assert ids(table.scan(limit=12)) == [*range(10), 24, 26]
    assert table.head(11)["id"].to_pylist() == [*range(10), 24]
    assert client.sql(f"select count(*) n from {table.name} where id >= 10").to_table()[
        "n"
    ].to_pylist() == [35]


def test_what_statements_count_is_there(client: Client) -> None:
    table = made(client)
    table.append(pa.table({"id": [1, 2, 9], "v": ["a", None, "z"]}, SCHEMA))
    table.delete("id = 9 or v is null")
    asked = f"select count(*) n, count(v) c, min(id) low, max(id) high, max(v) v from {table.name}"
    (result,) = client.sql(asked).to_table().to_pylist()
    assert result == {"n": 1, "c": 1, "low": 1, "high": 1, "v": "a"}


def test_a_split_goes_on_in_another_process_as_it_was(client: Client) -> None:
    """As a training job does that resumes: by row of its split, whatever became of the table."""
    table = made(client, keyed=True)
    table.append(in_batches(100, 10))
    table.delete("id % 3 = 0")
    before = ids(table)
    session = table.scan().session()
    kept = pickle.dumps(session.splits(3))
    table.upsert(rows(1, 2, 500, v="y"))
    table.delete("id < 50")
    table.compact(purge=True)
    table.expire_versions(dt.timedelta())
    splits = pickle.loads(kept)
    resumed: list[int] = []
    for split in splits:
        for start in range(0, split.row_count, 7):
            with split.reader(start) as reader:
                resumed += reader.read_all()["id"].to_pylist()[:7]
    assert resumed == before
    session.release()


def test_many_partitions_lose_rows_in_one_version(client: Client) -> None:
    table = client.create_table(next(NAMES), SCHEMA, partition_by=["p"])
    for _ in range(2):
        parts = [f"p{number % 40}" for number in range(400)]
        table.append(
            pa.table({"id": list(range(400)), "v": ["x"] * 400, "p": parts}),
        )
    before = newest(table)
    assert table.delete("id % 100 = 0").rows_deleted == 8
    assert newest(table) == before + 1
    assert table.count_rows() == 792
    assert sum(each.rows for each in table.partitions()) == 792


# --- moments


def test_versions_at_moments(client: Client) -> None:
    table = made(client)
    for number in range(3):
        table.append(rows(number))
    first, *_, last = sorted(table.versions(), key=lambda each: each.version)
    for each in table.versions():
        assert table.as_of(each.committed_at).info.version == each.version
        earlier = each.committed_at - dt.timedelta(microseconds=1)
        if each.version:
            assert table.as_of(earlier).info.version == each.version - 1
    assert table.as_of(last.committed_at + dt.timedelta(days=9)).info.version == last.version
    with pytest.raises(VersionNotFoundError):
        table.as_of(first.committed_at - dt.timedelta(microseconds=1))


def test_a_tag_that_comes_while_history_goes_has_all_or_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = made(client)
    table.append(rows(1, 2))
    table.overwrite(rows(3))
    outcome: list[object] = []

    def tag() -> None:
        try:
            table.create_tag("late", 1)
            outcome.append(ids(table.as_of("late")))
        except FletchingError as error:
            outcome.append(type(error))

    tagging = threading.Thread(target=tag)

    def reach(point: str) -> None:
        if point == "retention.horizon" and not tagging.ident:
            tagging.start()

    with monkeypatch.context() as patch:
        patch.setattr(faultpoints, "reach", reach)
        table.set_properties({"acid.data.retain.hours": "0"})
        transport: Any = client.channel.transport  # an embedded one
        transport.engine.collect()
    tagging.join()
    assert outcome in ([[1, 2]], [VersionNotFoundError])


# --- the order of operations on a key


def test_the_last_operation_of_a_key_decides(client: Client) -> None:
    table = made(client, keyed=True)
    table.upsert(rows(1, 2, 3))
    before = newest(table)
    table.upsert(pa.concat_tables([rows(1, v=v) for v in "abc"]))
    table.delete_keys({"id": [2]})
    table.upsert(rows(2, v="again"))
    assert dict(zip(ids(table), table.scan().to_table()["v"].to_pylist(), strict=True)) == {
        3: "x",
        1: "c",
        2: "again",
    }
    assert events(table, before, before + 1) == [
        ("update_preimage", 1, "x"),
        ("update_postimage", 1, "c"),
    ]
    assert events(table, before + 1, before + 2) == [("delete", 2, "x")]
    assert events(table, before + 2) == [("insert", 2, "again")]


def test_streams_of_one_session_come_in_the_order_of_their_ids(client: Client) -> None:
    table = made(client, keyed=True)
    with table.write_session() as session:
        writers = [session.writer() for _ in range(4)]
        for number in (2, 0, 3, 1):
            writers[number].write(rows(7, v=f"stream {number}"))
        for writer in writers:
            writer.close()
    assert table.scan().to_table().to_pylist() == [{"id": 7, "v": "stream 3"}]
    assert table.count_rows() == 1
    assert events(table, 0) == [("insert", 7, "stream 3")]


@pytest.mark.parametrize(
    "data_type",
    [
        pa.string(),
        pa.large_string(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
        pa.string_view(),
    ],
)
def test_a_text_is_the_same_key_in_every_type(client: Client, data_type: pa.DataType) -> None:
    schema = pa.schema([pa.field("id", pa.string(), nullable=False), ("n", pa.int64())])
    table = made(client, keyed=True, schema=schema)
    table.append({"id": ["one", "two", "ONE"], "n": [1, 2, 3]})
    keys = pa.array(["two", "one", "two"]).cast(data_type)
    report = table.upsert(pa.table({"id": keys, "n": [7, 8, 9]}))
    assert (report.rows_updated, report.rows_inserted) == (2, 0)
    result = table.scan().to_table()
    assert dict(zip(result["id"].to_pylist(), result["n"].to_pylist(), strict=True)) == {
        "ONE": 3,
        "one": 8,
        "two": 9,
    }


# --- merges


def test_equal_values_are_updates_of_the_matched_rows_alone(client: Client) -> None:
    table = made(client)
    table.append(rows(1, 2, 3))
    report = table.merge(rows(2, 3), on=["id"])
    assert (report.rows_updated, report.rows_inserted, report.rows_deleted) == (2, 0, 0)
    result = Counter(events(table, report.version - 1))
    assert result == Counter({(kind, n, "x"): 1 for kind in ("insert", "delete") for n in (2, 3)})


def test_a_source_of_many_batches_is_one_source(client: Client) -> None:
    table = made(client)
    table.append(in_batches(50, 10))
    source = pa.Table.from_batches(rows(*range(40, 60), v="y").to_batches(max_chunksize=3))
    assert table.merge(source, on=["id"]).rows_updated == 10
    # Rows that the first wrote anew are rows like any other.
    again = table.merge(rows(*range(35, 45), v="z"), on=["id"])
    assert (again.rows_updated, again.rows_inserted) == (10, 0)
    assert Counter(table.scan().to_table()["v"].to_pylist()) == {"x": 35, "y": 15, "z": 10}
    twice = pa.concat_tables([source, rows(59, v="late")])
    with pytest.raises(InvalidArgumentError, match="59"):
        table.merge(twice, on=["id"])


# --- conditions, histories


def test_overwriting_at_a_version(client: Client) -> None:
    table = made(client)
    for number in range(12):
        table.append(rows(number))
    known = newest(table)
    table.compact()
    assert table.versions(limit=1)[0].operation == "compact"
    table.overwrite(rows(1), if_version=known)
    with pytest.raises(ConflictError):
        table.overwrite(rows(2), if_version=known)
    assert ids(table) == [1]
    transport: Any = table.channel.transport
    assert [item for item in transport.engine.verify() if item.problems] == []


@pytest.mark.parametrize("keyed", [False, True])
def test_the_changes_of_every_verb_lead_on(client: Client, keyed: bool) -> None:
    table = client.create_table(
        next(NAMES), SCHEMA, partition_by=["p"], primary_key=["id"] if keyed else ()
    )
    verbs: list[Callable[[], object]] = [
        lambda: table.append(rows(1, 2, 3, 4), "p=a"),
        lambda: table.append(rows(1, 5, 6), "p=b"),
        lambda: table.delete("id = 2"),
        lambda: table.update({"v": "concat(v, '!')"}, where="id < 4"),
        lambda: table.update(values={"p": "c"}, where="id = 6"),
        lambda: table.upsert(rows(3, 9, v="up"), on=["id"], partition="p=a"),
        lambda: table.merge(
            pa.table({"id": [1, 8], "v": ["m", "m"], "p": ["b", "b"]}), on=["id", "p"]
        ),
        lambda: table.add_columns("extra BIGINT"),
        lambda: table.overwrite(rows(4, 7, v="o"), "p=a"),
        lambda: table.overwrite(
            pa.table({"id": [5, 11], "v": ["w", "w"], "p": ["b", "d"]}), where="id in (5, 11)"
        ),
        lambda: table.rename_column("extra", "more"),
        lambda: table.compact(purge=True),
        lambda: table.drop_partition("p=b"),
        lambda: table.restore(4),
        lambda: table.truncate("p=a"),
        lambda: table.restore(3),
        table.truncate,
        lambda: table.append(rows(1), "p=z"),
    ]
    states: dict[int, Counter[tuple[Any, ...]]] = {0: Counter()}
    for verb in verbs:
        verb()
        result = table.reload().scan(["id", "v", "p"]).to_table()
        states[newest(table)] = Counter(zip(*(c.to_pylist() for c in result.columns), strict=True))
    newest_state = max(states)
    wanted = ["id", "v", "p", "_change_type", "_commit_version"]
    # From each to the newest, looked at on the way in every version between: all pairs, of one read each.
    # Then each step, and what leads to each from the beginning, by reads that end there.
    pairs = {(since, newest_state) for since in states if since < newest_state}
    pairs |= set(itertools.pairwise(states)) | {(0, until) for until in states if until}
    for since, until in sorted(pairs):
        state, at = Counter(states[since]), since
        for row in table.changes(since, until, columns=wanted).to_table().to_pylist():
            version = row["_commit_version"]
            assert since < version <= until
            while at < version:
                assert +state == states.get(at, +state), (since, at)
                at += 1
            assert at == version, "versions come in order"
            came = row["_change_type"] in {"insert", "update_postimage"}
            state[row["id"], row["v"], row["p"]] += 1 if came else -1
            assert state[row["id"], row["v"], row["p"]] >= 0, (since, until, row)
        for last in range(at, until + 1):
            assert +state == states.get(last, +state), (since, last)


def test_a_row_that_comes_and_goes_has_two_events(client: Client) -> None:
    table = made(client)
    table.append(rows(1))
    table.delete("id = 1")
    assert events(table, 0) == [("insert", 1, "x"), ("delete", 1, "x")]
    assert events(table, 1) == [("delete", 1, "x")]
    assert events(table, 0, 1) == [("insert", 1, "x")]
    assert events(table, 2) == []


# --- blobs


def test_blobs_stay_with_the_versions_that_refer_to_them(client: Client) -> None:
    table = client.create_table(next(NAMES), "id BIGINT, image BLOB, note STRING")
    contents = [bytes([number]) * 50 for number in range(3)]
    with table.write_session() as session, session.writer() as writer:
        for number, content in enumerate(contents):
            reference = session.put_blob(content, "image")
            writer.write({"id": [number], "image": [reference], "note": ["n"]})

    def blobs(source: Any) -> dict[int, bytes]:
        result = source.scan(["id", "image"]).to_table()
        references = [pa.scalar(each).as_py() for each in result["image"].to_pylist()]
        return {
            number: client.open_blob(reference).read()
            for number, reference in zip(result["id"].to_pylist(), references, strict=True)
        }

    everything = dict(enumerate(contents))
    table.update({"note": "upper(note)"}, where="id = 1")
    assert blobs(table) == everything
    table.create_tag("whole")
    table.delete("id = 0")
    table.compact(purge=True)
    table.expire_versions(dt.timedelta())
    assert blobs(table) == {1: contents[1], 2: contents[2]}
    assert blobs(table.as_of("whole")) == everything
    table.restore("whole")
    assert blobs(table) == everything
    moved = table.scan().to_table().filter(pa.compute.field("id") == 2)
    table.merge(moved, on=["id"])
    assert blobs(table) == everything
    assert table.update(values={"image": b"other contents"}, where="id = 1").rows_updated == 1
    assert table.update({"image": "null"}, where="id = 0").rows_updated == 1
    assert client.sql(f"update {table.name} set image = null where id = 0").affected_rows == 1
    references = table.scan(["image"], filter="id = 2").to_table()["image"].to_pylist()
    assert table.update(values={"image": references[0]}, where="id = 0").rows_updated == 1
    expected = {0: contents[2], 1: b"other contents", 2: contents[2]}
    assert blobs(table) == expected
    before = newest(table)
    forged: list[Callable[[], object]] = [
        lambda: table.update(values={"image": "A" * 80}),
        lambda: table.update({"image": "note"}),
        lambda: client.sql(f"update {table.name} set image = 'forged'"),
        lambda: client.sql(
            f"merge into {table.name} t using (select 9L id) s on t.id = s.id "
            "when not matched then insert values (s.id, 'forged', 'n')"
        ),
    ]
    for change in forged:
        with pytest.raises(InvalidArgumentError, match="reference"):
            change()
    assert newest(table) == before
    table.compact(purge=True)
    table.drop_tag("whole")
    table.expire_versions(dt.timedelta())
    client.channel.transport.engine.collect()  # type: ignore[attr-defined]  # an embedded one
    assert blobs(table) == expected
    transport: Any = client.channel.transport
    assert [item for item in transport.engine.verify() if item.problems] == []
