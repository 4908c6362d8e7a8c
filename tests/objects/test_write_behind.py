from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from fletching.errors import StorageFullError
from fletching.objects import write_behind as behind
from fletching.objects.write_behind import MAX_QUEUED_BYTES, WriteBehindQueue

LARGE = 1 << 20


class Sink:
    """Notes what is written and by which thread; waits for ``release`` and fails where told."""

    key = "k"

    def __init__(self, name: str = "s", log: list[tuple[str, bytes]] | None = None) -> None:
        self.name = name
        self.length = 0
        self.log: list[tuple[str, bytes]] = [] if log is None else log
        self.threads: list[str] = []
        self.release = threading.Event()
        self.release.set()
        self.fail = False

    def write(self, data: Any) -> None:
        self.write_many((data,))

    def write_many(self, buffers: Sequence[Any]) -> None:
        assert self.release.wait(600)
        if self.fail:
            raise StorageFullError("no room", key=self.key)
        self.threads.append(threading.current_thread().name)
        self.log += [(self.name, bytes(buffer)) for buffer in buffers]

    def commit(self) -> None: ...

    def abort(self) -> None: ...


def test_writes_arrive_in_the_order_of_the_calls_whatever_their_size() -> None:
    log: list[tuple[str, bytes]] = []
    first, second = Sink("a", log), Sink("b", log)
    writer = WriteBehindQueue()
    expected = []
    for number, size in enumerate([10, LARGE, 5, 2 * LARGE, 1, MAX_QUEUED_BYTES + 1, 7, LARGE, 3]):
        sink = (first, second)[number % 2]
        data = bytes([number]) * size
        writer.write_many(sink, [data[:1], data[1:]], size)
        expected += [(sink.name, data[:1]), (sink.name, data[1:])]
    writer.flush()
    assert log == expected
    names = set(first.threads + second.threads)
    assert names == {"fletching-write-behind", threading.current_thread().name}


def test_small_bodies_need_no_thread_and_settling_ends_it() -> None:
    sink, writer = Sink(), WriteBehindQueue()
    writer.write_many(sink, [b"x"], 1)
    assert sink.threads == [threading.current_thread().name]
    writer.write_many(sink, [bytes(LARGE)], LARGE)
    writer.flush()
    writer.flush()
    assert all(thread.name != "fletching-write-behind" for thread in threading.enumerate())
    writer.write_many(sink, [bytes(LARGE)], LARGE)  # a new round starts a new thread
    writer.flush()
    assert len(sink.log) == 3


def test_the_caller_goes_on_while_bytes_wait_but_not_beyond_the_limit() -> None:
    sink, writer = Sink(), WriteBehindQueue()
    sink.release.clear()
    piece = bytes(MAX_QUEUED_BYTES // 4)
    for _ in range(4):
        writer.write_many(sink, [piece], len(piece))  # none of them waits for the sink
    returned = threading.Event()

    def fifth() -> None:
        writer.write_many(sink, [piece], len(piece))
        returned.set()

    caller = threading.Thread(target=fifth)
    caller.start()
    assert not returned.wait(0.1)
    sink.release.set()
    assert returned.wait(600)
    caller.join()
    writer.flush()
    assert len(sink.log) == 5


def test_a_piece_above_the_limit_is_written_by_the_caller() -> None:
    sink, writer = Sink(), WriteBehindQueue()
    writer.write_many(sink, [bytes(LARGE)], LARGE)
    writer.write_many(sink, [bytes(MAX_QUEUED_BYTES + 1)], MAX_QUEUED_BYTES + 1)
    assert sink.threads == ["fletching-write-behind", threading.current_thread().name]
    writer.flush()


def test_a_failure_reaches_the_caller_and_nothing_follows_it() -> None:
    sink, writer = Sink(), WriteBehindQueue()
    sink.fail = True
    writer.write_many(sink, [bytes(LARGE)], LARGE)
    with pytest.raises(StorageFullError):
        writer.flush()
    sink.fail = False
    for size in (1, LARGE):
        with pytest.raises(StorageFullError):
            writer.write_many(sink, [bytes(size)], size)
    assert not sink.log
    writer.drop()
    assert all(thread.name != "fletching-write-behind" for thread in threading.enumerate())


def test_dropping_forgets_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behind, "MAX_QUEUED_BYTES", 1 << 30)
    sink, writer = Sink(), WriteBehindQueue()
    sink.release.clear()
    for _ in range(5):
        writer.write_many(sink, [bytes(LARGE)], LARGE)
    threading.Timer(0.1, sink.release.set).start()
    writer.drop()
    writer.drop()
    assert len(sink.log) <= 1  # the one that was being written
    assert writer._thread is None
