"""Objects as files of a local folder, mapped into memory for reading.

::

    root/tables/t1/0c9f-1.arrow      an object, exactly its bytes
    root/.staging/<writer>/7         bytes of an object that is not committed yet
    root/.staging/<writer>/lock      locked while that writer lives
    root/.staging/lock               held for the moment of registering or looking for the dead

A commit is: fsync of the file, a hard link under its key (which fails if the key is taken), fsync
of the folder, removal of the staging name. After a crash the staging folder of the dead process is
known by its lock being free.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import secrets
import shutil
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from typing_extensions import Buffer

from fletching import faultpoints
from fletching.errors import ObjectExistsError, ObjectNotFoundError, StorageError, UsageError
from fletching.objects.folder_syncs import FolderSyncs, sync_folder
from fletching.objects.local_object import LocalObject
from fletching.objects.mappings import MappedRanges, Mappings
from fletching.objects.object_errors import translated
from fletching.objects.page_cache import start_writeback
from fletching.objects.store import IDENTITY_KEY, ObjectInfo, Observe, checked_key

__all__ = ["LocalSink", "LocalStore", "private_folder"]

_STAGING = ".staging"
_FOLDER_MODE = 0o700
_IOV_MAX = 1024  # buffers per writev: POSIX's minimum on the systems we run on
_WRITEBACK_BYTES = 8 << 20  # small objects are one fsync anyway


class LocalStore:
    """A folder of objects, for the eyes of its owner alone. Several processes may share it."""

    knows_writers = True
    observe: Observe | None = None

    def __init__(
        self,
        root: str | Path,
        *,
        mapped: bool = True,
        resident_bytes: int | None = None,
        create: bool = True,
    ) -> None:
        """Opens the folder.

        Args:
            root: the folder.
            mapped: False reads instead of mapping, for disks that fail under a mapping: a page
                that cannot be read is then an error rather than a signal.
            resident_bytes: about how much of all mappings stays in the process's page tables; None
                leaves it to the system (see ``fletching.objects.mappings``).
            create: whether to make the folder if it is absent.

        Raises:
            StorageError: the folder is absent or cannot be made.
        """
        self.root = Path(root)
        self._root_text = str(self.root)
        self.writer = secrets.token_hex(6)
        self._mappings = Mappings(self.root) if mapped else None
        self._mapped_ranges = None if resident_bytes is None else MappedRanges(resident_bytes)
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._registration: int | None = None
        self._closed = False
        self._folders: set[str] = set()
        self.folder_syncs = FolderSyncs()
        with translated("opening the object folder", None):
            if create:
                private_folder(self.root)
                # Also of a folder that was there: its maker may have died before it could.
                sync_folder(self.root.resolve().parent)
            elif not self.root.is_dir():
                raise StorageError(f"there is no object folder at {self.root}")

    # --- writing ---

    def create(self, key: str) -> LocalSink:
        """Begins an object; see ``ObjectStore``."""
        path = self._path(key)
        with translated("creating", key):
            staging = self._register() / str(next(self._numbers))
            descriptor = os.open(
                staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
            )
        return LocalSink(self, key, path, staging, descriptor)

    def delete(self, key: str) -> None:
        """Removes an object; see ``ObjectStore``. Mapped views of it stay valid."""
        path = self._path(key)
        if self._mappings is not None:
            self._mappings.drop(key)
        with translated("deleting", key), contextlib.suppress(FileNotFoundError):
            path.unlink()
        faultpoints.reach("object.deleted")

    def folders(self, prefix: str) -> Sequence[str]:
        """Names of the folders right below a prefix; see ``FolderStore``."""
        with translated("listing", None), contextlib.suppress(FileNotFoundError):
            entries = os.scandir(self._path(prefix))
            return [each.name for each in entries if each.is_dir(follow_symlinks=False)]
        return []

    def remove_folder(self, prefix: str) -> None:
        """Removes a folder if nothing is in it; see ``FolderStore``."""
        folder = self._path(prefix)
        self._folders.discard(str(folder))
        with translated("deleting", prefix):
            try:
                folder.rmdir()
            except OSError as error:
                if error.errno not in {errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST}:
                    raise

    def forget_removed(self) -> None:
        """Lets go of files that somebody removed from the folder, and that were kept for the next reader."""
        if self._mappings is not None:
            self._mappings.forget_removed()

    def _path(self, key: str) -> Path:
        return self.root / checked_key(key)

    def _prepare_folder(self, folder: Path) -> None:
        """Makes an object's folder durable before the first object in it is."""
        name = str(folder)
        if name not in self._folders:
            private_folder(folder)
            # Synced whoever made them: their maker may have died before it could.
            parent = folder
            while parent != self.root:
                parent = parent.parent
                sync_folder(parent)
            self._folders.add(name)

    # --- reading ---

    def open(
        self, key: str, *, length: int | None = None, crc32c: int | None = None
    ) -> LocalObject:
        """Opens an object; see ``ObjectStore``. Holds a file descriptor until closed."""
        del length, crc32c  # opening tells what it is
        # As text: making a path of it takes longer than opening it.
        path = f"{self._root_text}/{checked_key(key)}"
        with translated("opening", key):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise ObjectNotFoundError(f"there is no object {key}", key=key) from error
            try:
                status = os.fstat(descriptor)
            except BaseException:
                os.close(descriptor)
                raise
            if not stat.S_ISREG(status.st_mode):
                os.close(descriptor)
                raise ObjectNotFoundError(f"there is no object {key}", key=key)
        return LocalObject(
            key,
            descriptor,
            status.st_size,
            mappings=self._mappings,
            mapped_ranges=self._mapped_ranges,
            identity=(
                status.st_dev,
                status.st_ino,
                status.st_size,
                status.st_mtime_ns,
            ),
        )

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Walks the folder; see ``ObjectStore``."""
        start = self.root / checked_key(prefix.rstrip("/")) if prefix.strip("/") else self.root
        pending = [start]
        with translated("listing", None):
            while pending:
                try:
                    entries = list(os.scandir(pending.pop()))
                except (FileNotFoundError, NotADirectoryError):
                    continue  # dropped while walking
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(Path(entry.path))
                    elif entry.is_file(follow_symlinks=False):
                        try:
                            status = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue
                        key = str(Path(entry.path).relative_to(self.root))
                        if key != IDENTITY_KEY:
                            yield ObjectInfo(key, status.st_size, status.st_mtime)

    # --- who lives ---

    def _register(self) -> Path:
        """This writer's staging folder; at its first use, made and locked."""
        folder = self.root / _STAGING / self.writer
        if self._registration is None:
            with self._lock:
                if self._closed:
                    raise UsageError("the object store is closed")
                if self._registration is None:
                    with self._registry():
                        # It may be there: of an earlier call, which failed after it had made it.
                        folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
                        descriptor = os.open(
                            folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
                        )
                        try:
                            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        except BaseException:
                            os.close(descriptor)
                            raise
                        self._registration = descriptor
        return folder

    @contextlib.contextmanager
    def _registry(self) -> Iterator[None]:
        staging = self.root / _STAGING
        staging.mkdir(mode=_FOLDER_MODE, exist_ok=True)
        descriptor = os.open(staging / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def living_writers(self) -> frozenset[str]:
        """Whoever holds the lock of a staging folder, and this one; see ``ObjectStore``."""
        return self._writers()[1] | {self.writer}

    def dead_writers(self) -> frozenset[str]:
        """Removes what dead processes staged and tells their ids; see ``ObjectStore``."""
        return self._writers()[0]

    def _writers(self) -> tuple[frozenset[str], frozenset[str]]:
        """The dead and the living among the other registered writers; at one moment."""
        staging = self.root / _STAGING
        dead, living = set(), set()
        with translated("looking for dead writers", None):
            if not staging.is_dir():
                return frozenset(), frozenset()
            with self._registry():
                for folder in staging.iterdir():
                    if not folder.is_dir() or folder.name == self.writer:
                        continue
                    try:
                        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
                    except FileNotFoundError:
                        dead.add(folder.name)  # died between mkdir and lock
                        continue
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    except BlockingIOError:
                        living.add(folder.name)
                        continue
                    finally:
                        os.close(descriptor)
                    for leftover in folder.iterdir():
                        if leftover.name != "lock":
                            leftover.unlink(missing_ok=True)
                    dead.add(folder.name)
        return frozenset(dead), frozenset(living)

    def forget_writer(self, writer: str) -> None:
        """Removes a dead writer's staging folder."""
        if "/" in checked_key(writer) or writer == self.writer:
            raise UsageError(f"{writer!r} is not another writer")
        with translated("forgetting a dead writer", None), self._registry():
            shutil.rmtree(self.root / _STAGING / writer, ignore_errors=True)

    def close(self) -> None:
        """Ends this opening; see ``ObjectStore``."""
        if self._mappings is not None:
            self._mappings.clear()
        with self._lock:
            self._closed = True
            if self._registration is None:
                return
            descriptor, self._registration = self._registration, None
            try:
                with contextlib.suppress(OSError):
                    shutil.rmtree(self.root / _STAGING / self.writer)
            finally:  # also after a Ctrl-C
                os.close(descriptor)


class LocalSink:
    """A file under a staging name until ``commit`` links it under its key."""

    def __init__(
        self, store: LocalStore, key: str, path: Path, staging: Path, descriptor: int
    ) -> None:
        self.key = key
        self.length = 0
        self._store = store
        self._path = path
        self._staging = staging
        self._descriptor: int | None = descriptor
        self._sent = 0  # how much is on its way to the disk

    def write(self, data: Buffer) -> None:
        """Appends bytes; see ``ObjectSink``."""
        self.write_many((data,))

    def write_many(self, buffers: Sequence[Buffer]) -> None:
        """Appends buffers with one system call per 1,024 of them; see ``ObjectSink``."""
        descriptor = self._open_descriptor()
        views = [view for view in map(_bytes_view, buffers) if view.nbytes]
        with translated("writing", self.key):
            first = 0
            while first < len(views):
                written = os.writev(descriptor, views[first : first + _IOV_MAX])
                self.length += written
                # A call may take less than it was given; go on from the byte it stopped at.
                while first < len(views) and written >= views[first].nbytes:
                    written -= views[first].nbytes
                    first += 1
                if written:
                    views[first] = views[first][written:]
        if self.length - self._sent >= _WRITEBACK_BYTES:
            start_writeback(descriptor, self._sent, self.length - self._sent)
            self._sent = self.length

    def commit(self) -> None:
        """Makes the object durable and visible; see ``ObjectSink``."""
        descriptor = self._open_descriptor()
        faultpoints.reach("object.written")
        started = time.perf_counter()
        try:
            with translated("committing", self.key):
                os.fsync(descriptor)
                faultpoints.reach("object.synced")
                self._publish()
                faultpoints.reach("object.published")
                self._store.folder_syncs.sync(self._path.parent)
                faultpoints.reach("object.durable")
        except BaseException:
            self.abort()
            raise
        if self._store.observe is not None:
            self._store.observe("commit", time.perf_counter() - started)
        self._descriptor = None
        os.close(descriptor)
        # A leftover staging name is harmless and goes with the writer's folder.
        with contextlib.suppress(OSError):
            self._staging.unlink()

    def _publish(self) -> None:
        folder = self._path.parent
        for again in (True, False):
            self._store._prepare_folder(folder)  # noqa: SLF001 - the sink is the store's own half
            try:
                os.link(self._staging, self._path)
            except FileExistsError as error:
                raise ObjectExistsError(f"object {self.key} exists", key=self.key) from error
            except FileNotFoundError:
                # The folder was removed since it was last used; it is made again, once.
                self._store._folders.discard(str(folder))  # noqa: SLF001 - as above
                if not again:
                    raise
            except OSError as error:
                if error.errno not in {errno.EPERM, errno.ENOTSUP, errno.EMLINK}:
                    raise
                # A file system without hard links. Keys are made up at random, so that between
                # this look and the rename nobody takes it.
                if self._path.exists():
                    raise ObjectExistsError(f"object {self.key} exists", key=self.key) from error
                self._staging.rename(self._path)
                return
            else:
                return

    def abort(self) -> None:
        """Drops the file; see ``ObjectSink``."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        os.close(descriptor)
        with contextlib.suppress(OSError):
            self._staging.unlink()

    def _open_descriptor(self) -> int:
        if self._descriptor is None:
            raise UsageError(f"the sink of object {self.key} is already committed or aborted")
        return self._descriptor

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()


def _bytes_view(data: Buffer) -> memoryview:
    view = memoryview(data)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


def private_folder(folder: Path) -> None:
    """Makes a folder, and those above it that are missing, durably, for its owner alone.

    Of one that is there, what every account of the machine may do is taken back.
    """
    if not folder.parent.exists():
        private_folder(folder.parent)
    try:
        folder.mkdir(mode=_FOLDER_MODE)
    except FileExistsError:
        if not folder.is_dir():
            raise
        _close_to_others(folder)
    else:
        sync_folder(folder.parent)


def _close_to_others(folder: Path) -> None:
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o007:
        with contextlib.suppress(PermissionError):
            folder.chmod(mode & ~0o007)


def keep_private(folder: Path) -> None:
    """What `private_folder` does of a folder that is there; one that is gone is not made.

    Raises:
        StorageError: it is gone, or cannot be looked at.
    """
    with translated("opening the object folder", None):
        _close_to_others(folder)
        # Its maker may have died before it could.
        sync_folder(folder.resolve().parent)
