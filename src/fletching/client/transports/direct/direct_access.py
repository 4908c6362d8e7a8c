"""What one client knows of the ways past its service: connections to object stores, and which failed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import urllib3

from fletching.client.call_options import CallOptions
from fletching.client.cancellation import Cancellation
from fletching.client.transports.direct.manifest_reader import ManifestReader
from fletching.client.transports.direct.range_fetcher import (
    RangeFetcher,
    SourcesGoneError,
    origin_of,
)
from fletching.client.transports.http.proxies import proxy_for
from fletching.client.transports.transport import BatchSource
from fletching.ipc import Limits
from fletching.protocol.messages.manifest import Manifest, Source, SourceKind
from fletching.protocol.messages.requests import ReadTable

__all__ = ["DirectAccess"]

UNREACHABLE_SECONDS = 300.0
"""How long no manifest is asked for after one could not be used: a bucket that only the service's
network reaches stays out of reach, and trying it delays every read."""


class DirectAccess:
    """Makes the readers of manifests. Thread-safe."""

    def __init__(
        self,
        *,
        make_manager: Callable[[str | None], urllib3.PoolManager],
        proxy: str | None,
        secure: bool,
        headers: dict[str, str],
        clock: Callable[[], float],
    ) -> None:
        """Connects nowhere yet.

        Args:
            make_manager: makes connections, through a proxy or not.
            proxy: as of `proxy_for`.
            secure: whether the service is reached by TLS: then nothing is fetched without.
            headers: sent with each request for a range.
            clock: seconds.
        """
        self._make_manager = make_manager
        self._proxy = proxy
        self._secure = secure
        self._headers = headers
        self._clock = clock
        self._unreachable_until = float("-inf")
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._managers: dict[str, urllib3.PoolManager] = {}

    def kinds(self, options: CallOptions) -> tuple[SourceKind, ...]:
        """What may be asked for now: nothing where the caller wants none, or it failed lately."""
        if options.direct == "never" or options.compression is not None or options.lz4_stream:
            return ()
        if self._clock() < self._unreachable_until:
            return ()
        return (SourceKind.SIGNED,)

    def reader(
        self,
        manifest: Manifest,
        request: ReadTable,
        *,
        ask: Callable[[ReadTable, bool], Manifest | BatchSource],
        options: CallOptions,
        cancellation: Cancellation,
        limits: Limits,
        request_id: str | None,
    ) -> ManifestReader:
        """What reads by a manifest; see `ManifestReader`.

        Raises:
            ProtocolError, WireError: it does not begin with a schema message.
        """

        def fetcher(sources: tuple[Source, ...]) -> RangeFetcher:
            return RangeFetcher(
                sources,
                pools=self._pool,
                options=options,
                cancellation=cancellation,
                clock=self._clock,
                headers=self._headers,
            )

        return ManifestReader(
            manifest,
            request,
            ask=ask,
            fetcher=fetcher,
            unreachable=self._failed,
            limits=limits,
            request_id=request_id,
            clock=self._clock,
        )

    def _failed(self, manifest: Manifest) -> None:
        del manifest
        self._unreachable_until = self._clock() + UNREACHABLE_SECONDS

    def _pool(self, url: str) -> urllib3.PoolManager:
        """Connections to where a URL leads; a forked process must not talk on its parent's."""
        origin = origin_of(url)
        if self._secure and not origin.startswith("https:"):
            raise SourcesGoneError(
                "the service is reached by TLS, and its object store would not be",
                refreshable=False,
                url=origin,
            )
        with self._lock:
            if self._process != os.getpid():
                self._managers = {}
                self._process = os.getpid()
            manager = self._managers.get(origin)
            if manager is None:
                proxy = proxy_for(origin, self._proxy)
                manager = self._managers[origin] = self._make_manager(proxy)
            return manager

    def close(self) -> None:
        """Closes idle connections."""
        with self._lock:
            for manager in self._managers.values():
                manager.clear()
