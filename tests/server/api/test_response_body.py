from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import lz4.frame
import pyarrow as pa
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st
from tests.server.asgi_exchanges import exchange_of

from fletching.engine.reading.read_plan import Computed, Extent, Literal, Piece, ReadPlan
from fletching.errors import ConnectionBrokenError, CorruptObjectError, StorageError
from fletching.server.api import response_body as streaming
from fletching.server.api.response_body import PlanSource, PreparedReply, reply_with_plan
from fletching.server.server_settings import ServerSettings
from fletching.server.workers import Pool, Workers
from fletching.wire.content_coding import ContentCoding

DATA = bytes(range(256)) * 64
LOOP_THREADS: set[int] = set()


@dataclasses.dataclass
class MemoryObject:
    """A stored object whose ranges are resident once they were loaded; refuses the loop's thread."""

    data: bytes
    cold: bool = False
    key: str = "k"
    broken: bool = False
    loaded: list[tuple[int, int]] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.length = len(self.data)

    def view(self, start: int, end: int) -> memoryview:
        assert threading.get_ident() not in LOOP_THREADS
        return memoryview(self.data)[start:end]

    def read(self, start: int, end: int) -> memoryview:
        return self.view(start, end)

    def resident(self, start: int, end: int) -> bool:
        return not self.cold or (start, end) in self.loaded

    def load(self, start: int, end: int) -> None:
        assert threading.get_ident() not in LOOP_THREADS
        if self.broken:
            raise StorageError("the disk failed")
        self.loaded.append((start, end))

    def close(self) -> None:
        pass


