"""Writers and readers, each a process: ``python -m torture.workers [KIND NUMBER URL LOG SEED]...``.

Each does its work until its standard input ends, and writes down what it is about to do and what
it was told. What it was not told stays open: the checker knows what may then be.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from fletching.client.call_options import CallOptions, RetryPolicy, Timeouts
from fletching.client.credentials import Credentials
from fletching.client.retry import Effect, RetrySequence, Timing, effect_of
from fletching.client.transports.embedded.embedded_transport import EmbeddedTransport
from fletching.client.transports.http.http_transport import HttpTransport
from fletching.errors import (
    FletchingError,
    NoPermissionError,
    NotFoundError,
    RowOffsetError,
    ServiceError,
    StorageError,
    WireError,
)
from fletching.protocol.messages.requests import (
    AbortWriteSession,
    CloseWriteStream,
    CommitWriteSession,
    CreateReadSession,
    CreateWriteSession,
    CreateWriteStream,
    GetWriteStream,
    ReadBlobs,
    ReadTable,
    Request,
    WriteBlob,
    WriteTable,
)
from fletching.settings import environments_data_set
from fletching.types import TableName
from fletching.wire.blob_frames import BlobData, BlobDataStart
from torture.life import ACCESS_KEYS, SOAK, die_with_parent

MAIN = TableName("demo", "main")
REGISTER = TableName("demo", "register")
PICTURES = TableName("demo", "pictures")
SCHEMA = pa.schema(
    [("src", pa.string()), ("n", pa.int64()), ("total", pa.int64()), ("payload", pa.string())]
)
PICTURE_SCHEMA = pa.schema(
    [("src", pa.string()), ("n", pa.int64()), ("total", pa.int64()), ("image", pa.binary())]
)
OPTIONS = CallOptions(
    timeouts=Timeouts(connect=1.0, first_byte=3.0, idle=3.0, total=10.0),
    retry=RetryPolicy(budget_seconds=0),
)
SOAK_TURN_SECONDS = 2.0
"""In a soak no worker begins its next turn earlier than this after its last."""


def payload(src: str, n: int) -> str:
    return f"{src}/{n}/" + "x" * ((n * 7919) % 97)


def rows(src: str, start: int, count: int, total: int = 0) -> Any:
    values = range(start, start + count)
    return pa.record_batch(
        [
            pa.array([src] * count, pa.string()),
            pa.array(values, pa.int64()),
            pa.array([total] * count, pa.int64()),
            pa.array([payload(src, n) for n in values], pa.string()),
        ],
        schema=SCHEMA,
    )


class UncertainError(Exception):
    """The request may have been done; nobody said."""


class LostError(Exception):
    """What was begun cannot go on: begin anew."""


class Worker:
    def __init__(self, kind: str, number: int, url: str, log: Path, seed: int) -> None:
        self.name = f"{kind}{number}"
        self.random = random.Random(f"{seed}/{self.name}")
        access_id, secret = next(iter(ACCESS_KEYS.items()))
        # A path is a folder that is opened without a server, beside those that run over it.
        self.transport: Any = (
            HttpTransport(url, Credentials(access_id, secret))
            if "://" in url
            else EmbeddedTransport(environments_data_set(os.environ) or url)
        )
        self.log = log.open("a", buffering=1)
        self.stopped = threading.Event()
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self) -> None:
        sys.stdin.read()
        self.stopped.set()

    def say(self, event: str, **facts: Any) -> None:
        line = {"t": time.monotonic(), "who": self.name, "event": event, **facts}
        self.log.write(json.dumps(line) + "\n")

    def pause(self, longest: float) -> None:
        self.stopped.wait(self.random.uniform(0, longest))

    # --- asking ---

    def ask(self, what: Callable[[RetrySequence], Any], *, trace: str | None = None) -> Any:
        """One attempt; `UncertainError` if its effect is not known."""
        sequence = RetrySequence(OPTIONS, Timing(), trace_id=trace or str(uuid.uuid4()))
        try:
            return what(sequence)
        except (FletchingError, OSError) as error:
            if isinstance(error, ServiceError) and error.http_status == 500:
                # Whatever happens to it, the service must not break inside.
                self.say("violation", what=f"a fault of the server: {error}")
            if isinstance(error, FletchingError) and effect_of(error) is Effect.REFUSED:
                if isinstance(error, WireError) or type(error) is StorageError:
                    # A reply that was cut so that it is not even an Arrow stream; or, in the folder
                    # itself, a part of it that is away for a moment.
                    raise UncertainError(str(error)) from error
                raise
            raise UncertainError(str(error)) from error

    def call(self, request: Request, *, trace: str | None = None) -> Any:
        return self.ask(lambda attempt: self.transport.call(request, attempt), trace=trace)

    def write(self, request: WriteTable, batch: Any, *, trace: str | None = None) -> Any:
        return self.ask(
            lambda attempt: self.transport.write(request, [batch], batch.schema, attempt),
            trace=trace,
        )

    def fetch(self, table: TableName, session: str, attempt: RetrySequence) -> list[Any]:
        source = self.transport.read(ReadTable(table=table, session_id=session), attempt)
        try:
            return list(source)
        finally:
            source.close()

    def insist(self, what: Callable[[str], Any]) -> Any:
        """The same request until somebody answers it; None when the run ends first."""
        trace = str(uuid.uuid4())
        while not self.stopped.is_set():
            try:
                return what(trace)
            except UncertainError:
                self.pause(0.1)
        return None

    def run(self) -> None:
        try:
            while not self.stopped.is_set():
                begun = time.monotonic()
                with contextlib.suppress(LostError):
                    self.turn()
                if SOAK in os.environ:
                    # Memory follows what is asked in five minutes. So that growth can be told from that, as much
                    # is asked whatever else the machine does.
                    self.stopped.wait(begun + SOAK_TURN_SECONDS - time.monotonic())
        except Exception as error:
            self.say("unexpected", error=f"{type(error).__name__}: {error}")
            raise
        finally:
            self.say("end")

    def turn(self) -> None:
        raise NotImplementedError

    def read(self, table: TableName, session: str) -> list[Any]:
        """All rows of a read session.

        Raises:
            LostError: the session is gone, or the run ends. A session that is opened while somebody
                else writes for long is in the memory of its server alone for a moment.
        """
        try:
            result: list[Any] | None = self.insist(
                lambda trace: self.ask(
                    lambda attempt: self.fetch(table, session, attempt), trace=trace
                )
            )
        except NotFoundError as error:
            self.say("lost", session=session)
            raise LostError from error
        if result is None:
            raise LostError
        return result


class ExactlyOnce(Worker):
    """One stream of the default session; asks for the offset whenever it does not know it."""

    offset = 0
    acknowledged = 0
    token: str | None = None

    def turn(self) -> None:
        stream = {"table": MAIN, "session_id": "default", "stream_id": self.name}
        if self.token is None:
            try:
                actual = self.call(GetWriteStream(**stream, exactly_once=True))
            except UncertainError:
                self.pause(0.1)
                return
            self.token, self.offset = actual.access_token, actual.row_offset
            self.say("look", offset=self.offset)
            if self.offset < self.acknowledged:
                self.say(
                    "violation",
                    what=f"offset {self.offset} after {self.acknowledged} was acknowledged",
                )
        count = self.random.randint(1, 40)
        request = WriteTable(**stream, row_offset=self.offset, access_token=self.token, count=count)
        batch = rows(self.name, self.offset, count)
        trace = str(uuid.uuid4())
        self.say("append", offset=self.offset, count=count)
        for _ in range(self.random.randint(1, 4)):
            try:
                result = self.write(request, batch, trace=trace)
            except UncertainError:
                self.pause(0.05)
                continue
            except (RowOffsetError, NoPermissionError) as error:
                # Fenced by a repetition of our own request, or ahead of a lost one: ask.
                self.say("refused", why=type(error).__name__)
                break
            self.offset = result.exactly_once_row_offset
            if self.offset != request.row_offset + count:
                self.say(
                    "violation", what=f"offset {self.offset} after {request.row_offset} + {count}"
                )
            self.acknowledged = self.offset
            self.say("appended", offset=self.offset)
            self.pause(0.02)
            return
        self.token = None


class Batch(Worker):
    """Write sessions with several streams and attempts; some are aborted, some forgotten."""

    session_number = 0

    def turn(self) -> None:
        self.session_number += 1
        src = f"{self.name}.{self.session_number}"
        created = self.insist(lambda trace: self.call(CreateWriteSession(table=MAIN), trace=trace))
        if created is None:
            return
        session = created.session_id
        streams = [self.random.randint(1, 30) for _ in range(self.random.randint(1, 3))]
        total = sum(streams)
        self.say("session", src=src, session=session, total=total)
        start = 0
        for number, count in enumerate(streams):
            if not self.stream(session, f"s{number}", src, start, count, total):
                return
            start += count
        if self.random.random() < 0.3:
            # Rows of a stream that is never closed must never be seen.
            self.attempt(session, "left-open", 1, f"{src}!", 0, 5, 5, close=False)
        ending = self.random.choices(["commit", "abort", "leave"], [8, 1, 1])[0]
        if ending == "leave":
            self.say("left", src=src)
            return
        kind: Any = {"commit": CommitWriteSession, "abort": AbortWriteSession}[ending]
        self.say(ending, src=src)
        done = self.insist(
            lambda trace: self.call(kind(table=MAIN, session_id=session), trace=trace)
        )
        if done is not None:
            self.say(f"{ending}ed", src=src)
        self.pause(0.05)

    def stream(
        self, session: str, stream: str, src: str, start: int, count: int, total: int
    ) -> bool:
        """Attempts with rising versions until one is closed; False when the run ends first."""
        version = 0
        while not self.stopped.is_set():
            version += 1
            if self.attempt(session, stream, version, src, start, count, total, close=True):
                return True
        return False

    def attempt(
        self, session: str, stream: str, version: int, src: str, start: int, count: int,
        total: int, *, close: bool,
    ) -> bool:  # fmt: skip
        names = {
            "table": MAIN,
            "session_id": session,
            "stream_id": stream,
            "stream_version": version,
        }
        if self.insist(lambda trace: self.call(CreateWriteStream(**names), trace=trace)) is None:
            return False
        cut = self.random.randint(0, count)
        for first, size in ((start, cut), (start + cut, count - cut)):
            if not size:
                continue
            batch = rows(src, first, size, total)
            trace = str(uuid.uuid4())
            for _ in range(3):
                try:
                    self.write(WriteTable(**names), batch, trace=trace)
                    break
                except UncertainError:
                    self.pause(0.05)
            else:
                return False  # give this version up and begin the next
        if not close:
            return True
        return (
            self.insist(lambda trace: self.call(CloseWriteStream(**names), trace=trace)) is not None
        )


class Register(Worker):
    """Overwrites a whole table with ever higher values: readers must see exactly one of them."""

    value = 0

    def turn(self) -> None:
        self.value += 1
        count = self.random.randint(1, 20)
        created = self.insist(
            lambda trace: self.call(CreateWriteSession(table=REGISTER, overwrite=True), trace=trace)
        )
        if created is None:
            return
        names = {"table": REGISTER, "session_id": created.session_id, "stream_id": "s"}
        batch = rows("register", self.value, 1, count)
        batch = pa.Table.from_batches([batch] * count).combine_chunks().to_batches()[0]
        for step in (
            lambda trace: self.call(CreateWriteStream(**names), trace=trace),
            lambda trace: self.write(WriteTable(**names), batch, trace=trace),
            lambda trace: self.call(CloseWriteStream(**names), trace=trace),
        ):
            if self.insist(step) is None:
                return
        self.say("set", value=self.value)
        commit = CommitWriteSession(table=REGISTER, session_id=created.session_id)
        if self.insist(lambda trace: self.call(commit, trace=trace)) is not None:
            self.say("was set", value=self.value)
        self.pause(0.3)


def picture(src: str, n: int) -> bytes:
    """A blob's bytes, from nothing to 60 KB."""
    seed = random.Random(f"{src}/{n}")
    return seed.randbytes(seed.choice([0, 1, 100, 5_000, 60_000]))


