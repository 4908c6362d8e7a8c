"""``odps.apis.storage_api_v2`` of PyODPS 0.13.1: reading and writing in every mode it has."""

from __future__ import annotations

import base64
import warnings
from typing import Any

import pyarrow as pa
import pytest
from data import DECLARATION, SCHEMA, rows
from odps import ODPS, errors

from conftest import NEW, needs_old

pytestmark = needs_old

if not NEW:
    from odps.apis.storage_api_v2 import (
        ArrowOptions,
        ArrowReader,
        ArrowWriter,
        BlobWriteItem,
        Compression,
        SessionStatus,
        SplitOptions,
        StorageApiArrowClient,
        StorageApiClient,
        WriteMode,
    )

VERSIONS = ["2", "3"]


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def open_client(o: ODPS, table: Any, version: str, kind: Any = None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (kind or StorageApiArrowClient)(o, table, api_version=version)


def write(
    client: Any,
    batches: list[Any],
    partition: str = "",
    *,
    stream: str = "0",
    compression: Any = None,
    **more: Any,
) -> str:
    session = client.create_write_session(partial_partition_spec=partition, **more)
    session_id: str = session.session_id
    client.create_write_stream(session_id, stream_id=stream, stream_version=1)
    options = {} if compression is None else {"compression": compression}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        writer = client.write_rows_arrow(
            session_id,
            stream_id=stream,
            stream_version=1,
            record_count=sum(batch.num_rows for batch in batches),
            **options,
        )
        for batch in batches:
            writer.write(batch)
        _, succeeded = writer.finish()
    assert succeeded
    client.close_write_stream(session_id, stream_id=stream, stream_version=1)
    client.commit_write_session(session_id)
    return session_id


def drain(reader: Any) -> pa.Table:
    result = []
    while (batch := reader.read()) is not None:
        result.append(batch)
    return pa.Table.from_batches(result) if result else pa.table({})


def read(client: Any, compression: Any = None, **more: Any) -> pa.Table:
    session = client.create_read_session(**more)
    parts = []
    for split in range(session.splits_count):
        options = {} if compression is None else {"compression": compression}
        parts.append(
            drain(client.read_rows_arrow(session.session_id, split_index=split, **options))
        )
    parts = [part for part in parts if part.num_rows]
    return pa.concat_tables(parts) if parts else pa.table({})


def same(result: pa.Table, expected: pa.RecordBatch) -> None:
    assert result.column_names == expected.schema.names
    for name in result.column_names:
        assert result[name].type == expected.schema.field(name).type, name
        assert result[name].to_pylist() == expected.column(name).to_pylist(), name


@pytest.mark.parametrize("algorithm", [None, "ZSTD", "LZ4_FRAME"])
def test_every_type_there_and_back(o: ODPS, name: str, version: str, algorithm: str | None) -> None:
    client = open_client(o, o.create_table(name, DECLARATION), version)
    compression = None if algorithm is None else Compression[algorithm]
    batch = rows(100)
    write(client, [batch], compression=compression)
    same(read(client), batch)
    same(read(client, compression), batch)


def test_no_rows(o: ODPS, name: str, version: str) -> None:
    client = open_client(o, o.create_table(name, DECLARATION), version)
    assert read(client).num_rows == 0
    session = client.create_write_session()
    client.commit_write_session(session.session_id)
    assert read(client).num_rows == 0


def test_row_counts_are_advisory(o: ODPS, name: str, version: str) -> None:
    client = open_client(o, o.create_table(name, "a bigint"), version)
    session_id = client.create_write_session().session_id
    client.create_write_stream(session_id, stream_id="s", stream_version=1)
    writer = client.write_rows_arrow(session_id, stream_id="s", stream_version=1, record_count=1)
    writer.write(pa.record_batch({"a": range(50)}))
    assert writer.finish()[1]
    client.close_write_stream(session_id, stream_id="s", stream_version=1)
    client.commit_write_session(session_id)
    assert read(client).num_rows == 50


def test_splits_by_size_and_by_rows(o: ODPS, name: str, version: str) -> None:
    client = open_client(o, o.create_table(name, DECLARATION), version)
    write(client, [rows(500, n * 500) for n in range(4)])
    options = SplitOptions()
    options.split_number = 50_000
    session = client.create_read_session(split_options=options)
    assert session.session_status in {SessionStatus.INIT, SessionStatus.NORMAL}
    assert session.splits_count > 1
    result = read(client, split_options=options)
    assert result.num_rows == 2000
    options.split_mode = SplitOptions.SplitMode.ROW_OFFSET
    session = client.create_read_session(split_options=options)
    assert session.record_count == 2000
    reader = client.read_rows_arrow(
        session.session_id, row_offset=700, row_count=600, max_batch_rows=100
    )
    part = drain(reader)
    assert part.num_rows == 600
    refreshed = client.get_read_session(session.session_id, refresh=True)
    assert refreshed.session_status == SessionStatus.NORMAL
    assert refreshed.record_count == 2000


def test_partitions_and_overwrite(o: ODPS, name: str, version: str) -> None:
    table = o.create_table(name, ("a bigint", "p string, q string"))
    client = open_client(o, table, version)
    write(client, [pa.record_batch({"a": [1]})], "p=x,q=1")
    write(client, [pa.record_batch({"a": [2, 3], "q": ["1", "2"]})], "p=y")
    write(client, [pa.record_batch({"a": [4], "p": ["z"], "q": ["1"]})])
    assert len(list(table.partitions)) == 4
    assert sorted(read(client)["a"].to_pylist()) == [1, 2, 3, 4]
    assert read(client, required_partitions=["p=y,q=2"])["a"].to_pylist() == [3]
    write(client, [pa.record_batch({"a": [9]})], "p=x,q=1", flags={"overwrite": "true"})
    assert read(client, required_partitions=["p=x"])["a"].to_pylist() == [9]
    assert read(client, required_partition_columns=["p"]).column_names == ["p"]
    assert read(client, required_data_columns=["a"]).column_names == ["a"]


def test_preview(o: ODPS, name: str, version: str) -> None:
    client = open_client(o, o.create_table(name, ("a bigint, b string", "pt string")), version)
    write(client, [pa.record_batch({"a": range(20), "b": ["x"] * 20})], "pt=1")
    first = client.preview_table_arrow(limit=15).read()
    assert first.num_rows == 15
    assert first.schema.names == ["a", "b", "pt"]
    narrowed = drain(client.preview_table_arrow(limit=2, partition="pt=1", columns=["b"]))
    assert narrowed.to_pylist() == [{"b": "x"}] * 2


def test_abort_versions_and_lists(o: ODPS, name: str, version: str) -> None:
    client = open_client(o, o.create_table(name, "a bigint"), version)
    aborted = client.create_write_session().session_id
    client.abort_write_session(aborted)
    client.abort_write_session(aborted)
    with pytest.raises(errors.ODPSError):
        client.create_write_stream(aborted, stream_id="s", stream_version=1)
    session_id = client.create_write_session().session_id
    for stream, number in (("s", 1), ("s", 2), ("t", 1)):
        client.create_write_stream(session_id, stream_id=stream, stream_version=number)
        writer = client.write_rows_arrow(
            session_id, stream_id=stream, stream_version=number, record_count=1
        )
        writer.write(pa.record_batch({"a": [number * 10 + ord(stream)]}))
        assert writer.finish()[1]
        client.close_write_stream(session_id, stream_id=stream, stream_version=number)
    assert client.get_write_session(session_id).streams == {"s": 2, "t": 1}
    client.commit_write_session(session_id, stream_ids=["s"], stream_versions=[2])
    assert read(client)["a"].to_pylist() == [20 + ord("s")]
    client.commit_write_session(session_id, stream_ids=["s"], stream_versions=[2])


def test_a_raw_stream_of_bytes(o: ODPS, name: str, version: str) -> None:
    table = o.create_table(name, "a bigint")
    client = open_client(o, table, version, StorageApiClient)
    session_id = client.create_write_session().session_id
    client.create_write_stream(session_id, stream_id="s", stream_version=1)
    writer = client.write_rows_stream(session_id, stream_id="s", stream_version=1, record_count=3)
    arrow = ArrowWriter(writer, Compression.UNCOMPRESSED)
    arrow.write(pa.record_batch({"a": [1, 2, 3]}))
    assert arrow.finish()[1]
    status = client.get_write_stream(session_id, stream_id="s", stream_version=1)
    assert status.record_count == 3
    client.close_write_stream(session_id, stream_id="s", stream_version=1)
    client.commit_write_session(session_id)
    session = client.create_read_session()
    reader = client.read_rows_stream(session.session_id, split_index=0)
    assert drain(ArrowReader(reader))["a"].to_pylist() == [1, 2, 3]
    assert reader.get_request_id()


def test_units_of_timestamps(o: ODPS, name: str, version: str) -> None:
    client = open_client(o, o.create_table(name, "t timestamp"), version)
    write(client, [pa.record_batch({"t": pa.array([1_000_000_000], pa.timestamp("ns"))})])
    options = ArrowOptions()
    options.timestamp_unit = ArrowOptions.TimestampUnit.MILLI
    result = read(client, arrow_options=options)
    assert result.schema.types == [pa.timestamp("ms")]


def test_streaming(o: ODPS, name: str) -> None:
    client = open_client(o, o.create_table(name, "a bigint"), "3")
    session_id = client.create_write_session(write_mode=WriteMode.STREAMING).session_id
    client.create_write_stream(session_id, stream_id="1", stream_version=0)
    writer = client.write_rows_arrow(session_id, stream_id="1", stream_version=0, record_count=1)
    writer.write(pa.record_batch({"a": [5]}))
    assert writer.finish()[1]
    assert read(client)["a"].to_pylist() == [5]
    assert client.get_min_uncommitted_staging_id(session_id) is None


@pytest.mark.parametrize("algorithm", [None, "ZSTD", "LZ4_FRAME"])
def test_blobs(o: ODPS, name: str, version: str, algorithm: str | None) -> None:
    client = open_client(o, o.create_table(name, ("a bigint, b blob", "pt string")), version)
    session_id = client.create_write_session(partial_partition_spec="pt=1").session_id
    client.create_write_stream(session_id, stream_id="s", stream_version=1)
    compression = None if algorithm is None else Compression[algorithm]
    upload = client.write_blob_stream(
        session_id,
        stream_id="s",
        stream_version=1,
        partition_values=["pt=1"],
        column_index=2,
        compression=compression,
    )
    big = b"\xff" * 300_000
    upload.write(big)
    single = upload.finish()
    items = [
        BlobWriteItem(data=data, partition_values=["pt=1"], column_index=2, mime_type="text/plain")
        for data in (b"one" * 10, b"")
    ]
    batch = client.write_blob_batch(items, session_id, stream_id="s", stream_version=1)
    texts = [single.blob_reference, *batch.blob_references]
    cells = [base64.b64decode(text) if isinstance(text, str) else text for text in texts]
    writer = client.write_rows_arrow(session_id, stream_id="s", stream_version=1, record_count=3)
    writer.write(pa.record_batch({"a": range(3), "b": pa.array(cells, pa.binary())}))
    assert writer.finish()[1]
    client.close_write_stream(session_id, stream_id="s", stream_version=1)
    client.commit_write_session(session_id)
    stored = [text.decode() for text in read(client).sort_by("a")["b"].to_pylist()]
    records = list(client.read_blobs(stored))
    assert [record.data for record in records] == [big, b"one" * 10, b""]
    assert [record.mime_type for record in records][1] == "text/plain"


def test_results_of_queries(o: ODPS, name: str, version: str) -> None:
    table = o.create_table(name, "a bigint, b string")
    write(open_client(o, table, version), [pa.record_batch({"a": range(4), "b": ["x"] * 4})])
    instance = o.execute_sql(f"select a from {name} where a > 0")
    client = open_client(o, instance, version)
    session = client.create_read_session()
    assert session.record_count == 3
    result = drain(client.read_rows_arrow(session.session_id))
    assert result.to_pylist() == [{"a": 1}, {"a": 2}, {"a": 3}]
    assert client.get_read_session(session.session_id).record_count == 3


def test_errors(o: ODPS, name: str, version: str) -> None:
    client = open_client(o, o.get_table(name), version)
    with pytest.raises(errors.NoSuchTable) as caught:
        client.create_read_session()
    assert caught.value.request_id
    client = open_client(o, o.create_table(name, "a bigint"), version)
    with pytest.raises(errors.NoSuchObject):
        client.get_read_session("absent")
    with pytest.raises(errors.InvalidArgument):
        client.create_read_session(required_data_columns=["absent"])
    assert client.create_read_session().data_schema is not None
    assert SCHEMA.names
