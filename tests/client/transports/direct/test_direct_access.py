"""The ways past a service: asked for when they may work, left when they do not, never in the clear beside TLS."""

from __future__ import annotations

import os
from typing import Any

import pytest

from fletching.client.call_options import CallOptions
from fletching.client.cancellation import Cancellation
from fletching.client.transports.direct.direct_access import UNREACHABLE_SECONDS, DirectAccess
from fletching.client.transports.direct.range_fetcher import SourcesGoneError
from fletching.errors import ProtocolError
from fletching.ipc import Limits
from fletching.protocol.messages.manifest import Inline, Manifest, SourceKind
from fletching.protocol.messages.requests import ReadTable
from fletching.types import TableName


class Manager:
    def __init__(self, proxy: str | None) -> None:
        self.proxy = proxy
        self.cleared = False

    def clear(self) -> None:
        self.cleared = True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def access(
    clock: Clock | None = None, *, secure: bool = False
) -> tuple[DirectAccess, list[Manager]]:
    made: list[Manager] = []

    def make(proxy: str | None) -> Any:
        made.append(Manager(proxy))
        return made[-1]

    result = DirectAccess(
        make_manager=make, proxy=None, secure=secure, headers={}, clock=clock or Clock()
    )
    return result, made


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, True),
        ({"direct": "auto"}, True),
        ({"direct": "never"}, False),
        ({"compression": "zstd"}, False),
        ({"lz4_stream": True}, False),
    ],
)
def test_a_manifest_is_asked_for_where_rows_come_as_they_are_stored(
    options: dict[str, Any], asked: bool
) -> None:
    result, _ = access()
    assert result.kinds(CallOptions(**options)) == ((SourceKind.SIGNED,) if asked else ())


def test_what_could_not_be_used_is_not_asked_for_again_for_a_while() -> None:
    clock = Clock()
    result, _ = access(clock)
    manifest: Any = None
    result._failed(manifest)
    assert result.kinds(CallOptions()) == ()
    clock.now = UNREACHABLE_SECONDS - 1
    assert result.kinds(CallOptions()) == ()
    clock.now = UNREACHABLE_SECONDS
    assert result.kinds(CallOptions()) == (SourceKind.SIGNED,)


def test_connections_are_one_manager_for_each_origin() -> None:
    result, made = access()
    first = result._pool("http://store:1/bucket/a?signature=x")
    assert result._pool("http://store:1/bucket/b") is first
    assert result._pool("http://store:2/bucket/a") is not first
    assert result._pool("https://store:1/bucket/a") is not first
    assert len(made) == 3
    result.close()
    assert all(each.cleared for each in made)


def test_a_forked_process_makes_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = access()
    first = result._pool("http://store/a")
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    assert result._pool("http://store/a") is not first


def test_what_is_read_by_tls_is_not_fetched_without() -> None:
    result, made = access(secure=True)
    with pytest.raises(SourcesGoneError, match="TLS") as caught:
        result._pool("http://store/bucket/a?signature=secret")
    assert not caught.value.refreshable
    assert "secret" not in str(caught.value)
    assert not made
    assert result._pool("https://store/bucket/a")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/a",
        "ftp://x/a",
        "http:///a",
        "http://x:port/a",
        "http://x/a b",
        "http://x/a\r\nb",
        "http://x/\u00e9",
    ],
)
def test_a_source_that_is_no_url_is_left(url: str) -> None:
    result, made = access()
    with pytest.raises(SourcesGoneError):
        result._pool(url)
    assert not made


def test_a_manifest_that_begins_with_no_schema_is_refused() -> None:
    result, _ = access()
    manifest = Manifest(
        format=1, kind=SourceKind.SIGNED, rows=0, complete=True, valid_seconds=60.0,
        sources=(), pieces=(Inline(b"\xff\xff\xff\xff\x00\x00\x00\x00"), Inline(b"")),
    )  # fmt: skip
    with pytest.raises(ProtocolError):
        result.reader(
            manifest,
            ReadTable(table=TableName("p", "t"), session_id="s"),
            ask=lambda *_: pytest.fail("nothing is asked for"),
            options=CallOptions(),
            cancellation=Cancellation(),
            limits=Limits(),
            request_id=None,
        )