class PictureBody:
    repeatable = True

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.length = len(data)

    def __iter__(self) -> Iterator[bytes]:
        return iter([self.data] if self.data else [])


class Pictures(Worker):
    """Sessions that upload blobs, then the rows that refer to them; some are aborted."""

    session_number = 0

    def turn(self) -> None:
        self.session_number += 1
        src = f"{self.name}.{self.session_number}"
        created = self.insist(
            lambda trace: self.call(CreateWriteSession(table=PICTURES), trace=trace)
        )
        if created is None:
            return
        total = self.random.randint(1, 4)
        self.say("session", src=src, session=created.session_id, total=total)
        names = {"table": PICTURES, "session_id": created.session_id, "stream_id": "s"}
        if self.insist(lambda trace: self.call(CreateWriteStream(**names), trace=trace)) is None:
            return
        references = []
        for n in range(total):
            body = PictureBody(picture(src, n))
            upload = WriteBlob(**names, column_id=4)
            result = self.insist(
                lambda trace, body=body, upload=upload: self.ask(
                    lambda attempt: self.transport.upload_blobs(upload, body, attempt),
                    trace=trace,
                )
            )
            if result is None:
                return
            references.append(result.references[0].encode())
        batch = pa.record_batch(
            [
                pa.array([src] * total, pa.string()),
                pa.array(range(total), pa.int64()),
                pa.array([total] * total, pa.int64()),
                pa.array(references, pa.binary()),
            ],
            schema=PICTURE_SCHEMA,
        )
        for step in (
            lambda trace: self.write(WriteTable(**names), batch, trace=trace),
            lambda trace: self.call(CloseWriteStream(**names), trace=trace),
        ):
            if self.insist(step) is None:
                return
        ending = self.random.choices(["commit", "abort"], [4, 1])[0]
        kind: Any = {"commit": CommitWriteSession, "abort": AbortWriteSession}[ending]
        request = kind(table=PICTURES, session_id=created.session_id)
        self.say(ending, src=src)
        if self.insist(lambda trace: self.call(request, trace=trace)) is not None:
            self.say(f"{ending}ed", src=src)
        self.pause(0.1)


