"""The verbs of the client, awaited: each scenario runs over the blocking client and over this one."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import fletching
import fletching.aio
from fletching.errors import (
    ConflictError,
    NoSuchTableError,
    OperationCancelledError,
    UsageError,
)
from fletching.testing.replay import Answer, ReplayPeer

KEY: dict[str, Any] = {"access_id": "tester", "access_key": "secret-of-tester"}
PROMPT = 60.0


class Blocking:
    """The blocking client in the words of the other: what shows that both have the same verbs."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._wrapped, name)
        if not callable(value):
            return value

        def call(*args: Any, **words: Any) -> Any:
            plain = {"with_options", "scan"}
            args = tuple(each._wrapped if isinstance(each, Blocking) else each for each in args)
            if name in plain:
                return Blocking(value(*args, **words))
            return Later(lambda: value(*args, **words))

        return call

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self._wrapped:
            yield wrapped(item)

    async def __aenter__(self) -> Any:
        self._wrapped.__enter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._wrapped.__exit__(*exc)


def wrapped(value: Any) -> Any:
    if isinstance(value, list):
        return [wrapped(each) for each in value]
    home = type(value).__module__
    return (
        Blocking(value)
        if home.startswith("fletching.client")
        and "str" not in str(type(value).__mro__[1])
        and not isinstance(value, fletching.Blob)
        else value
    )


class Later:
    def __init__(self, call: Callable[[], Any]) -> None:
        self._make = call

    def __await__(self) -> Any:
        yield from ()
        try:
            return wrapped(self._make())
        except StopIteration as exc:
            raise StopAsyncIteration from exc

    async def __aenter__(self) -> Any:
        self._entered = wrapped(self._make())
        return await self._entered.__aenter__()

    async def __aexit__(self, *exc: object) -> None:
        await self._entered.__aexit__(*exc)

    async def __aiter__(self) -> AsyncIterator[Any]:
        for item in self._make():
            yield wrapped(item)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    keys = {KEY["access_id"]: KEY["access_key"]}
    folder = tmp_path_factory.mktemp("aio")
    with fletching.serve(folder, port=0, access_keys=keys, access_log=False) as made:
        yield made


@pytest.fixture(params=["blocking", "aio", "aio-embedded"])
def run(
    request: pytest.FixtureRequest, server: Any, tmp_path: Path
) -> Callable[[Callable[[Any], Awaitable[None]]], None]:
    """Runs a scenario with a client in a project of its own."""
    project = f"p{abs(hash(request.node.name))}"

    async def main(scenario: Callable[[Any], Awaitable[None]]) -> None:
        if request.param == "blocking":
            with fletching.connect(server.url, project, create=True, **KEY) as client:
                await scenario(Blocking(client))
        elif request.param == "aio":
            async with fletching.aio.connect(server.url, project, create=True, **KEY) as client:
                await scenario(client)
        else:
            async with fletching.aio.connect(tmp_path / "data", project, create=True) as client:
                await scenario(client)

    return lambda scenario: asyncio.run(main(scenario))


def test_tables_come_and_go(run: Any) -> None:
    async def scenario(client: Any) -> None:
        assert await client.list_tables() == []
        table = await client.create_table("t", "n BIGINT", partition_by=["pt"])
        assert table.schema.names == ["n", "pt"]
        assert table.partition_columns == ("pt",)
        assert await client.list_tables() == ["t"]
        await table.create_partition("pt=a")
        assert await table.partitions() == ["pt=a"]
        await table.add_columns("s STRING")
        assert table.schema.names == ["n", "s", "pt"]
        assert (await (await client.table("t")).reload()).schema == table.schema
        await client.drop_table("t")
        with pytest.raises(NoSuchTableError):
            await client.table("t")

    run(scenario)


def test_rows_go_in_and_come_out(run: Any) -> None:
    async def scenario(client: Any) -> None:
        table = await client.create_table("t", {"n": [1, 2], "s": ["a", "b"]})
        await table.append({"n": [3], "s": ["c"]})
        assert await table.count_rows() == 3
        scan = table.scan(["n"], filter="n > 1")
        assert (await scan.to_table())["n"].to_pylist() == [2, 3]
        assert await scan.count() == 2
        assert (await scan.to_polars())["n"].to_list() == [2, 3]
        assert (await scan.to_pandas())["n"].tolist() == [2, 3]
        assert (await table.head(1)).num_rows == (await table.preview(1)).num_rows == 1
        got = [n async for batch in scan for n in batch["n"].to_pylist()]
        got += [n async for batch in scan.to_batches() for n in batch["n"].to_pylist()]
        assert got == [2, 3, 2, 3]
        narrow = table.with_options(connections=2, split_bytes=1).scan()
        assert [b.num_rows async for b in narrow] == [2, 1]

    run(scenario)


