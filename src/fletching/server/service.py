"""What every handler needs, in one place: the engine, the workers, the limits, who may ask."""

from __future__ import annotations

import threading

from fletching.engine.engine import Engine
from fletching.server.auth import Authenticator
from fletching.server.keys import KeyRing
from fletching.server.limits import Gate, MemoryBudget
from fletching.server.settings import ServerSettings
from fletching.server.workers import Workers

__all__ = ["Service"]


class Service:
    """The running service. Handlers use it from the event loop.

    Attributes:
        engine: the rules; synchronous, so only called through ``workers``.
        settings: fixed while the service runs.
        workers: the threads for whatever blocks.
        authenticator: who signed a request.
        bodies, reads, calls: concurrent uploads, streamed replies and JSON requests.
        memory: bytes of messages that uploads hold.
        draining: the service is stopping and ``/readyz`` says so.
    """

    def __init__(self, engine: Engine, settings: ServerSettings, keys: KeyRing) -> None:
        self.engine = engine
        self.settings = settings
        self.workers = Workers(settings.call_threads, settings.bulk_threads)
        self.authenticator = Authenticator(keys, settings.clock_skew_seconds)
        wait = settings.retry_after_seconds
        self.bodies = Gate("uploads", settings.max_bodies, wait)
        self.reads = Gate("streamed replies", settings.max_reads, wait)
        self.calls = Gate("requests", settings.max_calls, wait)
        self.memory = MemoryBudget(settings.ingest_memory_bytes, settings.body_idle_seconds, wait)
        self.draining = False
        self._closed = False
        self._closing = threading.Lock()

    def close(self) -> None:
        """Ends the workers, then closes the engine; blocks; idempotent."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self.workers.close()
                self.engine.close()
