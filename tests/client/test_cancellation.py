"""Leaving, cancelling, closing and Ctrl-C return at once, whatever the peer does, wherever it is waited for.

Every timeout here is ten minutes. What a test waits for happens at once or not before those are over,
so that the limit of `PROMPT` decides nothing on a busy machine.
"""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.waiting import until

import fletching
from fletching.client import result
from fletching.client.cancellation import Cancellation, join_within
from fletching.errors import FletchingError, OperationCancelledError
from fletching.testing.replay import Answer, ReplayPeer, ReplayRequest

PROMPT = 60.0
KEYS: dict[str, Any] = {"access_id": "tester", "access_key": "secret-of-tester"}
PATIENT: dict[str, Any] = {
    "direct": "never",  # past the peer that holds bytes back there is nothing to wait for
    "timeouts": {"connect": 600.0, "first_byte": 600.0, "idle": 600.0},
    "retry": {
        "budget_seconds": 600.0,
        "first_delay_seconds": 600.0,
        "longest_delay_seconds": 600.0,
    },
}


@contextlib.contextmanager
def promptly() -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < PROMPT


# --- the flag itself ---------------------------------------------------------------------------


def test_what_waits_is_woken_and_what_follows_is_refused() -> None:
    cancellation = Cancellation()
    threading.Timer(0.05, cancellation.cancel, ["enough"]).start()
    with promptly(), pytest.raises(OperationCancelledError, match="enough"):
        cancellation.wait(600)
    for act in (
        cancellation.check,
        lambda: cancellation.wait(600),
        lambda: cancellation.register(lambda: None),
    ):
        with promptly(), pytest.raises(OperationCancelledError, match="enough"):
            act()
    cancellation.cancel("later")
    with pytest.raises(OperationCancelledError, match="enough"):
        cancellation.check()


def test_a_parent_ends_its_children_and_not_the_other_way_round() -> None:
    client = Cancellation()
    scan, other = Cancellation(client), Cancellation(client)
    called: list[str] = []
    Cancellation(scan).register(lambda: called.append("scan"))
    other.register(lambda: called.append("other"))
    scan.cancel()
    assert called == ["scan"]
    assert (client.cancelled, scan.cancelled, other.cancelled) == (False, True, False)
    client.cancel("closed")
    assert set(called) == {"scan", "other"}
    assert other.cancelled
    with pytest.raises(OperationCancelledError, match="closed"):
        other.check()
    with pytest.raises(OperationCancelledError):
        Cancellation(Cancellation(client)).register(lambda: None)


def test_what_has_ended_is_not_interrupted() -> None:
    cancellation = Cancellation(Cancellation())
    called: list[int] = []
    with cancellation.interrupting(lambda: called.append(1)):
        pass
    release = cancellation.register(lambda: called.append(2))
    release()
    release()
    cancellation.cancel()
    assert called == []


def test_a_handler_may_cancel_what_its_own_thread_registers() -> None:
    cancellation = Cancellation()
    release = cancellation.register(lambda: cancellation.cancel("again"))
    cancellation.cancel("first")
    release()
    assert cancellation.cancelled


def test_threads_are_waited_for_together() -> None:
    go = threading.Event()
    threads = [threading.Thread(target=go.wait, daemon=True) for _ in range(50)]
    for thread in threads:
        thread.start()
    with promptly():
        join_within(threads, 0.05)
    go.set()
    join_within(threads, 60)
    assert not any(thread.is_alive() for thread in threads)


# --- calls -------------------------------------------------------------------------------------


def in_thread(call: Callable[[], Any], release: Callable[[], Any], reached: Any) -> BaseException:
    """What ``call`` raises in another thread when ``release`` is called after it was ``reached``."""
    caught: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as exc:  # noqa: BLE001  # the test looks at it
            caught.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    until(reached)
    with promptly():
        release()
        thread.join(PROMPT)
    assert not thread.is_alive()
    (error,) = caught
    return error