class Viewer(Worker):
    """Opens snapshots of the pictures and looks at some of them."""

    def turn(self) -> None:
        before = time.monotonic()
        opened = self.insist(
            lambda trace: self.call(CreateReadSession(table=PICTURES), trace=trace)
        )
        after = time.monotonic()
        if opened is None:
            return
        batches = self.read(PICTURES, opened.session_id)
        rows = [row for batch in batches for row in batch.to_pylist()]
        chosen = self.random.sample(rows, min(len(rows), self.random.randint(1, 5)))
        if chosen:
            request = ReadBlobs(
                project="demo", references=tuple(row["image"].decode() for row in chosen)
            )
            blobs = self.insist(
                lambda trace: self.ask(lambda attempt: self.look(request, attempt), trace=trace)
            )
            if blobs is None:
                return
            for row, data in zip(chosen, blobs, strict=True):
                if data != picture(row["src"], row["n"]):
                    self.say(
                        "violation", what=f"blob {row['n']} of {row['src']} is not what was sent"
                    )
        result: dict[str, list[int]] = {}
        for row in rows:
            entry = result.setdefault(row["src"], [0, 0, -1, row["total"]])
            entry[0] += 1
            entry[1] += 1
            entry[2] = max(entry[2], row["n"])
        self.say("snapshot", table="pictures", before=before, after=after, contents=result)
        self.pause(0.3)

    def look(self, request: ReadBlobs, attempt: RetrySequence) -> list[bytes]:
        events = self.transport.read_blobs(request, attempt)
        blobs: list[bytearray] = []
        try:
            for event in events:
                if isinstance(event, BlobDataStart):
                    blobs.append(bytearray())
                elif isinstance(event, BlobData):
                    blobs[-1] += event.data
        finally:
            events.close()
        return [bytes(blob) for blob in blobs]


