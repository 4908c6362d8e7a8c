"""Where a command works, and as whom: what ``--at`` and its like mean, and what opens there."""

from __future__ import annotations

import copy
import dataclasses
import os
import socket
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fletching.errors import ConnectError, UsageError
from fletching.settings import StorageSettings, environments_data_set, meant_url, storage_settings
from fletching.types import DEFAULT_PROJECT

if TYPE_CHECKING:
    from fletching.client import Client
    from fletching.client.profiles import Profile
    from fletching.engine.engine import Engine

__all__ = ["CONNECT_SECONDS", "Location"]

DEFAULT_AT = "./data"

CONNECT_SECONDS = 3.0
"""How long a command tries to reach a server that refuses connections: long enough for one that is
being started beside it, short enough for whoever mistyped an address."""

_PAUSE_SECONDS = 0.1


class Location:
    """Where a command works: a server, a data folder or another data set, which project, whose key.

    Attributes:
        at: the URL, or the path of the folder; what a data set without a folder is called.
        origin: what said so: ``--at``, the environment variable, or the default.
        project: the project's name.
        profile: the profile that is meant, or that knows the key of the URL; None if none is.
    """

    def __init__(
        self,
        at: str | None = None,
        project: str | None = None,
        access_key: str | None = None,
        access_key_file: Path | None = None,
        wait: float | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> None:
        environment = os.environ
        self._storage_options = {
            name: value for name, value in (storage_options or {}).items() if value is not None
        }
        self._storage: StorageSettings | None = None
        if at and self._storage_options and "://" in at:
            raise UsageError(f"{at} is a server: where a data set is, is for who opens it")
        if not at and self._storage_options:
            self._storage, _ = storage_settings(**self._storage_options)
        elif not at and not environment.get("FLETCHING_AT"):
            self._storage = environments_data_set(environment)
        named, self.origin = (
            (at, "--at") if at else (environment.get("FLETCHING_AT"), "FLETCHING_AT")
        )
        self.profile = None if self._storage else _profile(named)
        if self._storage is not None:
            self.at, self.origin = self._storage.folder or str(self._storage), "the settings"
        elif named and "://" in named:
            # A profile of this URL gives its key, and is not where the URL comes from.
            self.at = named
        elif self.profile is not None:
            self.at, self.origin = self.profile.at, f"profile {self.profile.name}"
        elif named:
            self.at = named
        else:
            self.at, self.origin = DEFAULT_AT, "the default"
        self.project = (
            project
            or environment.get("FLETCHING_PROJECT")
            or (self.profile.project if self.profile else None)
            or DEFAULT_PROJECT
        )
        self._given_key = access_key
        self._given_file = access_key_file
        self._wait = wait

    def in_project(self, project: str) -> Location:
        """The same place, and another project."""
        other = copy.copy(self)
        other.project = project
        return other

    @property
    def is_url(self) -> bool:
        """Whether a server is meant; anything else is a folder.

        Raises:
            UsageError: neither: an address without a scheme, or a scheme that is not spoken.
        """
        if self._storage is not None:
            return False
        scheme, separator, _ = self.at.partition("://")
        if separator:
            if scheme.lower() not in {"http", "https"}:
                raise UsageError(
                    f"{self.at} ({self.origin}): {scheme} is not spoken here; "
                    "give http://HOST:PORT, https://HOST:PORT or a folder"
                )
            return True
        if meant := meant_url(self.at):
            raise UsageError(
                f"{self.at} ({self.origin}) has no scheme: give {meant} for a server, "
                f"or ./{self.at} for a folder of that name"
            )
        return False

    def open(self, *, create: bool = False) -> Client:
        """Opens a client; the caller closes it.

        Args:
            create: make the data folder if it does not exist. Nothing else ever makes one.

        Raises:
            UsageError: the options cannot mean anything, or there is no data folder.
            ConnectError: nobody listens at the URL.
        """
        from fletching.client import connect

        if not self.is_url:
            storage = self.data_set(create=create)
            if self._given_key is not None or self._given_file is not None:
                raise UsageError(f"{self.at} is a folder: access keys are for a server's URL")
            return connect(
                storage.folder, project=self.project, create=create, **self._storage_options
            )
        if not self.key_source():
            raise UsageError(
                f"{self.at} needs an access key: give --access-key ID:SECRET, set "
                f"FLETCHING_ACCESS_KEY, or keep one with fletching login {self.at}; the server has its "
                "first one in the file access-key of its folder"
            )
        # The key is read afterwards: a server that is being started may be making it.
        self.await_server()
        access_id, secret = self.key()
        return connect(self.at, project=self.project, access_id=access_id, access_key=secret)

    def data_set(self, given: Path | None = None, *, create: bool = False) -> StorageSettings:
        """The data set that is meant, for what works on it without a server.

        Args:
            given: a folder named in another way, which then counts.
            create: whether it may be absent.

        Raises:
            UsageError: it is a server's URL, no data folder, or settings that say nothing.
        """
        if given is None and self._storage is not None and self._storage.folder is None:
            if not self._storage.says_where:
                raise UsageError(
                    f"{', '.join(self._storage_options)} say nothing of where a data set is"
                )
            return self._storage
        result, _ = storage_settings(**{**self._storage_options, "folder": given or self.at})
        # What has its catalog elsewhere need not look like one.
        folder = self.folder(given, create=create or result.catalog is not None)
        return dataclasses.replace(result, folder=str(folder))

    def open_engine(
        self,
        given: Path | None = None,
        *,
        adopt: bool = False,
        looks: bool = False,
    ) -> Engine:
        """The engine over ``data_set``; the caller closes it. What only looks may look anywhere."""
        from fletching.engine.engine import Engine
        from fletching.engine.engine_settings import EngineSettings

        storage = self.data_set(given, create=adopt)
        return Engine.open(
            storage.folder,
            settings=EngineSettings.of(storage),
            adopt=adopt,
            read_only=None if looks else False,
        )

    def folder(self, given: Path | None = None, *, create: bool = False) -> Path:
        """The data folder that is meant, for what works on the folder itself.

        Args:
            given: a folder named in another way, which then counts.
            create: whether it may be absent.

        Raises:
            UsageError: it is a server's URL, or no data folder.
        """
        if given is None and self._storage is not None and self._storage.folder is None:
            raise UsageError(f"this works on a data folder, and {self.at} has none")
        if given is None and self.is_url:
            raise UsageError(
                f"this works on a data folder, and {self.at} ({self.origin}) is a server: "
                "give the folder that it serves, on its machine"
            )
        folder = Path(self.at).expanduser() if given is None else given
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder} is a file, and no data folder")
        if not create and not _is_data_folder(folder):
            what = (
                "is no data folder" if folder.is_dir() else "is no data folder: it does not exist"
            )
            from fletching.client.profiles import Profiles

            known = ", ".join(Profiles().names)
            profiles = f"; the profiles are {known}" if known and "/" not in self.at else ""
            raise UsageError(
                f"{folder} {what} ({self.origin if given is None else 'given'}); "
                f"fletching serve, create and put --create make one, --at names another{profiles}"
            )
        return folder

    def key_source(self) -> str:
        """What says the access key; the command line before the environment."""
        environment = os.environ
        return (
            ("--access-key" if self._given_key else "")
            or ("--access-key-file" if self._given_file else "")
            or ("FLETCHING_ACCESS_KEY" if environment.get("FLETCHING_ACCESS_KEY") else "")
            or ("FLETCHING_ACCESS_KEY_FILE" if environment.get("FLETCHING_ACCESS_KEY_FILE") else "")
            or (f"profile {self.profile.name}" if self.profile and self.profile.access_id else "")
        )

    def key(self) -> tuple[str, str]:
        """Access id and secret.

        Raises:
            UsageError: what says them cannot be read, or says something else.
        """
        source = self.key_source()
        if self.profile is not None and source.startswith("profile "):
            if not self.profile.access_id or not self.profile.access_key:
                raise UsageError(
                    f"{source} has lost its secret: fletching login {self.profile.at} keeps it anew"
                )
            return self.profile.access_id, self.profile.access_key
        if source.lower().endswith("file"):
            path = self._given_file or Path(os.environ["FLETCHING_ACCESS_KEY_FILE"])
            try:
                key = self._await_file(path.expanduser()).read_text("utf-8")
            except (OSError, UnicodeDecodeError) as exc:
                raise UsageError(
                    f"the access key in {path} ({source}) cannot be read: {exc}"
                ) from exc
        else:
            key = self._given_key or os.environ["FLETCHING_ACCESS_KEY"]
        access_id, colon, secret = key.strip().partition(":")
        if not (colon and access_id and secret):
            raise UsageError(f"the access key of {source} is not of the form ID:SECRET")
        return access_id, secret

    def _await_file(self, path: Path) -> Path:
        """The path, once it is there or waiting is over: a new server listens before it has a key."""
        deadline = time.monotonic() + self._wait_seconds
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(_PAUSE_SECONDS)
        return path

    @property
    def _wait_seconds(self) -> float:
        return CONNECT_SECONDS if self._wait is None else self._wait

    def await_server(self) -> None:
        """Returns once somebody listens at the URL.

        What fails later, in the middle of a transfer, is the client's to repeat: a server that is
        restarted is not noticed. A command that cannot even begin says so at once.

        Raises:
            ConnectError: nobody did within the time.
        """
        try:
            parts = urlsplit(self.at)
            host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
            (host or "").encode("idna")  # as the look-up of its name does
        except ValueError as exc:
            raise UsageError(f"{self.at} is no address: {exc}") from exc
        if not host:
            raise UsageError(f"{self.at} names no host")
        if urllib.request.getproxies().get(parts.scheme) and not urllib.request.proxy_bypass(host):
            return  # the proxy is what listens; what is behind it shows with the first request
        seconds = self._wait_seconds
        deadline = time.monotonic() + seconds
        while True:
            try:
                socket.create_connection((host, port), timeout=max(seconds, 1.0)).close()
            except OSError as exc:
                unknown = isinstance(exc, socket.gaierror)
                if not unknown and time.monotonic() + _PAUSE_SECONDS < deadline:
                    time.sleep(_PAUSE_SECONDS)
                    continue
                reason = exc.strerror or (
                    "no answer in time" if isinstance(exc, TimeoutError) else exc
                )
                raise ConnectError(
                    f"no server at {self.at} ({self.origin}): {reason}"
                    + ("" if unknown else "; is it running? --wait 60 waits for it"),
                    url=self.at,
                ) from exc
            else:
                return


def _profile(named: str | None) -> Profile | None:
    """The profile that a name means, that a URL belongs to, or that counts where nothing is named."""
    from fletching.client.profiles import Profiles

    profiles = Profiles()
    if not named:
        name = os.environ.get("FLETCHING_PROFILE") or profiles.default
        result = None if name is None else profiles.get(name)
        if result is None and os.environ.get("FLETCHING_PROFILE"):
            raise UsageError(
                f"FLETCHING_PROFILE names {name!r}, and the profiles are: "
                f"{', '.join(profiles.names) or 'none; fletching login makes one'}"
            )
        return result
    if "://" in named:
        return profiles.of_url(named)
    if os.sep in named or _is_data_folder(Path(named)):
        return None
    return profiles.get(named)


def _is_data_folder(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("catalog.sqlite", "server.key"))