def test_sessions_and_writers_are_contexts(run: Any) -> None:
    async def scenario(client: Any) -> None:
        table = await client.create_table("t", "n BIGINT")
        async with table.write_session() as session:
            async with session.writer("one") as writer:
                assert await writer.write({"n": [1, 2]}) == 2
            async with session.writer("two") as writer:
                await writer.write({"n": [3]})
        assert await table.count_rows() == 3
        with pytest.raises(ValueError, match="mine"):  # noqa: PT012  # the whole block is what fails
            async with table.write_session() as session, session.writer() as writer:
                await writer.write({"n": [4]})
                raise ValueError("mine")
        assert await table.count_rows() == 3
        session = await table.write_session()
        await session.abort()
        with pytest.raises(UsageError):
            await session.commit()
        async with table.stream_writer("s") as stream:
            await stream.write({"n": [5]})
            assert await stream.flush() == stream.row_offset == 1
        with pytest.raises(ConflictError):
            await (await table.stream_writer("s")).write({"n": [6]})
        async with table.stream_writer("s", resume=True) as stream:
            assert stream.row_offset == 1

    run(scenario)


def test_splits_are_read_and_taken_up_again(run: Any) -> None:
    async def scenario(client: Any) -> None:
        table = await client.create_table("t", {"n": range(100)})
        async with table.scan().session() as session:
            assert session.row_count == 100
            splits = await session.splits(3)
            rows = [n for split in splits for n in (await split.to_table())["n"].to_pylist()]
            assert rows == list(range(100))
            reader = await splits[1].to_reader()
            first = await reader.read_next_batch()
            token = str(reader.token)
            await reader.close()
            rest = await client.resume(token)
            assert first.num_rows + (await rest.read_all()).num_rows == splits[1].row_count
            reader = await splits[0].to_reader()
            await reader.read_all()
            with pytest.raises(StopAsyncIteration):
                await reader.read_next_batch()

    run(scenario)


def test_blobs_are_awaited_too(run: Any) -> None:
    async def scenario(client: Any) -> None:
        table = await client.create_table("t", "id BIGINT, image BLOB")
        async with table.write_session() as session:
            one = await session.put_blob(b"one" * 1000, content_type="image/png")
            file = await session.open_blob()
            await file.write(b"two")
            two = await file.finish()
            async with session.writer() as writer:
                await writer.write({"id": [1, 2], "image": [one, two]})
        blob = await client.get_blob(one)
        assert (blob.data, blob.content_type) == (b"one" * 1000, "image/png")
        cells = (await table.to_table())["image"]
        assert [bytes(blob) async for blob in client.get_blobs(cells)] == [b"one" * 1000, b"two"]
        async with client.open_blob(one) as file:
            assert file.length == 3000
            await file.seek(2997)
            assert await file.read() == b"one"

    run(scenario)


# --- what only this client has -------------------------------------------------------------------


def test_every_verb_is_here() -> None:
    pairs = [
        (fletching.Client, fletching.aio.AsyncClient),
        (fletching.Table, fletching.aio.AsyncTable),
        (fletching.Scan, fletching.aio.AsyncScan),
    ]
    for blocking, awaited in pairs:
        for name, method in inspect.getmembers(awaited, inspect.isfunction):
            original = getattr(blocking, name, None)
            if name.startswith("_") or name in {"close", "scan", "with_options"}:
                continue
            assert original is not None, name
            assert inspect.signature(method).parameters == inspect.signature(original).parameters
            assert method.__doc__ == original.__doc__


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
        task = asyncio.create_task(_await(client.list_tables()))
        await _arrived(peer, 1)
        assert not task.done()
        await client.close()
        with pytest.raises(OperationCancelledError):
            await task
        with pytest.raises((OperationCancelledError, RuntimeError)):
            await client.list_tables()

    with ReplayPeer(lambda _: Answer(silent_after=0)) as peer:
        asyncio.run(main(peer))


async def _arrived(peer: ReplayPeer, requests: int) -> None:
    while len(peer.requests) < requests:  # noqa: ASYNC110  # the peer is no part of this loop
        await asyncio.sleep(0.001)


async def _await(pending: Any) -> Any:
    return await pending


def test_cancelling_a_task_ends_its_call_and_no_other() -> None:
    async def main(peer: ReplayPeer) -> None:
        async with fletching.aio.connect(peer.url, **KEY) as client:
            tasks = [asyncio.create_task(_await(client.list_tables())) for _ in range(2)]
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
                await asyncio.wait_for(_await(client.list_tables()), 0.05)
        for thread in threading.enumerate():
            if thread.name.startswith("fletching-aio"):
                thread.join(PROMPT)
                assert not thread.is_alive()

    with ReplayPeer(lambda _: Answer(silent_after=0)) as peer:
        asyncio.run(main(peer))
    gc.collect()


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
