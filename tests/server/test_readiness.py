"""Readiness: every part is asked, the one that fails is named, and one that hangs takes one worker."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.postgresql import PostgresServer
from tests.seaweedfs import BUCKET, SeaweedServer, environment

from fletching.errors import IdentityError, ServiceUnavailableError, StorageError
from fletching.server import readiness
from fletching.server.readiness import Readiness


def asked(*parts: tuple[str, Callable[[], object]], times: int = 1) -> list[str]:
    """What so many questions at once are answered; empty for ready."""

    async def ask() -> list[str]:
        with ThreadPoolExecutor(4) as pool:
            loop = asyncio.get_running_loop()
            look = Readiness(parts, lambda check: loop.run_in_executor(pool, check))

            async def answer() -> str:
                try:
                    await look.check()
                except ServiceUnavailableError as error:
                    return error.message
                return ""

            return list(await asyncio.gather(*(answer() for _ in range(times))))

    return asyncio.run(ask())


def failing(error: Exception) -> Callable[[], object]:
    def check() -> object:
        raise error

    return check


def test_all_parts_answer() -> None:
    assert asked(("a", int), ("b", int)) == [""]


def test_the_first_part_that_fails_is_named_without_its_insides() -> None:
    parts = ("a", int), ("b", failing(StorageError("host=db password=sesame"))), ("c", int)
    assert asked(*parts) == ["b does not answer"]
    assert asked(("a", failing(IdentityError("x")))) == ["a is not the one that was opened"]


def test_one_look_is_shared_by_all_who_ask() -> None:
    looks: list[int] = []

    def check() -> object:
        looks.append(1)
        time.sleep(0.05)
        return None

    assert asked(("a", check), times=50) == [""] * 50
    assert looks == [1]


def test_a_part_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "LOOK_SECONDS", 0.05)
    go_on = threading.Event()
    looks: list[int] = []

    def hang() -> object:
        looks.append(1)
        return go_on.wait(600)

    async def ask() -> None:
        with ThreadPoolExecutor(4) as pool:
            loop = asyncio.get_running_loop()
            look = Readiness((("a", hang),), lambda check: loop.run_in_executor(pool, check))
            for _ in range(3):
                with pytest.raises(ServiceUnavailableError, match="a does not answer"):
                    await look.check()
            assert looks == [1]
            go_on.set()
            # The look that hung is over, and what it found is that all is well.
            while True:
                try:
                    await look.check()
                except ServiceUnavailableError:
                    continue
                break

    asyncio.run(ask())


@pytest.mark.cluster
def test_a_server_is_not_ready_without_its_database_or_its_objects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import http.client

    from fletching.server.serving import serve

    database, objects = PostgresServer(), SeaweedServer()
    try:
        for name, value in environment(objects.url).items():
            monkeypatch.setenv(name, value)
        with serve(
            catalog=database.url,
            objects=f"s3://{BUCKET}/ready",
            server_key="ab" * 32,
            access_keys={"a": "b"},
        ) as server:

            def ready() -> tuple[int, bytes]:
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
                try:
                    connection.request("GET", "/readyz")
                    reply = connection.getresponse()
                    return reply.status, reply.read()
                finally:
                    connection.close()

            def becomes(status: int, part: bytes) -> None:
                deadline = time.monotonic() + 600
                while True:
                    result, message = ready()
                    if result == status:
                        assert part in message
                        return
                    assert time.monotonic() < deadline, message
                    time.sleep(0.2)

            becomes(200, b"ok")
            objects.signal(signal.SIGSTOP)
            becomes(503, b"the object store does not answer")
            objects.signal(signal.SIGCONT)
            becomes(200, b"ok")
            database.stop()
            becomes(503, b"the catalog does not answer")
            database.start()
            becomes(200, b"ok")
    finally:
        objects.close()
        database.close()
