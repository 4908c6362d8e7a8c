"""Starting a service: its settings from wherever they are said, and a server of one process or of several."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from fletching.engine.engine_settings import EngineSettings
from fletching.server.server import Server
from fletching.server.server_settings import ServeOptions, ServerSettings
from fletching.server.worker_processes import WorkerServer
from fletching.settings import SERVER_TABLE, StorageSettings, storage_settings, unknown_name

__all__ = ["make_server", "read_all_settings", "serve"]


def serve(
    path: str | Path | None = None,
    port: int | None = None,
    host: str | None = None,
    *,
    access_keys: Mapping[str, str] | None = None,
    project: str | None = None,
    config: str | Path | None = None,
    **settings: Unpack[ServeOptions],
) -> Server:
    """Serves a data set from a background thread of this process.

    Use it as a context manager, or call ``close``; both drain. What is not given here, environment
    variables ``FLETCHING_*`` or the file ``config`` may say.

    Args:
        path: the data folder; created if it does not exist. Not needed where catalog, objects and
            server key are all said to be elsewhere.
        port: see ``Server.port`` and ``Server.url``; by default, and with 0, a free one.
        host: address to listen on; ``127.0.0.1`` by default.
        access_keys: id to secret; by default the folder's own key, generated at the first start.
        project: the project that exists from the start; ``demo`` by default.
        config: a TOML file of settings; ``FLETCHING_CONFIG`` may name one, too.
        **settings: any other field of ``StorageSettings`` (``catalog``, ``objects``,
            ``server_key_file``, ...) and of ``ServerSettings``.

    Raises:
        UsageError: a setting that is not known, is of another type, or cannot work.
        TransportError: the address cannot be listened on.
        StorageError: the folder cannot be used.
    """
    known = {*inspect.signature(serve).parameters, *ServeOptions.__annotations__} - {"settings"}
    for name in settings:
        if name not in known:
            raise unknown_name("the setting", name, known)
    storage, chosen = read_all_settings(
        {"folder": path, "port": port, "host": host, "project": project, **settings},
        config,
        # A program that says nothing of a port asks for the URL; 8787 is for the command.
        defaults={"port": 0},
    )
    return make_server(
        storage.folder, access_keys, chosen, EngineSettings.of(storage, create_projects=False)
    ).start()


def make_server(
    path: str | Path | None,
    access_keys: Mapping[str, str] | None,
    settings: ServerSettings,
    engine_settings: EngineSettings | None = None,
) -> Server:
    """A server of one process or, as the setting ``workers`` says, of several; arguments as `Server`'s.

    Raises:
        As `Server`.
    """
    if settings.workers == 1:
        return Server(path, access_keys, settings, engine_settings)
    return WorkerServer(path, access_keys, settings, engine_settings)


def read_all_settings(
    given: Mapping[str, object],
    config: str | Path | None = None,
    *,
    defaults: Mapping[str, object] | None = None,
) -> tuple[StorageSettings, ServerSettings]:
    """Where the data set is, and how it is served: as given, else as environment or file say.

    ``defaults`` are a server's settings that differ from those of ``ServerSettings``.

    Raises:
        UsageError: a name that is not known, or a value that cannot mean anything.
    """
    of_storage = {field.name for field in dataclasses.fields(StorageSettings)}
    known = of_storage | {field.name for field in dataclasses.fields(ServerSettings)}
    for name in given:
        if name not in known:
            raise unknown_name("the setting", name, known)
    # Each value is looked at where its setting is read.
    given_storage: dict[str, Any] = {
        name: value for name, value in given.items() if name in of_storage
    }
    storage, file = storage_settings(config=config, **given_storage)
    server = ServerSettings.from_environment(
        os.environ,
        None if file is None else file.table(SERVER_TABLE),
        defaults,
        **{name: value for name, value in given.items() if name not in of_storage},
    )
    return storage, server
