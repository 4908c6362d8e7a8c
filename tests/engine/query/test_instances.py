from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import threading
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from tests.engine.conftest import on_both_databases

from fletching.catalog.instance_rows import insert_instance
from fletching.engine.query.instances import Instances
from fletching.engine.query.result_segments import KEPT_SECONDS
from fletching.engine.reading.read_calls import Reading
from fletching.errors import (
    ConflictError,
    FletchingError,
    InvalidArgumentError,
    NoPermissionError,
    NotFoundError,
    ServiceUnavailableError,
    StorageError,
    ThrottledError,
)
from fletching.protocol.messages.admin import DropTable, ListTables, TablePage, new_instance_id
from fletching.protocol.messages.requests import (
    CreateInstanceReadSession,
    GetInstanceReadSession,
    ReadInstance,
    Request,
)
from fletching.protocol.messages.responses import InstanceReadSession
from fletching.sql.statements.statement_kinds import Namespace

HERE = Namespace("demo", "default")


@pytest.fixture
def instances(house: Any) -> Instances:
    house.engine.ensure_project("demo")
    result: Instances = house.engine.instances
    return result


def rows(house: Any, instance_id: str, **options: Any) -> list[dict[str, Any]]:
    session = house.engine.call(CreateInstanceReadSession(project="demo", instance_id=instance_id))
    plan = house.engine.read(
        ReadInstance(
            project="demo", instance_id=instance_id, session_id=session.session_id, **options
        )
    )
    body = b"".join(bytes(piece) for piece in plan.buffers())
    table = pa.ipc.open_stream(body).read_all()
    again = pa.Table.from_batches(list(plan.batches()), plan.schema)
    assert again.to_pylist() == table.to_pylist()
    result: list[dict[str, Any]] = table.to_pylist()
    return result


def fill(house: Any, instances: Instances) -> None:
    run = instances.run("create table t (a bigint, b string) partitioned by (pt string)", HERE)
    assert run.succeeded
    for pt in ("1", "2"):
        batch = pa.record_batch({"a": [1, 2, None], "b": ["x", "y\n", None]})
        house.append(batch, f"pt={pt}", table=house.table)


def test_ddl_runs_and_is_remembered(house: Any, instances: Instances) -> None:
    row = instances.run(
        "create table t (a bigint)", HERE, owner="ann", task_name="SQLCreateTableTask"
    )
    assert row.succeeded
    assert row.result == ""
    assert house.describe().schema.data_columns[0].name == "a"
    assert instances.get("DEMO", row.id) == row
    assert [listed.id for listed in instances.list("demo")] == [row.id]
    assert (row.owner, row.task_name) == ("ann", "SQLCreateTableTask")
    with pytest.raises(NotFoundError):
        instances.get("other", row.id)


def test_a_statement_that_nests_too_deeply_is_refused_and_a_long_one_runs(
    house: Any, instances: Instances
) -> None:
    house.create(pa.schema([("a", pa.int64())]))
    house.append(pa.record_batch({"a": [1, 2]}))
    length = 1_500
    for deep in [
        "+".join(["a"] * length),
        "||".join(["a"] * length),
        "(" * length + "a" + ")" * length,
    ]:
        row = instances.run(f"select {deep} from t", HERE)
        assert "nests too deeply" in row.result, deep[:9]
    row = instances.run(" union all ".join(["select a from t"] * length), HERE)
    assert "nests too deeply" in row.result
    chain = " or ".join(f"a = {number}" for number in range(2, length))
    row = instances.run(f"select a from t where {chain}", HERE)
    assert rows(house, row.id) == [{"a": 2}]


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("create tabel", "ODPS-0130161"),
        ("select from", "ODPS-0130161"),
        ("drop table absent", "NoSuchTable"),
        ("select * from absent", "NoSuchTable"),
        ("select nothing from t", "InvalidArgument"),
        ("select * from t where nothing = 1", "InvalidArgument"),
    ],
)
def test_a_failure_is_an_outcome(
    house: Any, instances: Instances, statement: str, code: str
) -> None:
    house.create(pa.schema([("a", pa.int64())]))
    row = instances.run(statement, HERE)
    assert not row.succeeded
    assert row.result.startswith(f"<Error><Code>{code}</Code><Message>")
    assert instances.result(row) == row.result


