"""What the client's tests share: a clock that nobody waits for, and a transport made of a dict."""

from __future__ import annotations

import dataclasses
import itertools
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pytest

import fletching
from fletching.client.blobs.blob_transfers import UploadChecksum
from fletching.client.call_options import CallOptions, RetryPolicy
from fletching.client.cancellation import Cancellation
from fletching.client.retry import RetrySequence, Timing
from fletching.client.transports.channel import Channel
from fletching.protocol.messages.requests import (
    AppendRows,
    ReadBlobs,
    ReadTable,
    Request,
    WriteTable,
)
from fletching.protocol.messages.responses import BlobReferences, Response, WriteResult


class FakeClock:
    """Time that passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    @property
    def timing(self) -> Timing:
        ids = itertools.count(1)
        return Timing(
            clock=lambda: self.now,
            sleep=self.sleep,
            random=lambda: 0.0,
            new_id=lambda: f"trace-{next(ids)}",
        )


@dataclasses.dataclass
class FakeSource:
    """Batches from a list; items that are exceptions are raised."""

    schema: pa.Schema
    items: Sequence[Any]
    request_id: str | None = "req-1"
    closed: bool = False

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        for item in self.items:
            if isinstance(item, BaseException):
                raise item
            yield item

    def hurry(self) -> None: ...

    def close(self) -> None:
        self.closed = True


class FakeTransport:
    """Answers with whatever the test's functions return or raise."""

    supports_parallel_reads = True
    default_connections = 4
    upload_checksum = UploadChecksum.MD5
    reads_whole_blobs = False

    def __init__(self) -> None:
        self.cancellation = Cancellation()
        self.on_upload: Callable[[Any, Any], BlobReferences] = self._unexpected
        self.on_read_blobs: Callable[[ReadBlobs], Any] = self._unexpected
        self.on_call: Callable[[Request, RetrySequence], Response] = self._unexpected
        self.on_read: Callable[[ReadTable], FakeSource] = self._unexpected
        self.on_write: Callable[[Any, Sequence[Any], RetrySequence], WriteResult] = self._unexpected
        self.sources: list[FakeSource] = []
        self.requests: list[Any] = []

    @staticmethod
    def _unexpected(*_: object) -> Any:
        pytest.fail("the test expects no such request")

    def call(self, request: Request, attempt: RetrySequence) -> Any:
        self.requests.append(request)
        return self.on_call(request, attempt)

    def open_session(self, request: Any, attempt: RetrySequence) -> tuple[Any, None]:
        return self.call(request, attempt), None

    def read(self, request: Any, attempt: RetrySequence) -> FakeSource:
        self.requests.append(request)
        source = self.on_read(request)
        self.sources.append(source)
        return source

    def write(
        self,
        request: WriteTable | AppendRows,
        batches: Sequence[pa.RecordBatch],
        schema: pa.Schema,
        attempt: RetrySequence,
    ) -> WriteResult:
        self.requests.append(request)
        return self.on_write(request, batches, attempt)

    def upload_blobs(self, request: Any, body: Any, attempt: RetrySequence) -> BlobReferences:
        self.requests.append(request)
        return self.on_upload(request, body)

    def read_blobs(self, request: ReadBlobs, attempt: RetrySequence) -> Any:
        self.requests.append(request)
        return self.on_read_blobs(request)

    def read_range(self, *_: object) -> Any:
        raise NotImplementedError

    def blob_info(self, *_: object) -> Any:
        raise NotImplementedError

    def open_read(self, *_: object) -> Any:
        raise NotImplementedError

    def open_write(self, *_: object) -> Any:
        raise NotImplementedError

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
def channel(clock: FakeClock, transport: FakeTransport) -> Channel:
    options = CallOptions(retry=RetryPolicy(budget_seconds=10.0, first_delay_seconds=1.0))
    return Channel(transport, options, clock.timing, None)


@pytest.fixture
def fake_source() -> type[FakeSource]:
    return FakeSource


# --- both transports --------------------------------------------------------------------------

KEYS = {"tester": "testers-secret"}


@pytest.fixture(scope="session")
def http_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with fletching.serve(tmp_path_factory.mktemp("served"), port=0, access_keys=KEYS) as server:
        yield server


@pytest.fixture(params=["http", "embedded"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[fletching.Client]:
    """A client of a project of its own: over HTTP, and over a folder."""
    # A project per test keeps tests apart on the one server.
    project = f"p{uuid.uuid4().hex[:12]}"
    if request.param == "http":
        server = request.getfixturevalue("http_server")
        opened = fletching.connect(
            server.url,
            project=project,
            access_id="tester",
            access_key=KEYS["tester"],
            retry={"budget_seconds": 2.0},
            create=True,
            # What is read past the service is tested by itself, in transports/http/test_direct_reads.py.
            direct="never",
        )
    else:
        opened = fletching.connect(tmp_path / "folder", project=project, create=True)
    with opened:
        yield opened


@pytest.fixture
def events(client: fletching.Client) -> fletching.Table:
    """A table with partitions and without rows."""
    return client.create_table(
        "events", pa.schema([("id", pa.int64()), ("text", pa.string())]), partition_by=["pt"]
    )
