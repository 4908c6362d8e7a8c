"""``odps.maxstorage`` of both PyODPS versions: reading and writing in every mode each has."""

from __future__ import annotations

import base64
import datetime as dt
from typing import Any

import pyarrow as pa
import pytest
from data import DECLARATION, SCHEMA, rows
from odps import ODPS, errors
from odps.maxstorage import BlobWriteItem, MaxStorageClient, SplitMode, SplitOptions, WriteMode

from conftest import NEW, needs_new

if NEW:
    from odps.maxstorage import BatchCompatibleOptions

VERSIONS = ["2", "3"]


@pytest.fixture(params=VERSIONS)
def client(o: ODPS, request: pytest.FixtureRequest) -> Any:
    return MaxStorageClient(o, api_version=request.param)


@pytest.fixture
def client3(o: ODPS) -> Any:
    return MaxStorageClient(o, api_version="3")


def write(
    client: Any, table: str, batches: list[Any], partition: str | None = None, **more: Any
) -> Any:
    """One stream, closed and committed."""
    writer_options = more.pop("writer", {})
    session = client.create_table_write_session(table, partition_spec=partition, **more)
    with session.open_arrow_writer("s0", **writer_options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    session.commit()
    return session


def read(client: Any, table: str, reader: dict[str, Any] | None = None, **more: Any) -> pa.Table:
    session = client.create_table_read_session(table, **more)
    result = []
    for split in session.splits:
        with session.open_arrow_reader(split, **(reader or {})) as stream:
            result += list(stream)
    return pa.Table.from_batches(result) if result else pa.table({})


def same(result: pa.Table, expected: Any) -> None:
    if isinstance(expected, pa.RecordBatch):
        expected = pa.Table.from_batches([expected])
    assert result.column_names == expected.column_names
    assert result.num_rows == expected.num_rows
    for name in expected.column_names:
        assert result[name].type == expected[name].type, name
        assert result[name].to_pylist() == expected[name].to_pylist(), name


# --- tables ----------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [None, "zstd", "lz4"])
def test_every_type_there_and_back(client: Any, o: ODPS, name: str, algorithm: str | None) -> None:
    o.create_table(name, DECLARATION)
    batch = rows(100)
    options = {"compress_algo": algorithm} if algorithm else {}
    write(client, name, [batch], writer=options)
    same(read(client, name), batch)
    if algorithm:
        same(read(client, name, options), batch)


def test_no_rows(client: Any, o: ODPS, name: str) -> None:
    o.create_table(name, DECLARATION)
    session = client.create_table_read_session(name)
    assert session.record_count == 0
    assert read(client, name).num_rows == 0
    write(client, name, [rows(0)])
    assert read(client, name).num_rows == 0
    session = client.create_table_write_session(name)
    session.commit()
    with client.preview_table(name) as preview:
        assert list(preview) == []


def test_several_batches_streams_and_flushes(client: Any, o: ODPS, name: str) -> None:
    o.create_table(name, DECLARATION)
    session = client.create_table_write_session(name)
    for stream in range(3):
        with session.open_arrow_writer(str(stream)) as writer:
            for part in range(4):
                writer.write_batch(rows(10, stream * 100 + part * 10))
                if part == 1:
                    writer.flush()
    session.commit()
    result = read(client, name)
    assert result.num_rows == 120
    wanted = sorted(n for s in range(3) for n in range(s * 100, s * 100 + 40) if n % 7 != 6)
    assert sorted(n for n in result["a"].to_pylist() if n is not None) == wanted


def test_columns_in_another_order_and_missing_ones(client: Any, o: ODPS, name: str) -> None:
    o.create_table(name, "a bigint, b string, c double")
    batch = pa.record_batch({"C": pa.array([1.5]), "a": pa.array([1])})
    write(client, name, [batch])
    assert read(client, name).to_pylist() == [{"a": 1, "b": None, "c": 1.5}]


def test_record_writer_and_reader(client: Any, o: ODPS, name: str) -> None:
    table = o.create_table(
        name, "a bigint, b string, c double, d datetime, e array<string>, f decimal(10,2)"
    )
    session = client.create_table_write_session(table)
    moment = dt.datetime.fromisoformat("2024-05-06T07:08:09")
    with session.open_arrow_writer("r") as writer:
        records = writer.get_as_record_writer()
        records.write([1, "x", 1.5, moment, ["p", None], None])
        records.write([None, None, None, None, None, None])
        records.close()
    session.commit()
    reading = client.create_table_read_session(table)
    with reading.open_arrow_reader(reading.splits[0]) as reader:
        result = [list(record.values) for record in reader.get_as_record_reader()]
    assert result[0][:3] == [1, "x", 1.5]
    assert result[0][3].replace(tzinfo=None) == moment
    assert result[0][4] == ["p", None]
    assert result[1] == [None] * 6


# --- splits ----------------------------------------------------------------------------------


def test_size_splits_cover_every_row_once(client: Any, o: ODPS, name: str) -> None:
    o.create_table(name, DECLARATION)
    write(client, name, [rows(500, n * 500) for n in range(6)])
    options = SplitOptions(split_mode=SplitMode.SIZE, split_number=50_000)
    session = client.create_table_read_session(name, split_options=options)
    assert len(session.splits) > 1
    result = read(client, name, split_options=options)
    assert sorted(result["i"].drop_null().to_pylist()) == sorted(
        -n for n in range(3000) if n % 7 != 6
    )


def test_row_offset_splits_skip_and_batches(client: Any, o: ODPS, name: str) -> None:
    o.create_table(name, "n bigint")
    write(client, name, [pa.record_batch({"n": pa.array(range(k, k + 700))}) for k in (0, 700)])
    options = SplitOptions(split_mode=SplitMode.ROW_OFFSET, split_number=333)
    session = client.create_table_read_session(name, split_options=options)
    assert session.record_count == 1400
    assert [split.length for split in session.splits] == [333, 333, 333, 333, 68]
    parts = []
    for split in session.splits:
        with session.open_arrow_reader(split, max_batch_rows=100) as reader:
            batches = list(reader)
        assert max(batch.num_rows for batch in batches) <= 100
        parts += [n for batch in batches for n in batch.column(0).to_pylist()]
    assert parts == list(range(1400))
    with session.open_arrow_reader(session.splits[0], skip_row_num=300) as reader:
        assert [n for b in reader for n in b.column(0).to_pylist()] == list(range(300, 333))


def test_a_read_session_is_a_snapshot_and_can_be_reopened(client: Any, o: ODPS, name: str) -> None:
    o.create_table(name, "n bigint")
    write(client, name, [pa.record_batch({"n": [1]})])
    session = client.create_table_read_session(name)
    write(client, name, [pa.record_batch({"n": [2]})])
    again = client.create_table_read_session(name, session_id=session.id)
    assert again.record_count == 1
    with again.open_arrow_reader(again.splits[0]) as reader:
        assert [b.to_pylist() for b in reader] == [[{"n": 1}]]
    assert sorted(read(client, name)["n"].to_pylist()) == [1, 2]


def test_column_choice(client: Any, o: ODPS, name: str) -> None:
    o.create_table(name, ("a bigint, b string, c double", "pt string"))
    batch = pa.record_batch({"a": [1], "b": ["x"], "c": [0.5]})
    write(client, name, [batch], "pt=1")
    assert read(client, name).column_names == ["a", "b", "c", "pt"]
    assert read(client, name, columns=["c", "a"]).column_names == ["a", "c"]
    assert read(client, name, partition_columns=["pt"]).to_pylist() == [{"pt": "1"}]
    assert read(client, name, columns=["b"], partition_columns=["pt"]).column_names == ["b", "pt"]
    narrowed = read(client, name, {"data_columns": ["c", "a"], "data_columns_unordered": True})
    assert narrowed.column_names == ["c", "a"]
    with pytest.raises(errors.InvalidArgument) as caught:
        client.create_table_read_session(name, columns=["absent"])
    assert caught.value.request_id


def test_timestamps_in_the_unit_asked_for(client: Any, o: ODPS, name: str) -> None:
    o.create_table(name, "t timestamp, d datetime")
    moment = dt.datetime.fromisoformat("2024-01-01")
    batch = pa.record_batch(
        {"t": pa.array([moment], pa.timestamp("ns")), "d": pa.array([moment], pa.timestamp("ms"))}
    )
    write(client, name, [batch])
    result = read(client, name, arrow_options={"TimestampUnit": "micro", "DatetimeUnit": "second"})
    assert result.schema.types == [pa.timestamp("us"), pa.timestamp("s")]
    assert result.to_pylist() == [{"t": moment, "d": moment}]


# --- partitions ------------------------------------------------------------------------------


def test_static_and_dynamic_partitions_and_overwrite(client: Any, o: ODPS, name: str) -> None:
    table = o.create_table(name, ("a bigint", "p string, q string"))
    write(client, name, [pa.record_batch({"a": [1]})], "p=x,q=1")
    write(client, name, [pa.record_batch({"a": [2, 3], "q": ["1", "2"]})], "p=y")
    write(client, name, [pa.record_batch({"a": [4, 5], "p": ["x", "z"], "q": ["2", "2"]})])
    assert sorted(str(part) for part in table.partitions) == sorted(
        ["p='x',q='1'", "p='x',q='2'", "p='y',q='1'", "p='y',q='2'", "p='z',q='2'"]
    )

    def values(partition: str) -> list[int]:
        result = read(client, name, partitions=[partition])
        return sorted(result["a"].to_pylist()) if result.num_rows else []

    assert values("p=x") == [1, 4]
    assert values("p=y/q=2") == [3]
    write(client, name, [pa.record_batch({"a": [9]})], "p=x,q=1", overwrite=True)
    assert values("p=x,q=1") == [9]
    write(client, name, [pa.record_batch({"a": [7], "q": ["2"]})], "p=y", overwrite=True)
    assert values("p=y") == [2, 7]
    assert sorted(read(client, name)["a"].to_pylist()) == [2, 4, 5, 7, 9]
    with pytest.raises(errors.NoSuchObject):
        client.create_table_read_session(name, partitions=["p=nowhere,q=1"])


def test_preview(client: Any, o: ODPS, name: str) -> None:
    o.create_table(name, ("a bigint, b string", "pt string"))
    for pt in ("1", "2"):
        batch = pa.record_batch({"a": range(20), "b": ["x"] * 20})
        write(client, name, [batch], f"pt={pt}")
    with client.preview_table(name, limit=15) as reader:
        first = reader.read()
    assert first.num_rows == 15
    assert first.schema.names == ["a", "b", "pt"]
    with client.preview_table(name, partition_spec="pt=2", columns=["a"], limit=3) as reader:
        assert [b.to_pylist() for b in reader] == [[{"a": 0}, {"a": 1}, {"a": 2}]]
    with client.preview_table(name, partition_spec="pt=none") as reader:
        assert list(reader) == []


def test_filters(client: Any, o: ODPS, name: str) -> None:
    o.create_table(name, ("a bigint, b string, `odd name` double", "pt string"))
    for pt in ("1", "2"):
        batch = pa.record_batch(
            {"a": [1, 2, 3, None], "b": ["x", "y", None, "xy"], "odd name": [0.5, None, 1.5, 2.5]}
        )
        write(client, name, [batch], f"pt={pt}")

    def chosen(predicate: str) -> list[Any]:
        result = read(client, name, filter_predicate=predicate)
        return result.to_pylist() if result.num_rows else []

    assert [row["a"] for row in chosen("`a` > 1 and pt = '2'")] == [2, 3]
    assert len(chosen("(`a` = 1) or (`b` is null)")) == 4
    assert len(chosen("`a` in (1, 2) and not (`b` = 'y')")) == 2
    assert [row["b"] for row in chosen("b like 'x%' and pt = '1'")] == ["x", "xy"]
    assert len(chosen("`odd name` between 1 and 3")) == 4
    assert chosen("a > 1000") == []
    with pytest.raises(errors.InvalidArgument):
        chosen("absent = 1")
    with pytest.raises(errors.ODPSError):
        chosen("a >>> 1")
    everything = read(client, name, filter_predicate="weird(a)", filter_predicate_fallback=True)
    assert everything.num_rows == 8


# --- sessions --------------------------------------------------------------------------------


def test_abort_leaves_nothing(client: Any, o: ODPS, name: str) -> None:
    o.create_table(name, "a bigint")
    session = client.create_table_write_session(name)
    with session.open_arrow_writer("s") as writer:
        writer.write_batch(pa.record_batch({"a": [1]}))
    session.abort()
    assert read(client, name).num_rows == 0
    with pytest.raises(errors.NoSuchObject):
        client.create_table_write_session(name, session_id=session.id)


def test_versions_of_a_stream(client: Any, o: ODPS, name: str) -> None:
    o.create_table(name, "a bigint")
    session = client.create_table_write_session(name)
    for version in (1, 2):
        with session.open_arrow_writer("s", version) as writer:
            writer.write_batch(pa.record_batch({"a": [version]}))
    left_open = session.open_arrow_writer("unclosed")
    left_open.write_batch(pa.record_batch({"a": [99]}))
    left_open.flush()
    again = client.create_table_write_session(name, session_id=session.id)
    again.commit()
    assert read(client, name)["a"].to_pylist() == [2]


def test_commit_of_chosen_streams(client: Any, o: ODPS, name: str) -> None:
    o.create_table(name, "a bigint")
    session = client.create_table_write_session(name)
    for stream in ("x", "y"):
        with session.open_arrow_writer(stream) as writer:
            writer.write_batch(pa.record_batch({"a": [ord(stream)]}))
    session.commit(["y"], [1])
    assert read(client, name)["a"].to_pylist() == [ord("y")]


def test_a_table_that_is_not_there(client: Any, name: str) -> None:
    for attempt in (client.create_table_read_session, client.create_table_write_session):
        with pytest.raises(errors.NoSuchTable) as caught:
            attempt(name)
        assert caught.value.request_id
        assert caught.value.status_code == 404


def test_data_that_does_not_fit(client: Any, o: ODPS, name: str) -> None:
    o.create_table(name, "a bigint not null")
    session = client.create_table_write_session(name)
    writer = session.open_arrow_writer("s")
    writer.write_batch(pa.record_batch({"a": ["text"]}))
    with pytest.raises(errors.ODPSError) as caught:
        writer.close()
    assert caught.value.status_code == 400


# --- streaming -------------------------------------------------------------------------------


def test_streaming_is_visible_at_once(client: Any, o: ODPS, name: str) -> None:
    o.create_table(name, "a bigint")
    session = client.create_table_write_session(name, write_mode=WriteMode.STREAMING)
    with session.open_arrow_writer("w") as writer:
        writer.write_batch(pa.record_batch({"a": [1]}))
        writer.flush()
        assert read(client, name)["a"].to_pylist() == [1]
        writer.write_batch(pa.record_batch({"a": [2]}))
    assert sorted(read(client, name)["a"].to_pylist()) == [1, 2]
    if client.api_version == "3":
        assert writer.get_last_staging_id() is not None
        assert session.get_min_uncommitted_staging_id() is None


def test_exactly_once(client3: Any, o: ODPS, name: str) -> None:
    o.create_table(name, "a bigint")
    session = client3.create_table_write_session(name, write_mode=WriteMode.STREAMING)
    writer = session.open_arrow_writer("eo", exactly_once_mode=True)
    writer.write_batch(pa.record_batch({"a": [0, 1, 2]}))
    writer.flush()
    assert writer.get_row_offset() == 3
    # the same rows again are told apart and not appended
    writer.set_row_offset(0)
    writer.write_batch(pa.record_batch({"a": [0, 1, 2]}))
    writer.flush()
    assert sorted(read(client3, name)["a"].to_pylist()) == [0, 1, 2]
    writer.set_row_offset(10)
    writer.write_batch(pa.record_batch({"a": [10]}))
    with pytest.raises(errors.InvalidArgument) as caught:
        writer.flush()
    assert caught.value.status_code == 409
    resumed = session.open_arrow_writer("eo", exactly_once_mode=True, resume=True)
    assert resumed.get_row_offset() == 3
    resumed.write_batch(pa.record_batch({"a": [3]}))
    resumed.close()
    assert sorted(read(client3, name)["a"].to_pylist()) == [0, 1, 2, 3]


# --- block mode ------------------------------------------------------------------------------


@needs_new
@pytest.mark.parametrize("algorithm", [None, "zstd"])
def test_block_mode(client: Any, o: ODPS, name: str, algorithm: str | None) -> None:
    o.create_table(name, ("a bigint, b string", "pt string"))
    session = client.create_table_write_session(
        name,
        partition_spec="pt=1",
        write_mode=WriteMode.BATCH_COMPATIBLE,
        batch_compatible_options=BatchCompatibleOptions(enhance_write_check=True),
    )
    results = []
    for block in range(3):
        writer = session.open_block_writer(block, 0, compress_algo=algorithm)
        assert writer.schema.names == ["a", "b"]
        writer.write_batch(pa.table({"a": [block, block + 10], "b": ["x", None]}))
        results.append(writer.commit())
    assert [result.record_count for result in results] == [2, 2, 2]
    session.commit(block_results=results)
    actual = read(client, name)
    assert sorted(actual["a"].to_pylist()) == [0, 1, 2, 10, 11, 12]
    assert set(actual["pt"].to_pylist()) == {"1"}


@needs_new
def test_block_mode_overwrites_aborts_and_takes_nothing(client: Any, o: ODPS, name: str) -> None:
    o.create_table(name, "a bigint")
    write(client, name, [pa.record_batch({"a": [1]})])
    session = client.create_table_write_session(
        name, overwrite=True, write_mode=WriteMode.BATCH_COMPATIBLE
    )
    writer = session.open_block_writer(0, 0)
    writer.write_batch(pa.table({"a": [5]}))
    result = writer.commit()
    retried = session.open_block_writer(0, 1)
    retried.write_batch(pa.table({"a": [6]}))
    retried.commit()
    session.commit(block_results=[result])
    assert read(client, name)["a"].to_pylist() == [5]
    aborted = client.create_table_write_session(name, write_mode=WriteMode.BATCH_COMPATIBLE)
    writer = aborted.open_block_writer(0, 0)
    writer.write_batch(pa.table({"a": [7]}))
    writer.commit()
    aborted.abort()
    assert read(client, name)["a"].to_pylist() == [5]
    empty = client.create_table_write_session(name, write_mode=WriteMode.BATCH_COMPATIBLE)
    empty.commit(block_results=[])
    assert read(client, name)["a"].to_pylist() == [5]


# --- blobs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [None, "zstd", "lz4"])
def test_single_and_batch_blobs(client: Any, o: ODPS, name: str, algorithm: str | None) -> None:
    o.create_table(name, ("a bigint, b blob", "pt string"))
    session = client.create_table_write_session(name, partition_spec="pt=1")
    big = bytes(range(256)) * 4000
    compressed = {"compress_algo": algorithm} if algorithm else {}
    with session.open_arrow_writer("0") as writer:
        upload = writer.write_blob_stream(column_name="b", partition_spec="pt=1", **compressed)
        for start in range(0, len(big), 100_000):
            upload.write(big[start : start + 100_000])
        single = upload.finish()
        assert single.size == len(big)
        items = [
            writer.build_blob_write_item(
                data=data, column_name="b", partition_spec="pt=1", mime_type="text/plain"
            )
            for data in (b"one", b"", b"three" * 1000)
        ]
        batch = writer.write_blob_batch(items, **compressed)
        cells = [single.blob_reference, *batch.blob_references]
        writer.write_batch(
            pa.record_batch({"a": pa.array(range(5)), "b": pa.array([*cells, None], pa.binary())})
        )
    session.commit()
    result = read(client, name).sort_by("a")
    stored = result["b"].to_pylist()
    assert stored[4] is None
    manager = client.open_blob_manager(name)
    expected = [big, b"one", b"", b"three" * 1000]
    for options in ({}, compressed):
        assert [record.data for record in manager.read_blobs(stored[:4], **options)] == expected
        assert manager.read_blob(stored[0], **options).read() == big
        assert manager.read_blob(stored[3], **options).read() == expected[3]
    records = list(manager.read_blobs([stored[1], stored[1]]))
    assert [record.mime_type for record in records] == ["text/plain", "text/plain"]
    stream = manager.read_blobs([stored[3], stored[0]], stream=True)
    assert stream.read(7) == b"threeth"
    assert stream.read() == expected[3][7:]
    second = stream.next()
    assert second.read() == big
    assert second.next() is None
    with pytest.raises(errors.NoSuchObject):
        manager.read_blob("bm90IGEgcmVmZXJlbmNl")


def test_blobs_uploaded_with_their_rows(client3: Any, o: ODPS, name: str) -> None:
    o.create_table(name, "a bigint, b blob")
    session = client3.create_table_write_session(name)
    with session.open_arrow_writer(
        "0",
        auto_upload_blobs=True,
        blob_mime_type="image/png",
        blob_custom_file_name="p.png",
        blob_checksum_type=BlobWriteItem.ChecksumType.CRC32,
    ) as writer:
        writer.write_batch(
            pa.record_batch({"a": [0, 1, 2], "b": pa.array([b"x", None, b"y" * 5000], pa.binary())})
        )
        writer.write_batch(pa.record_batch({"a": [3], "b": pa.array([None], pa.binary())}))
    session.commit()
    result = read(client3, name).sort_by("a")["b"].to_pylist()
    assert result[1] is None
    assert result[3] is None
    records = list(client3.open_blob_manager(name).read_blobs([result[0], result[2]]))
    assert [record.data for record in records] == [b"x", b"y" * 5000]
    assert [record.mime_type for record in records] == ["image/png"] * 2
    assert [record.custom_file_name for record in records] == ["p.png"] * 2


def test_nested_blobs_by_records(client3: Any, o: ODPS, name: str) -> None:
    # (a struct in the table makes the record writer of 0.13.2 fail by itself)
    o.create_table(name, "a bigint, l array<blob>, m map<string,blob>")
    session = client3.create_table_write_session(name)
    with session.open_arrow_writer("0", auto_upload_blobs=True) as writer:
        records = writer.get_as_record_writer()
        records.write([1, [b"l0", None, b"l2"], {"k": b"mb"}])
        records.write([2, None, None])
        records.close()
    session.commit()
    result = read(client3, name).sort_by("a").to_pylist()
    assert result[1]["l"] is None
    manager = client3.open_blob_manager(name)
    references = [result[0]["l"][0], result[0]["l"][2], dict(result[0]["m"])["k"]]
    assert [record.data for record in manager.read_blobs(references)] == [b"l0", b"l2", b"mb"]
    assert result[0]["l"][1] is None


def test_blobs_by_the_manager_alone(client: Any, o: ODPS, name: str) -> None:
    o.create_table(name, "a bigint, b blob")
    session = client.create_table_write_session(name)
    manager = client.open_blob_manager(name)
    upload = manager.write_blob_stream(session.id, "m", column_name="b")
    upload.write(b"standalone")
    reference = upload.finish().blob_reference_b64
    assert manager.read_blob(reference).read() == b"standalone"
    items = [manager.build_blob_write_item(b"x", session.id, column_name="b")]
    batch = manager.write_blob_batch(items, session.id, "m")
    assert manager.read_blob(base64.b64encode(batch.blob_references[0])).read() == b"x"


# --- instances -------------------------------------------------------------------------------


def test_results_of_queries(client: Any, o: ODPS, name: str) -> None:
    o.create_table(name, ("a bigint, b string", "pt string"))
    write(client, name, [pa.record_batch({"a": range(10), "b": ["x"] * 10})], "pt=1")
    instance = o.execute_sql(f"select b, a from {name} where a >= 4 and pt = '1' limit 4")
    session = client.create_instance_read_session(instance)
    assert session.record_count == 4
    with session.open_arrow_reader() as reader:
        result = [row for batch in reader for row in batch.to_pylist()]
    assert result == [{"b": "x", "a": n} for n in range(4, 8)]
    with session.open_arrow_reader(offset=1, count=2) as reader:
        assert [row["a"] for batch in reader for row in batch.to_pylist()] == [5, 6]
    everything = client.create_instance_read_session(o.execute_sql(f"select * from {name}"))
    assert everything.record_count == 10
    with everything.open_arrow_reader(offset=8) as reader:
        assert [row["a"] for batch in reader for row in batch.to_pylist()] == [8, 9]
    again = client.create_instance_read_session(instance, session_id=session.id)
    assert again.record_count == 4


def test_tables_in_schemas(o: ODPS, name: str) -> None:
    from odps import options

    options.enable_schema = True
    try:
        o.create_schema(f"s_{name}")
        table = o.create_table(name, "a bigint", schema=f"s_{name}")
        client = MaxStorageClient(o)
        write(client, table, [pa.record_batch({"a": [1]})])
        assert read(client, table)["a"].to_pylist() == [1]
    finally:
        options.enable_schema = False


def test_the_schema_of_a_session(client: Any, o: ODPS, name: str) -> None:
    o.create_table(name, DECLARATION)
    session = client.create_table_read_session(name)
    assert [column.name for column in session.table_schema.columns] == SCHEMA.names
    assert session.arrow_schema.names == SCHEMA.names


# --- tables with a primary key ---------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_are_put_and_taken_by_key(client3: Any, o: ODPS, name: str, streaming: bool) -> None:
    o.create_table(name, "id bigint not null, v string not null, n bigint", primary_key=["id"])
    options = {"write_mode": WriteMode.STREAMING} if streaming else {}
    for round_ in range(2):
        session = client3.create_table_write_session(name, **options)
        arrow = session.open_arrow_writer(f"s{round_}")
        with arrow.get_as_record_writer() as writer:
            writer.write([1, "one", round_])
            writer.write([2, "two", round_])
            writer.write([2, "two again", round_ + 10])
            writer.write([3, "three", round_])
            writer.delete([3, None, None])
            writer.delete([99, None, None])
            writer.delete([4, None, None])
            writer.write([4, "four", round_])
        if not streaming:
            session.commit()
    result = sorted(read(client3, name).to_pylist(), key=lambda row: row["id"])
    assert result == [
        {"id": 1, "v": "one", "n": 1},
        {"id": 2, "v": "two again", "n": 11},
        {"id": 4, "v": "four", "n": 1},
    ]
    with o.get_table(name).open_reader() as reader:
        assert len(list(reader)) == 3