@pytest.mark.parametrize("silent_after", [0, 20, 80, 120])
def test_closing_ends_a_call_that_waits_for_its_reply(silent_after: int) -> None:
    answer = Answer(body=b"[]" * 60, silent_after=silent_after)
    with ReplayPeer([answer]) as peer:
        client = fletching.connect(peer.url, **KEYS, **PATIENT)
        error = in_thread(client.list_tables, client.close, lambda: peer.requests)
    assert isinstance(error, OperationCancelledError), repr(error)
    with pytest.raises(OperationCancelledError, match="closed"):
        client.list_tables()


def test_closing_ends_the_wait_between_two_attempts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with ReplayPeer([Answer(status=503)]) as peer:
        client = fletching.connect(peer.url, **KEYS, **PATIENT)
        error = in_thread(client.list_tables, client.close, lambda: caplog.records)
    assert isinstance(error, OperationCancelledError), repr(error)


@pytest.fixture
def unreachable() -> Iterator[str]:
    """The address of a peer whose queue of connections is full, so that connecting hangs."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(16):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_closing_ends_a_connection_that_is_being_made(unreachable: str) -> None:
    client = fletching.connect(unreachable, **KEYS, **PATIENT)
    began = time.monotonic()
    error = in_thread(client.list_tables, client.close, lambda: time.monotonic() - began > 0.2)
    assert isinstance(error, OperationCancelledError), repr(error)


def test_closing_ends_an_upload_that_the_peer_does_not_take() -> None:
    with ReplayPeer(lambda _: pytest.fail("the body never arrives")) as peer:
        client = fletching.connect(peer.url, **KEYS, **PATIENT)
        taken = threading.Event()

        def chunks() -> Iterator[bytes]:
            yield b"first"
            taken.set()
            while True:
                yield bytes(1 << 20)

        from fletching.client.transports.http.request_body import StreamedBody
        from fletching.protocol.messages.requests import WriteTable
        from fletching.types import TableName

        request = WriteTable(table=TableName("p", "t"), session_id="s", stream_id="s")
        transport: Any = client.channel.transport
        body = StreamedBody(chunks, 1 << 40)
        error = in_thread(
            lambda: transport.write_body(request, body, client.channel.sequence()),
            client.close,
            taken.is_set,
        )
        assert isinstance(error, OperationCancelledError), repr(error)


# --- a service that falls silent at chosen requests ----------------------------------------------


class Forward:
    """Passes requests on to a service; answers those that ``silent`` chooses with silence.

    ``silent`` is given the action and returns after how many bytes of the answer, or None for never.
    """

    def __init__(self, url: str) -> None:
        self.silent: Callable[[str], int | None] = lambda _: None
        self.silenced = 0
        self._address = urllib.parse.urlsplit(url)

    def __call__(self, request: ReplayRequest) -> Answer:
        action = request.query.get("Action", request.method)
        after = self.silent(action)
        if after == 0:
            self.silenced += 1
            return Answer(silent_after=0)
        assert self._address.hostname
        connection = http.client.HTTPConnection(self._address.hostname, self._address.port)
        headers = {
            name: value
            for name, value in request.headers.items()
            if name not in {"transfer-encoding", "content-length"}
        }
        connection.request(request.method, request.target, request.body, headers)
        with connection.getresponse() as reply:
            body = reply.read()
            kept = [
                (name, value)
                for name, value in reply.getheaders()
                if name.lower() not in {"content-length", "transfer-encoding", "connection"}
            ]
            status = reply.status
        connection.close()
        self.silenced += after is not None
        return Answer(status=status, headers=tuple(kept), body=body, silent_after=after)


@pytest.fixture
def forward(tmp_path: Path) -> Iterator[tuple[Forward, fletching.Client]]:
    keys = {KEYS["access_id"]: KEYS["access_key"]}
    with fletching.serve(tmp_path / "data", port=0, access_keys=keys, access_log=False) as server:
        script = Forward(server.url)
        with (
            ReplayPeer(script) as peer,
            fletching.connect(peer.url, **KEYS, **PATIENT) as client,
        ):
            yield script, client


_earlier: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _threads() -> None:
    """Remembers what other tests of the process left running: it is theirs to wait for."""
    _earlier.clear()
    _earlier.update(threading.enumerate())


def ended(name: str) -> None:
    """Waits for the test's threads of this name to end, as they do by themselves."""
    for thread in threading.enumerate():
        if thread.name.startswith(name) and thread not in _earlier:
            thread.join(PROMPT)
            assert not thread.is_alive()