class Reader(Worker):
    """Opens snapshots, reads each twice, and writes down what was in it."""

    def turn(self) -> None:
        table = self.random.choice([MAIN, MAIN, REGISTER])
        before = time.monotonic()
        opened = self.insist(lambda trace: self.call(CreateReadSession(table=table), trace=trace))
        after = time.monotonic()
        if opened is None:
            return
        first = pa.Table.from_batches(self.read(table, opened.session_id), SCHEMA)
        self.pause(0.8)
        second = pa.Table.from_batches(self.read(table, opened.session_id), SCHEMA)
        if self.stopped.is_set():
            return
        if not first.equals(second):
            self.say(
                "violation",
                what=f"snapshot {opened.session_id} of {table.name} read differently the second time",
            )
        if opened.record_count != first.num_rows:
            self.say(
                "violation", what=f"a session of {opened.record_count} rows gave {first.num_rows}"
            )
        self.say("snapshot", table=table.name, before=before, after=after, contents=contents(first))


def contents(table: Any) -> dict[str, list[int]]:
    """Per source [rows, distinct rows, highest, total]; bad payloads under ``?``."""
    result: dict[str, list[int]] = {}
    seen: dict[str, set[int]] = {}
    for src, n, total, text in zip(*(column.to_pylist() for column in table.columns), strict=True):
        if text != payload(src, n):
            result.setdefault("?", [0, 0, 0, 0])[0] += 1
        entry = result.setdefault(src, [0, 0, -1, total])
        numbers = seen.setdefault(src, set())
        numbers.add(n)
        entry[0] += 1
        entry[1] = len(numbers)
        entry[2] = max(entry[2], n)
    return result


KINDS: dict[str, type[Worker]] = {
    "eo": ExactlyOnce,
    "batch": Batch,
    "register": Register,
    "reader": Reader,
    "blob": Pictures,
    "viewer": Viewer,
}

if __name__ == "__main__":
    from torture.ledger import Changer, Watcher

    KINDS |= {"changer": Changer, "watcher": Watcher}
    die_with_parent()
    children_ = []
    # All are forks of this one: each by itself would take a second to import what it needs.
    for start_ in range(1, len(sys.argv), 5):
        kind_, number_, url_, log_, seed_ = sys.argv[start_ : start_ + 5]
        child_ = os.fork()
        if not child_:
            die_with_parent()
            with Path(log_).with_suffix(".err").open("w") as errors_:
                os.dup2(errors_.fileno(), 2)
            KINDS[kind_](kind_, int(number_), url_, Path(log_), int(seed_)).run()
            os._exit(0)
        children_.append(child_)
    for child_ in children_:
        os.waitpid(child_, 0)
