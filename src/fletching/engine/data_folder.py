"""A data folder: where its catalog, objects and server key are, and which of them are there.

The key is the secret of a data set, shared by all its servers: 32 random bytes, made once.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
from pathlib import Path

from fletching.catalog.database import CatalogLook, Database, look_at_catalog
from fletching.catalog.opening import look_at_revision, open_catalog
from fletching.engine.engine_settings import EngineSettings
from fletching.engine.identity import StoreLook, look_at_store
from fletching.engine.read_only import OverlaidStore, copy_catalog
from fletching.engine.start_checks import check_endpoint, reaching
from fletching.errors import IdentityError, SettingsError, StorageError, UsageError
from fletching.objects.folder_syncs import sync_folder
from fletching.objects.local import LocalStore, keep_private, private_folder
from fletching.objects.store import ObjectStore
from fletching.settings import KEY_BYTES, parse_server_key

__all__ = ["CATALOG_FILE", "OBJECTS_FOLDER", "SERVER_KEY_FILE", "DataFolder", "load_server_key"]

CATALOG_FILE = "catalog.sqlite"
OBJECTS_FOLDER = "objects"
SERVER_KEY_FILE = "server.key"


class DataFolder:
    """What an engine is opened from. Makes nothing but what ``check_usable`` and ``open_store`` say."""

    def __init__(
        self, folder: Path | None, settings: EngineSettings, *, read_only: bool = False
    ) -> None:
        """Finds out where the parts are; with ``read_only`` nothing in the folder is touched.

        Raises:
            UsageError: there is no folder, and a part that is not said to be elsewhere.
        """
        self.folder = folder
        self.read_only = read_only
        self._settings = settings
        self._scratch: Path | None = None
        self._makes_catalog = self._makes_key = self._makes_store = not read_only
        self.catalog: str | Path = settings.catalog_url or self._inside(
            CATALOG_FILE, "catalog", "FLETCHING_CATALOG=postgresql://..."
        )
        self._objects: str | Path = settings.objects_url or self._inside(
            OBJECTS_FOLDER, "objects", "FLETCHING_OBJECTS=s3://BUCKET/PREFIX"
        )
        if isinstance(self._objects, Path) and settings.cache_dir is not None:
            raise SettingsError(
                "cache_dir is for objects in a bucket (setting objects); a folder's own are read where they are"
            )
        self._key_file: Path | None = None
        if settings.server_key is None:
            self._key_file = Path(
                settings.server_key_file
                or self._inside(
                    SERVER_KEY_FILE,
                    "server key",
                    "FLETCHING_SERVER_KEY_FILE or FLETCHING_SERVER_KEY",
                )
            )

    def _inside(self, name: str, part: str, setting: str) -> Path:
        if self.folder is None:
            raise UsageError(
                f"nothing says where the {part} should be: give a data folder, or {setting}"
            )
        return self.folder / name

    def check_usable(self, *, create: bool) -> None:
        """Makes the folder if it is absent and may be made.

        Raises:
            StorageError: it is absent, or cannot be made or written to.
        """
        folder = self.folder
        if folder is None:
            return
        if not folder.is_dir():
            if not create and not folder.exists():
                raise StorageError(f"there is no data folder at {folder}")
            # Looked at last whether it is a folder: another server may make it at any moment.
            if folder.exists() and not folder.is_dir():
                raise StorageError(f"{folder} is a file, and no data folder")
            try:
                private_folder(folder)
            except OSError as error:
                raise StorageError(f"{folder} cannot be used: {error.strerror}") from error
        if not self.read_only and not os.access(folder, os.W_OK):
            raise StorageError(f"{folder} cannot be written to: read-only, or not permitted")

    def look_at_objects(self, store: ObjectStore | None, *, adopt: bool = False) -> StoreLook:
        """What the object store shows; where its folder is absent, nothing."""
        if store is not None:
            return look_at_store(store, adopt=adopt)
        with reaching("object store", self._objects):
            return self._look_at_own(adopt=adopt)

    def _look_at_own(self, *, adopt: bool) -> StoreLook:
        if isinstance(self._objects, Path):
            if not self._objects.is_dir():
                return StoreLook(None, has_objects=False)
            self._makes_store = False
        opened = self.open_store()
        try:
            return look_at_store(opened, adopt=adopt)
        finally:
            opened.close()

    @functools.cached_property
    def _opened_catalog(self) -> str | Path:
        """The catalog, or the copy that is opened in its place: SQLite writes where it only reads."""
        if not self.read_only or not isinstance(self.catalog, Path) or not self.catalog.exists():
            return self.catalog
        copy = copy_catalog(self.catalog)
        self._scratch = copy.parent
        return copy

    def check_complete(self, look: StoreLook, *, create: bool, adopt: bool) -> None:
        """Compares what is there before anything is made.

        Raises:
            IdentityError: a part is missing beside another one.
            StorageError: nothing is there, and nothing may be made.
        """
        with reaching("catalog", self.catalog):
            catalog = look_at_catalog(self._opened_catalog)
        has_catalog = catalog is not CatalogLook.ABSENT
        has_key = self._key_file is None or self._key_file.exists()
        # What was there is opened, never made: it may be taken away between the look and the opening.
        self._makes_catalog = not (has_catalog or self.read_only)
        self._makes_key = not (has_key or self.read_only)
        if adopt:
            return
        where = self.catalog if isinstance(self.catalog, Path) else "the database"
        if not has_catalog and not look.is_empty:
            raise IdentityError(
                f"there are objects, but no catalog in {where}: restore the catalog, or say where"
                " it is (FLETCHING_CATALOG); `fletching adopt` begins an empty one, for which these"
                " objects are garbage"
            )
        if not has_catalog and not create:
            raise StorageError(
                f"there is no catalog in {where}: it is somewhere else (FLETCHING_CATALOG says"
                " where), or nothing was ever stored here"
            )
        if not has_catalog and not self._settings.catalog_migrate:
            raise SettingsError(f"there is no catalog in {where} yet: run fletching migrate first")
        if catalog is CatalogLook.USED and not has_key:
            raise IdentityError(
                f"{self._key_file} is missing beside its catalog: restore it from where it was"
                " backed up; `fletching adopt` makes a new one, under which stored access keys and"
                " blob references are dead"
            )

    def open_catalog(self) -> Database:
        """The catalog, brought up to date unless the settings say that it is not to be.

        Raises:
            SettingsError: the database refuses, or is of another release.
            StorageError: the file cannot be used.
        """
        settings = self._settings
        with reaching("catalog", self.catalog):
            return open_catalog(
                self._opened_catalog,
                busy_timeout_seconds=settings.busy_timeout_seconds,
                migrate=settings.catalog_migrate,
                create=self._makes_catalog,
                connections=settings.catalog_pool,
            )

    def drop_scratch(self) -> None:
        """Removes what opening for reading has copied, where the opening failed."""
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def catalog_revision(self) -> str | None:
        """The revision that the catalog is at; None if there is none. Makes nothing.

        Raises:
            SettingsError: the database cannot be asked, or a newer release wrote it.
        """
        with reaching("catalog", self.catalog):
            return look_at_revision(self.catalog)

    def server_key(self) -> bytes:
        """The server key, made if it is absent: ``check_complete`` has found that right."""
        if self._key_file is not None:
            return load_server_key(self._key_file, create=self._makes_key)
        key = parse_server_key((self._settings.server_key or "").encode())
        if key is None:
            raise UsageError("the server key is not 64 hexadecimal digits")
        return key

    def open_store(self) -> ObjectStore:
        """The object store; a local one is made if it is absent."""
        settings = self._settings
        if not isinstance(self._objects, Path):
            from fletching.objects.remote_store import RemoteStore

            check_endpoint(os.environ)
            remote = RemoteStore(self._objects)
            if settings.cache_dir is None or not settings.cache_bytes:
                return remote
            from fletching.objects.cached_store import CachedStore

            try:
                return CachedStore(
                    remote,
                    settings.cache_dir,
                    settings.cache_bytes,
                    mapped=settings.objects_mapped,
                    resident_bytes=settings.objects_resident_bytes,
                )
            except StorageError as error:
                raise SettingsError(str(error)) from error
        if not (self._makes_store or self.read_only):
            keep_private(self._objects)
        store = LocalStore(
            self._objects,
            mapped=settings.objects_mapped,
            resident_bytes=settings.objects_resident_bytes,
            create=self._makes_store,
        )
        return store if self._scratch is None else OverlaidStore(store, self._scratch)


def load_server_key(path: Path, *, create: bool = True) -> bytes:
    """Reads the key; safe against a race to make it.

    Args:
        path: the file.
        create: whether to make it (mode 600, durable) if there is none.

    Raises:
        StorageError: the file cannot be read or made, or does not hold a key.
    """
    try:
        if create and not path.exists():
            _make(path)
        key = path.read_bytes()
    except OSError as error:
        raise StorageError(f"the server key {path} is not usable: {error.strerror}") from error
    parsed = parse_server_key(key)
    if parsed is None:
        raise StorageError(
            f"the server key {path} has {len(key)} bytes, not {KEY_BYTES} or {2 * KEY_BYTES} hexadecimal"
            " digits"
        )
    return parsed


def _make(path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(descriptor)
        # Whoever links first has made the key; the others use it.
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink()
    sync_folder(path.parent)
