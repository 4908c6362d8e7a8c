"""Object stores through obstore: the contract over its memory store, sizes, failures."""

from __future__ import annotations

import http.server
import socket
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.objects.bucket_contract import BucketContract

from fletching.errors import (
    CorruptObjectError,
    MissingExtraError,
    ObjectExistsError,
    StorageError,
    StorageFullError,
    UsageError,
)
from fletching.objects.remote_store import BUFFERED_BYTES, FIRST, RETRIES, RemoteStore
from fletching.testing.contracts import put

obstore = pytest.importorskip("obstore")


class TestMemory(BucketContract):
    @pytest.fixture
    def store(self) -> Iterator[Any]:
        store = RemoteStore(obstore.store.MemoryStore())
        yield store
        store.close()


@pytest.fixture
def store() -> RemoteStore:
    return RemoteStore(obstore.store.MemoryStore())


@pytest.mark.parametrize(
    "length",
    [BUFFERED_BYTES - 1, BUFFERED_BYTES, BUFFERED_BYTES + 1, 2 * BUFFERED_BYTES + 7],
)
def test_large_objects_are_uploaded_in_parts(store: RemoteStore, length: int) -> None:
    data = bytes(range(251)) * (length // 251 + 1)
    data = data[:length]
    sink = store.create("big")
    for start in range(0, length, 3_000_000):
        sink.write(data[start : start + 3_000_000])
    assert list(store.list()) == []
    sink.commit()
    stored = store.open("big")
    assert stored.length == length
    assert bytes(stored.read(0, length)) == data
    assert bytes(stored.read(length - 5, length)) == data[-5:]


def test_a_large_object_does_not_replace_another(store: RemoteStore) -> None:
    put(store, "k", b"1")
    sink = store.create("k")
    sink.write(bytes(BUFFERED_BYTES + 1))
    with pytest.raises(ObjectExistsError):
        sink.commit()
    assert bytes(store.open("k").read(0, 1)) == b"1"


def test_an_aborted_upload_is_never_visible(store: RemoteStore) -> None:
    sink = store.create("k")
    sink.write(bytes(3 * BUFFERED_BYTES))
    sink.abort()
    del sink
    assert list(store.list()) == []


def test_a_short_answer_is_damage(store: RemoteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, "k", b"abcdef")
    stored = store.open("k")
    put_back = obstore.store.MemoryStore()
    obstore.put(put_back, "k", b"ab")
    monkeypatch.setattr(store, "_store", put_back)
    with pytest.raises((CorruptObjectError, StorageError)):
        stored.read(0, 6)


def test_a_url_that_cannot_be_used() -> None:
    with pytest.raises(StorageError):
        RemoteStore("nonsense://x")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(MissingExtraError, match=r"fletching\[s3\]"):
        RemoteStore("s3://bucket")


@pytest.mark.parametrize("start", [0, 8, 13])
@pytest.mark.parametrize("shift", range(9))
def test_values_are_aligned_as_they_are_stored(
    store: RemoteStore, monkeypatch: pytest.MonkeyPatch, start: int, shift: int
) -> None:
    """Whatever memory a reply came in; only bytes that are not aligned are copied."""
    data = bytes(range(200))
    put(store, "a/b", data)
    memory = np.zeros(512, np.uint8)
    first = -memory.ctypes.data % 8 + shift

    def get_range(_store: Any, _key: str, *, start: int, end: int) -> memoryview:
        memory[first : first + end - start] = np.frombuffer(data[start:end], np.uint8)
        return memory[first : first + end - start].data

    monkeypatch.setattr(store, "_obstore", SimpleNamespace(get_range=get_range))
    chunk = store.get_range("a/b", start, 100)
    assert bytes(chunk) == data[start:100]
    address = np.frombuffer(chunk, np.uint8).ctypes.data
    assert (address - start) % 8 == 0
    assert (address == memory.ctypes.data + first) == (
        (first + memory.ctypes.data - start) % 8 == 0
    )


def test_a_closed_store_begins_no_object(store: RemoteStore) -> None:
    put(store, "a", b"abc")
    store.close()
    store.close()
    with pytest.raises(UsageError, match="closed"):
        store.create("b")


class LateBucket(http.server.ThreadingHTTPServer):
    """An S3 bucket whose first reply to a put is lost, though the object is there.

    Attributes:
        loses: how: an error of the server's, or the connection's end.
        objects: bytes and metadata of each key.
        puts: how many came.
    """

    daemon_threads = True

    def __init__(self, loses: str) -> None:
        super().__init__(("127.0.0.1", 0), LateHandler)
        self.loses = loses
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.puts = 0


class LateHandler(http.server.BaseHTTPRequestHandler):
    server: LateBucket
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body)))
        self.send_header("etag", '"1"')
        self.send_header("last-modified", "Wed, 21 Oct 2026 07:28:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        server = self.server
        server.puts += 1
        if self.path in server.objects:
            self.answer(412)
            return
        marks = {
            name: value for name, value in self.headers.items() if name.startswith("x-amz-meta-")
        }
        server.objects[self.path] = (data, marks)
        if server.puts > 1:
            self.answer(200)
        elif server.loses == "answer":
            self.answer(500)
        else:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self) -> None:
        data, marks = self.server.objects[self.path]
        self.answer(200, data, **{name.replace("-", "_"): value for name, value in marks.items()})


