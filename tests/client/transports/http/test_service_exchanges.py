"""Where a service is, by its URL."""

from __future__ import annotations

import threading
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest

from fletching.client.transports.http import service_exchanges
from fletching.client.transports.http.service_exchanges import ServiceExchanges, endpoint_of
from fletching.errors import UsageError
from fletching.protocol.messages.responses import Done


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://host", "http://host"), ("https://host:8443/", "https://host:8443"),
        ("http://host:1/api", "http://host:1"), ("http://host:1/api/", "http://host:1"),
        ("http://[::1]:80", "http://[::1]:80"), ("HTTP://Host", "http://host"),
    ],
)  # fmt: skip
def test_endpoints(url: str, endpoint: str) -> None:
    assert endpoint_of(url) == endpoint


@pytest.mark.parametrize(
    "url",
    ["", "host:80", "ftp://host", "http://", "http://u:secret@host", "http://host/path", "http://host?x=1",
     "http://host#x", "http://host:port", "http://host:99999", "http://[::1"],
)  # fmt: skip
def test_what_is_no_service_s_url(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        endpoint_of(url)
    assert "secret" not in caught.value.message


def test_the_route_of_a_session_that_is_in_use_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_exchanges, "ROUTE_TOKENS", 2)
    exchanges: Any = SimpleNamespace(_lock=threading.Lock(), _route_tokens=OrderedDict())
    for session, token in (("a", "1"), ("b", "1"), ("a", "2"), ("c", "1"), ("", "x"), ("d", "")):
        ServiceExchanges._remember_route(
            exchanges,
            SimpleNamespace(session_id=session),  # type: ignore[arg-type]
            Done(route_token=token),
        )
    assert dict(exchanges._route_tokens) == {"a": "2", "c": "1"}
