"""A reply cut at any byte is an error, never an empty or shorter answer."""

from __future__ import annotations

import json

import pytest

from fletching.client.call_options import NO_RETRIES, CallOptions
from fletching.client.credentials import Credentials
from fletching.client.retry import Effect, RetrySequence, Timing, effect_of
from fletching.client.transports.http.http_transport import HttpTransport
from fletching.errors import FletchingError
from fletching.protocol.messages.requests import GetWriteStream
from fletching.testing.replay import Answer, ReplayPeer
from fletching.types import TableName

REQUEST = GetWriteStream(
    table=TableName("demo", "t"), session_id="default", stream_id="s", exactly_once=True
)
BODY = json.dumps({"AccessToken": "t", "RowOffset": 5, "TableSchema": {}}).encode()


@pytest.mark.parametrize("chunk_bytes", [None, 7])
@pytest.mark.parametrize("reset", [False, True])
def test_every_cut_is_noticed_and_leaves_the_outcome_open(
    chunk_bytes: int | None, *, reset: bool
) -> None:
    options = CallOptions(retry=NO_RETRIES)
    cut = 0
    while True:
        answer = Answer(body=BODY, cut=cut, reset=reset, chunk_bytes=chunk_bytes)
        with (
            ReplayPeer([answer]) as peer,
            HttpTransport(peer.url, Credentials("id", "key")) as transport,
        ):
            try:
                reply = transport.call(REQUEST, RetrySequence(options, Timing()))
            except FletchingError as error:
                assert effect_of(error) is Effect.UNKNOWN, (cut, error)  # noqa: PT017 - some pass
            else:
                assert getattr(reply, "row_offset", None) == 5, cut
                break
        cut += 1
        assert cut < 1000
    assert cut > len(BODY)
