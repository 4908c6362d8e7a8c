"""The verbs of the client, awaited: each scenario runs over the blocking client and over this one."""

from __future__ import annotations

import ast
import asyncio
import datetime as dt
import inspect
import typing
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fletching
import fletching.aio
from fletching.aio.pending_calls import AsyncObject
from fletching.client.result import Result
from fletching.errors import ConflictError, NoSuchTableError, UsageError

KEY: dict[str, Any] = {"access_id": "tester", "access_key": "secret-of-tester"}
PROMPT = 60.0


class Blocking:
    """The blocking client in the words of the other: what shows that both have the same verbs."""

    def __init__(self, wrapped: Any) -> None:
        self._wrapped = wrapped

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._wrapped, name)
        if not callable(value):
            return Blocking(value) if isinstance(value, fletching.Scan) else value

        def call(*args: Any, **words: Any) -> Any:
            plain = {"with_options", "scan", "table_name"}
            args = tuple(each._wrapped if isinstance(each, Blocking) else each for each in args)
            if name in plain:
                return wrapped(value(*args, **words))
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
        received = [n async for batch in scan for n in batch["n"].to_pylist()]
        received += [n async for batch in scan.to_batches() for n in batch["n"].to_pylist()]
        assert received == [2, 3, 2, 3]
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
            reader = await splits[1].reader()
            first = await reader.read_next_batch()
            token = str(reader.token)
            await reader.close()
            rest = await client.resume(token)
            assert first.num_rows + (await rest.read_all()).num_rows == splits[1].row_count
            reader = await splits[0].reader()
            await reader.read_all()
            with pytest.raises(StopAsyncIteration):
                await reader.read_next_batch()

    run(scenario)


def test_blobs_are_awaited_too(run: Any) -> None:
    async def scenario(client: Any) -> None:
        table = await client.create_table("t", "id BIGINT, image BLOB")
        async with table.write_session() as session:
            reference = await session.put_blob(b"one" * 1000, content_type="image/png")
            file = await session.blob_writer()
            await file.write(b"two")
            other = await file.finish()
            async with session.writer() as writer:
                await writer.write({"id": [1, 2], "image": [reference, other]})
        blob = await client.get_blob(reference)
        assert (blob.data, blob.content_type) == (b"one" * 1000, "image/png")
        cells = (await table.to_table())["image"]
        assert [bytes(blob) async for blob in client.get_blobs(cells)] == [b"one" * 1000, b"two"]
        async with client.open_blob(reference) as file:
            assert file.length == 3000
            await file.seek(2997)
            assert await file.read() == b"one"

    run(scenario)


def test_rows_change(run: Any) -> None:
    async def scenario(client: Any) -> None:
        table = await client.create_table("t", "id BIGINT NOT NULL, s STRING", primary_key=["id"])
        await table.append({"id": [1, 2, 3], "s": ["a", "b", "c"]})
        assert (await table.delete("id = 3")).rows_deleted == 1
        assert (await table.update({"s": "upper(s)"}, where="id = 1")).rows_updated == 1
        report = await table.upsert({"id": [2, 4], "s": ["B", "D"]})
        assert (report.rows_inserted, report.rows_updated) == (1, 1)
        report = await table.merge({"id": [4, 5], "s": ["d", "e"]}, on=["id"])
        assert (report.rows_inserted, report.rows_updated) == (1, 1)
        assert (await table.delete_keys({"id": [5]})).rows_deleted == 1
        rows = await table.to_table()
        assert dict(zip(*rows.to_pydict().values(), strict=True)) == {1: "A", 2: "B", 4: "d"}
        await table.overwrite({"id": [7], "s": ["g"]})
        assert (await table.enforce_primary_key()).rows_deleted == 0
        assert (await table.truncate()).rows_deleted == 1
        assert await table.count_rows() == 0

    run(scenario)


