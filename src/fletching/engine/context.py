"""What every part of an engine works with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from fletching.catalog.database import Database
from fletching.engine.engine_settings import EngineSettings
from fletching.errors import StorageError
from fletching.objects.store import ObjectStore

__all__ = ["Clock", "EngineContext"]

Clock = Callable[[], float]
"""Seconds since the epoch."""


@dataclasses.dataclass(frozen=True, slots=True)
class EngineContext:
    """The catalog, the objects, the settings, the time and the server's key. Shared, thread-safe."""

    database: Database
    store: ObjectStore
    settings: EngineSettings
    clock: Clock
    server_key: bytes
    """32 secret bytes of this data folder: the key of blob references and of stored secrets."""

    def delete_objects(self, keys: Iterable[str]) -> None:
        """Deletes objects that the catalog no longer knows.

        Call it after the transaction that forgot them. A failure leaves an orphan, which retention
        finds again; it does not undo what was acknowledged, and so it is not an error here.
        """
        for key in keys:
            try:
                self.store.delete(key)
            except StorageError:
                continue
