"""The verbs that change a table: what each refuses, reports, and repeats."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from tests.engine.conftest import on_both_databases

from fletching.engine.changes import attempts
from fletching.engine.changes.row_merge import RowMerge
from fletching.errors import (
    ConflictError,
    InvalidArgumentError,
    KeyReusedError,
    NoSuchPartitionError,
    NotFoundError,
    ServiceUnavailableError,
    StorageError,
    VersionNotFoundError,
)
from fletching.protocol.messages.admin import DescribeTable
from fletching.protocol.messages.changes import (
    Changed,
    DeleteRows,
    MergeRows,
    RenameColumn,
    ReplaceRows,
    RestoreTable,
    TruncateTable,
    UpdateRows,
)
from fletching.types import PartitionSpec, TableName

T = TableName("demo", "t")
BATCH = pa.record_batch({"n": [1, 2, 3]})


def row(*batches: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


@pytest.fixture
def house(house: Any) -> Any:
    house.create(BATCH.schema, ["pt"])
    house.append(BATCH, "pt=a")
    house.append(BATCH, "pt=b")
    return house


def content(house: Any) -> list[int]:
    rows = house.read()
    return sorted(rows["n"].to_pylist())


def figures(report: Changed) -> tuple[int, int, int, int]:
    return report.version, report.rows_inserted, report.rows_updated, report.rows_deleted


def test_a_delete_needs_a_predicate(house: Any) -> None:
    for where in ("", "  "):
        with pytest.raises(InvalidArgumentError, match="truncate"):
            house.engine.call(DeleteRows(table=T, where=where))
    assert figures(house.engine.call(DeleteRows(table=T, where="n > 1"))) == (3, 0, 0, 4)
    assert content(house) == [1, 1]


def test_the_same_change_twice_is_made_once(house: Any) -> None:
    requests = [
        DeleteRows(table=T, where="n = 3", idempotency_key="a"),
        UpdateRows(table=T, expressions={"n": "n + 10"}, idempotency_key="b"),
        TruncateTable(table=T, partition=PartitionSpec.parse("pt=a"), idempotency_key="c"),
        RestoreTable(table=T, version=3, idempotency_key="d"),
    ]
    reports = [house.engine.call(request) for request in requests]
    assert [figures(each) for each in reports] == [
        (3, 0, 0, 2), (4, 0, 4, 0), (5, 0, 0, 2), (6, 4, 0, 2),
    ]  # fmt: skip
    assert [house.engine.call(request) for request in requests] == reports
    assert content(house) == [1, 1, 2, 2]
    for request, key in itertools.permutations(requests, 2):
        other = msgspec.structs.replace(request, idempotency_key=key.idempotency_key)
        with pytest.raises(KeyReusedError, match="was used in version"):
            house.engine.call(other)
    with pytest.raises(
        KeyReusedError, match=r"delete \(where: n = 3\). This one, delete \(where: n = 1\)"
    ):
        house.engine.call(DeleteRows(table=T, where="n = 1", idempotency_key="a"))
    assert content(house) == [1, 1, 2, 2]


@pytest.mark.parametrize(
    "request_of",
    [
        lambda v: DeleteRows(table=T, where="n = 3", if_version=v),
        lambda v: UpdateRows(table=T, expressions={"n": "1"}, if_version=v),
        lambda v: TruncateTable(table=T, if_version=v),
        lambda v: RestoreTable(table=T, version=1, if_version=v),
    ],
)
def test_a_change_may_ask_for_a_version(house: Any, request_of: Any) -> None:
    with pytest.raises(ConflictError, match="changed since version 1"):
        house.engine.call(request_of(1))
    assert content(house) == [1, 1, 2, 2, 3, 3]
    assert house.engine.call(request_of(2)).version == 3


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (b"garbage", "not an Arrow stream of one row"),
        (row(BATCH), "one row, not 3"),
        (row(BATCH.slice(0, 1), BATCH.slice(0, 1)), "not an Arrow stream of one row"),
        (row(BATCH.slice(0, 0)), "not an Arrow stream of one row"),
        (bytes((8 << 20) + 1), "more than 8388608 bytes"),
        (b"", "needs a column"),
    ],
)
def test_plain_values_are_one_row(house: Any, values: bytes, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        house.engine.call(UpdateRows(table=T, values=values))


def test_plain_values_may_stand_beside_empty_batches(house: Any) -> None:
    values = row(BATCH.slice(0, 0), BATCH.slice(1, 1))
    report = house.engine.call(UpdateRows(table=T, values=values, where="n = 3"))
    assert figures(report) == (3, 0, 2, 0)
    assert content(house) == [1, 1, 2, 2, 2, 2]


def test_truncating_partitions(house: Any) -> None:
    with pytest.raises(NoSuchPartitionError, match="pt=c"):
        house.engine.call(TruncateTable(table=T, partition=PartitionSpec.parse("pt=c")))
    with pytest.raises(InvalidArgumentError):
        house.engine.call(TruncateTable(table=T, partition=PartitionSpec.parse("other=c")))
    request = TruncateTable(table=T, partition=PartitionSpec.parse("pt=a"))
    assert figures(house.engine.call(request)) == (3, 0, 0, 3)
    assert figures(house.engine.call(TruncateTable(table=T))) == (4, 0, 0, 3)
    assert content(house) == []


def test_restoring_brings_rows_and_columns_back_without_opening_a_segment(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.engine.call(DeleteRows(table=T, where="n < 3"))
    store = house.engine.context.store
    monkeypatch.setattr(store, "open", None)
    assert house.engine.call(RestoreTable(table=T, version=1)).version == 4
    monkeypatch.undo()
    assert content(house) == [1, 2, 3]
    for version in (-1, 99):
        with pytest.raises(VersionNotFoundError):
            house.engine.call(RestoreTable(table=T, version=version))


def test_restoring_brings_the_columns_of_then_back_and_leaves_others_alone(house: Any) -> None:
    schema_version = house.engine.call(DescribeTable(table=T)).schema_version
    house.engine.call(RestoreTable(table=T, version=1))
    assert house.engine.call(DescribeTable(table=T)).schema_version == schema_version
    house.engine.call(RenameColumn(table=T, name="n", new_name="m"))
    assert "m" in house.read().column_names
    house.engine.call(RestoreTable(table=T, version=1))
    assert content(house) == [1, 2, 3]


def staged(house: Any, *numbers: int) -> str:
    session = str(house.session("pt=a"))
    house.stream(session)
    house.write(pa.record_batch({"n": list(numbers)}), session)
    house.close(session)
    return session


def test_a_session_that_a_change_took_is_over(house: Any) -> None:
    session = staged(house, 3, 7)
    request = MergeRows(table=T, session_id=session, on=("n", "pt"))
    assert figures(house.engine.call(request)) == (3, 1, 1, 0)
    with pytest.raises(ConflictError, match="is committed"):
        house.engine.call(request)
    session = staged(house, 8)
    replace = ReplaceRows(table=T, session_id=session, where="n >= 7")
    assert figures(house.engine.call(replace)) == (4, 1, 0, 1)
    assert content(house) == [1, 1, 2, 2, 3, 3, 8]
    with pytest.raises(NotFoundError):
        house.engine.call(MergeRows(table=T, session_id="none", on=("n",)))


def test_an_operation_has_a_known_name(house: Any) -> None:
    request = MergeRows(table=T, session_id=staged(house, 3), on=("n",), operation="x" * 300)
    with pytest.raises(InvalidArgumentError, match="is not an operation") as caught:
        house.engine.call(request)
    assert len(caught.value.message) < 150


def test_objects_of_which_no_row_came_are_deleted(house: Any) -> None:
    before = house.object_keys()
    session = staged(house, 3)
    assert len(house.object_keys()) == len(before) + 1
    request = MergeRows(
        table=T, session_id=session, on=("n", "pt"), when_matched="delete", when_not_matched=None
    )
    assert figures(house.engine.call(request)) == (3, 0, 0, 1)
    assert house.object_keys() == before


@on_both_databases
@pytest.mark.parametrize("error", [ServiceUnavailableError, KeyboardInterrupt])
def test_rows_of_a_change_stay_whose_commit_was_not_answered(
    house: Any, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """A connection to the database that breaks while it commits, or Ctrl-C at that moment."""
    request = UpdateRows(table=T, expressions={"n": "n + 10"}, where="n > 1")
    keyed = UpdateRows(table=T, expressions={"n": "n + 10"}, where="n > 10", idempotency_key="once")
    database = house.engine.context.database
    write = database.write

    @contextlib.contextmanager
    def lost(**options: Any) -> Iterator[Any]:
        with write(**options) as connection:
            yield connection
        if options == {}:  # the change's own; pinning a version is not durable
            raise error("the answer is lost")

    with monkeypatch.context() as patch:
        # Of this engine alone: those of other tests may have threads that write.
        patch.setattr(database, "write", lost)
        with pytest.raises(error, match="lost"):
            house.engine.call(request)
        assert content(house) == [1, 1, 12, 12, 13, 13]
        if error is KeyboardInterrupt:
            with pytest.raises(error, match="lost"):
                house.engine.call(keyed)
        else:  # with a key it is found out what became of it
            assert figures(house.engine.call(keyed)) == (4, 0, 4, 0)
    assert figures(house.engine.call(keyed)) == (4, 0, 4, 0)
    assert content(house) == [1, 1, 22, 22, 23, 23]
    assert [item for item in house.engine.verify() if item.problems] == []


def test_a_repetition_deletes_no_rows_that_the_first_request_made_visible(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have worked from an older version, in which the merge had no use for them."""
    session = house.session("pt=a")
    house.stream(session)
    house.write(pa.record_batch({"n": [4]}), session)
    house.close(session)
    request = MergeRows(
        table=T, session_id=session, on=("n",), when_not_matched=None, idempotency_key="once"
    )
    work = RowMerge.work
    first: list[Any] = []

    def late(self: Any) -> Any:
        draft = work(self)
        monkeypatch.setattr(RowMerge, "work", work)
        # While this one works, a row comes that the merge's matches, and the same request is answered.
        house.append(pa.record_batch({"n": [4]}), "pt=a")
        first.append(house.engine.call(request))
        return draft

    monkeypatch.setattr(RowMerge, "work", late)
    assert house.engine.call(request) == first[0]
    assert first[0].rows_updated == 1
    assert content(house) == [1, 1, 2, 2, 3, 3, 4]
    assert [item for item in house.engine.verify() if item.problems] == []


