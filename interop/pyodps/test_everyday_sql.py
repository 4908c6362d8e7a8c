"""Statements as everyday scripts run them: results, reports, listings, sessions, tokens."""

from __future__ import annotations

import datetime as dt
import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from odps import ODPS, accounts, errors, models, options
from odps.models import Instance, SQLTask
from odps.tunnel import InstanceTunnel
from odps.types import Monthdelta

from conftest import SINCE_0_13, Service

ROWS = [[1, "a", 1.5], [2, None, None]]
SELECT = "select * from (select 1 as id, 'a' as name, 1.5 as x union all select 2, null, null) t order by id"
ENDLESS = (
    "select count(*) from (select explode(sequence(1, 1000000)) as a) t"
    " cross join (select explode(sequence(1, 1000000)) as b) u where a * b < 0"
)


def values(reader: Any) -> list[list[Any]]:
    return [list(record.values) for record in reader]


@pytest.fixture
def instance(o: ODPS) -> Any:
    return o.execute_sql(SELECT)


@pytest.fixture
def legacy_logview() -> Iterator[None]:
    options.use_legacy_logview = True
    yield
    options.use_legacy_logview = None


# --- results ---------------------------------------------------------------------------------


def test_records(instance: Any) -> None:
    with instance.open_reader() as reader:
        assert reader.count == 2
        assert values(reader) == ROWS
    with instance.open_reader(tunnel=True) as reader:
        assert values(reader[1:]) == ROWS[1:]
        assert values(reader[::2]) == ROWS[:1]
        assert reader[0]["name"] == "a"
    with instance.open_reader(tunnel=True, limit=True) as reader:
        assert values(reader) == ROWS


def test_every_type_survives(o: ODPS) -> None:
    made = o.execute_sql(
        "select true as b, cast('12.30' as decimal(10,2)) as d, date '2026-01-02' as day,"
        " cast('2026-01-02 03:04:05' as datetime) as dtm, timestamp '2026-01-02 03:04:05.123456' as t,"
        " array(1, null, 3) as a, map('k', 1, 'm', null) as m,"
        " named_struct('x', 7, 'y', 'q') as s, 'a\\001b\\nc\"d,' as c"
    )
    with made.open_reader(tunnel=True) as reader:
        (result,) = values(reader)
    assert (result[0], str(result[1]), str(result[2])) == (True, "12.30", "2026-01-02")
    assert (result[5], dict(result[6])) == ([1, None, 3], {"k": 1, "m": None})
    assert tuple(result[7].values() if isinstance(result[7], dict) else result[7]) == (7, "q")
    assert result[8] == 'a\x01b\nc"d,'
    assert isinstance(result[3], dt.datetime)
    assert "123456" in str(result[4])
    with made.open_reader(tunnel=True, arrow=True) as reader:
        batch = reader.read_all()
    assert batch["a"].to_pylist() == [[1, None, 3]]
    assert str(batch["t"][0].as_py()).startswith("2026-01-0")


HIDDEN = {
    "j": ("json", {"k": [1]}),
    "n": ("timestamp_ntz", pd.Timestamp("2026-01-02 03:04:05.5")),
    "t": ("timestamp", pd.Timestamp("2026-01-02 03:04:05.123456")),
    "d": ("datetime", dt.datetime.fromisoformat("2026-01-02 03:04:05")),
    "i": ("interval_day_time", pd.Timedelta(days=1, seconds=5, microseconds=3)),
    "m": ("interval_year_month", Monthdelta(14)),
    "c": ("char(3)", "abc"),
    "v": ("varchar(9)", "vv"),
}
"""Types that only the column's declaration tells from others, each with a value."""


@pytest.mark.parametrize("zone", [None, "Asia/Shanghai"])
def test_results_have_the_types_of_their_columns(o: ODPS, name: str, zone: str | None) -> None:
    columns = ", ".join(f"{column} {kind}" for column, (kind, _) in HIDDEN.items())
    table = o.create_table(name, columns)
    options.local_timezone = zone
    try:
        with table.open_writer() as writer:
            writer.write(table.new_record([value for _, value in HIDDEN.values()]))
        (stored,) = values(o.read_table(name))
        if zone is None:
            assert stored == [value for _, value in HIDDEN.values()]
        made = o.execute_sql(f"select * from (select * from {name}) t where v is not null")
        with made.open_reader(tunnel=True) as reader:
            kinds = [str(column.type).lower() for column in reader.schema.columns]
            assert values(reader) == [stored]
        assert kinds == [kind for kind, _ in HIDDEN.values()]
        o.execute_sql(f"create table {name}_c as select * from {name}")
        assert values(o.read_table(f"{name}_c")) == [stored]
    finally:
        options.local_timezone = None


