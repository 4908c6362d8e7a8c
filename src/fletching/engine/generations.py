"""Generations: whether a catalog is the newest one of its objects.

A catalog that was copied back from yesterday does not know what was written since, and would take it for
garbage; so would each of two copies of a catalog what the other one's writers made. A *generation* tells: a
number and a token, in the catalog and as an object whose key is the number, so that of those who begin the same
one exactly one succeeds. Each opening begins one before its first object, and another when that was
``ROTATE_SECONDS`` ago::

    catalog      number n, token t        committed first
    the store    generations/<n>: t       created exclusively after it; those of smaller numbers go

So the newest generation of the store is the catalog's, or one before it whose successor is being made or whose
maker died. A greater number, or another token, was begun with another catalog. Then rows are written and
read as ever, but no object is deleted because this catalog does not know it, until a person says that it is the
right one (``fletching adopt``, ``fletching gc --force``). Whoever finds that out before it writes makes the newest
generation nobody's, so that it is the same for the other catalog. What cannot be told is a copy of the catalog
that is younger than ``ROTATE_SECONDS``.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time

from fletching.catalog.database import Database
from fletching.catalog.generation_rows import Generation, begin_generation, find_generation
from fletching.errors import ObjectExistsError, ObjectNotFoundError
from fletching.objects.store import ObjectStore

__all__ = ["PREFIX", "ROTATE_SECONDS", "Generations"]

PREFIX = "generations"

ROTATE_SECONDS = 300.0
"""How old a generation of a process that writes may be: a copy of the catalog that is older is told from it."""

_NOBODY = "nobody's: two catalogs have been used with these objects"
_LOOKS = 10  # at what others change meanwhile
_MAX_TOKEN_BYTES = 1000

_LOG = logging.getLogger("fletching.engine.generations")


class Generations:
    """The generations of one catalog and its store. Thread-safe."""

    def __init__(self, database: Database, store: ObjectStore) -> None:
        """Looks at nothing yet."""
        self._database = database
        self._store = store
        self._lock = threading.Lock()
        self._begun_at: float | None = None

    def ensure(self) -> None:
        """Begins a generation, unless this opening has done so lately: before it creates an object.

        Raises:
            StorageError: the catalog or the store failed, or ServiceUnavailableError.
        """
        if not self._is_due():
            return
        with self._lock:
            if not self._is_due():
                return
            wrong = self.conflict()
            if wrong:
                _LOG.warning("%s", wrong)
                self._stop_others()
            else:
                self._begin(0)
            self._begun_at = time.monotonic()

    def _is_due(self) -> bool:
        begun_at = self._begun_at
        return begun_at is None or time.monotonic() - begun_at >= ROTATE_SECONDS

    def accept(self) -> None:
        """Makes the catalog the newest one of the store, because a person says so.

        Raises:
            StorageError: the catalog or the store failed.
        """
        with self._lock:
            self._begin(self._newest() or 0)
            self._begun_at = time.monotonic()

    def _begin(self, above: int) -> None:
        token = f"generation {secrets.token_hex(16)}"
        with self._database.write() as connection:
            number = begin_generation(connection, token, above)
        if not self._create(number, token):
            self._stop_others()
            return
        for info in self._store.list(PREFIX):
            if info.key < _key(number):
                self._store.delete(info.key)

    def _create(self, number: int, token: str) -> bool:
        sink = self._store.create(_key(number))
        try:
            sink.write(token.encode())
            sink.commit()
        except ObjectExistsError:
            return False
        finally:
            sink.abort()
        return True

    def _stop_others(self) -> None:
        """Makes the newest generation nobody's: who has begun it must not delete what is written from now on."""
        newest = self._newest() or 0
        with contextlib.suppress(ObjectNotFoundError):
            if self._token(newest) != _NOBODY:
                self._create(newest + 1, _NOBODY)

    def conflict(self) -> str:
        """Why this catalog is not known to be the newest one of its objects; empty if it is.

        Raises:
            StorageError: the catalog or the store failed.
        """
        known = self._known()
        for _ in range(_LOOKS):
            newest = self._newest()
            if newest is None or newest < known.number:
                return ""
            if newest == known.number:
                with contextlib.suppress(ObjectNotFoundError):
                    if self._token(newest) == known.token:
                        return ""
            # Others may have begun one in between, with this catalog.
            before, known = known, self._known()
            if before == known:
                return (
                    f"the objects are at generation {newest}, which another catalog has begun, and this catalog is at"
                    f" {known.number}: it is an old copy, or somebody uses another copy of it. Nothing that it does"
                    " not know is deleted. Restore the newest catalog; if this is the right one, `fletching gc"
                    " --force` says so, and deletes what it does not know"
                )
        return "the generations of the store change too quickly; nothing is deleted"

    def _known(self) -> Generation:
        with self._database.read() as connection:
            return find_generation(connection)

    def _newest(self) -> int | None:
        numbers = [info.key.rpartition("/")[2] for info in self._store.list(PREFIX)]
        return max(
            (int(each) for each in numbers if each.isascii() and each.isdigit()), default=None
        )

    def _token(self, number: int) -> str:
        stored = self._store.open(_key(number))
        try:
            data = bytes(stored.read(0, min(stored.length, _MAX_TOKEN_BYTES)))
        finally:
            stored.close()
        return data.decode("ascii", "replace")


def _key(number: int) -> str:
    return f"{PREFIX}/{number:012d}"
