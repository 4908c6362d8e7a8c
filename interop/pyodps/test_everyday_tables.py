"""Tables as everyday scripts manage, write and read them, through the tunnel unless said."""

from __future__ import annotations

import datetime as dt
import multiprocessing
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from odps import ODPS, errors, options
from odps.models import Column, Partition, TableSchema
from odps.tunnel import TableTunnel

from conftest import SINCE_0_13, Service

PARTITIONED = ("id bigint, name string", "pt string")


def values(records: Any) -> list[list[Any]]:
    return [list(record.values) for record in records]


# --- reading and writing ---------------------------------------------------------------------


def test_records_in_and_out(o: ODPS, name: str) -> None:
    table = o.create_table(name, "id bigint, name string, right boolean")
    data = [[111, "aaa", True], [5940813139082772990, "中文", False], [3, None, None]]
    o.write_table(name, data)
    assert values(o.read_table(name)) == data
    assert values(o.read_table(name, step=2)) == data[::2]
    assert values(table.head(2)) == data[:2]
    with table.open_writer() as writer:
        writer.write([4, "d", None])
        writer.write(table.new_record([5, "e", True]))
    with table.open_reader(reopen=True) as reader:
        assert reader.count == 5
        assert reader[4].name == "e"
        assert [record[0] for record in reader[1:3]] == [5940813139082772990, 3]
    o.write_table(name, [[1, "only", None]], overwrite=True)
    assert values(o.read_table(name)) == [[1, "only", None]]
    table.truncate()
    assert values(o.read_table(name)) == []


def test_pandas_and_arrow(o: ODPS, name: str) -> None:
    frame = pd.DataFrame({"names": ["falcon", "dog", "cat"], "legs": [2, 4, 4]})
    with pytest.raises(errors.NoSuchObject):
        o.write_table(name, frame)
    o.write_table(name, frame, create_table=True, lifecycle=1)
    table = o.get_table(name)
    assert table.to_pandas()["legs"].tolist() == [2, 4, 4]
    assert table.to_pandas(columns=["names"], start=1, count=1)["names"].tolist() == ["dog"]
    assert [len(batch) for batch in table.iter_pandas(batch_size=2)] == [2, 1]
    o.write_table(name, pa.Table.from_pandas(frame))
    with table.open_reader(arrow=True, reopen=True) as reader:
        assert reader.read_all().num_rows == 6
    with table.open_reader(columns=["legs"], arrow=True) as reader:
        assert list(reader.to_pandas().columns) == ["legs"]
    with table.open_reader() as reader:
        assert len(reader.to_pandas(n_process=2)) == 6


def test_partitions_in_and_out(o: ODPS, name: str) -> None:
    table = o.create_table(name, PARTITIONED)
    with pytest.raises(errors.NoSuchObject):
        table.open_writer("pt=1", create_partition=False)
    with table.open_writer("pt=1", create_partition=True) as writer:
        writer.write([[1, "a"], [2, "b"]])
    with table.open_writer("pt=2", create_partition=True, arrow=True) as writer:
        writer.write(pd.DataFrame({"id": [3], "name": ["c"]}))
    with table.open_reader("pt=1") as reader:
        assert values(reader) == [[1, "a", "1"], [2, "b", "1"]]
    assert len(table.partitions["pt=2"].to_pandas()) == 1
    data = [[5, "x", "3"], [6, "y", "4"], [7, "z", "3"]]
    o.write_table(name, data, partitions="pt", create_partition=True)
    assert [row[0] for row in values(o.read_table(name, partition="pt=3"))] == [5, 7]
    table.get_partition("pt=3").truncate()
    assert values(o.read_table(name, partition="pt=3")) == []


def _write(number: int, writer: Any) -> None:
    writer.write([number, "first"])
    writer.write([number, "second"])
    writer.close()


