"""A data folder: where its catalog, objects and server key are, and which of them are there."""

from __future__ import annotations

import os
from pathlib import Path

from fletching.catalog.database import CatalogLook, look_at_catalog
from fletching.engine.access.server_key import load_server_key
from fletching.engine.engine_settings import EngineSettings
from fletching.engine.identity import StoreLook, look_at_store
from fletching.errors import IdentityError, StorageError
from fletching.objects.local import LocalStore, private_folder
from fletching.objects.store import ObjectStore

__all__ = ["CATALOG_FILE", "OBJECTS_FOLDER", "SERVER_KEY_FILE", "DataFolder"]

CATALOG_FILE = "catalog.sqlite"
OBJECTS_FOLDER = "objects"
SERVER_KEY_FILE = "server.key"


class DataFolder:
    """What an engine is opened from. Makes nothing but what ``check_usable`` and ``open_store`` say."""

    def __init__(self, folder: Path, settings: EngineSettings) -> None:
        self.folder = folder
        self._settings = settings
        self.catalog: str | Path = settings.catalog_url or folder / CATALOG_FILE
        self._key_file = Path(settings.server_key_file or folder / SERVER_KEY_FILE)

    def check_usable(self, *, create: bool) -> None:
        """Makes the folder if it is absent and may be made.

        Raises:
            StorageError: it is absent, or cannot be made or written to.
        """
        folder = self.folder
        if not folder.is_dir():
            if not create and not folder.exists():
                raise StorageError(f"there is no data folder at {folder}")
            try:
                private_folder(folder)
            except OSError as error:
                raise StorageError(f"{folder} cannot be used: {error.strerror}") from error
        if not os.access(folder, os.W_OK):
            raise StorageError(f"{folder} cannot be written to: read-only, or not permitted")

    def look_at_objects(self, store: ObjectStore | None, *, adopt: bool = False) -> StoreLook:
        """What the object store shows; where its folder is absent, nothing."""
        if store is not None:
            return look_at_store(store, adopt=adopt)
        if self._settings.objects_url is None and not self._objects.is_dir():
            return StoreLook(None, has_objects=False)
        opened = self.open_store()
        try:
            return look_at_store(opened, adopt=adopt)
        finally:
            opened.close()

    def check_complete(self, look: StoreLook, *, create: bool, adopt: bool) -> None:
        """Compares what is there before anything is made.

        Raises:
            IdentityError: a part is missing beside another one.
            StorageError: nothing is there, and nothing may be made.
        """
        catalog = look_at_catalog(self.catalog)
        has_catalog = catalog is not CatalogLook.ABSENT
        has_key = self._key_file.exists()
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
        if catalog is CatalogLook.USED and not has_key:
            raise IdentityError(
                f"{self._key_file} is missing beside its catalog: restore it from where it was"
                " backed up; `fletching adopt` makes a new one, under which stored access keys and"
                " blob references are dead"
            )

    def server_key(self) -> bytes:
        """The server key, made if it is absent: ``check_complete`` has found that right."""
        return load_server_key(self._key_file)

    def open_store(self) -> ObjectStore:
        """The object store; a local one is made if it is absent."""
        settings = self._settings
        if settings.objects_url is not None:
            from fletching.objects.remote_store import RemoteStore

            return RemoteStore(settings.objects_url)
        return LocalStore(
            self._objects,
            mapped=settings.objects_mapped,
            resident_bytes=settings.objects_resident_bytes,
        )

    @property
    def _objects(self) -> Path:
        return self.folder / OBJECTS_FOLDER
