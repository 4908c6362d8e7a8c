"""Which proxy leads to a service: the one that is given, or what the environment says.

``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY`` mean what they mean to curl, requests and
so PyODPS. ``NO_PROXY`` is a list of hosts, which cover their subdomains, of ``host:port``, of addresses
and networks (``10.0.0.0/8``), or ``*``.
"""

from __future__ import annotations

import ipaddress
import urllib.parse
import urllib.request

from fletching.errors import UsageError

__all__ = ["proxy_for"]

_SCHEMES = ("http", "https")


def proxy_for(endpoint: str, given: str | None) -> str | None:
    """The URL of the proxy to use for an endpoint, or None for a direct connection.

    Args:
        endpoint: scheme, host and port of the service.
        given: the caller's choice: a URL, ``""`` for none, or None for the environment's.

    Raises:
        UsageError: what is given or set is not the URL of an HTTP proxy.
    """
    source = "proxy"
    if given is None:
        parts = urllib.parse.urlsplit(endpoint)
        # Also knows the systems' own settings on macOS and Windows.
        known = urllib.request.getproxies()
        name = parts.scheme if known.get(parts.scheme) else "all"
        given = known.get(name)
        source = f"the environment's {name} proxy"
        if given and _is_exempt(parts, known.get("no", "")):
            return None
    if not given:
        return None
    url = given if "://" in given else f"http://{given}"
    try:
        proxy = urllib.parse.urlsplit(url)
        host, _ = proxy.hostname, proxy.port
    except ValueError as exc:
        raise UsageError(f"{source} is not a URL: {exc}") from exc
    if proxy.scheme.lower() not in _SCHEMES or not host:
        raise UsageError(f"{source} is not http://host:port or https://host:port")
    return url


def _is_exempt(parts: urllib.parse.SplitResult, exempt: str) -> bool:
    """Whether ``NO_PROXY`` names the host."""
    host = (parts.hostname or "").lower().rstrip(".")
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    for entry in exempt.lower().split(","):
        name = entry.strip()
        if not name:
            continue
        if name == "*":
            return True
        if address is not None and "/" in name:
            try:
                if address in ipaddress.ip_network(name, strict=False):
                    return True
            except ValueError:
                pass
            continue
        head, colon, tail = name.rpartition(":")
        if colon and tail.isascii() and tail.isdigit() and (head.endswith("]") or ":" not in head):
            if int(tail) != port:
                continue
            name = head
        name = name.strip("[]").removeprefix("*").lstrip(".")
        if name and (host == name or (address is None and host.endswith(f".{name}"))):
            return True
    return False
