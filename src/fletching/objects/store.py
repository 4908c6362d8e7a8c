"""What every object store promises: bytes under a key that never change once they are visible.

Keys are ``/``-separated names of letters, digits, ``.``, ``_`` and ``-``; no name begins with a
dot, so ``..`` and a store's own hidden files are out of reach whatever a caller passes on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from typing_extensions import Buffer

from fletching.errors import UsageError

__all__ = [
    "IDENTITY_KEY",
    "MAX_KEY_LENGTH",
    "OPERATIONS",
    "FolderStore",
    "ObjectInfo",
    "ObjectSink",
    "ObjectStore",
    "Observe",
    "ObservedStore",
    "StoredObject",
    "checked_key",
    "writer_of",
]

IDENTITY_KEY = "fletching-store.json"
"""The object that says which catalog the others belong to. It is not listed among them."""

MAX_KEY_LENGTH = 900
"""Characters in a key: below what S3 (1,024 bytes) and file systems with a long root allow."""

_NAME = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}"
_KEY = re.compile(rf"{_NAME}(?:/{_NAME})*")


def checked_key(key: str) -> str:
    """Returns the key if it is well-formed.

    Raises:
        UsageError: it is not; nothing of it was used.
    """
    if len(key) > MAX_KEY_LENGTH or not _KEY.fullmatch(key):
        raise UsageError(
            f"{key[:120]!r} is not an object key: names of A-Z a-z 0-9 . _ - between slashes"
        )
    return key


def writer_of(key: str) -> str:
    """The id of the writer that made up a key: what its last name begins with, up to a dash."""
    return key.rsplit("/", 1)[-1].split("-", 1)[0]


class ObjectInfo(NamedTuple):
    """One object in a listing."""

    key: str
    length: int
    """Bytes."""
    modified: float
    """Seconds since the epoch, by the store's clock."""


class ObjectSink(Protocol):
    """Takes the bytes of a new object. Not thread-safe; use as a context manager aborts on an error."""

    key: str
    length: int
    """Bytes written so far."""

    def write(self, data: Buffer) -> None:
        """Appends bytes; they are on their way to the store when this returns, and not kept here.

        Raises:
            StorageFullError: no room.
            StorageError: the store failed.
        """

    def write_many(self, buffers: Sequence[Buffer]) -> None:
        """Appends several buffers in order, without joining them."""

    def commit(self) -> None:
        """Makes the object visible: durable, atomic, and exclusive if it is small.

        A store may promise exclusiveness only up to some size (``RemoteStore``: 8 MiB); keys of
        larger objects must be made up so that nobody else has them.

        Raises:
            ObjectExistsError: the key is taken; nothing remains of this sink.
            StorageFullError: no room; nothing remains.
            StorageError: the store failed; nothing is visible.
        """

    def abort(self) -> None:
        """Drops everything; idempotent, and without effect after a commit."""


class StoredObject(Protocol):
    """An object that can be read. Thread-safe, but ``close`` must not race with other calls.

    Views stay valid as long as they are referred to, also after ``close`` and after the object is
    deleted from the store.

    Where each range is a request, an object has two more methods: ``fetch(ranges)`` gives several
    ranges in few requests, and ``stream(start, end)`` one range piece by piece, both ahead of whoever
    takes them.

    An object that knows may have an attribute ``identity``, a tuple that tells its present content
    from any other that was or will be under the key: what was proven of it need not be proven again.

    One that is a file may have an attribute ``descriptor``, of the open file, which another process may
    map: it is lent, and None where files must not be mapped.
    """

    key: str
    length: int

    def view(self, start: int, end: int) -> memoryview:
        """Bytes ``start`` to ``end``: mapped where the store can (no copy, no I/O yet), else read.

        Raises:
            CorruptObjectError: the object is shorter than it was.
            StorageError: the store failed.
        """

    def read(self, start: int, end: int) -> memoryview:
        """The same, always by reading into memory of its own; blocks."""

    def resident(self, start: int, end: int) -> bool:
        """Whether ``view`` of the range and the use of it will not wait for a disk or a network.

        A guess by sampling, cheap enough for an event loop.
        """

    def load(self, start: int, end: int) -> None:
        """Brings the range into the page cache; blocks.

        Failing disks are found here, as StorageError, rather than under a mapping, as a signal.
        """

    def close(self) -> None:
        """Gives up what views do not hold; idempotent."""


Observe = Callable[[str, float], None]

OPERATIONS = {
    "opening": "open",
    "reading": "read",
    "writing": "write",
    "committing": "commit",
    "deleting": "delete",
    "listing": "list",
}
"""What the calls of a store are called where they are counted; by what errors say is being done."""


@runtime_checkable
class ObservedStore(Protocol):
    """A store that tells how long its calls take."""

    observe: Observe | None
    """Told of each call that waited for the store: its operation and seconds; None if nobody counts
    them. Called in the thread that waited."""


@runtime_checkable
class FolderStore(Protocol):
    """A store whose keys are paths: a folder stays when its last object goes."""

    def folders(self, prefix: str) -> Sequence[str]:
        """Names of the folders right below a prefix; those of which nothing is left among them."""

    def remove_folder(self, prefix: str) -> None:
        """Removes a folder if nothing is in it. The caller knows that no object in it will be needed.

        Others remember which folders are durable. An object that one of them publishes in the folder when it
        was removed may be gone after a power cut.

        Raises:
            StorageError: the store failed.
        """


class ObjectStore(Protocol):
    """Immutable objects by key. Thread-safe."""

    writer: str
    """An id of this opening of the store. Whoever makes up keys puts it into them, so that objects
    that a dead process published and never told the catalog about can be told from those that a
    living one is about to."""

    knows_writers: bool
    """Whether ``dead_writers`` and ``living_writers`` can tell. If not, the catalog has to."""

    def create(self, key: str) -> ObjectSink:
        """Begins an object, which is visible only after the sink's ``commit``.

        Raises:
            UsageError: the key is malformed.
            StorageError: the store failed.
        """

    def open(
        self, key: str, *, length: int | None = None, crc32c: int | None = None
    ) -> StoredObject:
        """Opens an object for reading.

        Args:
            key: its name.
            length: its bytes, if the caller knows: a store may then do without asking, and that
                there is no such object shows when it is read, as CorruptObjectError.
            crc32c: CRC32C of all its bytes, if the caller knows: a store that keeps copies proves
                them by it, and keeps none without.

        Raises:
            ObjectNotFoundError: there is none under the key.
        """

    def delete(self, key: str) -> None:
        """Removes an object; does nothing if there is none."""

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object whose key begins with the prefix's whole names (``tables/t1``), in no order.

        The one under ``IDENTITY_KEY`` is left out.
        """

    def dead_writers(self) -> frozenset[str]:
        """Ids of openings that ended without ``close``; what they had not published is removed.

        They are told again until ``forget_writer``. A store that cannot know says none.
        """

    def living_writers(self) -> frozenset[str]:
        """Ids of openings that may still publish objects, this one included."""

    def forget_writer(self, writer: str) -> None:
        """Ends the telling of a dead writer, once all it left behind is dealt with."""

    def close(self) -> None:
        """Ends this opening; idempotent. Objects already opened stay readable."""