def test_statements_are_authorized_before_anything_is_done(
    house: Any, instances: Instances
) -> None:
    asked: list[str] = []

    def refuse(request: Request) -> None:
        asked.append(type(request).__name__)
        raise NoPermissionError("no")

    for statement, first in (
        ("create table t (a bigint)", "CreateTable"),
        ("drop table if exists t", "DropTable"),
        ("alter table t add partition (pt='1')", "CreatePartition"),
        ("select * from t", "DescribeTable"),
        ("show tables", "ListTables"),
        ("show partitions t", "ListPartitions"),
        ("desc t", "DescribeTable"),
    ):
        asked.clear()
        with pytest.raises(NoPermissionError):
            instances.run(statement, HERE, authorize=refuse)
        assert asked == [first]
    assert instances.list("demo") == []


def test_a_running_instance_belongs_to_its_project(house: Any, instances: Instances) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def wait(_request: Request) -> None:
        begun.set()
        assert go_on.wait(600)

    id_ = new_instance_id(house.clock())
    row = instances.run("show tables", HERE, authorize=wait, wait_seconds=0.0, instance_id=id_)
    assert begun.wait(600)
    assert instances.run("show tables", HERE, wait_seconds=0.0, instance_id=id_).id == row.id
    # Of another project the id is taken, and nothing of what runs under it is told.
    with pytest.raises(ConflictError, match="other statements"):
        instances.run("show tables", Namespace("other", "default"), instance_id=id_)
    with pytest.raises(NotFoundError):
        instances.get("other", id_)
    go_on.set()
    assert instances.wait("demo", id_, 600.0).succeeded
    # And so it is when they have ended: nothing is run that could not be kept.
    with pytest.raises(ConflictError, match="other statements"):
        instances.run("create table t (a bigint)", Namespace("other", "default"), instance_id=id_)
    with pytest.raises(NotFoundError):
        instances.get("other", id_)


def test_faults_of_the_service_are_not_kept_as_outcomes(house: Any, instances: Instances) -> None:
    class Broken:
        def call(self, request: Any) -> Any:
            raise ServiceUnavailableError("locked")

        read = open_ingest = ensure_project = call

        def compute_changes(self, request: Any, intent: Any, compute: Any) -> Any:
            return self.call(request)

        def reports_of_run(self, run_id: str, text: str) -> Any:
            return self.call(text)

        def replace_view(self, request: Any, table_id: str) -> Any:
            return self.call(request)

    context = house.engine.context
    reading = Reading(
        context.database, context.store, clock=context.clock, settings=context.settings
    )
    broken = Instances(context, Broken(), reading, None)
    with pytest.raises(ServiceUnavailableError):
        broken.run("drop table t", HERE)
    assert instances.list("demo") == []


def test_select_reads_back(house: Any, instances: Instances) -> None:
    fill(house, instances)
    everything = instances.run("select * from t", HERE)
    assert len(rows(house, everything.id)) == 6
    assert rows(house, everything.id, offset=5) == [{"a": None, "b": None, "pt": "2"}]
    assert [r["a"] for r in rows(house, everything.id, offset=1, count=3)] == [2, None, 1]
    assert rows(house, everything.id, offset=6) == []
    chosen = instances.run("select b, pt, a from t where a > 1 and pt = '2' limit 5", HERE)
    assert rows(house, chosen.id) == [{"b": "y\n", "pt": "2", "a": 2}]
    limited = instances.run("select a from t limit 2", HERE)
    assert rows(house, limited.id) == [{"a": 1}, {"a": 2}]
    assert rows(house, limited.id, columns=("a",), max_batch_rows=1) == [{"a": 1}, {"a": 2}]
    counted = instances.run("select count(*) from t where a is not null", HERE)
    assert rows(house, counted.id) == [{"_c0": 4}]
    nothing = instances.run("select * from t where a > 99", HERE)
    assert rows(house, nothing.id) == []
    filtered = instances.run("select a from t where b is not null", HERE)
    assert [r["a"] for r in rows(house, filtered.id, offset=1, count=2)] == [2, 1]
    assert rows(house, filtered.id, buffer_codec="zstd", max_batch_rows=1)[3] == {"a": 2}
    with pytest.raises(InvalidArgumentError, match="beyond the 4 rows"):
        rows(house, filtered.id, offset=5)


