"""Incremental reads in the protocol's form, asked for by PyODPS and word by word."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.client import Client, Table
from fletching.errors import InvalidArgumentError, InvalidParameterError, VersionNotFoundError
from fletching.protocol.messages.requests import CreateReadSession, IncrementalOptions, ReadTable
from fletching.protocol.messages.responses import ReadSession
from fletching.types import PartitionSpec

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("v", pa.string())])
OPERATIONS = {2: "insert", 4: "delete", 16: "update_preimage", 32: "update_postimage"}


def rows(*ids: int, v: str = "a") -> pa.Table:
    return pa.table({"id": list(ids), "v": [v] * len(ids)}, SCHEMA)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with fletching.connect(tmp_path / "data", create=True) as client:
        table = client.create_table("t", SCHEMA, primary_key=["id"])
        table.append(rows(1, 2, 3))
        table.upsert(rows(2, 4, v="b"))
        table.delete_keys({"id": [1]})
        table.compact(purge=True)
    return tmp_path / "data"


@pytest.fixture
def client(folder: Path) -> Iterator[Client]:
    with fletching.connect(folder) as opened:
        yield opened


def read(table: Table, options: IncrementalOptions | None, **more: Any) -> pa.Table:
    transport: Any = table.channel.transport
    request = CreateReadSession(
        table=table.full_name, incremental=True, incremental_options=options, **more
    )
    session = transport.engine.call(request)
    assert isinstance(session, ReadSession)
    batches: list[pa.RecordBatch] = []
    for index in range(session.splits_count):
        plan = transport.engine.read(
            ReadTable(table=table.full_name, session_id=session.session_id, index=index)
        )
        batches += plan.batches()
    result = pa.Table.from_batches(batches, plan.schema) if batches else pa.table({})
    assert result.num_rows == session.record_count
    return result


def test_changes_say_what_became_of_each_row(client: Client) -> None:
    table = client.table("t")
    result = read(table, IncrementalOptions(mode="cdc", begin=0, end=3))
    assert result.schema.names == ["id", "v", "__meta_op_type"]
    assert result.schema.field("__meta_op_type").type == pa.int8()
    ours = table.changes(0, 3).to_table()
    assert result["id"].to_pylist() == ours["id"].to_pylist()
    kinds = [OPERATIONS[code] for code in result["__meta_op_type"].to_pylist()]
    assert kinds == ours["_change_type"].to_pylist()
    assert set(kinds) == set(OPERATIONS.values())


def test_what_was_appended_is_what_came(client: Client) -> None:
    table = client.table("t")
    result = read(table, IncrementalOptions(begin=1))
    assert result.schema.names == ["id", "v"]
    assert sorted(result["id"].to_pylist()) == [2, 4]
    assert set(result["v"].to_pylist()) == {"b"}
    assert read(table, IncrementalOptions(mode="append", begin=2)).num_rows == 0


@pytest.mark.parametrize("mode", ["append", "cdc"])
def test_columns_and_partitions_can_be_chosen(tmp_path: Path, mode: str) -> None:
    with fletching.connect(tmp_path / "parts", create=True) as client:
        table = client.create_table("p", "id BIGINT, v STRING", partition_by={"d": "STRING"})
        table.append({"id": [1, 2], "v": ["x", "y"], "d": ["one", "two"]})
        table.delete("id = 1")
        options = IncrementalOptions(mode=mode, begin=0)
        whole = read(table, options)
        extra = ["__meta_op_type"] if mode == "cdc" else []
        assert whole.schema.names == ["id", "v", "d", *extra]
        assert whole.num_rows == (3 if mode == "cdc" else 2)
        partition = PartitionSpec.parse("d=two")
        rows = read(table, options, required_data_columns=("id",), required_partitions=(partition,))
        assert rows.schema.names == ["id", *extra]
        assert rows["id"].to_pylist() == [2]


def test_moments_are_taken_like_versions(client: Client) -> None:
    table = client.table("t")
    committed = {each.version: each.committed_at for each in table.versions()}

    def between(begin: str | None, end: str | None) -> int:
        return read(table, IncrementalOptions(mode="cdc", begin=begin, end=end)).num_rows

    def text(moment: dt.datetime) -> str:
        return moment.isoformat(sep=" ")

    assert between(text(committed[1]), text(committed[2])) == 3
    assert between(text(committed[2]).replace("+00:00", ""), None) == 1
    assert between("1999-01-01", text(committed[1])) == 3
    assert between(text(committed[1]), "2999-01-01T00:00:00+02:00") == 4
    with pytest.raises(InvalidArgumentError, match="did not exist"):
        between(None, "1999-01-01")


@pytest.mark.parametrize(
    "options",
    [
        None,
        IncrementalOptions(mode="sideways"),
        IncrementalOptions(begin="yesterday"),
        IncrementalOptions(begin=-7),
        IncrementalOptions(begin=3, end=1),
        IncrementalOptions(end=99),
    ],
)
def test_what_cannot_be_is_refused(client: Client, options: IncrementalOptions | None) -> None:
    with pytest.raises((InvalidArgumentError, VersionNotFoundError)):
        read(client.table("t"), options)


def test_changes_that_are_gone_are_refused(client: Client) -> None:
    table = client.table("t")
    table.expire_versions(dt.timedelta())
    with pytest.raises(VersionNotFoundError, match="gone"):
        read(table, IncrementalOptions(begin=1))


def test_a_column_named_like_one_of_the_feed_is_refused(client: Client) -> None:
    table = client.create_table("named", "id BIGINT, _change_type STRING")
    table.append({"id": [1], "_change_type": ["x"]})
    assert table.count_rows() == 1
    with pytest.raises(InvalidArgumentError, match="rename"):
        table.changes(0).to_table()


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ({"Mode": "cdc", "From": 1, "To": 2}, IncrementalOptions(mode="cdc", begin=1, end=2)),
        ({"From": "2026-01-01"}, IncrementalOptions(begin="2026-01-01")),
        (
            {"Mode": "append", "StartVersion": -1, "EndVersion": 4, "StartTimeStamp": "-1"},
            IncrementalOptions(mode="append", end=4),
        ),
        ({"EnableIncrementalRead": True, "EndTimeStamp": "x"}, IncrementalOptions(enabled=True, end="x")),
        ({"StartVersion": 1, "StartTimeStamp": "x"}, None),
        ({"From": True}, None),
        ({"From": 1 << 64}, None),
        ({"Mode": 1}, None),
        ({"EnableIncrementalRead": "yes"}, None),
        ([], None),
    ],
)  # fmt: skip
def test_both_generations_of_options(wire: Any, expected: IncrementalOptions | None) -> None:
    from fletching.protocol.codec.request_tables import _Incremental

    kind = _Incremental()
    if expected is None:
        with pytest.raises(InvalidParameterError):
            kind.from_json(wire, "IncrementalReadOptions")
        return
    assert kind.from_json(wire, "IncrementalReadOptions") == expected
    again = kind.from_json(kind.to_json(expected), "IncrementalReadOptions")
    assert again.begin == expected.begin
    assert again.end == expected.end


def test_pyodps_reads_changes(folder: Path) -> None:
    odps = pytest.importorskip("odps")
    storage = pytest.importorskip("odps.maxstorage")
    from odps.maxstorage.options import IncrementalReadOptions

    with fletching.connect(folder) as embedded:
        project = embedded.table("t").full_name.project
    with fletching.serve(folder, port=0, access_keys={"ak": "sk"}) as server:
        o = odps.ODPS("ak", "sk", project=project, endpoint=f"{server.url}/api")
        client = storage.MaxStorageClient(o, api_version="3")
        result = []
        session = client.create_table_read_session(
            "t",
            incremental_read_enabled=True,
            incremental_read_options=IncrementalReadOptions("cdc", 1, 3),
        )
        assert session.latest_version == 3
        for split in session.splits:
            with session.open_arrow_reader(split) as reader:
                result += [row for batch in reader for row in batch.to_pylist()]
    assert sorted((row["id"], row["__meta_op_type"]) for row in result) == [
        (1, 4),
        (2, 16),
        (2, 32),
        (4, 2),
    ]