def test_text_results(o: ODPS, instance: Any) -> None:
    with instance.open_reader(tunnel=False) as reader:
        assert reader.raw.splitlines()[0] == '"id","name","x"'
        result = values(reader)
    # Since 0.13 columns come with their types.
    assert result == (ROWS if SINCE_0_13 else [["1", "a", "1.5"], ["2", None, None]])
    options.tunnel.use_instance_tunnel = False
    try:
        with instance.open_reader() as reader:
            assert [record["name"] for record in reader] == ["a", None]
    finally:
        options.tunnel.use_instance_tunnel = True
    odd = o.execute_sql("select 'a\\001b\\nc\"d' as c, array('x', 'y') as l, map('k', 'v') as m")
    schema = models.TableSchema.from_lists(
        ["c", "l", "m"], ["string", "array<string>", "map<string,string>"]
    )
    with odd.open_reader(schema, tunnel=False) as reader:
        ((text, listed, mapped),) = values(reader)
    assert (text, listed, dict(mapped)) == ('a\x01b\nc"d', ["x", "y"], {"k": "v"})


@pytest.mark.skipif(not SINCE_0_13, reason="nested values as text are typed since 0.13")
def test_nested_values_as_text(o: ODPS) -> None:
    made = o.execute_sql(
        "select array(1, null) as a, map('a:b', 1) as m, named_struct('x', 7, 'y', 'a,b') as s,"
        " array('q\"q', '', '{') as t, true as b, date '2026-01-02' as day"
    )
    with made.open_reader(tunnel=False) as reader:
        ((a, m, s, t, b, day),) = values(reader)
    assert (a, dict(m), t, b, str(day)) == (
        [1, None],
        {"a:b": 1},
        ['q"q', "", "{"],
        True,
        "2026-01-02",
    )
    assert tuple(s) == (7, "a,b")


def test_pandas(instance: Any) -> None:
    with instance.open_reader(tunnel=True) as reader:
        assert reader.to_pandas()["id"].tolist() == [1, 2]
    with instance.open_reader(tunnel=False) as reader:
        assert reader.to_pandas()["id"].tolist() == [1, 2]
    assert len(instance.to_pandas()) == 2
    assert instance.to_pandas(columns=["name"], start=0, count=1)["name"].tolist() == ["a"]
    assert [len(batch) for batch in instance.iter_pandas(batch_size=1)] == [1, 1]


@pytest.mark.parametrize("algorithm", [None, "zlib", "snappy", "zstd", "lz4"])
def test_instance_tunnel(o: ODPS, instance: Any, algorithm: str | None) -> None:
    session = InstanceTunnel(o).create_download_session(instance, compress_algo=algorithm)
    assert session.count == 2
    chosen = {"columns": ["name", "id"], "compress": algorithm is not None}
    with session.open_record_reader(0, 2, **chosen) as reader:
        assert values(reader) == [["a", 1], [None, 2]]
    with session.open_arrow_reader(0, 2, **chosen) as reader:
        assert reader.read().to_pydict() == {"name": ["a", None], "id": [1, 2]}
    again = InstanceTunnel(o).create_download_session(instance, download_id=session.id)
    assert again.count == 2


def test_no_rows(o: ODPS) -> None:
    empty = o.execute_sql("select 1 as a, 'x' as b where 1 = 0")
    for arrow in (False, True):
        assert len(empty.to_pandas(arrow=arrow)) == 0
    with empty.open_reader(tunnel=False) as reader:
        assert values(reader) == []


def test_statements_without_rows(o: ODPS, name: str) -> None:
    o.create_table(name, "size bigint", if_not_exists=True)
    described = o.execute_sql(f"desc {name}")
    with pytest.raises(errors.ODPSError):
        described.open_reader(tunnel=True)
    assert "size" in described.open_reader().raw


