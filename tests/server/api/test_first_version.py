"""The first version of the Storage API answers what its successors answer, by path instead of by action."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from tests.server.conftest import RawClient, Reply, Start

from fletching.engine.access.permissions import Grant, Permission
from fletching.server.api.first_version import is_first_version_path

SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.string())])
ROOT = "/api/storage/v1/projects/demo/schemas/default/tables"


@pytest.fixture
def server(start: Start) -> Any:
    return start(key_refresh_seconds=0.0)


@pytest.fixture
def client(server: Any) -> RawClient:
    made = RawClient(server.url)
    made.create_table("t", SCHEMA, ["pt"])
    return made


def ask(client: RawClient, method: str, path: str, body: Any = None, **query: Any) -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
    headers = query.pop("headers", {})
    return client.request(method, f"{ROOT}/{path}", query, data, headers)


def stream(rows: list[int], codec: str | None = None) -> bytes:
    batch = pa.record_batch({"a": rows, "b": [f"row {n}" for n in rows]}, schema=SCHEMA)
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_stream(sink, SCHEMA, options=options) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def write(client: RawClient, *blocks: list[int], codec: str | None = None, **body: Any) -> Reply:
    wanted = {"PartitionSpec": "pt=1", "Overwrite": False, **body}
    made = ask(client, "POST", "t/sessions", wanted, session_type="batch_write")
    assert made.status == 200
    session = made.json["SessionId"]
    messages = []
    for number, rows in enumerate(blocks):
        # The first attempt is given up: what was answered for the second one is committed.
        for attempt in range(2):
            taken = ask(
                client,
                "POST",
                f"t/sessions/{session}/data",
                stream(rows, codec),
                block_number=number,
                attempt_number=attempt,
            )
            assert taken.status == 200
        messages.append(taken.json["CommitMessage"])
    look = ask(client, "GET", f"t/sessions/{session}", session_type="batch_write")
    assert look.json["SessionStatus"] == "NORMAL"
    for _ in range(2):
        done = ask(client, "POST", "t/commit", {"CommitMessages": messages}, session_id=session)
        assert (done.status, done.json["SessionStatus"]) == (201, "COMMITTED")
    return done


def open_read(client: RawClient, **body: Any) -> dict[str, Any]:
    made = ask(client, "POST", "t/sessions", body, session_type="batch_read")
    assert (made.status, made.json["SessionStatus"]) == (201, "NORMAL")
    return made.json


def rows(reply: Reply) -> list[int]:
    assert reply.status == 200, reply.body
    values: list[int] = pa.ipc.open_stream(reply.body).read_all()["a"].to_pylist()
    return values


@pytest.mark.parametrize("codec", [None, "lz4", "zstd"])
def test_blocks_in_and_splits_out(client: RawClient, codec: str | None) -> None:
    write(client, [1, 2], [3], codec=codec)
    session = open_read(client, RequiredPartitions=["pt=1"])
    assert (session["SplitsCount"], session["RecordCount"]) == (1, 3)
    assert [column["Name"] for column in session["DataSchema"]["DataColumns"]] == ["a", "b"]
    for accepted in ("", "ZSTD", "LZ4_FRAME"):
        reply = ask(
            client,
            "GET",
            "t/data",
            session_id=session["SessionId"],
            split_index=0,
            row_index=0,
            row_count=0,
            max_batch_rows=4096,
            headers={"Accept-Encoding": accepted},
        )
        assert rows(reply) == [1, 2, 3]
        message = pa.ipc.open_stream(reply.body)
        assert message.schema.names == ["a", "b", "pt"]
    for refresh in ("true", "false"):
        look = ask(
            client,
            "GET",
            f"t/sessions/{session['SessionId']}",
            session_type="batch_read",
            session_refresh=refresh,
        )
        assert look.json["SessionStatus"] == "NORMAL"


def test_rows_by_their_number(client: RawClient) -> None:
    write(client, list(range(10)))
    mode = {"SplitMode": "RowOffset", "SplitNumber": 0, "CrossPartition": True}
    session = open_read(client, SplitOptions=mode)
    for first, count in ((0, 10), (4, 3), (9, 5), (0, 0)):
        reply = ask(
            client,
            "GET",
            "t/data",
            session_id=session["SessionId"],
            row_index=first,
            row_count=count,
            max_batch_rows=2,
        )
        assert rows(reply) == list(range(10))[first : first + count]


def test_overwriting_is_said_when_the_session_is_opened(client: RawClient) -> None:
    write(client, [1, 2])
    write(client, [3], Overwrite=True)
    session = open_read(client)
    reply = ask(client, "GET", "t/data", session_id=session["SessionId"])
    assert rows(reply) == [3]


def put_block(client: RawClient, block: bytes, opened: dict[str, Any], **query: Any) -> Reply:
    made = ask(client, "POST", "t/sessions", opened, session_type="batch_write")
    session = made.json["SessionId"]
    path = f"t/sessions/{session}/data"
    taken = ask(client, "POST", path, block, block_number=0, attempt_number=0, **query)
    if taken.status == 200:
        report = {"CommitMessages": [taken.json["CommitMessage"]]}
        assert ask(client, "POST", "t/commit", report, session_id=session).status == 201
    return taken


def all_rows(client: RawClient) -> list[tuple[Any, ...]]:
    reply = ask(client, "GET", "t/data", session_id=open_read(client)["SessionId"])
    return [tuple(row.values()) for row in pa.ipc.open_stream(reply.body).read_all().to_pylist()]


def test_a_stream_may_end_with_its_body(client: RawClient) -> None:
    """Clients of this version write messages by hand, and some leave the last mark out."""
    static = {"PartitionSpec": "pt=1", "Overwrite": False}
    whole = stream([1, 2])
    assert put_block(client, whole[:-8], static).status == 200
    assert [row[0] for row in all_rows(client)] == [1, 2]
    for cut in (0, 4, 12, 20, len(whole) // 2, len(whole) - 3):
        refused = put_block(client, whole[: -8 - cut] if cut else b"", static)
        assert refused.status == 400, cut
    assert [row[0] for row in all_rows(client)] == [1, 2]


def test_columns_have_their_places_where_they_are_named_otherwise(client: RawClient) -> None:
    batches = [
        pa.record_batch({"a": [1], "b": ["x"], "c": ["p"]}),
        pa.record_batch({"x": [2], "y": ["x"], "z": [7]}),
        pa.record_batch({"pt": [8], "b": ["x"], "a": [3]}),
    ]
    for batch in batches:
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        taken = put_block(client, sink.getvalue(), {"Overwrite": False})
        assert taken.status == 200, taken.body
    assert sorted(all_rows(client)) == [(1, "x", "p"), (2, "x", "7"), (3, "x", "8")]
    fewer = put_block(client, stream([1]), {})
    assert (fewer.status, b"'pt'" in fewer.body) == (400, True)


def test_the_one_format_of_data(client: RawClient) -> None:
    write(client, [1])
    session = open_read(client)["SessionId"]
    for kind, version, status in (
        ("arrow", "v5", 200),
        ("", "", 200),
        ("arrow", "v6", 400),
        ("", "v6", 400),
        ("arrow1", "", 400),
    ):
        named = {"data_format_type": kind, "data_format_version": version}
        assert ask(client, "GET", "t/data", session_id=session, **named).status == status
        taken = put_block(client, stream([]), {"PartitionSpec": "pt=1"}, **named)
        assert taken.status == status


def test_splits_have_a_least_size(client: RawClient) -> None:
    for size, status in ((1, 400), (1023, 400), (1024, 201), (0, 201)):
        options = {"SplitMode": "Size", "SplitNumber": size}
        made = ask(
            client, "POST", "t/sessions", {"SplitOptions": options}, session_type="batch_read"
        )
        assert made.status == status
    assert (
        b"1024"
        in ask(
            client,
            "POST",
            "t/sessions",
            {"SplitOptions": {"SplitNumber": 9}},
            session_type="batch_read",
        ).body
    )


def test_what_is_refused(client: RawClient, server: Any) -> None:
    keys = server.service.engine.access_keys
    key = keys.create(access_id="reader")
    keys.grant(Grant("reader", "demo", "t", Permission.READ))
    reader = RawClient(server.url, key.access_id, key.secret)
    session = open_read(client)["SessionId"]
    asked: list[tuple[Callable[[], Reply], int]] = [
        (lambda: ask(reader, "POST", "t/sessions", session_type="batch_write"), 403),
        (lambda: ask(reader, "POST", "u/sessions", session_type="batch_read"), 403),
        (lambda: ask(client, "POST", "u/sessions", session_type="batch_read"), 404),
        (lambda: ask(client, "POST", "t/sessions", session_type="other"), 400),
        (lambda: ask(client, "POST", "t/sessions"), 400),
        (lambda: ask(client, "POST", "t/sessions", b"[", session_type="batch_read"), 400),
        (lambda: ask(client, "GET", "t/sessions/nope", session_type="batch_read"), 404),
        (lambda: ask(client, "GET", "t/sessions/nope", session_type="batch_write"), 404),
        (lambda: ask(client, "GET", "t/data", session_id="nope"), 404),
        (lambda: ask(client, "GET", "t/data"), 400),
        (lambda: ask(client, "GET", "t/data", session_id=session, split_index="x"), 400),
        (lambda: ask(client, "GET", "t/data", session_id=session, split_index=9), 400),
        (lambda: ask(client, "GET", "t/data", session_id=session, max_batch_rows=-1), 400),
        (lambda: ask(client, "GET", "t/data", session_id=session, data_format_type="CSV"), 400),
        (lambda: ask(client, "POST", "t/sessions/nope/data", stream([1]), block_number=0), 404),
        (lambda: ask(client, "POST", "t/commit", {"CommitMessages": []}, session_id="nope"), 404),
        (lambda: ask(client, "DELETE", "t/sessions/x"), 405),
        (lambda: ask(client, "GET", "t/commit"), 405),
        (lambda: ask(client, "POST", "a.b/sessions", session_type="batch_read"), 400),
    ]
    result = [call().status for call, _ in asked]
    assert result == [status for _, status in asked]


@pytest.mark.parametrize(
    ("path", "is_one"),
    [
        (f"{ROOT}/t/sessions", True),
        ("/storage/v1/projects/p/tables/t/data", True),
        ("/api/api/storage/v1/projects/p/tables/t/sessions/x/data", True),
        (f"{ROOT}/t", False),
        (f"{ROOT}/t/sessions/x/other", False),
        ("/api/storage/v2/projects/p/tables/t/sessions", False),
        ("/api/storage/v1", False),
    ],
)
def test_paths(path: str, is_one: bool) -> None:
    assert is_first_version_path(path) is is_one
