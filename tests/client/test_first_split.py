"""A scan's session and the rows of its first split in one reply."""

from __future__ import annotations

import dataclasses
import gc
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.waiting import until

import fletching
from fletching.client.call_options import CallOptions, RetryPolicy
from fletching.client.credentials import Credentials
from fletching.client.retry import Timing
from fletching.client.transports.channel import Channel
from fletching.client.transports.http.http_transport import HttpTransport
from fletching.errors import FletchingError, ProtocolError
from fletching.protocol.codec import encode_response
from fletching.protocol.http import headers as header_names
from fletching.protocol.messages.admin import TableInfo
from fletching.protocol.messages.requests import CreateReadSession, ReadTable
from fletching.protocol.messages.responses import Column, ReadSession, TableSchema
from fletching.testing.replay import Answer, ReplayPeer, ReplayRequest
from fletching.types import TableName

KEYS = {"tester": "testers-secret"}
NAME = TableName("p", "t")
SCHEMA = pa.schema([("n", pa.int64())])
COLUMNS = TableSchema(data_columns=(Column(name="n", type="bigint"),))


def rows(start: int, end: int) -> pa.RecordBatch:
    return pa.record_batch([list(range(start, end))], schema=SCHEMA)


def stream(batches: list[pa.RecordBatch]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


# --- our server ----------------------------------------------------------------------------------


@dataclasses.dataclass
class Watched:
    """The actions of requests in order, and whether each reply brought rows with a session."""

    actions: list[tuple[str, bool]] = dataclasses.field(default_factory=list)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    seen = Watched()
    original = HttpTransport._exchange

    def exchange(self: Any, parts: Any, *arguments: Any, **words: Any) -> Any:
        reply = original(self, parts, *arguments, **words)
        action = dict(parts.query).get("Action", parts.path)
        seen.actions.append((action, header_names.SESSION_LENGTH in reply.headers))
        return reply

    monkeypatch.setattr(HttpTransport, "_exchange", exchange)
    return seen


@pytest.fixture
def connected(http_server: Any, request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    made: list[fletching.Client] = []

    def connect(**options: Any) -> fletching.Client:
        made.append(
            fletching.connect(
                http_server.url,
                project=f"first{abs(hash(request.node.name))}",
                access_id="tester",
                access_key=KEYS["tester"],
                create=True,
                direct="never",
                **options,
            )
        )
        return made[-1]

    yield connect
    for client in made:
        client.close()


@pytest.fixture
def filled(connected: Any) -> fletching.Table:
    table: fletching.Table = connected().create_table("t", SCHEMA)
    with table.write_session() as session, session.writer() as writer:
        for start in range(0, 100, 10):
            writer.write(rows(start, start + 10))
    return table


BOTH = ("TableCreateReadSession", True)
SESSION = ("TableCreateReadSession", False)
READ = ("TableRead", False)


def test_a_scan_of_one_split_is_one_request(filled: fletching.Table, watched: Watched) -> None:
    assert filled.to_table()["n"].to_pylist() == list(range(100))
    assert watched.actions == [BOTH]
    assert filled.scan(columns=["n"]).to_reader().read_all().num_rows == 100
    assert sum(batch.num_rows for batch in filled.scan().to_batches()) == 100
    assert watched.actions == [BOTH] * 3


def test_a_request_is_encoded_once(
    filled: fletching.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[Any] = []
    encode = HttpTransport._encode

    def noting(self: HttpTransport, request: Any) -> Any:
        encoded.append(request)
        return encode(self, request)

    monkeypatch.setattr(HttpTransport, "_encode", noting)
    assert filled.to_table().num_rows == 100
    assert len(encoded) == 1


@pytest.mark.parametrize("connections", [2, 4])
def test_the_other_splits_are_asked_for(
    filled: fletching.Table, watched: Watched, connections: int
) -> None:
    scan = filled.scan().with_options(split_bytes=300, connections=connections)
    assert scan.to_table()["n"].to_pylist() == list(range(100))
    assert watched.actions[0] == BOTH
    assert len(watched.actions) > 3
    assert set(watched.actions[1:]) == {READ}


def test_where_it_does_not_help_or_cannot_be_it_is_not_done(
    filled: fletching.Table, connected: Any, watched: Watched
) -> None:
    (split,) = filled.scan().splits()
    # What the splits hold comes with the session.
    assert watched.actions == [SESSION]
    assert split.to_table().num_rows == 100
    assert filled.scan(limit=5).to_table().num_rows == 5
    # How many connections there are otherwise follows from the link, as it was while the table was filled.
    last = filled.scan(filter="n >= 95").with_options(connections=1)
    assert last.to_table()["n"].to_pylist() == [95, 96, 97, 98, 99]
    first = filled.scan(filter="n < 3", limit=2).with_options(connections=1)
    assert first.to_table()["n"].to_pylist() == [0, 1]
    # A filter brings its rows with the session; a scan that asks for splits or few rows does not.
    assert watched.actions == [SESSION, READ, SESSION, READ, BOTH, BOTH]
    watched.actions.clear()
    for options in ({"compression": "zstd"}, {"lz4_stream": True}):
        assert connected(**options).table("t").to_table().num_rows == 100
    assert [action for action in watched.actions if action[0].startswith("TableC")] == [SESSION] * 2


def test_an_empty_table_has_no_first_split(connected: Any, watched: Watched) -> None:
    table = connected().create_table("empty", SCHEMA)
    watched.actions.clear()
    assert table.with_options(connections=2).to_table() == SCHEMA.empty_table()
    assert watched.actions == [SESSION]
    assert table.to_table() == SCHEMA.empty_table()
    assert len(watched.actions) == 2


def test_damage_is_told_to_whoever_reads_the_split(tmp_path: Path, watched: Watched) -> None:
    with (
        fletching.serve(tmp_path, port=0, access_keys=KEYS) as server,
        fletching.connect(
            server.url,
            access_id="tester",
            access_key=KEYS["tester"],
            retry={"budget_seconds": 0.0},
            direct="never",
        ) as client,
    ):
        table = client.create_table("t", SCHEMA)
        table.append(rows(0, 10))
        (segment,) = tmp_path.rglob("*.arrow")
        segment.unlink()
        watched.actions.clear()
        batches = table.scan().to_batches()
        assert watched.actions == [SESSION]
        with pytest.raises(FletchingError, match="missing"):
            next(batches)


def test_a_busy_service_opens_the_session_alone(
    http_server: Any, filled: fletching.Table, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = http_server.service.reads
    monkeypatch.setattr(reads, "limit", reads.open)
    batches = filled.scan().to_batches()
    assert watched.actions == [SESSION]
    monkeypatch.undo()
    assert sum(batch.num_rows for batch in batches) == 100


def test_an_iterator_that_is_never_started_gives_its_place_back(
    http_server: Any, filled: fletching.Table
) -> None:
    before = http_server.service.reads.open
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        iterators = [filled.scan().to_batches() for _ in range(3)]
        del iterators
        gc.collect()
    until(lambda: http_server.service.reads.open == before)


# --- other replies -------------------------------------------------------------------------------


def session_json() -> bytes:
    session = ReadSession(
        session_id="rs-1",
        splits_count=1,
        record_count=12,
        schema=COLUMNS,
        arrow_schema=bytes(SCHEMA.serialize()),
    )
    return encode_response(session, CreateReadSession(table=NAME))[1]


class Service:
    """A session of one split of twelve rows; the first replies break off at given bytes."""

    def __init__(self, **how: Any) -> None:
        self.cuts: list[int] = []
        self.how = how
        self.reads = 0

    def __call__(self, request: ReplayRequest) -> Answer:
        body = json.loads(request.body)
        how = dict(self.how)
        if self.cuts:
            how["cut"] = self.cuts.pop(0)
        skip = body.get("SkipRowNum", 0)
        batches = [rows(max(at, skip), at + 4) for at in range(0, 12, 4) if at + 4 > skip]
        if "SkipRowNum" in body:
            self.reads += 1
            return Answer(body=stream(batches), **how)
        assert body["FirstSplit"] is True
        head = session_json()
        headers = ((header_names.SESSION_LENGTH, str(len(head))),)
        return Answer(body=head + stream(batches), headers=headers, **how)


def scanned(peer: ReplayPeer) -> pa.Table:
    options = CallOptions(retry=RetryPolicy(budget_seconds=1000.0))
    with HttpTransport(peer.url, Credentials("id", "key")) as transport:
        channel = Channel(transport, options, Timing(sleep=lambda _: None), None)
        info = TableInfo(
            table=NAME, table_id="id", schema=COLUMNS, arrow_schema=bytes(SCHEMA.serialize())
        )
        return fletching.Table(channel, info).scan().to_table()


@pytest.mark.parametrize("how", [{}, {"chunk_bytes": 100}, {"reset": True}], ids=str)
def test_every_row_comes_once_wherever_the_reply_breaks(how: dict[str, Any]) -> None:
    service = Service(**how)
    with ReplayPeer(service) as peer:
        assert scanned(peer)["n"].to_pylist() == list(range(12))
        assert service.reads == 0
        length = len(Answer(body=session_json() + stream([rows(0, 4)] * 3), **how).wire())
        for cut in range(0, length, 7):
            service.cuts = [cut, length - 9]
            assert scanned(peer)["n"].to_pylist() == list(range(12)), cut
            service.cuts = []
        if (
            "chunk_bytes" not in how
        ):  # of those the standard library keeps what it has not given out
            assert service.reads > 10


def test_a_reply_in_single_bytes_is_the_same() -> None:
    with ReplayPeer(Service(send_bytes=1)) as peer:
        assert scanned(peer)["n"].to_pylist() == list(range(12))


@pytest.mark.parametrize("length", ["", "-1", "x", "1e3", "9" * 20, "٣"])
def test_a_length_that_is_none_is_refused(length: str) -> None:
    answer = Answer(
        body=session_json(),
        headers=((header_names.SESSION_LENGTH, length.encode().decode("latin-1")),),
    )
    with ReplayPeer([answer]) as peer, pytest.raises(ProtocolError, match="session-length"):
        scanned(peer)


def test_a_service_that_ignores_the_wish_is_asked_for_the_rows() -> None:
    service = Service()

    def plain(request: ReplayRequest) -> Answer:
        answer = service(request)
        if service.reads:
            return answer
        return Answer(body=session_json())

    with ReplayPeer(plain) as peer:
        assert scanned(peer)["n"].to_pylist() == list(range(12))
    assert service.reads == 1


def test_a_read_says_nothing_of_sessions() -> None:
    """The wish belongs to opening a session; a read of one has its rows alone."""
    assert not hasattr(ReadTable(table=NAME, session_id="rs-1"), "first_split")
