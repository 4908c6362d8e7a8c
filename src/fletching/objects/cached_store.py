"""Objects of a bucket, with those that are read whole kept on a local disk, where they are mapped.

::

    DIR/fletching-cache/<store>/tables/t1/0c9f-1.arrow    an object, all of it, proven when it came
    DIR/fletching-cache/.filling/<random>                 one that is coming; locked by who fetches it
    DIR/fletching-cache/lock                              held while room is made

Only objects whose length and checksum the catalog knows are kept: segments. A reply that takes most of
one fetches all of it once, whoever else reads it meanwhile, in parts ahead of the reader; one that takes
some columns fetches those alone, and the whole when it is asked for again. A file gets its name after
its bytes were compared with the checksum and are on the disk, so that nothing a killed process leaves
is believed. What was used longest ago goes first when room is needed; mappings outlive their names.

Several processes, of one data set or of several, may share a folder: together they keep to the bound
of whoever fetches. Where the folder fails (full, read-only, gone), objects are read as without it.

The module is long because finding, filling, proving and making room keep one order of locks, which has to
be read in one place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import logging
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path

from crc32c import crc32c

from fletching.errors import CorruptObjectError, FletchingError, ObjectNotFoundError, StorageError
from fletching.objects.local import LocalStore, private_folder
from fletching.objects.local_object import LocalObject
from fletching.objects.range_fetching import slices
from fletching.objects.remote_object import SLICE_BYTES, RemoteObject
from fletching.objects.remote_store import RemoteSink, RemoteStore
from fletching.objects.s3_uploads import UnfinishedUpload
from fletching.objects.store import IDENTITY_KEY, ObjectInfo, StoredObject
from fletching.range_joining import BYTES_PER_REQUEST

__all__ = ["CachedStore"]

PART_BYTES = 8 << 20
"""An object comes in parts of this size, each a request, several at a time."""

MOST_FILLS = 4
"""Objects of one process that come at once; others are read past the folder meanwhile."""

PATIENCE_BYTES = 64 << 20
"""A reader that wants bytes farther behind what has come does not wait for them."""

SEEN_KEYS = 100_000
"""How many objects are remembered as read in part once, and how many copies' last use."""

TOUCH_SECONDS = 3600.0
"""How long a copy's time on the disk may stay behind its last use. Setting it makes the file another one to
whoever proved its messages: set at each use, every read would prove them again."""

ROOM_SECONDS = 0.5
"""How long another process may make room while a reader here waits for its turn: it may be frozen."""

BUSY_SECONDS = 10.0
"""How long objects are read past the folder after that."""

SILENT_SECONDS = 60.0
"""How long nothing more is said of a folder that fails: each read may meet it."""

logger = logging.getLogger("fletching.objects")

_FILLING = ".filling"