def test_several_statements(o: ODPS, name: str) -> None:
    script = f"create table {name} (a bigint); insert into {name} values (1), (2); select sum(a) as s from {name};"
    with o.execute_sql(script, hints={"odps.sql.submit.mode": "script"}).open_reader() as reader:
        assert values(reader) == [[3]]
    with o.execute_sql("set odps.sql.allow.fullscan=true; select 1 as a").open_reader() as reader:
        assert values(reader) == [[1]]


# --- what is asked of an instance ------------------------------------------------------------


def test_reports(o: ODPS) -> None:
    hints = {"odps.sql.mapper.split.size": "16"}
    instance = o.run_sql(
        "select sum(a) as s from (select 1 as a union all select 2) t", hints=hints
    )
    instance.wait_for_success()
    (task_name,) = instance.get_task_names()
    assert instance.get_task_statuses()[task_name].status == Instance.Task.TaskStatus.SUCCESS
    assert "3" in instance.get_task_result(task_name)
    assert instance.get_task_summary(task_name).json_summary
    assert instance.get_task_cost(task_name).input_size >= 0
    assert instance.get_task_detail(task_name)
    assert instance.get_task_detail2(task_name)
    assert isinstance(instance.get_task_quota(task_name), dict)
    assert instance.get_task_workers(task_name) == []
    progress = instance.get_task_progress(task_name)
    assert len(progress.get_stage_progress_formatted_string().split()) > 2
    (task,) = instance.tasks
    assert isinstance(task, SQLTask)
    assert hints.items() <= json.loads(task.properties["settings"]).items()
    assert task.summary is not None
    assert not task.warnings
    task.put_info("key", "value")
    assert "sum(a)" in instance.get_sql_query()
    assert instance.priority >= 0
    info = instance.get_queueing_info()
    assert info.instance_id == instance.id
    assert info.start_time is not None
    assert list(o.list_instance_queueing_infos()) == []
    assert instance.start_time <= instance.end_time


def test_identifiers(o: ODPS) -> None:
    wanted = uuid.uuid4().hex
    made = o.get_project().instances.create(
        task=SQLTask(query="select 1"), unique_identifier_id=wanted
    )
    made.wait_for_completion()
    assert o.get_instance(made.id).get_unique_identifier_id() == wanted
    assert o.exist_instance(made.id)
    assert not o.exist_instance("a_non_exists_instance")


def test_cancelling(o: ODPS, instance: Any) -> None:
    with pytest.raises(errors.InvalidStateSetting):
        instance.stop()
    running = o.run_sql(ENDLESS)
    assert running.status == Instance.Status.RUNNING
    assert running.id in [each.id for each in o.list_instances(status="running")]
    assert running.id in [info.instance_id for info in o.list_instance_queueing_infos()]
    running.stop()
    running.wait_for_completion()
    (status,) = running.get_task_statuses().values()
    assert status.status == Instance.Task.TaskStatus.CANCELLED
    with pytest.raises(errors.ODPSError, match="CANCELLED"):
        running.wait_for_success()


def test_listings(o: ODPS, service: Service, instance: Any) -> None:
    def listed(who: ODPS = o, **filters: Any) -> list[str]:
        return [each.id for each in who.list_instances(**filters)]

    now = dt.datetime.now()  # noqa: DTZ005 - as scripts say it
    hour = dt.timedelta(hours=1)
    assert instance.id in listed()
    assert instance.id in listed(status=Instance.Status.TERMINATED)
    assert instance.id not in listed(status="running")
    assert instance.id in listed(start_time=now - hour, end_time=now + hour)
    assert instance.id in listed(start_time=time.time() - 3600)
    assert listed(start_time=time.time() - 864_000, end_time=time.time() - 86_400) == []
    assert instance.id in listed(only_owner=True)
    key = service.keys("create", f"k{uuid.uuid4().hex[:8]}", "--grant", "read:demo.*", "--json")
    other = service.connect(key["access_id"], key["access_key"], overwrite_global=False)
    assert listed(other, only_owner=True) == []
    newest = next(o.list_instances(status=Instance.Status.TERMINATED))
    assert newest._getattr("owner")
    assert newest._getattr("end_time") >= newest._getattr("start_time")