def test_a_refused_commit_deletes_no_rows_that_the_same_request_made_visible(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report that is found then is of another commit, which saw another version."""
    session = house.session("pt=a")
    house.stream(session)
    house.write(pa.record_batch({"n": [4]}), session)
    house.close(session)
    request = MergeRows(
        table=T, session_id=session, on=("n",), when_not_matched=None, idempotency_key="once"
    )
    database = house.engine.context.database
    write = database.write
    first: list[Any] = []

    @contextlib.contextmanager
    def refused(**options: Any) -> Iterator[Any]:
        if options:  # pinning a version
            with write(**options) as connection:
                yield connection
            return
        with database.trial() as connection:
            yield connection
        monkeypatch.setattr(database, "write", write)
        house.append(pa.record_batch({"n": [4]}), "pt=a")
        first.append(house.engine.call(request))
        raise StorageError("the disk is gone")

    monkeypatch.setattr(database, "write", refused)
    assert house.engine.call(request) == first[0]
    assert first[0].rows_updated == 1
    assert content(house) == [1, 1, 2, 2, 3, 3, 4]
    assert [item for item in house.engine.verify() if item.problems] == []


def test_a_change_is_done_also_if_its_version_cannot_be_let_go(
    house: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever is told that it failed makes it once more."""

    def locked(*_: Any) -> None:
        raise ServiceUnavailableError("the catalog is locked by another process")

    monkeypatch.setattr(attempts, "forget_read_session", locked)
    report = house.engine.call(UpdateRows(table=T, expressions={"n": "n + 10"}))
    assert figures(report) == (3, 0, 6, 0)
    assert "kept until it expires: the catalog is locked" in caplog.text