def filled(client: fletching.Client) -> fletching.Table:
    table = client.create_table("t", "n BIGINT")
    with table.write_session() as session, session.writer() as writer:
        for start in range(0, 40_000, 10_000):
            writer.write(pa.record_batch({"n": range(start, start + 10_000)}))
    return table


@pytest.mark.parametrize("after", [0, 2_000, 50_000])
@pytest.mark.parametrize("connections", [2, 4])
def test_leaving_a_scan_early_waits_for_nobody(
    forward: tuple[Forward, fletching.Client], after: int, connections: int
) -> None:
    script, client = forward
    scan = filled(client).scan().with_options(connections=connections, split_bytes=80_000)
    script.silent = lambda action: after if action == "TableRead" else None
    batches = scan.to_batches()
    assert next(batches).num_rows == 10_000
    until(lambda: script.silenced)
    with promptly():
        batches.close()
    ended("fletching-read-")


@pytest.mark.parametrize("after", [0, 300, 50_000])
def test_a_reader_is_cancelled_wherever_it_waits(
    forward: tuple[Forward, fletching.Client], after: int
) -> None:
    script, client = forward
    (split,) = filled(client).scan().splits(1)
    script.silent = lambda action: after if action == "TableRead" else None
    reader = split.reader()
    error = in_thread(reader.read_all, reader.cancel, lambda: script.silenced)
    assert isinstance(error, OperationCancelledError), repr(error)
    reader.close()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_abort_that_nobody_answers_keeps_nobody(
    forward: tuple[Forward, fletching.Client], error: type[BaseException]
) -> None:
    script, client = forward
    table = filled(client)
    script.silent = lambda action: 0 if action == "TableAbortWriteSession" else None

    def write() -> None:
        with table.write_session() as session, session.writer() as writer:
            writer.write({"n": [1]})
            raise error

    with promptly(), pytest.raises(error):
        write()
    script.silent = lambda _: None
    assert table.count_rows() == 40_000


def interrupted_in_silence(script: Forward, work: Callable[[], object]) -> float:
    """Runs what Ctrl-C interrupts once nobody answers; returns how long it took to end after that."""
    moments: list[float] = []
    over = threading.Event()

    def interrupt() -> None:
        while not script.silenced and not over.wait(0.01):
            pass
        if not over.is_set():
            moments.append(time.monotonic())
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def watched() -> None:
        threading.Thread(target=interrupt, daemon=True).start()
        try:
            work()
        finally:
            over.set()

    with pytest.raises(KeyboardInterrupt):
        watched()
    return time.monotonic() - moments[0]


@pytest.mark.parametrize("answered", [0, 1])
def test_statements_are_interrupted_though_nobody_hears_of_it(
    forward: tuple[Forward, fletching.Client], answered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result, "_FIRST_SECONDS", 0.01)
    script, client = forward
    client.sql("create table t (n bigint); insert into t select explode(sequence(1, 300))")
    asked: list[str] = []

    def silent(action: str) -> int | None:
        asked.append(action)
        return 0 if len(asked) > answered else None

    script.silent = silent
    text = "select count(*) from t a, t b, t c where a.n + b.n + c.n = -1"  # not done at once
    assert interrupted_in_silence(script, lambda: client.sql(text)) < PROMPT
    until(lambda: len(asked) > answered + 1, PROMPT)  # it was told, too
    script.silent = lambda _: None


def test_a_table_that_gets_no_rows_is_dropped_without_waiting_for_that(
    forward: tuple[Forward, fletching.Client],
) -> None:
    script, client = forward
    asked: list[str] = []

    def silent(action: str) -> int | None:
        asked.append(action)
        return 0 if len(asked) > 1 else None

    script.silent = silent
    made = interrupted_in_silence(script, lambda: client.create_table("made", {"n": [1]}))
    assert made < PROMPT