def test_a_result_is_a_snapshot(house: Any, instances: Instances) -> None:
    fill(house, instances)
    row = instances.run("select a from t", HERE)
    house.append(pa.record_batch({"a": [9], "b": ["z"]}), "pt=1")
    assert len(rows(house, row.id)) == 6


def test_sessions_of_results(house: Any, instances: Instances) -> None:
    fill(house, instances)
    row = instances.run("select pt, a from t limit 3", HERE, owner="ann")
    session = house.engine.call(CreateInstanceReadSession(project="demo", instance_id=row.id))
    assert isinstance(session, InstanceReadSession)
    assert session.record_count == 3
    assert session.owner == "ann"
    assert [column.name for column in session.schema.data_columns] == ["pt", "a"]
    again = house.engine.call(
        GetInstanceReadSession(project="demo", instance_id=row.id, session_id=session.session_id)
    )
    assert again == session
    with pytest.raises(NotFoundError):
        house.engine.call(
            GetInstanceReadSession(project="demo", instance_id=row.id, session_id="other")
        )
    with pytest.raises(NotFoundError):
        house.engine.read(ReadInstance(project="demo", instance_id=row.id, session_id="other"))
    ddl = instances.run("alter table t add columns (c bigint)", HERE)
    with pytest.raises(InvalidArgumentError, match="no SELECT"):
        house.engine.call(CreateInstanceReadSession(project="demo", instance_id=ddl.id))


def test_results_as_text(house: Any, instances: Instances) -> None:
    fill(house, instances)
    text = instances.result(instances.run("select a, b from t where pt = '1'", HERE))
    assert list(csv.reader(io.StringIO(text))) == [
        ["a", "b"],
        ["1", "x"],
        ["2", "y\n"],
        ["\\N", "\\N"],
    ]
    assert instances.result(instances.run("select count(*) from t", HERE)) == '"_c0"\n"6"\n'
    shown = instances.run("show tables like 'T*|x'", HERE)
    assert shown.result.split(":")[-1] == "t"
    assert instances.run("show tables like 'x*'", HERE).result == ""
    assert instances.run("show partitions t", HERE).result == "pt=1\npt=2"
    described = instances.run("desc t", HERE).result
    assert "  a bigint" in described
    assert "  pt string" in described


def test_listings_leave_out_what_may_not_be_seen(house: Any, instances: Instances) -> None:
    fill(house, instances)

    def visible(response: TablePage) -> TablePage:
        return msgspec.structs.replace(response, tables=())

    assert instances.run("show tables", HERE, visible=visible).result == ""


def test_instances_are_forgotten_after_a_while(house: Any, instances: Instances) -> None:
    old = instances.run("create table t (a bigint)", HERE)
    house.clock.advance(KEPT_SECONDS + 1)
    new = instances.run("drop table t", HERE)
    assert [row.id for row in instances.list("demo")] == [new.id]
    with pytest.raises(NotFoundError):
        instances.get("demo", old.id)
    assert new.id > old.id


def test_a_statement_ends_with_its_process(house: Any, instances: Instances) -> None:
    row = instances.run("show tables", HERE)
    left = dataclasses.replace(row, id="left-behind", ended_at=0.0, succeeded=False, selection=None)
    with house.engine.context.database.write() as connection:
        insert_instance(connection, left)
    assert not instances.get("demo", left.id).ended_at  # another process may be running it
    assert instances.state(instances.get("demo", left.id)).running
    house.clock.advance(house.engine.context.settings.sql_seconds + 1000)
    ended = instances.get("demo", left.id)
    assert ended.ended_at
    assert instances.state(ended).error == (
        500,
        "InternalServerError",
        "the server ended before the statement did",
    )
    assert all(listed.ended_at for listed in instances.list("demo"))