def test_versions_are_looked_at_named_and_gone_back_to(run: Any) -> None:
    async def scenario(client: Any) -> None:
        table = await client.create_table("t", "n BIGINT")
        await table.append({"n": [1]})
        await table.append({"n": [2]})
        assert [each.version for each in await table.versions()] == [2, 1, 0]
        assert (await (await table.as_of(1)).to_table())["n"].to_pylist() == [1]
        await table.create_tag("first", version=1)
        assert await table.tags() == {"first": 1}
        assert await (await table.as_of("first")).count_rows() == 1
        changes = await table.changes(1)
        assert (await changes.to_table())["_change_type"].to_pylist() == ["insert"]
        seen = {}
        async for change in table.watch(since=0, timeout=0):
            seen[change.version] = (await change.changes.to_table())["n"].to_pylist()
        assert seen == {1: [1], 2: [2]}
        async for change in table.watch(since=1, timeout=0):
            assert change.version == 2
            break
        await table.restore(1)
        assert (await table.to_table())["n"].to_pylist() == [1]
        await table.drop_tag("first")
        assert await table.tags() == {}
        await table.compact()
        await table.expire_versions(older_than=dt.timedelta(days=1), dry_run=True)

    run(scenario)


def test_columns_names_and_properties_change(run: Any) -> None:
    async def scenario(client: Any) -> None:
        table = await client.create_table("t", "a INT, b STRING, c STRING")
        await table.drop_columns(["c"])
        await table.rename_column("b", "text")
        await table.alter_column("a", type="BIGINT")
        assert str(table.schema.field("a").type) == "int64"
        assert table.schema.names == ["a", "text"]
        await table.set_properties({"team": "red"})
        assert table.properties["team"] == "red"
        await table.remove_properties(["team"])
        assert "team" not in table.properties
        await table.rename("u")
        assert await client.list_tables() == ["u"]
        assert (await client.rename_table("u", "v")).schema == table.schema
        assert client.table_name("v").name == "v"
        other = await client.create_table("p", "n BIGINT", partition_by=["pt"])
        await other.append({"n": [1], "pt": ["x"]})
        await other.drop_partition("pt=x")
        assert await other.partitions() == []
        await client.create_project(if_not_exists=True)

    run(scenario)


def test_statements_are_awaited(run: Any) -> None:
    async def scenario(client: Any) -> None:
        await client.create_table("t", {"n": [1, 2, 3]})
        result = await client.sql("select n from t where n > ? order by n", parameters=[1])
        assert (result.num_rows, result.schema.names) == (2, ["n"])
        assert (await result.to_table())["n"].to_pylist() == [2, 3]
        assert await result.to_pylist() == [{"n": 2}, {"n": 3}]
        assert (await result.to_polars())["n"].to_list() == [2, 3]
        assert (await result.to_pandas())["n"].tolist() == [2, 3]
        received = [n async for batch in result for n in batch["n"].to_pylist()]
        received += [n async for batch in result.to_batches() for n in batch["n"].to_pylist()]
        assert received == [2, 3, 2, 3]
        assert (await client.sql("insert into t values (4)")).affected_rows == 1

    run(scenario)


def test_blobs_of_one_request_are_read_in_turn(run: Any) -> None:
    async def scenario(client: Any) -> None:
        table = await client.create_table("t", "id BIGINT, image BLOB")
        await table.append({"id": [1, 2], "image": [b"one", b"three"]})
        cells = (await table.to_table())["image"].to_pylist()
        reader = await client.blob_reader(cells)
        assert await reader.read() == b"one"
        await reader.close()
        received = [each async for each in await client.blob_iterator(cells)]
        assert [bytes(each.data) for each in received] == [b"one", b"three"]

    run(scenario)


def test_open_sessions_are_found_again(run: Any) -> None:
    async def scenario(client: Any) -> None:
        table = await client.create_table("t", "n BIGINT")
        session = await table.write_session()
        again = await table.open_write_session(session.id)
        async with again.writer("s") as writer:
            await writer.write({"n": [1]})
        await again.commit()
        (split,) = await table.scan().with_options(connections=1).splits(split_bytes=1 << 20)
        assert (await split.to_table())["n"].to_pylist() == [1]

    run(scenario)


