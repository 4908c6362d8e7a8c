"""What every part of an engine works with."""

from __future__ import annotations

import contextlib
import dataclasses
import hmac
from collections.abc import Callable, Collection, Iterable, Iterator

from sqlalchemy import Connection

from fletching.catalog.database import Database
from fletching.engine.ages import AgeClock
from fletching.engine.changes.key_runs import RunIndexes, run_indexes
from fletching.engine.engine_settings import EngineSettings
from fletching.engine.generations import Generations
from fletching.engine.presence import Presence
from fletching.errors import NoPermissionError, StorageError
from fletching.objects.store import FolderStore, ObjectSink, ObjectStore

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
    presence: Presence
    steady: Clock
    """Seconds that nobody sets."""
    read_only: bool = False
    """Whether nothing may change; see ``fletching.engine.read_only``."""
    run_indexes: RunIndexes = dataclasses.field(default_factory=run_indexes)
    """What this process knows of key runs: where to look in them, and what of them is proven."""
    generations: Generations = dataclasses.field(init=False)
    """Whether the catalog is the newest one of the objects."""
    age_clock: AgeClock = dataclasses.field(init=False)
    """The time by which things are old enough to be deleted; anything else goes by ``clock``."""

    def __post_init__(self) -> None:
        """Makes what the catalog and the objects have together."""
        object.__setattr__(self, "generations", Generations(self.database, self.store))
        # A clock that a caller gives is never doubted: what others have noted of theirs does not count for it.
        database = None if self.steady is self.clock else self.database
        object.__setattr__(self, "age_clock", AgeClock(self.clock, self.steady, database))

    @property
    def answers_alone(self) -> bool:
        """Whether what this process alone remembers may answer for a while.

        It may not where other servers answer the same clients: over PostgreSQL, and behind one port.
        """
        return self.database.is_sqlite and not self.settings.read_sessions_shared

    def check_may_change(self) -> None:
        """Refuses a change of a data set that was opened for reading.

        Raises:
            NoPermissionError: it was.
        """
        if self.read_only:
            raise NoPermissionError("the data folder is open for reading only: nothing can change")

    def create_object(self, key: str) -> ObjectSink:
        """Begins an object whose key this opening made up; see ``ObjectStore.create``."""
        self.presence.ensure()
        self.generations.ensure()
        return self.store.create(key)

    def check_recordable(self, connection: Connection, keys: Collection[str]) -> None:
        """Call it in the transaction that makes objects the catalog's; see ``Presence.check``."""
        self.presence.check(connection, keys)

    @contextlib.contextmanager
    def recording(self, keys: Collection[str]) -> Iterator[Connection]:
        """A transaction that makes objects of this process, which are durable, the catalog's.

        If the block raises, the objects are deleted. If it is the commit that raises, whatever it is, they
        stay: a connection that breaks, or somebody who presses Ctrl-C, does not tell whether the commit was
        done, and rows may need them. What turns out to be nobody's is retention's.

        Raises:
            ServiceUnavailableError: as of ``check_recordable``.
            StorageError: the catalog failed, or any other error that ``Database.write`` raises.
        """
        recorded = False
        try:
            with self.database.write() as connection:
                self.check_recordable(connection, keys)
                yield connection
                recorded = True
        except BaseException:
            if not recorded:
                self.delete_objects(keys)
            raise

    def key_seed(self, table_id: str) -> bytes:
        """The seed of a table's key numbers: secret, so that nobody can choose keys that collide."""
        return hmac.digest(self.server_key, f"key numbers {table_id}".encode(), "sha256")[:16]

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

    def folders(self, prefix: str) -> list[str]:
        """The folders right below a prefix, where the store has folders; there need be nothing in them."""
        store = self.store
        return (
            [f"{prefix}/{name}" for name in store.folders(prefix)]
            if isinstance(store, FolderStore)
            else []
        )

    def remove_folders(self, prefixes: Iterable[str]) -> None:
        """Removes those of some folders in which nothing is left, and nothing will be needed any more."""
        store = self.store
        if isinstance(store, FolderStore):
            for prefix in prefixes:
                with contextlib.suppress(StorageError):
                    store.remove_folder(prefix)
