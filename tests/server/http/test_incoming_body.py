"""A request's body between the connection that fills it and the application that takes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.server.http.test_connection import Collector

from fletching.server.http import incoming_body
from fletching.server.http.incoming_body import ConnectionBody


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await work()

    asyncio.run(bounded())


async def taken(body: ConnectionBody) -> bytes:
    view = await body.receive_view()
    assert view is not None
    return bytes(view)


def fill(body: ConnectionBody, data: bytes) -> bool:
    space = body.space()
    space[: len(data)] = data
    more = body.advance(len(data))
    if not body.remaining:
        body.finish()
    return more


def test_a_counted_body_is_taken_without_copies() -> None:
    async def work() -> None:
        wanted: list[int] = []
        body = ConnectionBody(6, lambda: wanted.append(1))
        assert len(body.space()) == 6
        task = asyncio.create_task(body.receive_view())
        await asyncio.sleep(0)
        assert wanted == [1]
        assert fill(body, b"abc")
        view = await task
        assert view is not None
        assert bytes(view) == b"abc"
        assert view.obj is body.space().obj
        assert not fill(body, b"def") or body.complete
        assert await taken(body) == b"def"
        assert await body.receive_view() is None
        assert body.body_bytes == 6

    run(work)


def test_a_full_buffer_and_many_pieces_make_the_socket_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(incoming_body, "BODY_BUFFER_BYTES", 4)
    monkeypatch.setattr(incoming_body, "HELD_CHUNK_BYTES", 10)

    async def work() -> None:
        counted = ConnectionBody(100, lambda: None)
        assert fill(counted, b"abc")
        assert not fill(counted, b"d")
        chunked = ConnectionBody(None, lambda: None)
        assert chunked.put(b"123456789")
        assert not chunked.put(b"0")
        assert await taken(chunked) == b"123456789"
        assert chunked.put(b"x")

    run(work)


def test_a_sink_gets_what_is_there_and_what_comes() -> None:
    async def work() -> None:
        body = ConnectionBody(None, lambda: None)
        body.put(b"a" * 10)
        sink = Collector(15)
        task = asyncio.create_task(body.pump(sink))
        await asyncio.sleep(0)
        assert body.put(b"b" * 2)
        assert not body.put(b"c" * 5)  # it asks for attention
        assert await task is False
        body.put(b"d")
        body.finish()
        assert await body.pump(sink) is True
        assert bytes(sink.data) == b"a" * 10 + b"bb" + b"c" * 5 + b"d"

    run(work)


@pytest.mark.parametrize("how", ["disconnect", "time_out"])
@pytest.mark.parametrize("pumped", [False, True])
def test_what_ends_a_body_early_is_raised_behind_what_came(how: str, pumped: bool) -> None:
    async def work() -> None:
        body = ConnectionBody(None, lambda: None)
        body.put(b"abc")
        sink = Collector(1000)
        if not pumped:
            assert await taken(body) == b"abc"
        task = asyncio.create_task(body.pump(sink) if pumped else body.receive_view())
        await asyncio.sleep(0)
        getattr(body, how)()
        with pytest.raises(ConnectionAbortedError if how == "disconnect" else TimeoutError):
            await task
        assert bytes(sink.data) == (b"abc" if pumped else b"")

    run(work)


def test_behind_the_reply_everything_is_dropped_and_counted() -> None:
    async def work() -> None:
        body = ConnectionBody(100, lambda: None)
        body.put(b"abc")
        waiting = asyncio.create_task(body.wait_for_disconnect())
        await asyncio.sleep(0)
        body.drop()
        await waiting
        assert body.put(b"def")
        assert body.body_bytes == 6
        assert body.remaining == 94

    run(work)


def test_the_time_that_the_application_waits_is_counted_and_no_other() -> None:
    async def work() -> None:
        body = ConnectionBody(None, lambda: None)
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(0.03)
        assert body.waited_seconds(clock()) == 0
        began = clock()
        task = asyncio.create_task(body.receive_view())
        await asyncio.sleep(0.03)
        assert 0.02 <= body.waited_seconds(clock()) <= clock() - began
        body.put(b"a")
        await task
        waited = body.waited_seconds(clock())
        await asyncio.sleep(0.02)
        assert body.waited_seconds(clock()) == waited

    run(work)