def test_pruned_segments_are_not_opened(house: Any, instances: Instances) -> None:
    house.create(pa.schema([("n", pa.int64())]))
    for start in range(0, 50, 10):
        house.append(pa.record_batch({"n": range(start, start + 10)}))
    opened: list[str] = []
    store = house.engine.context.store
    original = type(store).open

    def counting(self: Any, key: str, **options: Any) -> Any:
        opened.append(key)
        return original(self, key, **options)

    type(store).open = counting
    try:
        assert house.read(filter_predicate="n >= 25 and n < 31")["n"].to_pylist() == list(
            range(25, 31)
        )
        assert len(set(opened)) == 2
        opened.clear()
        assert house.read(filter_predicate="n > 1000").num_rows == 0
        assert opened == []
    finally:
        type(store).open = original


class Failing:
    """Verbs of an engine whose tables cannot be changed for a while, and wait until they say so."""

    def __init__(self, verbs: Any, error: FletchingError) -> None:
        self._verbs, self._error = verbs, error
        self.refuses, self.goes_on = True, threading.Event()
        self.refusals = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._verbs, name)

    def call(self, request: Any) -> Any:
        if self.refuses and isinstance(request, DropTable):
            assert self.goes_on.wait(600)
            self.refusals += 1
            raise self._error
        return self._verbs.call(request)


@on_both_databases
@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ServiceUnavailableError("locked"), True),
        (StorageError("the disk does not answer"), True),
        (ThrottledError("too many"), True),
        (NoPermissionError("not with this key"), True),
        (InvalidArgumentError("no such thing"), False),
    ],
    ids=lambda each: type(each).__name__,
)
def test_what_passes_is_no_outcome_of_statements_that_are_repeated(
    house: Any, instances: Instances, error: FletchingError, passes: bool
) -> None:
    context = house.engine.context
    reading = Reading(
        context.database, context.store, clock=context.clock, settings=context.settings
    )
    verbs = Failing(instances._verbs, error)
    failing: Any = Instances(context, verbs, reading, None)
    text = "create table t (n bigint); insert into t values (1); drop table t; create table u (n bigint)"
    made = new_instance_id(house.clock())
    # It takes longer than whoever asked for it waits, who then asks what came of it.
    assert not failing.run(text, HERE, instance_id=made, wait_seconds=0.0).ended_at
    verbs.goes_on.set()
    assert failing.wait("demo", made, 600.0).ended_at
    assert failing.state(failing.get("demo", made)).error is not None
    # As long as that lasts a repetition meets it, and it may be repeated by another server.
    for asked in (failing, instances):
        with contextlib.suppress(type(error)):
            assert not asked.run(text, HERE, instance_id=made).succeeded or passes
        if not passes:
            assert verbs.refusals == 1
    assert verbs.refusals == 1 + passes
    row = instances.get("demo", made)
    assert (row.succeeded, instances.state(row).error is None) == (passes, passes)
    names = [each.table.name for each in house.engine.call(ListTables(project="demo")).tables]
    assert names == (["u"] if passes else ["t"])
    # What has come of them once and for all is not done again.
    assert instances.run(text, HERE, instance_id=made).ended_at == row.ended_at
    failing.close()


def test_statements_that_ended_with_their_process_are_run_again(
    house: Any, instances: Instances
) -> None:
    made = new_instance_id(house.clock())
    row = instances.run("show tables", HERE)
    left = dataclasses.replace(row, id=made, ended_at=0.0, succeeded=False, selection=None)
    with house.engine.context.database.write() as connection:
        insert_instance(connection, left)
    assert not instances.run("show tables", HERE, instance_id=made).ended_at
    house.clock.advance(house.engine.context.settings.sql_seconds + 1000)
    assert instances.run("show tables", HERE, instance_id=made).succeeded
    assert instances.get("demo", made).succeeded