def test_costs_and_merges(o: ODPS, name: str) -> None:
    o.create_table(name, "size bigint")
    o.write_table(name, [[1], [2], [3]])
    cost = o.execute_sql_cost(f"select * from {name}")
    assert (cost.udf_num, cost.complexity) == (0, 1.0)
    assert cost.input_size >= 100
    merged = o.run_merge_files(name)
    merged.wait_for_success()
    assert type(merged.tasks[0]).__name__ == "MergeTask"
    o.execute_sql(f"alter table {name} merge smallfiles")


def test_failures_have_their_class(o: ODPS) -> None:
    with pytest.raises(errors.NoSuchTable) as failed:
        o.execute_sql("select * from absent_table")
    assert failed.value.instance_id
    with pytest.raises(errors.ParseError if SINCE_0_13 else errors.ODPSError, match="ODPS-0130161"):
        o.execute_sql("select from where")


# --- who asks --------------------------------------------------------------------------------


@pytest.mark.usefixtures("legacy_logview")
def test_log_views(o: ODPS, service: Service, instance: Any) -> None:
    address = instance.get_logview_address()
    assert address.startswith(f"{service.url}/logview/?h=")
    assert o.get_logview_address(instance.id, 12).startswith(service.url)
    token = address[address.find("token=") + len("token=") :]
    assert "State: Success" in o.rest.session.get(address).text
    bearer = ODPS(
        None,
        None,
        "demo",
        f"{service.url}/api",
        account=accounts.BearerTokenAccount(token=token),
        overwrite_global=False,
    )
    (task_name,) = instance.get_task_names()
    seen = bearer.get_instance(instance.id)
    assert seen.get_task_result(task_name) == instance.get_task_result(task_name)
    with pytest.raises(errors.NoPermission):
        bearer.create_table("never_made", "a bigint")


def test_tokens_and_security_queries(o: ODPS, service: Service) -> None:
    project = o.get_project()
    assert project.current_user.id == "ak"
    assert o.execute_security_query("whoami")["DisplayName"] == "ak"
    assert list(project.roles) == []
    assert "nobody" not in project.users
    assert project.policy is None
    assert project.security_options.label_security is False
    with pytest.raises(errors.MethodNotAllowed):
        o.execute_security_query("install package demo.x")
    statement = {"Action": ["odps:*"], "Resource": "acs:odps:*:*", "Effect": "Allow"}
    token = project.generate_auth_token({"Version": "1", "Statement": [statement]}, "bearer", 5)
    bearer = ODPS(
        None,
        None,
        "demo",
        f"{service.url}/api",
        account=accounts.BearerTokenAccount(token=token),
        overwrite_global=False,
    )
    bearer.execute_sql("select 1")


# --- query acceleration ----------------------------------------------------------------------


def test_first_generation(o: ODPS) -> None:
    made = o.execute_sql_interactive(SELECT)
    with made.open_reader() as reader:
        assert values(reader) == ROWS
    with made.open_reader(tunnel=True) as reader:
        assert [column.name for column in reader.schema.columns] == ["id", "name", "x"]
    with made.open_reader(tunnel=False) as reader:
        assert [record[0] for record in reader] == ["1", "2"]
    assert made.get_logview_address()
    with pytest.raises(errors.ODPSError):
        o.execute_sql_interactive("select * from absent_table", fallback=False)
    with pytest.raises(errors.NoSuchTable):
        list(o.run_sql_interactive("select * from absent_table").open_reader(tunnel=True))
    session = o.create_session(4, 512)
    session.wait_for_startup()
    attached = o.attach_session(session._session_name)
    attached.wait_for_startup()
    assert attached.status == Instance.Status.RUNNING
    with session.run_sql("select 1 as a").open_reader(tunnel=True) as reader:
        assert values(reader) == [[1]]
    session.stop()


def test_second_generation(o: ODPS) -> None:
    made = o.execute_sql_interactive(SELECT, use_mcqa_v2=True, quota_name="fast")
    with made.open_reader() as reader:
        assert values(reader) == ROWS
    with pytest.raises(errors.NoSuchTable):
        o.execute_sql_interactive("select * from absent", use_mcqa_v2=True, quota_name="fast")
