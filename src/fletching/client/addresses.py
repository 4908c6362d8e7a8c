"""Opens a client: over HTTP for a URL, in process for a folder."""

from __future__ import annotations

import dataclasses
import os
import re
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

from fletching.client.call_options import CallOptions
from fletching.client.client import Client
from fletching.client.credentials import Credentials
from fletching.client.retry import Timing
from fletching.client.transports.channel import Channel
from fletching.client.transports.transport import Transport
from fletching.errors import MissingExtraError, UsageError
from fletching.types import DEFAULT_SCHEMA

__all__ = ["Reopen", "connect"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


_SHARED_CHANNELS = 8
"""Channels kept for what arrives pickled: a worker reads many splits of one scan, one by one."""

_shared: OrderedDict[tuple[int, Reopen], Channel] = OrderedDict()
_shared_lock = threading.Lock()


@dataclasses.dataclass(frozen=True, slots=True)
class Reopen:
    """What a client was connected with; called, it gives the same channel again.

    This is how tables, splits and sessions travel to other processes: it pickles, credentials
    included, and each process makes one channel for it, whatever arrives there how often.
    """

    location: str
    credentials: Credentials | None
    options: CallOptions
    proxy: str | None = None
    ca_certificates: str | None = None

    def __call__(self) -> Channel:
        """The channel of this process, made at the first call and shared."""
        # A forked process must not talk on its parent's connections.
        key = (os.getpid(), self)
        with _shared_lock:
            channel = _shared.pop(key, None)
            if channel is None:
                channel = Channel(self.transport(), self.options, Timing(), self)
            _shared[key] = channel
            while len(_shared) > _SHARED_CHANNELS:
                _shared.popitem(last=False)
        return channel

    def transport(self) -> Transport:
        """A new transport; the caller closes it."""
        if _URL.match(self.location):
            from fletching.client.transports.http.http_transport import HttpTransport

            assert self.credentials is not None
            return HttpTransport(
                self.location,
                self.credentials,
                connections=max(8, self.options.most_connections),
                proxy=self.proxy,
                ca_certificates=self.ca_certificates,
            )
        try:
            from fletching.client.transports.embedded.embedded_transport import EmbeddedTransport
        except ImportError as exc:
            raise MissingExtraError(
                f"{self.location!r} is a folder, and tables in a folder need the server's parts, of "
                f"which {exc.name} is absent: pip install 'fletching[server]'"
            ) from exc
        return EmbeddedTransport(self.location)

    def __str__(self) -> str:
        """The location, without credentials."""
        return self.location


def connect(
    url_or_path: str | os.PathLike[str],
    project: str = "demo",
    *,
    access_id: str | None = None,
    access_key: str | None = None,
    schema: str = DEFAULT_SCHEMA,
    sts_token: str | None = None,
    region: str | None = None,
    proxy: str | None = None,
    ca_certificates: str | os.PathLike[str] | None = None,
    timing: Timing | None = None,
    **options: Any,
) -> Client:
    """Opens a client of one project.

    Args:
        url_or_path: ``http://...`` or ``https://...`` of a service, or the path of a data folder,
            which is then opened in this process, without any server; the ``[server]`` extra must
            be installed for that. Several processes may open one folder, a server among them.
        project: whose tables.
        access_id: names the key that signs the requests; a service needs one, a folder none.
        access_key: that key's secret; never sent.
        schema: the namespace of tables named without one.
        sts_token: goes with a temporary key.
        region: signs for this region (v4 signatures) instead of the legacy way.
        proxy: URL of an HTTP proxy.
        ca_certificates: file of certificate authorities to trust instead of the system's.
        timing: clock, sleep and luck of retries, for tests.
        **options: any field of `CallOptions`: ``timeouts``, ``retry``, ``connections``, ...;
            ``timeouts`` and ``retry`` may be dicts of what differs from the defaults.

    Raises:
        UsageError: not a URL or path, an unknown option, or a service without a key.
        MissingExtraError: a folder, but the ``[server]`` extra is not installed.
        StorageError: the folder cannot be opened.
    """
    location = os.fspath(url_or_path)
    if not isinstance(location, str) or not location:
        raise UsageError("connect takes a URL or a path as text")
    if not project:
        raise UsageError("connect needs a project")
    credentials = None
    if _URL.match(location):
        credentials = Credentials(access_id or "", access_key or "", sts_token, region)
    elif proxy or ca_certificates or sts_token or region:
        raise UsageError("proxy, ca_certificates, sts_token and region are for services")
    else:
        # Absolute, so that a pickled client finds the folder from another working directory.
        location = str(Path(location).expanduser().absolute())
    reopen = Reopen(
        location,
        credentials,
        CallOptions().changed(**options),
        proxy,
        None if ca_certificates is None else os.fspath(ca_certificates),
    )
    channel = Channel(reopen.transport(), reopen.options, timing or Timing(), reopen)
    return Client(channel, project, schema=schema)