@pytest.mark.skipif(not SINCE_0_13, reason="writers travel between processes since 0.13")
def test_blocks_of_several_processes(o: ODPS, name: str) -> None:
    table = o.create_table(name, "id bigint, name string")
    context = multiprocessing.get_context("fork")
    with table.open_writer() as writer:
        workers = [context.Process(target=_write, args=(n, writer)) for n in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
            assert worker.exitcode == 0
    assert sorted(values(o.read_table(name))) == [
        [n, text] for n in range(2) for text in ("first", "second")
    ]


def test_table_tunnel(o: ODPS, name: str) -> None:
    o.create_table(name, "id bigint, name string")
    tunnel = TableTunnel(o)
    upload = tunnel.create_upload_session(name)
    for block in (1, 0):
        with upload.open_record_writer(block) as writer:
            writer.write(upload.new_record([block, f"b{block}"]))
    upload.commit([0, 1])
    download = tunnel.create_download_session(name)
    with download.open_record_reader(0, download.count) as reader:
        assert values(reader) == [[0, "b0"], [1, "b1"]]
    stream = tunnel.create_stream_upload_session(name)
    with stream.open_record_writer() as writer:
        writer.write(stream.new_record([2, "streamed"]))
    stream.abort()
    assert len(values(o.read_table(name))) == 3


def test_keys(o: ODPS, name: str) -> None:
    columns = ("a string not null, b bigint", "pt string")
    table = o.create_table(name, columns, transactional=True, primary_key="a")
    table.reload()
    assert table.is_transactional
    assert table.primary_key == ["a"]
    data = [["abcd", 1], ["efgh", 2], ["ijkl", 3]]
    with table.open_writer(partition="pt=test", create_partition=True) as writer:
        writer.write(data)
        writer.delete(data[0])
    with table.open_reader(partition="pt=test") as reader:
        assert sorted(row[:2] for row in values(reader)) == data[1:]


@pytest.mark.parametrize("algorithm", [None, "zlib", "snappy", "zstd", "lz4"])
def test_every_coding(o: ODPS, name: str, algorithm: str | None) -> None:
    o.create_table(name, "id bigint, name string")
    chosen = {"compress_algo": algorithm} if algorithm else {}
    packed = {"compress": algorithm is not None}
    tunnel = TableTunnel(o)
    upload = tunnel.create_upload_session(name, **chosen)
    with upload.open_record_writer(0, **packed) as writer:
        writer.write(upload.new_record([1, "records" * 100]))
    with upload.open_arrow_writer(1, **packed) as writer:
        writer.write(pd.DataFrame({"id": [2], "name": ["arrow"]}))
    upload.commit([0, 1])
    if algorithm != "lz4":  # whose writer of streams flushes twice, and fails inside PyODPS
        stream = tunnel.create_stream_upload_session(name, **chosen)
        with stream.open_record_writer(**packed) as writer:
            writer.write(stream.new_record([3, "streamed"]))
    download = tunnel.create_download_session(name, **chosen)
    with download.open_record_reader(0, download.count, **packed) as reader:
        rows = values(reader)
    assert rows[:2] == [[1, "records" * 100], [2, "arrow"]]
    with download.open_arrow_reader(0, download.count, **packed) as reader:
        assert reader.to_pandas()["id"].tolist() == [row[0] for row in rows]
    keyed = f"{name}_k"
    o.create_table(keyed, "k bigint not null, v string", transactional=True, primary_key="k")
    upsert = tunnel.create_upsert_session(keyed, **chosen)
    writer = upsert.open_upsert_stream(**packed)
    writer.upsert(upsert.new_record([1, "x"]))
    writer.close()
    upsert.commit()
    assert values(o.get_table(keyed).head(5)) == [[1, "x"]]


def test_uploads_into_tables_with_keys(o: ODPS, name: str) -> None:
    table = o.create_table(name, "k bigint not null, v string", transactional=True, primary_key="k")
    tunnel = TableTunnel(o)

    def upload(blocks: dict[int, list[list[Any]]], **how: Any) -> None:
        session = tunnel.create_upload_session(name, **how)
        for block, rows in blocks.items():
            with session.open_record_writer(block) as writer:
                for row in rows:
                    writer.write(session.new_record(row))
        session.commit(list(blocks))

    def result() -> list[list[Any]]:
        return sorted(values(table.open_reader(reopen=True)))

    # Whatever order blocks came in, those with higher numbers count.
    upload({1: [[1, "late"]], 0: [[1, "early"], [2, "old"], [2, "new"]]})
    assert result() == [[1, "late"], [2, "new"]]
    with pytest.raises(errors.ODPSError, match="primary key"):
        upload({0: [[None, "n"]]})
    upload({0: [[5, "only"]]}, overwrite=True)
    stream = tunnel.create_stream_upload_session(name)
    with stream.open_record_writer() as writer:
        writer.write(stream.new_record([5, "streamed"]))
        writer.write(stream.new_record([6, "more"]))
    assert result() == [[5, "streamed"], [6, "more"]]
    assert tunnel.create_download_session(name).count == 2


def test_partitions_that_are_made_by_expressions(o: ODPS, name: str) -> None:
    schema = TableSchema(
        columns=[Column(name="a", type="datetime"), Column(name="n", type="bigint")],
        partitions=[
            Partition(name="pt", type="string", generate_expression="trunc_time(a, 'day')")
        ],
    )
    table = o.create_table(name, schema)
    assert "AUTO PARTITIONED BY" in table.get_ddl()
    day = dt.datetime.fromisoformat("2025-02-21 11:23:41")
    # Clients compute the column by what they are told of it, the service does in statements.
    o.write_table(name, [[day, 1], [day + dt.timedelta(days=1), 2]], create_partition=True)
    o.execute_sql(f"insert into {name} values (cast('2025-02-22 00:00:00' as datetime), 3)")
    table.reload()
    assert "AUTO PARTITIONED BY" in table.get_ddl()
    assert [str(each.partition_spec) for each in table.partitions] == [
        "pt='2025-02-21'",
        "pt='2025-02-22'",
    ]
    result = o.execute_sql(f"select n from {name} where pt = '2025-02-22'")
    assert sorted(values(result.open_reader())) == [[2], [3]]


def test_first_rows_with_nulls_inside(o: ODPS, name: str) -> None:
    table = o.create_table(name, "m map<string,bigint>, a array<string>")
    rows = [[{"k": None, "z": 1}, ["a", None, ""]], [{}, []], [None, None]]
    with table.open_writer() as writer:
        writer.write(rows)
    if SINCE_0_13:
        assert values(table.head(3)) == rows
    # 0.12 has no text for such values, and reads them as they are.
    assert values(table.head(3, use_legacy=False)) == rows
    assert values(o.read_table(name)) == rows


def test_results_become_tables(o: ODPS, name: str) -> None:
    if not hasattr(o, "write_sql_result_to_table"):
        pytest.skip("came later")
    o.create_table(name, "a string, b bigint")
    o.write_table(name, [["x", 1], ["y", 2]])
    query = f"select * from {name}"
    o.write_sql_result_to_table(f"{name}_c", query, create_table=True, lifecycle=1)
    o.write_sql_result_to_table(f"{name}_c", query)
    assert len(values(o.read_table(f"{name}_c"))) == 4
    o.write_sql_result_to_table(f"{name}_c", query, overwrite=True)
    assert len(values(o.read_table(f"{name}_c"))) == 2
    target = f"{name}_p"
    o.write_sql_result_to_table(
        target, query, partition="p=1,q=2", create_table=True, create_partition=True
    )
    o.write_sql_result_to_table(
        target, f"select a, b, '2' as q from {name}", partition="p=1", partition_cols="q"
    )
    assert len(values(o.read_table(target, partition="p=1,q=2"))) == 4


# --- managing --------------------------------------------------------------------------------


def test_table_methods(o: ODPS, name: str) -> None:
    table = o.create_table(name, PARTITIONED, comment="c", lifecycle=7)
    for change in (
        lambda: table.set_comment("new"),
        lambda: table.set_lifecycle(9),
        lambda: table.set_owner("somebody"),
        table.touch,
    ):
        change()
    table.reload()
    assert (table.comment, table.lifecycle, table.owner) == ("new", 9, "somebody")
    table.add_columns("c3 double")
    table.add_columns([Column(name="c4", type="string", comment="cc")])
    table.add_columns("c3 double, c5 bigint", if_not_exists=True)
    table.rename_column("c3", "c33")
    table.rename_column("name", "title", comment="of it")
    table.delete_columns(["c4", "c5"])
    table.reload()
    assert [column.name for column in table.table_schema.simple_columns] == ["id", "title", "c33"]
    assert table.table_schema["title"].comment == "of it"
    table.rename(f"{name}_renamed")
    assert not o.exist_table(name)
    table = o.get_table(f"{name}_renamed")
    table.create_partition("pt=1")
    table.touch("pt=1")
    table.truncate("pt=1")
    assert "PARTITIONED BY" in table.get_ddl()
    table.drop()
    assert not o.exist_table(f"{name}_renamed")


def test_attributes(o: ODPS, name: str) -> None:
    schema = TableSchema(
        columns=[Column(name="序列", type="bigint", comment="注释")],
        partitions=[Partition(name="ds", type="string", comment="分区注释")],
    )
    table = o.create_table(name, schema)
    result = o.get_table(name)
    assert [column.comment for column in result.table_schema.columns] == ["注释", "分区注释"]
    assert result.owner == "ak"
    assert result.lifecycle == -1
    assert isinstance(result.table_label, str)
    assert result.is_virtual_view is False
    assert result.is_archived is False
    assert result.physical_size >= 0
    assert result.size >= 0
    assert result.creation_time <= result.last_data_modified_time
    assert name in [each.name for each in o.list_tables(prefix=name, owner="ak")]
    assert o.list_tables(prefix=name, owner="nobody") is not None
    assert list(o.list_tables(prefix=name, owner="nobody")) == []
    assert list(o.list_tables(prefix=name, type="virtual_view")) == []
    table.drop()
    sharded = o.create_table(name, "a bigint", shard_num=10, hub_lifecycle=5)
    assert sharded.shard.shard_num == 10


def test_partition_methods(o: ODPS, name: str) -> None:
    table = o.create_table(name, ("id bigint", "pt string, r string"))
    for spec in ("pt=1,r=a", "pt=1,r=b", "pt=2,r=a"):
        table.create_partition(spec)
    table.create_partition("pt=1,r=b", if_not_exists=True)
    with pytest.raises(errors.ODPSError):
        table.create_partition("pt=1,r=b")
    assert len(list(table.partitions)) == 3
    assert len(list(table.iterate_partitions("pt=1"))) == 2
    assert table.exist_partitions("pt=2")
    assert not table.exist_partitions("pt=3")
    assert table.exist_partition("pt=1,r=a")
    partition = table.get_partition("pt=1,r=a")
    assert partition.creation_time is not None
    assert partition.is_archived is False
    assert partition.file_num >= 0
    partition.reload()
    assert len(partition.columns) == 2
    o.write_table(name, [[1]], partition="pt=1,r=b")
    assert str(table.get_max_partition().partition_spec) == "pt='1',r='b'"
    assert str(table.get_max_partition(skip_empty=False).partition_spec) == "pt='2',r='a'"
    partition.drop()
    table.delete_partition("pt=2,r=a", if_exists=True)
    table.delete_partition("pt=2,r=a", if_exists=True)
    assert len(list(table.partitions)) == 1
    with pytest.raises(errors.NoSuchPartition):
        table.get_partition("pt=2,r=a").reload()


def test_storage_tiers_are_kept(o: ODPS, name: str) -> None:
    table = o.create_table(name, ("id bigint", "pt string"), storage_tier="standard")
    assert table.storage_tier_info.storage_tier.value == "standard"
    assert "storagetier" in table.get_ddl()
    table.set_storage_tier("low_frequency")
    assert table.storage_tier_info.storage_tier.value == "lowfrequency"
    partition = table.create_partition("pt=1")
    for tier in ("standard", "LowFrequency"):
        partition.set_storage_tier(tier)
        partition.reload_extend_info()  # which 0.12 keeps as it was first
        assert partition.storage_tier_info.storage_tier.value == tier.lower()
    with pytest.raises(errors.InvalidArgument, match="is the only one"):
        o.execute_sql(f"alter table {name} partition (pt='1') set partitionproperties ('a'='b')")


def test_columns_seen_after_a_statement(o: ODPS, name: str) -> None:
    o.create_table(name, "col string")
    o.get_table(name)
    o.execute_sql(f"ALTER TABLE {name} ADD COLUMN col2 string")
    o.execute_sql(f"ALTER TABLE demo.{name} ADD COLUMN col3 string")
    assert o.get_table(name).table_schema.names == ["col", "col2", "col3"]


def test_views(o: ODPS, name: str) -> None:
    o.create_table(name, "a bigint")
    o.write_table(name, [[1], [2]])
    o.execute_sql(f"create view {name}_v as select a from {name} where a > 1")
    view = o.get_table(f"{name}_v")
    assert view.is_virtual_view
    assert f"{name}_v" in [each.name for each in o.list_tables(type="virtual_view")]
    with o.execute_sql(f"select * from {name}_v").open_reader() as reader:
        assert values(reader) == [[2]]


# --- projects and schemas --------------------------------------------------------------------


def test_projects(o: ODPS, service: Service) -> None:
    assert o.exist_project("demo")
    assert not o.exist_project("a_not_exists_project")
    project = o.get_project()
    assert project.owner is not None
    assert len(project.properties) > 0
    assert len(project.extended_properties) > 0
    assert "demo" in [each.name for each in o.list_projects()]
    absent = service.connect(project="nope", overwrite_global=False)
    for call in (
        lambda: list(absent.list_tables()),
        lambda: list(absent.list_instances()),
        lambda: list(absent.list_functions()),
        lambda: absent.execute_sql("select 1"),
        lambda: absent.create_table("t", "a bigint"),
        lambda: absent.get_project().reload(),
    ):
        with pytest.raises(errors.NoSuchProject):
            call()


def test_schemas(o: ODPS, service: Service, name: str) -> None:
    schema = o.create_schema(f"s_{name}")
    assert o.exist_schema(schema.name)
    assert schema.name in [each.name for each in o.list_schemas()]
    table = o.create_table(name, ("a string", "pt string"), schema=schema.name)
    assert table.get_schema().name == schema.name
    assert not o.exist_table(name)
    with table.open_writer("pt=1", create_partition=True) as writer:
        writer.write([["x"]])
    with table.open_reader("pt=1") as reader:
        assert values(reader) == [["x", "1"]]
    assert [each.name for each in o.list_tables(schema=schema.name)] == [name]
    inside = service.connect(schema=schema.name, overwrite_global=False)
    with inside.execute_sql(f"select a from {name}").open_reader() as reader:
        assert values(reader) == [["x"]]
    assert inside.exist_table(name)
    options.enable_schema = True
    try:
        assert o.get_table(f"{schema.name}.{name}").table_schema.names == ["a"]
        with o.execute_sql(f"select a from {schema.name}.{name}").open_reader() as reader:
            assert values(reader) == [["x"]]
        plain = o.create_table(f"{name}_d", "a bigint")
        assert plain.get_schema().name == "default"
        o.write_table(f"{name}_d", [[1]])
        assert values(o.read_table(f"{name}_d")) == [[1]]
    finally:
        options.enable_schema = False
    table.drop()
    o.delete_schema(schema.name)
    assert not o.exist_schema(schema.name)


def test_what_there_is_none_of(o: ODPS) -> None:
    assert list(o.list_functions()) == []
    assert list(o.list_resources()) == []
    assert list(o.list_volumes()) == []
    assert list(o.list_xflows()) == []
    assert list(o.list_offline_models()) == []
    assert not o.exist_function("f")
    assert not o.exist_resource("r.py")
    assert not o.exist_volume("v")
    for refused in (
        lambda: o.create_resource("r.py", "py", file_obj="1"),
        lambda: o.create_function("f", class_type="r.F"),
        lambda: o.create_parted_volume("v"),
        lambda: o.execute_xflow("a", "b"),
        lambda: o.execute_archive_table("t"),
    ):
        with pytest.raises((errors.MethodNotAllowed, errors.NoSuchObject)):
            refused()


def test_partitions_get_other_names(o: ODPS, name: str) -> None:
    table = o.create_table(name, PARTITIONED)
    o.write_table(name, [[1, "a"]], partition="pt=1", create_partition=True)
    table.get_partition("pt=1").change_partition_spec("pt=2")
    table.change_partition_spec("pt=2", "pt=3")
    assert values(o.read_table(name, partition="pt=3")) == [[1, "a", "3"]]
    assert not table.exist_partition("pt=1")


def test_decimals_without_digits(o: ODPS, name: str) -> None:
    o.create_table(name, "a bigint, d decimal")
    o.write_table(name, [[1, 1.5]])
    o.execute_sql(f"insert into {name} values (2, 2.5)")
    with o.execute_sql(f"select sum(d), avg(d) from {name}").open_reader(tunnel=True) as reader:
        assert [list(map(float, row)) for row in values(reader)] == [[4.0, 2.0]]


def test_grants_are_told(o: ODPS, name: str) -> None:
    o.create_table(name, "a bigint")
    assert "ak" in [user["ID"] for user in o.execute_security_query("list users")]
    for query in ("show grants", "show grants for ak", f"show acl for {name} on type table"):
        assert o.execute_security_query(query)["ACL"]
    if SINCE_0_13:
        assert list(o.list_models()) == []