class CachedStore:
    """A bucket behind a folder of its objects. Thread-safe; see ``ObjectStore``."""

    knows_writers = False

    def __init__(
        self,
        remote: RemoteStore,
        folder: str | Path,
        capacity: int,
        *,
        mapped: bool = True,
        resident_bytes: int | None = None,
    ) -> None:
        """Opens the folder, and makes it if it is absent.

        Args:
            remote: the bucket; closed with this.
            folder: where copies are kept, in a folder of our own.
            capacity: bytes of all copies.
            mapped: as of ``LocalStore``.
            resident_bytes: likewise.

        Raises:
            StorageError: the folder cannot be made or written to.
        """
        self.writer = remote.writer
        self._remote = remote
        self._root = Path(folder) / "fletching-cache"
        self._capacity = capacity
        self._mapped = mapped
        self._resident_bytes = resident_bytes
        self._lock = threading.Lock()
        self._files: LocalStore | None = None
        self._fills: dict[str, _Fill] = {}
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._used: OrderedDict[str, float] = OrderedDict()
        self._busy_until = self._silent_until = 0.0
        self._closed = False
        self.hits = self.misses = 0
        try:
            private_folder(self._root / _FILLING)
        except OSError as error:
            raise StorageError(
                f"the cache folder {folder} cannot be used: {error.strerror}"
            ) from error
        if not os.access(self._root / _FILLING, os.W_OK):
            raise StorageError(f"the cache folder {folder} cannot be written to")

    # --- reading ---

    def open(
        self, key: str, *, length: int | None = None, crc32c: int | None = None
    ) -> StoredObject:
        """Opens an object; see ``ObjectStore``. A copy is mapped; others are fetched."""
        if length is None or crc32c is None or not length or length > self._capacity:
            return self._remote.open(key, length=length)
        files = self._namespace()
        if files is None:
            return self._remote.open(key, length=length)
        kept = self._kept(files, key, length)
        if kept is not None:
            self.hits += 1
            return kept
        self.misses += 1
        return _MissedObject(self, self._remote.open(key, length=length), crc32c)

    def _kept(self, files: LocalStore, key: str, length: int) -> LocalObject | None:
        try:
            opened = files.open(key)
        except (ObjectNotFoundError, StorageError):
            return None
        if opened.length != length:
            opened.close()
            self.drop(key)
            return None
        self._note_use(files.root / key)
        opened.disown = lambda: self.drop(key)
        return opened

    def _note_use(self, path: Path) -> None:
        """Remembers that a copy is used now; others see it within `TOUCH_SECONDS`."""
        now = time.time()
        with self._lock:
            self._used[str(path)] = now
            self._used.move_to_end(str(path))
            while len(self._used) > SEEN_KEYS:
                self._used.popitem(last=False)
        with contextlib.suppress(OSError):
            if abs(now - path.stat().st_mtime) > TOUCH_SECONDS:
                os.utime(path)

    def _namespace(self) -> LocalStore | None:
        """The copies of this bucket, by the identity that is in it; None while it has none."""
        if self._files is None:
            try:
                stored = self._remote.open(IDENTITY_KEY)
                name = hashlib.sha256(stored.read(0, stored.length)).hexdigest()[:32]
                files = LocalStore(
                    self._root / name, mapped=self._mapped, resident_bytes=self._resident_bytes
                )
            except FletchingError:
                return None
            with self._lock:
                self._files = self._files or files
        return self._files

    def drop(self, key: str) -> None:
        """Removes a copy, if there is one."""
        if self._files is not None:
            with contextlib.suppress(StorageError):
                self._files.delete(key)

    # --- filling ---

    def fill(self, stored: RemoteObject, checksum: int) -> _Fill | None:
        """The copy that is coming of an object; begun, if it is not. None where it cannot come now."""
        key = stored.key
        with self._lock:
            fill = self._fills.get(key)
            if fill is not None:
                return fill
            if self._closed or len(self._fills) >= MOST_FILLS or self._files is None:
                return None
            if time.monotonic() < self._busy_until:
                return None
            try:
                file = self._reserve(stored.length)
            except OSError as error:
                if time.monotonic() >= self._silent_until:
                    self._silent_until = time.monotonic() + SILENT_SECONDS
                    logger.warning("the cache folder %s fails: %s", self._root, error)
                return None
            if file is None:
                return None
            fill = self._fills[key] = _Fill(stored, checksum, file)
        thread = threading.Thread(
            target=self._bring, args=(fill, self._files), name="fletching-cache", daemon=True
        )
        thread.start()
        return fill

    def seen_before(self, key: str) -> bool:
        """Whether a part of an object was read before; remembers that it is now."""
        with self._lock:
            seen = key in self._seen
            self._seen[key] = None
            self._seen.move_to_end(key)
            while len(self._seen) > SEEN_KEYS:
                self._seen.popitem(last=False)
            return seen

    def _bring(self, fill: _Fill, files: LocalStore) -> None:
        try:
            fill.run(files.root / fill.key)
        finally:
            with self._lock:
                self._fills.pop(fill.key, None)

    def _reserve(self, length: int) -> _File | None:
        """A file of some length whose bytes count already; None if there is no room.

        Raises:
            OSError: the folder fails.
        """
        # Made anew where somebody has removed it: that is always safe, and said to be.
        if not self._root.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, "the folder is gone", str(self._root.parent))
        private_folder(self._root / _FILLING)
        with (self._root / "lock").open("wb") as lock:
            if not _locked_within(lock.fileno(), ROOM_SECONDS):
                self._busy_until = time.monotonic() + BUSY_SECONDS
                logger.warning("another process holds the cache folder %s for long", self._root)
                return None
            room = self._capacity - length - self._coming()
            self._evict(room)
            if room < 0:
                return None
            path = self._root / _FILLING / secrets.token_hex(12)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(descriptor, 0, length)
                else:
                    os.ftruncate(descriptor, length)
            except BaseException:
                path.unlink()
                os.close(descriptor)
                raise
            return _File(path, descriptor)

    def _coming(self) -> int:
        """Bytes of files that are being fetched; what dead processes left is removed."""
        total = 0
        for entry in os.scandir(self._root / _FILLING):
            with contextlib.suppress(FileNotFoundError):
                descriptor = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    Path(entry.path).unlink()
                except BlockingIOError:
                    total += os.fstat(descriptor).st_size
                finally:
                    os.close(descriptor)
        return total

    def _evict(self, room: int) -> None:
        """Removes copies, those used longest ago first, until the others fit."""
        kept: list[tuple[float, int, Path]] = []
        for folder, names, result in os.walk(self._root):
            names[:] = [name for name in names if not name.startswith(".")]
            if Path(folder) == self._root:
                continue  # the lock
            for name in result:
                path = Path(folder, name)
                with contextlib.suppress(OSError):
                    status = path.stat()
                    used = max(status.st_mtime, self._used.get(str(path), 0.0))
                    kept.append((used, status.st_size, path))
        total = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if total <= room:
                break
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            total -= size
        # A copy uses its room for as long as it is mapped, whoever removed it.
        if self._files is not None:
            self._files.forget_removed()

    # --- as the bucket ---

    def create(self, key: str) -> RemoteSink:
        """Begins an object; see ``ObjectStore``."""
        return self._remote.create(key)

    def delete(self, key: str) -> None:
        """Removes an object, and its copy here; see ``ObjectStore``."""
        self._remote.delete(key)
        self.drop(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object of the bucket; see ``ObjectStore``."""
        return self._remote.list(prefix)

    def dead_writers(self) -> frozenset[str]:
        """As of the bucket."""
        return self._remote.dead_writers()

    def living_writers(self) -> frozenset[str]:
        """As of the bucket."""
        return self._remote.living_writers()

    def forget_writer(self, writer: str) -> None:
        """As of the bucket."""
        self._remote.forget_writer(writer)

    def sign(self, keys: Sequence[str], seconds: float) -> Sequence[str]:
        """URLs of objects in the bucket; see ``RemoteStore``."""
        return self._remote.sign(keys, seconds)

    def unfinished_uploads(self) -> Sequence[UnfinishedUpload]:
        """As of the bucket; see ``RemoteStore``."""
        return self._remote.unfinished_uploads()

    def end_upload(self, upload: UnfinishedUpload) -> None:
        """As of the bucket; see ``RemoteStore``."""
        self._remote.end_upload(upload)

    def close(self) -> None:
        """Ends this opening; see ``ObjectStore``. What is coming is given up."""
        with self._lock:
            self._closed = True
            fills = list(self._fills.values())
        for fill in fills:
            fill.give_up()
        self._remote.close()
        if self._files is not None:
            self._files.close()


def _locked_within(descriptor: int, seconds: float) -> bool:
    """Locks a file, or gives it up after a while: whoever has it may never let go."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        else:
            return True


@dataclasses.dataclass(frozen=True, slots=True)
class _File:
    """A file that is being filled; locked, so that others know that somebody is at it."""

    path: Path
    descriptor: int


class _Fill:
    """One object on its way to the disk, in order; readers take what has come."""

    def __init__(self, stored: RemoteObject, checksum: int, file: _File) -> None:
        self.key = stored.key
        self._stored = stored
        self._checksum = checksum
        self._file = file
        self._came = 0
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._given_up = False
        self._users = 0
        self._ended = False

    def run(self, path: Path) -> None:
        """Fetches the object, proves it and gives it its name."""
        try:
            self._fetch(path)
        except BaseException as error:  # noqa: BLE001  # whatever it is, readers are told
            if not isinstance(error, _GaveUpError):
                logger.warning("object %s did not come to the cache folder: %s", self.key, error)
            with contextlib.suppress(OSError):
                self._file.path.unlink(missing_ok=True)
            with self._changed:
                self._error = error
                self._changed.notify_all()
        finally:
            with self._changed:
                self._ended = True
            self._close_unused()

    def _fetch(self, path: Path) -> None:
        descriptor, length = self._file.descriptor, self._stored.length
        value = position = 0
        for view in self._stored.fetch(slices(0, length, PART_BYTES)):
            if self._given_up:
                raise _GaveUpError
            value = crc32c(view, value)
            written = 0
            while written < view.nbytes:
                written += os.pwrite(descriptor, view[written:], position + written)
            position += view.nbytes
            if position < length:
                self._show(position)
        if value != self._checksum:
            raise CorruptObjectError(
                f"object {self.key} as it came from the object store is not what was written",
                key=self.key,
            )
        # On the disk before it has its name: a name that survives a power cut has its bytes.
        os.fsync(descriptor)
        private_folder(path.parent)
        self._file.path.rename(path)
        self._show(length)

    def _show(self, position: int) -> None:
        with self._changed:
            self._came = position
            self._changed.notify_all()

    def give_up(self) -> None:
        """Ends it at the next part."""
        self._given_up = True

    def stream(self, start: int, end: int) -> Generator[memoryview, None, None]:
        """A range of the object, as it comes.

        Raises:
            CorruptObjectError: the object is not what was written.
            StorageError: the store failed.
        """
        with self._changed:
            self._users += 1
        try:
            with self._changed:
                far = start - self._came > PATIENCE_BYTES or self._file.descriptor < 0
            if far:
                yield from self._stored.stream(start, end)
                return
            for first, last in slices(start, end, SLICE_BYTES):
                with self._changed:
                    while self._came < last and self._error is None:
                        self._changed.wait()
                    came, error = self._came >= last, self._error
                if came:
                    yield self._read(first, last)
                elif isinstance(error, CorruptObjectError):
                    raise error
                else:
                    # The folder failed, not the store: the rest is read past it.
                    yield from self._stored.stream(first, end)
                    return
        finally:
            with self._changed:
                self._users -= 1
            self._close_unused()

    def _read(self, start: int, end: int) -> memoryview:
        # Read, not mapped: the file may be given up, and pages behind its end would be a signal.
        data = memoryview(bytearray(end - start))
        position = 0
        while position < len(data):
            count = os.preadv(self._file.descriptor, [data[position:]], start + position)
            if not count:
                raise StorageError(f"the cached copy of {self.key} was cut", key=self.key)
            position += count
        return data.toreadonly()

    def _close_unused(self) -> None:
        with self._changed:
            if self._ended and not self._users and self._file.descriptor >= 0:
                os.close(self._file.descriptor)
                self._file = _File(self._file.path, -1)


class _GaveUpError(Exception):
    """The store was closed."""


class _MissedObject:
    """An object of which there is no copy yet. See ``StoredObject``."""

    def __init__(self, store: CachedStore, stored: RemoteObject, checksum: int) -> None:
        self.key = stored.key
        self.length = stored.length
        self._store = store
        self._stored = stored
        self._checksum = checksum

    def view(self, start: int, end: int) -> memoryview:
        """Fetches the range."""
        return self._stored.view(start, end)

    def read(self, start: int, end: int) -> memoryview:
        """Fetches the range."""
        return self._stored.read(start, end)

    def fetch(
        self,
        ranges: Iterable[tuple[int, int]],
        *,
        ahead: bool = True,
        bytes_per_request: int = BYTES_PER_REQUEST,
    ) -> Generator[memoryview, None, None]:
        """Fetches ranges past the folder; the second time the whole object comes to it as well."""
        if self._store.seen_before(self.key):
            self._store.fill(self._stored, self._checksum)
        return self._stored.fetch(ranges, ahead=ahead, bytes_per_request=bytes_per_request)

    def stream(self, start: int, end: int) -> Generator[memoryview, None, None]:
        """A range of messages as they are: the whole object comes, and this of it."""
        if 2 * (end - start) >= self.length or self._store.seen_before(self.key):
            fill = self._store.fill(self._stored, self._checksum)
            if fill is not None:
                return fill.stream(start, end)
        return self._stored.stream(start, end)

    def resident(self, start: int, end: int) -> bool:
        """Never: a network is in between."""
        del start, end
        return False

    def load(self, start: int, end: int) -> None:
        """Does nothing: ``stream`` fetches ahead."""

    def close(self) -> None:
        """Ends the use of this object; what is coming to the folder comes all the same."""