def test_sessions_are_left_without_waiting_for_an_answer(
    forward: tuple[Forward, fletching.Client],
) -> None:
    script, client = forward
    table = filled(client)

    def leave(*, session: bool) -> None:
        script.silent = lambda _: None
        if session:
            with table.scan().session():
                script.silent = lambda _: 0
                raise KeyboardInterrupt
        batches = table.scan().to_batches()
        next(batches)
        script.silent = lambda _: 0
        batches.close()
        raise KeyboardInterrupt

    for session in (True, False):
        with promptly(), pytest.raises(KeyboardInterrupt):
            leave(session=session)


def test_an_append_through_several_streams_is_interrupted(
    forward: tuple[Forward, fletching.Client],
) -> None:
    script, client = forward
    table = filled(client).with_options(write_body_bytes=8000)
    script.silent = lambda action: 0 if action == "TableWrite" else None

    def rows() -> Iterator[pa.RecordBatch]:
        for _ in range(8):
            yield pa.record_batch({"n": range(1000)})
        while script.silenced < 3:
            time.sleep(0.01)
        raise KeyboardInterrupt

    with promptly(), pytest.raises(KeyboardInterrupt):
        table.append(rows(), streams=3)
    ended("fletching-write-")


@pytest.mark.parametrize("written", [0, 100, 64 << 20])
def test_a_blob_upload_is_broken_off(
    forward: tuple[Forward, fletching.Client], written: int
) -> None:
    _, client = forward
    table = client.create_table("b", "image BLOB")
    # A listener that takes the connection and nothing of the body.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with fletching.connect(url, **KEYS, **PATIENT) as silent:
            session = fletching.Table(silent.channel, table.info).open_write_session("ws")
            file = session.blob_writer("image")
            writer = threading.Thread(target=lambda: _write(file, written), daemon=True)
            writer.start()
            if written < 1 << 20:
                writer.join(PROMPT)
            with promptly():
                file.close()
            writer.join(PROMPT)
            assert not writer.is_alive()
            assert file.status.value == "aborted"


def _write(file: Any, written: int) -> None:
    with contextlib.suppress(FletchingError, ValueError):
        for _ in range(0, written, 1 << 20):
            file.write(bytes(min(written, 1 << 20)))


@pytest.mark.parametrize("after", [0, 5000])
def test_blobs_are_left_in_the_middle(
    forward: tuple[Forward, fletching.Client], after: int
) -> None:
    script, client = forward
    table = client.create_table("b", "image BLOB")
    with table.write_session() as session:
        references = session.put_blobs([bytes(100_000)] * 4, "image")
    script.silent = lambda action: after if action == "BlobRead" else None
    reached = lambda: script.silenced
    error = in_thread(lambda: list(client.get_blobs(references)), client.close, reached)
    assert isinstance(error, OperationCancelledError), repr(error)


def test_the_end_of_a_reply_is_not_waited_for_when_every_row_is_here(
    forward: tuple[Forward, fletching.Client],
) -> None:
    script, client = forward
    table = filled(client)

    def silent(action: str) -> int | None:
        return 80_000 + 3_000 if action == "TableRead" else None

    script.silent = silent
    # A limit gives splits of known lengths: all rows arrive, and then neither marker nor end.
    with promptly():
        rows = table.scan(limit=10_000).to_table().num_rows
    assert rows == 10_000


# --- Ctrl-C ------------------------------------------------------------------------------------

PROGRAM = """
import sys
import fletching

client = fletching.connect(
    sys.argv[1], access_id="a", access_key="b", timeouts={{"first_byte": 600.0}}
)
print("waiting", flush=True)
{action}
"""


@pytest.mark.parametrize(
    "action",
    ["client.list_tables()", "list(client.table('t').scan().to_batches())"],
)
def test_ctrl_c_ends_a_program_that_waits(action: str) -> None:
    with ReplayPeer(lambda _: Answer(silent_after=0)) as peer:
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(action=action), peer.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            until(lambda: peer.requests)
            with promptly():
                program.send_signal(signal.SIGINT)
                _, errors = program.communicate(timeout=PROMPT)
        finally:
            program.kill()
            program.wait()
    assert "KeyboardInterrupt" in errors
