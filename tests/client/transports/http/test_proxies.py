from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import fletching
from fletching.client.transports.http.proxies import proxy_for
from fletching.errors import ConnectError, UsageError

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("endpoint", "variables", "proxy"),
    [
        ("http://h", {}, None),
        ("http://h", {"http_proxy": "http://p:1"}, "http://p:1"),
        ("http://h", {"HTTP_PROXY": "http://p:1"}, "http://p:1"),
        ("http://h", {"http_proxy": "p:1"}, "http://p:1"),
        ("https://h", {"http_proxy": "http://p:1"}, None),
        ("https://h", {"https_proxy": "https://p:1"}, "https://p:1"),
        ("https://h", {"all_proxy": "http://p:1"}, "http://p:1"),
        ("http://h", {"all_proxy": "http://a:1", "http_proxy": "http://p:1"}, "http://p:1"),
        ("http://h", {"http_proxy": ""}, None),
    ],
)
def test_the_environment_chooses(
    endpoint: str, variables: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(endpoint, None) == proxy
    assert proxy_for(endpoint, "") is None
    assert proxy_for(endpoint, "http://mine:2") == "http://mine:2"


@pytest.mark.parametrize(
    ("endpoint", "exempt", "direct"),
    [
        ("http://h.example:80", "h.example", True),
        ("http://a.h.example", "h.example", True),
        ("http://a.h.example", ".h.example", True),
        ("http://a.h.example", "*.h.example", True),
        ("http://ah.example", "h.example", False),
        ("http://H.Example.", "h.example", True),
        ("http://h.example", "other, h.example ,more", True),
        ("http://h.example", "*", True),
        ("http://h.example:8787", "h.example:8787", True),
        ("http://h.example:8788", "h.example:8787", False),
        ("http://h.example", "h.example:80", True),
        ("https://h.example", "h.example:443", True),
        ("http://127.0.0.1:8787", "127.0.0.1", True),
        ("http://127.0.0.1:8787", "127.0.0.0/8", True),
        ("http://127.0.0.1:8787", "10.0.0.0/8,x/y", False),
        ("http://1.127.0.0.1", "127.0.0.1", True),
        ("http://[::1]:8787", "::1", True),
        ("http://[::1]:8787", "[::1]:8787", True),
        ("http://[::1]:8787", "fe80::/10", False),
        ("http://localhost", "", False),
    ],
)
def test_no_proxy_is_kept_to(
    endpoint: str, exempt: str, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://p:1")
    monkeypatch.setenv("https_proxy", "http://p:1")
    monkeypatch.setenv("no_proxy", exempt)
    assert (proxy_for(endpoint, None) is None) is direct
    assert proxy_for(endpoint, "http://mine:2") == "http://mine:2"


@pytest.mark.parametrize("proxy", ["socks5://p:1", "http://", "http://p:x", "http://p:99999"])
def test_what_is_no_http_proxy_is_refused(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="proxy"):
        proxy_for("http://h", proxy)
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with pytest.raises(UsageError, match="environment"):
        proxy_for("http://h", None)


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[bytes]]]:
    """A proxy that notes what it is asked and fails."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    seen.append(sock.recv(4096).partition(b"\r")[0])
                    sock.sendall(
                        b"HTTP/1.1 502 Bad\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    )

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(20)


def test_requests_go_through_it(
    http_server: Any, proxy: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, seen = proxy
    monkeypatch.setenv("HTTP_PROXY", url)
    key: dict[str, Any] = {
        "access_id": "tester",
        "access_key": "testers-secret",
        "retry": {"budget_seconds": 0.0},
    }
    with (
        fletching.connect(http_server.url, **key) as client,
        pytest.raises(fletching.FletchingError),
    ):
        client.list_tables()
    (line,) = seen
    assert line.startswith(f"GET {http_server.url}/".encode())
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with fletching.connect(http_server.url, **key) as client:
        client.list_tables()
    monkeypatch.delenv("NO_PROXY")
    with fletching.connect(http_server.url, proxy="", **key) as client:
        client.list_tables()
    assert len(seen) == 1
    # TLS goes through a tunnel, which this proxy refuses.
    monkeypatch.setenv("HTTPS_PROXY", url)
    with (
        fletching.connect("https://tables.example", **key) as client,
        pytest.raises(ConnectError),
    ):
        client.list_tables()
    assert seen[1].startswith(b"CONNECT tables.example:443")