# --- what only this client has -------------------------------------------------------------------


PAIRS = [
    (fletching.Client, fletching.aio.AsyncClient),
    (fletching.Table, fletching.aio.AsyncTable),
    (fletching.Scan, fletching.aio.AsyncScan),
    (Result, fletching.aio.AsyncResult),
]
INTERNAL = {
    "with_uploads": "what `append` does with BLOB cells, for other writers of the package",
    "releasing": "what one-shot verbs scan by",
}


def public(cls: type) -> dict[str, Any]:
    return {
        name: member
        for name, member in inspect.getmembers(cls, inspect.isfunction)
        if not name.startswith("_") and name not in INTERNAL
    }


@pytest.mark.parametrize(("blocking", "awaited"), PAIRS)
def test_every_verb_is_here(blocking: type, awaited: Any) -> None:
    left_out = awaited._left_out
    assert all(reason for reason in left_out.values())
    for name, original in public(blocking).items():
        if name in left_out:
            assert name not in dir(awaited)
            continue
        method = inspect.getattr_static(awaited, name)  # declared: completed and typed
        if name not in awaited._plain and name != "close":
            assert inspect.signature(method).parameters == inspect.signature(original).parameters
            assert method.__doc__ == original.__doc__
    assert set(public(awaited)) <= set(public(blocking))


def test_every_verb_is_tried_with_both_clients() -> None:
    tried = set()
    for node in ast.walk(ast.parse(Path(__file__).read_text())):
        if isinstance(node, ast.AsyncFunctionDef) and node.name == "scenario":
            tried |= {each.attr for each in ast.walk(node) if isinstance(each, ast.Attribute)}
    wanted = {
        name
        for blocking, awaited in PAIRS
        for name in set(public(blocking)) - set(awaited._left_out)
    }
    assert wanted - tried == set()


def test_what_would_block_the_loop_says_what_to_take_instead(tmp_path: Path) -> None:
    async def main() -> None:
        async with fletching.aio.connect(tmp_path / "data", create=True) as client:
            table = await client.create_table("t", {"n": [1]})
            for each in (table, table.scan(), await client.sql("select n from t")):
                assert "to_reader" not in dir(each)
                with pytest.raises(AttributeError, match="async for"):
                    _ = each.to_reader  # type: ignore[union-attr]

    asyncio.run(main())


PLAIN_FILES = {
    "detach",
    *("fileno", "flush", "isatty", "peek", "read1", "readable", "readall", "readinto1", "readline"),
    *("readlines", "seek", "seekable", "tell", "truncate", "writable", "write", "writelines"),
}
"""What files have beside their own verbs: it is found without being declared."""

EARLIER = {"to_reader", "open_stream", "open_blob"}
"""Names of earlier programs, which are found without being declared, too."""

UNTYPED = {
    "channel": "how objects call, for what is built on them",
    "end_with": "what changes of the table end sessions by",
    "scan_reader": "what a scan reads its splits by",
    "with_options": "of a session: for its own last words",
    "open": "how tables open sessions",
    "READ_ONLY": "why a table as it was refuses changes",
}


@pytest.mark.parametrize(
    ("blocking", "awaited"), AsyncObject._wraps.items(), ids=lambda kind: kind.__name__
)
def test_every_class_declares_what_it_has(blocking: type, awaited: Any) -> None:
    declared = set(dir(awaited)) | set(typing.get_type_hints(awaited))
    own = {
        name
        for kind in blocking.__mro__
        if kind.__module__.startswith("fletching")
        for name in vars(kind)
        if not name.startswith("_") and name not in INTERNAL
    }
    assert own - declared - PLAIN_FILES - EARLIER - set(UNTYPED) - set(awaited._left_out) == set()


def test_a_name_that_nothing_has_is_an_attribute_error(run: Any) -> None:
    async def scenario(client: Any) -> None:
        with pytest.raises(AttributeError):
            _ = client.tabel

    run(scenario)