DATA = bytes(range(256)) * 4
REFUSED = b"""<?xml version='1.0'?><Error><Code>InvalidAccessKeyId</Code><Message>The key is not
known.</Message><AWSAccessKeyId>AKID</AWSAccessKeyId></Error>"""


NO_ROOM = b"<Error><Code>QuotaExceeded</Code></Error>"


class OddBucket(http.server.ThreadingHTTPServer):
    """An S3 bucket with one object that answers as it is told to, and after that as it should.

    Attributes:
        replies: what the next GETs get.
    """

    daemon_threads = True

    def __init__(self, replies: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), OddHandler)
        self.replies = replies


class OddHandler(http.server.BaseHTTPRequestHandler):
    server: OddBucket
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(403)
        self.send_header("content-length", str(len(NO_ROOM)))
        self.end_headers()
        self.wfile.write(NO_ROOM)

    def do_GET(self) -> None:
        reply = self.server.replies.pop(0) if self.server.replies else "right"
        first, last = map(int, self.headers["range"].removeprefix("bytes=").split("-"))
        body, status = DATA[first : last + 1], 206
        if reply == "refused":
            body, status = REFUSED, 403
        elif reply == "slow down":
            body, status = b"<Error><Code>SlowDown</Code></Error>", 503
        elif reply == "fewer":
            last -= 10
            body = DATA[first : last + 1]
        elif reply == "other bytes":
            first, last = first + 1, last + 1
        elif reply == "all of it":
            body, status = DATA, 200
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("content-range", f"bytes {first}-{last}/{len(DATA)}")
        self.send_header("etag", '"1"')
        self.send_header("last-modified", "Wed, 21 Oct 2026 07:28:00 GMT")
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if reply == "half" else body)
        if reply == "half":
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Iterator[OddBucket]:
    bucket = OddBucket([])
    threading.Thread(target=bucket.serve_forever, daemon=True).start()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "hidden", "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT": f"http://127.0.0.1:{bucket.server_port}", "AWS_ALLOW_HTTP": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    yield bucket
    bucket.shutdown()
    bucket.server_close()


@pytest.mark.parametrize("replies", [["slow down"], ["half"], ["slow down", "half"]])
def test_what_passes_is_waited_for(odd: OddBucket, replies: list[str]) -> None:
    store = RemoteStore("s3://bucket/p")
    odd.replies += replies
    assert bytes(store.get_range("k", 100, 300)) == DATA[100:300]
    assert odd.replies == []
    store.close()


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ("refused", "InvalidAccessKeyId: The key is not known"),
        ("fewer", "Requested 100..300, got 100..290"),
        ("other bytes", "Requested 100..300, got 101..301"),
        ("all of it", "Received non-partial response when range requested"),
    ],
)
def test_what_does_not_is_one_sentence_without_the_request(
    odd: OddBucket, reply: str, says: str
) -> None:
    store = RemoteStore("s3://bucket/p")
    odd.replies.append(reply)
    with pytest.raises(StorageError) as caught:
        store.get_range("k", 100, 300)
    assert caught.value.message == f"reading k failed: {says}"
    assert bytes(store.get_range("k", 100, 300)) == DATA[100:300]
    store.close()


def test_a_store_that_says_it_has_no_room_is_full(odd: OddBucket) -> None:
    store = RemoteStore("s3://bucket/p")
    with pytest.raises(StorageFullError, match="committing k failed: QuotaExceeded"):
        put(store, "k", b"data")
    store.close()


def test_a_store_that_has_answered_is_waited_for_longer(odd: OddBucket) -> None:
    store = RemoteStore("s3://bucket/p")

    def retries() -> int:
        return int(store._store.retry_config["max_retries"])

    store.sign(["k"], 60)  # asks nobody
    assert retries() == FIRST[0]
    odd.replies.append("refused")
    with pytest.raises(StorageError):
        store.get_range("k", 0, 1)
    assert retries() == FIRST[0]
    store.get_range("k", 0, 1)
    assert retries() == RETRIES[0] > FIRST[0]
    store.close()


@pytest.mark.parametrize("loses", ["answer", "connection"])
def test_a_put_whose_reply_was_lost_is_done_once_and_is_no_conflict(
    loses: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = LateBucket(loses)
    threading.Thread(target=bucket.serve_forever, daemon=True).start()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT": f"http://127.0.0.1:{bucket.server_port}", "AWS_ALLOW_HTTP": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    store = RemoteStore("s3://bucket/p")
    try:
        put(store, "k", b"ours")
        assert bucket.puts == 2
        with pytest.raises(ObjectExistsError):
            put(store, "k", b"ours")
        assert [data for data, _ in bucket.objects.values()] == [b"ours"]
    finally:
        store.close()
        bucket.shutdown()
        bucket.server_close()