def computed(data: bytes, length: int | None) -> Computed:
    return Computed(
        run=lambda: [data[: len(data) // 2], b"", memoryview(data)[len(data) // 2 :]],
        length=length,
    )


def plan(pieces: Iterable[Piece], length: int | None) -> ReadPlan:
    return ReadPlan(
        schema=pa.schema([]), rows=0, length=length, pieces=pieces, batches=lambda: iter(())
    )


Spec = tuple[str, int, int]


def build(specs: Sequence[Spec], *, cold: bool = False) -> tuple[list[Piece], bytes]:
    pieces: list[Piece] = []
    expected = b""
    stored = MemoryObject(DATA, cold)
    for kind, start, end in specs:
        data = DATA[start:end]
        if kind == "literal":
            pieces.append(Literal(data))
        elif kind == "extent":
            pieces.append(Extent(stored, start, start + len(data)))
        else:
            pieces.append(computed(data, len(data) if kind == "computed" else None))
        expected += data
    return pieces, expected


specs = st.lists(
    st.tuples(
        st.sampled_from(["literal", "extent", "computed", "unknown"]),
        st.integers(0, 3000),
        st.integers(3000, 9000),
    ),
    max_size=8,
)


@given(specs, st.integers(1, 20000), st.booleans())
# A literal that goes with the computed piece before it fills the group as well.
@example(
    [
        ("computed", 2999, 3000),
        ("literal", 0, 3000),
        ("computed", 0, 6001),
        ("literal", 0, 9000),
    ],
    2,
    False,
)
def test_groups_are_the_plan_in_order_and_bounded(
    given_specs: list[Spec], group_bytes: int, cold: bool
) -> None:
    pieces, expected = build(given_specs, cold=cold)
    source = PlanSource(plan(pieces, len(expected)), group_bytes)
    groups = []
    while group := source.next_chunk():
        groups.append(b"".join(bytes(buffer) for buffer in group))
    source.close()
    assert b"".join(groups) == expected
    largest = max([len(group) for group in groups], default=0)
    # A computed piece or a literal is never divided, and a literal goes with the one before; extents are.
    assert largest < group_bytes + 2 * 9000


def test_only_cold_ranges_are_loaded_and_slices_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streaming, "SLICE_BYTES", 1000)
    stored = MemoryObject(DATA, cold=True)
    source = PlanSource(plan([Extent(stored, 10, 4010)], 4000), 2500)
    lengths = []
    while group := source.next_chunk():
        lengths.append([memoryview(buffer).nbytes for buffer in group])
    assert lengths == [[1000, 1000, 500], [1000, 500]]
    assert stored.loaded == [
        (10, 1010),
        (1010, 2010),
        (2010, 2510),
        (2510, 3510),
        (3510, 4010),
    ]


def test_groups_begin_small_and_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who leaves after the first batch has not made us open everything."""
    monkeypatch.setattr(streaming, "FIRST_GROUP_BYTES", 100)
    stored = MemoryObject(DATA)
    pieces = [Extent(stored, start, start + 50) for start in range(0, 5000, 50)]
    source = PlanSource(plan(pieces, 5000), 1000)
    sizes = []
    while group := source.next_chunk():
        sizes.append(sum(memoryview(buffer).nbytes for buffer in group))
    assert sizes == [100, 200, 400, 800, 1000, 1000, 1000, 500]


def test_stored_bytes_are_not_copied() -> None:
    stored = MemoryObject(DATA)
    (view,) = PlanSource(plan([Extent(stored, 0, 100)], 100), 1000).next_chunk()
    assert memoryview(view).obj is stored.data


@dataclasses.dataclass
class Recorder:
    """An ASGI client that takes what is sent, or leaves after ``leave_after`` messages."""

    leave_after: int | None = None
    on_body: Callable[[], None] = lambda: None
    messages: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    async def send(self, message: dict[str, Any]) -> None:
        if self.leave_after is not None and len(self.messages) >= self.leave_after:
            raise ConnectionResetError
        await asyncio.sleep(0)
        if message["type"] == "http.response.body":
            message = {**message, "body": bytes(message["body"])}
            self.on_body()
        self.messages.append(message)

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.messages[1:])

    @property
    def complete(self) -> bool:
        return bool(self.messages) and not self.messages[-1].get("more_body", True)


async def no_body() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def answer(make_plan: Callable[[], ReadPlan], client: Recorder, **options: Any) -> None:
    async def run() -> None:
        LOOP_THREADS.add(threading.get_ident())
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "headers": [],
        }
        exchange = exchange_of(scope, no_body, client.send, "id-1", ServerSettings())
        options.setdefault("group_bytes", 3000)
        await reply_with_plan(exchange, make_plan, workers.cpu, **options)

    workers = Workers(1, 2)
    try:
        asyncio.run(run())
    finally:
        LOOP_THREADS.clear()
        workers.close()


MIXED: list[Spec] = [
    ("literal", 0, 80),
    ("extent", 100, 9000),
    ("computed", 20, 5000),
    ("extent", 9000, 9004),
]


def test_a_reply_has_its_length_and_request_id() -> None:
    pieces, expected = build(MIXED, cold=True)
    client = Recorder()
    answer(lambda: plan(pieces, len(expected)), client)
    assert client.headers[b"content-length"] == b"%d" % len(expected)
    assert client.headers[b"x-odps-request-id"] == b"id-1"
    assert client.headers[b"content-type"] == b"application/octet-stream"
    assert client.body == expected
    assert client.complete


def test_a_reply_of_unknown_length_is_chunked() -> None:
    pieces, expected = build([("literal", 0, 80), ("unknown", 0, 5000), ("unknown", 0, 3000)])
    client = Recorder()
    answer(lambda: plan(pieces, None), client)
    assert b"content-length" not in client.headers
    assert client.body == expected
    assert client.complete


@pytest.mark.parametrize("size", [10, 5000])
def test_a_reply_that_its_first_group_ends_has_a_length(size: int) -> None:
    pieces, expected = build([("literal", 0, 80), ("unknown", 0, size), ("literal", 0, 8)])
    client = Recorder()
    answer(lambda: plan(pieces, None), client)
    assert client.headers[b"content-length"] == str(len(expected)).encode()
    assert client.body == expected
    assert client.complete


def test_what_follows_computed_batches_is_looked_at_and_not_computed() -> None:
    computations: list[int] = []

    def batches(number: int) -> Computed:
        def run() -> list[bytes]:
            computations.append(number)
            return [DATA[:4000]]

        return Computed(run=run, length=None)

    source = PlanSource(plan([batches(0), batches(1), Literal(b"end")], None), 3000)
    assert source.next_chunk() == [DATA[:4000]]
    assert (computations, source.ended) == ([0], False)
    assert source.next_chunk() == [DATA[:4000], b"end"]
    assert (computations, source.ended) == ([0, 1], True)


@pytest.mark.parametrize(
    ("coding", "decode"),
    [
        (
            ContentCoding.ZSTD,
            lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
        ),
        (ContentCoding.LZ4_FRAME, lz4.frame.decompress),
    ],
)
def test_whole_body_compression(coding: ContentCoding, decode: Callable[[bytes], bytes]) -> None:
    pieces, expected = build(MIXED * 5)
    client = Recorder()
    answer(lambda: plan(pieces, len(expected)), client, coding=coding)
    assert client.headers[b"content-encoding"] == coding.value.encode()
    assert decode(client.body) == expected
    assert client.complete


def closing(pieces: Iterable[Piece], closed: list[bool]) -> Iterator[Piece]:
    try:
        yield from pieces
    finally:
        closed.append(True)


def test_what_fails_before_the_first_byte_is_raised_with_nothing_sent() -> None:
    client = Recorder()

    def refuse() -> ReadPlan:
        raise StorageError("no")

    with pytest.raises(StorageError):
        answer(refuse, client)
    closed: list[bool] = []
    pieces = closing([Extent(MemoryObject(DATA, cold=True, broken=True), 0, 10)], closed)
    with pytest.raises(StorageError):
        answer(lambda: plan(pieces, 10), client)
    assert client.messages == []
    assert closed == [True]


def test_what_fails_in_mid_reply_leaves_it_incomplete() -> None:
    closed: list[bool] = []
    pieces = closing([Literal(DATA[:5000]), computed(b"1234", 5)], closed)
    client = Recorder()
    with pytest.raises(CorruptObjectError):
        answer(lambda: plan(pieces, 5005), client)
    assert client.body == DATA[:5000]
    assert not client.complete
    assert closed == [True]


@pytest.mark.parametrize("leave_after", range(4))
def test_a_client_that_leaves_stops_the_plan_and_closes_it(leave_after: int) -> None:
    closed: list[bool] = []
    asked: list[int] = []

    def pieces() -> Iterator[Piece]:
        for number in range(1000):
            asked.append(number)
            yield Literal(DATA[:3000])

    client = Recorder(leave_after)
    with pytest.raises(ConnectionBrokenError):
        answer(lambda: plan(closing(pieces(), closed), 3_000_000), client)
    assert closed == [True]
    assert len(asked) <= leave_after + 3


def test_a_short_reply_takes_one_hop(monkeypatch: pytest.MonkeyPatch) -> None:
    hops: list[str] = []
    start = Pool.start

    def counted(pool: Pool, function: Any, *args: Any, **kwargs: Any) -> Any:
        hops.append(function.__name__)
        return start(pool, function, *args, **kwargs)

    monkeypatch.setattr(Pool, "start", counted)
    for options in ({}, {"coding": ContentCoding.ZSTD}):
        client = Recorder()
        closed: list[bool] = []
        pieces, expected = build([("literal", 0, 80), ("extent", 100, 900)])
        answer(lambda: plan(closing(pieces, closed), len(expected)), client, **options)  # noqa: B023
        assert client.complete
        assert closed == [True]
        assert hops == ["begin"]
        hops.clear()


def test_at_most_one_group_is_prepared_ahead() -> None:
    prepared: list[int] = []

    def pieces() -> Iterator[Piece]:
        for number in range(50):
            prepared.append(number)
            yield Literal(DATA[:3000])

    client = Recorder()
    lead: list[int] = []
    client.on_body = lambda: lead.append(len(prepared) - len(client.messages))
    answer(lambda: plan(pieces(), 150_000), client)
    assert client.complete
    assert max(lead) <= 2


def test_files_that_go_along_are_given_up_with_the_reply() -> None:
    closed: list[str] = []
    for shared in (True, False):
        files: Any = SimpleNamespace(close=lambda: closed.append("files"))
        source: Any = SimpleNamespace(ended=False, close=lambda: closed.append("source"))
        reply = PreparedReply(
            source, (), 0, ContentCoding.IDENTITY, shared=files if shared else None
        )
        assert not reply.ended
        source.ended = True
        # Descriptors stay open until they are closed, however much of the rows was sent.
        assert reply.ended is not shared
        reply.close()
        assert closed == (["source", "files"] if shared else ["source"])
        closed.clear()
