"""Where a service is, by its URL."""

from __future__ import annotations

import pytest

from fletching.client.transports.http.service_exchanges import endpoint_of
from fletching.errors import UsageError


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
