"""Calls that are awaited: many at once, never on the loop, broken off alone, used once."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import fletching
import fletching.aio
from fletching.aio.pending_calls import AsyncItems
from fletching.client.cancellation import Cancellation
from fletching.errors import OperationCancelledError
from fletching.testing.replay import Answer, ReplayPeer

KEY: dict[str, Any] = {"access_id": "tester", "access_key": "secret-of-tester"}
PROMPT = 60.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    keys = {KEY["access_id"]: KEY["access_key"]}
    with fletching.serve(tmp_path_factory.mktemp("aio") / "data", access_keys=keys) as served:
        yield served


def test_many_calls_are_under_way_at_once(server: Any) -> None:
    async def main() -> None:
        async with fletching.aio.connect(server.url, "many", create=True, **KEY) as client:
            table = await client.create_table("t", "n BIGINT")
            await asyncio.gather(*(table.append({"n": [n]}) for n in range(20)))
            counts = await asyncio.gather(*(table.count_rows() for _ in range(20)))
            assert counts == [20] * 20

    asyncio.run(main())


def test_the_loop_is_never_blocked() -> None:
    async def main(peer: ReplayPeer) -> None:
        client = await fletching.aio.connect(peer.url, **KEY)
        task = asyncio.create_task(client.list_tables())
        await _arrived(peer, 1)
        assert not task.done()
        await client.close()
        with pytest.raises(OperationCancelledError):
            await task
        with pytest.raises(OperationCancelledError):
            await client.list_tables()

    with ReplayPeer(lambda _: Answer(silent_after=0)) as peer:
        asyncio.run(main(peer))


async def _arrived(peer: ReplayPeer, requests: int) -> None:
    while len(peer.requests) < requests:  # noqa: ASYNC110  # the peer is no part of this loop
        await asyncio.sleep(0.001)


def test_cancelling_a_task_ends_its_call_and_no_other() -> None:
    async def main(peer: ReplayPeer) -> None:
        async with fletching.aio.connect(peer.url, **KEY) as client:
            tasks = [asyncio.create_task(client.list_tables()) for _ in range(2)]
            await _arrived(peer, 2)
            tasks[0].cancel()
            started = time.monotonic()
            with pytest.raises(asyncio.CancelledError):
                await tasks[0]
            assert time.monotonic() - started < PROMPT
            assert not tasks[1].done()
            tasks[1].cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await tasks[1]
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.list_tables(), 0.05)
        for thread in threading.enumerate():
            if thread.name.startswith("fletching-aio"):
                thread.join(PROMPT)
                assert not thread.is_alive()

    with ReplayPeer(lambda _: Answer(silent_after=0)) as peer:
        asyncio.run(main(peer))
    gc.collect()


def test_a_slow_call_leaves_what_others_learnt_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, renamed = threading.Event(), threading.Event()
    count = fletching.Table.count_rows

    def slow(table: fletching.Table) -> int:
        rows = count(table)
        begun.set()
        assert renamed.wait(PROMPT)
        return rows

    async def main() -> None:
        async with fletching.aio.connect(tmp_path / "data", create=True) as client:
            table = await client.create_table("t", {"n": [1, 2]})
            with monkeypatch.context() as patch:
                patch.setattr(fletching.Table, "count_rows", slow)
                slow_count = asyncio.create_task(table.count_rows())
                assert await asyncio.to_thread(begun.wait, PROMPT)
            await table.rename("u")
            await table.add_columns("s STRING")
            renamed.set()
            assert await slow_count == 2
            assert table.name == "u"
            assert table.schema.names == ["n", "s"]
            assert await table.count_rows() == 2

    asyncio.run(main())


def test_leaving_a_read_early_leaves_nothing_behind(server: Any) -> None:
    async def main() -> None:
        async with fletching.aio.connect(server.url, "early", create=True, **KEY) as client:
            table = await client.create_table("t", "n BIGINT")
            async with table.write_session() as session, session.writer() as writer:
                for n in range(50):
                    await writer.write(pa.record_batch({"n": range(n, n + 1000)}))
            async with contextlib.aclosing(
                table.with_options(connections=3, split_bytes=8000).scan().__aiter__()
            ) as batches:
                async for batch in batches:
                    assert batch.num_rows
                    break
            assert await table.count_rows() == 50_000

    asyncio.run(main())
    for thread in threading.enumerate():
        if thread.name.startswith("fletching-read-"):
            thread.join(PROMPT)
            assert not thread.is_alive()


def test_a_read_that_takes_its_time_is_cancelled_and_closed_when_it_returns(tmp_path: Path) -> None:
    reading, goes_on, closed = threading.Event(), threading.Event(), threading.Event()

    def slow_batches(_scan: fletching.Scan) -> Iterator[int]:
        try:
            yield 1
            reading.set()
            assert goes_on.wait(PROMPT)
            yield 2
        finally:
            closed.set()

    async def main() -> None:
        async with fletching.aio.connect(tmp_path / "data", create=True) as client:
            table = await client.create_table("t", {"n": [1]})

            async def read() -> None:
                async for _ in table.scan().to_batches():
                    pass

            task = asyncio.create_task(read())
            assert await asyncio.to_thread(reading.wait, PROMPT)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not closed.is_set()
            goes_on.set()
            assert await asyncio.to_thread(closed.wait, PROMPT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fletching.Scan, "to_batches", slow_batches)
        asyncio.run(main())


def test_a_read_may_be_left_after_the_client_was_closed(tmp_path: Path) -> None:
    async def main() -> None:
        async with fletching.aio.connect(tmp_path / "data", create=True) as client:
            table = await client.create_table("t", {"n": [1]})
            batches = table.scan().__aiter__()
            assert (await anext(batches)).num_rows == 1
        await batches.aclose()
        with pytest.raises(OperationCancelledError):
            await table.count_rows()

    asyncio.run(main())


def test_a_list_and_a_stream_are_iterated_without_being_awaited(tmp_path: Path) -> None:
    async def main() -> None:
        async with fletching.aio.connect(tmp_path / "data", create=True) as client:
            table = await client.create_table("t", {"n": [1, 2]})
            assert [str(each) async for each in client.list_tables()] == ["t"]
            batches = [batch async for batch in table.scan().to_batches()]
            assert sum(batch.num_rows for batch in batches) == 2
            assert [batch.num_rows async for batch in await table.scan().to_batches()] == [2]
            assert [batch.num_rows async for batch in table.scan()] == [2]

    asyncio.run(main())


def test_a_call_begins_when_it_is_awaited_and_not_before(tmp_path: Path) -> None:
    async def main() -> None:
        async with fletching.aio.connect(tmp_path / "data", create=True) as client:
            pending = client.create_table("t", "n BIGINT")
            assert await client.list_tables() == []
            assert (await pending).name == "t"
            assert [str(each) for each in await client.list_tables()] == ["t"]

    asyncio.run(main())


def test_a_call_is_a_coroutine_that_is_awaited_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with fletching.aio.connect(tmp_path / "data", create=True) as client:
            table = await client.create_table("t", {"n": [1]})
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(table.append({"n": [n]})) for n in (2, 3)]
            assert [task.result() for task in tasks] == [1, 1]
            append = table.append({"n": [4]})
            await append
            with pytest.raises(RuntimeError, match="already awaited"):
                await append
            assert await asyncio.wait_for(table.count_rows(), PROMPT) == 4
            with pytest.warns(RuntimeWarning, match=r"AsyncTable.append' was never awaited"):
                table.append({"n": [5]})
            table.append({"n": [6]}).close()
            assert await table.count_rows() == 4

    asyncio.run(main())


def test_the_end_of_an_iterator_crosses_the_thread(tmp_path: Path) -> None:
    async def main() -> None:
        async with fletching.aio.connect(tmp_path / "data", create=True) as client:
            table = await client.create_table("t", {"n": [1]})
            (split,) = await table.scan().splits(1)
            async with split.reader() as reader:
                assert (await reader.read_next_batch()).num_rows == 1
                with pytest.raises(StopAsyncIteration):
                    await reader.read_next_batch()

    asyncio.run(main())


def test_items_whose_first_call_could_not_begin_are_closed() -> None:
    """All threads of the pool are busy while the task is cancelled."""
    free = threading.Event()

    def rows() -> Generator[int, None, None]:
        yield from (1, 2)

    items = rows()

    async def main(pool: ThreadPoolExecutor) -> None:
        async def read() -> None:
            async for _ in AsyncItems[int](items, pool, Cancellation()):
                pass

        pool.submit(free.wait)
        task = asyncio.create_task(read())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert inspect.getgeneratorstate(items) == inspect.GEN_CLOSED

    with ThreadPoolExecutor(1) as pool:
        try:
            asyncio.run(main(pool))
        finally:
            free.set()
