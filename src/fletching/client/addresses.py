"""Opens a client: over HTTP for a URL, in process for a folder."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import os
import re
import socket
import threading
import urllib.parse
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

from fletching.client.call_options import CallOptions, ConnectOptions
from fletching.client.cancellation import Cancellation, opening
from fletching.client.client import Client
from fletching.client.credentials import Credentials, SessionCredentials
from fletching.client.profiles import Profile, Profiles
from fletching.client.retry import Timing
from fletching.client.transports.channel import Channel
from fletching.client.transports.transport import Transport
from fletching.errors import MissingExtraError, SettingsError, UsageError
from fletching.settings import (
    StorageChanges,
    StorageSettings,
    environments_data_set,
    meant_url,
    storage_settings,
)
from fletching.types import DEFAULT_PROJECT, DEFAULT_SCHEMA

__all__ = ["Reopen", "connect"]

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")

# Each of these in a folder means that it is, or was, a data folder: what is missing is for the engine
# to say.
_DATA_FOLDER = ("catalog.sqlite", "objects", "server.key")

_THIS_HOST = frozenset({"localhost", "127.0.0.1", "::1"})

_SHARED_CHANNELS = 8
"""Channels kept for what arrives pickled: a worker reads many splits of one scan, one by one."""


@dataclasses.dataclass(slots=True)
class _Shared:
    """The channel of what arrived pickled.

    Attributes:
        clients: how many unpickled clients use it and are not closed.
        lasting: whether a table, split or session uses it, which nobody closes.
    """

    channel: Channel
    clients: int = 0
    lasting: bool = False


_shared: OrderedDict[tuple[int, Reopen], _Shared] = OrderedDict()
_shared_lock = threading.Lock()


@dataclasses.dataclass(frozen=True, slots=True)
class Reopen:
    """What a client was connected with; called, it gives the same channel again.

    This is how tables, splits and sessions travel to other processes: it pickles, credentials
    included, and each process makes one channel for it, whatever arrives there how often. Splits and
    read sessions travel with the session's token in place of the key (`scoped`).
    """

    location: str
    credentials: Credentials | SessionCredentials | None
    options: CallOptions
    proxy: str | None = None
    ca_certificates: str | None = None
    storage: StorageSettings | None = None
    read_only: bool | None = None

    def __call__(self) -> Channel:
        """The channel of this process, made at the first call and shared; nobody closes it."""
        return self._channel(lasting=True)

    @property
    def is_scoped(self) -> bool:
        """Whether it reads one session and no more."""
        return isinstance(self.credentials, SessionCredentials)

    def scoped(self, token: str | None) -> Reopen:
        """The same with a read session's token in place of the key.

        Itself where there is nothing to put it in the place of (a folder), or no token (a service
        that issues none).
        """
        if token is None or self.credentials is None:
            return self
        return dataclasses.replace(self, credentials=SessionCredentials(token))

    def locations(self) -> tuple[str, ...]:
        """Names of the hosts on which reading is cheapest: the service's own, or the folder's.

        On the service's host rows are read where they are mapped, over no network. None where objects
        are in an object store.
        """
        if self.storage is not None and self.storage.objects is not None:
            return ()
        host = urllib.parse.urlsplit(self.location).hostname if _URL.match(self.location) else None
        return (socket.gethostname() if host in {None, *_THIS_HOST} else str(host),)

    def open_client(self, project: str, schema: str) -> Client:
        """A client through that channel, which closes when the last such client is closed."""
        channel = self._channel(lasting=False)
        return Client(channel, project, schema=schema, close=lambda: self._leave(channel))

    def _channel(self, *, lasting: bool) -> Channel:
        # A forked process must not talk on its parent's connections.
        key = (os.getpid(), self)
        with _shared_lock:
            shared = _shared.pop(key, None)
            if shared is None or shared.channel.transport.cancellation.cancelled:
                shared = _Shared(Channel(self.transport(), self.options, Timing(), self))
            shared.lasting |= lasting
            shared.clients += not lasting
            _shared[key] = shared
            while len(_shared) > _SHARED_CHANNELS:
                _shared.popitem(last=False)
        return shared.channel

    def _leave(self, channel: Channel) -> None:
        key = (os.getpid(), self)
        with _shared_lock:
            shared = _shared.get(key)
            if shared is None or shared.channel is not channel:
                # Too many others came since; its connections go with the objects that use it.
                return
            shared.clients -= 1
            if shared.clients or shared.lasting:
                return
            del _shared[key]
        channel.transport.close()

    def transport(self, *, create: bool = False) -> Transport:
        """A new transport; the caller closes it. With ``create`` a folder may be made."""
        if self.storage is None and _URL.match(self.location):
            from fletching.client.transports.http.http_transport import HttpTransport

            assert self.credentials is not None
            return HttpTransport(
                self.location,
                self.credentials,
                connections=max(8, self.options.most_connections),
                proxy=self.proxy,
                ca_certificates=self.ca_certificates,
            )
        try:
            from fletching.client.transports.embedded.embedded_transport import EmbeddedTransport
        except ImportError as exc:
            raise MissingExtraError(
                f"{self.location!r} is a folder, and tables in a folder need the server's parts, of "
                f"which {exc.name} is absent: pip install 'fletching[server]'"
            ) from exc
        return EmbeddedTransport(
            self.storage or self.location, create=create, read_only=self.read_only
        )

    def __str__(self) -> str:
        """The location, without credentials."""
        return self.location


def connect(
    url_or_path: str | os.PathLike[str] | None = None,
    project: str | None = None,
    *,
    access_id: str | None = None,
    access_key: str | None = None,
    schema: str = DEFAULT_SCHEMA,
    sts_token: str | None = None,
    region: str | None = None,
    proxy: str | None = None,
    ca_certificates: str | os.PathLike[str] | None = None,
    create: bool = False,
    read_only: bool | None = None,
    timing: Timing | None = None,
    **options: Unpack[ConnectOptions],
) -> Client:
    """Opens a client of one project.

    Without a location the environment says where and as whom: ``FLETCHING_AT``,
    ``FLETCHING_ACCESS_KEY`` (``ID:SECRET``, or ``FLETCHING_ACCESS_KEY_FILE``) and
    ``FLETCHING_PROJECT``; else ``FLETCHING_CATALOG``, ``FLETCHING_OBJECTS``, ``FLETCHING_FOLDER`` or the
    file of ``FLETCHING_CONFIG``, where a data set is; else the profile that ``FLETCHING_PROFILE`` names,
    or that ``fletching login`` made last. As for the command line.

    Args:
        url_or_path: ``http://...`` or ``https://...`` of a service, or the path of a data folder,
            which is then opened in this process, without any server; the ``[server]`` extra must
            be installed for that. Several processes may open one folder, a server among them. Or the
            name of a profile (``fletching login``).
        project: whose tables; ``demo`` by default.
        access_id: names the key that signs the requests; a service needs one, a folder none. By
            default that of the profile of the URL.
        access_key: that key's secret; never sent.
        schema: the namespace of tables named without one.
        sts_token: goes with a temporary key.
        region: signs for this region (v4 signatures) instead of the legacy way.
        proxy: URL of an HTTP proxy; None for what ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and
            ``NO_PROXY`` say, ``""`` for none.
        ca_certificates: file of certificate authorities to trust instead of the system's.
        create: make the folder if it is absent, and the project. Nothing else makes either, but that
            a folder that is there and empty becomes a data folder.
        read_only: open a folder for reading: nothing in it is written, it is seen as it is now, and
            changes are refused. By default a folder that this process cannot write to is opened so
            (a snapshot, a backup, a mount of others); False refuses such a one.
        timing: clock, sleep and random of retries, for tests.
        **options: any field of `CallOptions`: ``timeouts``, ``retry``, ``connections``, ...;
            ``timeouts`` and ``retry`` may be dicts of what differs from the defaults. And where a data
            set is that is opened in this process: ``catalog``, ``objects``, ``server_key_file`` and the
            other fields of ``StorageSettings``, or ``config``, a file of these. What they do not say
            is in the folder, which is not needed if they say all.

    Raises:
        UsageError: not a URL or path, a folder that is not there, an unknown option, a value of
            another type, or a service without a key.
        MissingExtraError: a folder, but the ``[server]`` extra is not installed.
        StorageError: the folder cannot be opened.
        ServiceError, TransportError: with ``create``, the project could not be made.
    """
    _check_names(options)
    if url_or_path is None and (access_id is not None or access_key is not None):
        raise UsageError("connect got a key without a URL: give both, or neither")
    explicit: dict[str, Any] = {
        name: options.pop(name)  # type: ignore[misc]  # names of the TypedDict
        for name in StorageChanges.__annotations__
        if name in options
    }
    storage = _data_set(url_or_path, explicit)
    named = None
    if storage is not None:
        url_or_path = storage.folder or str(storage)
    else:
        named = _named(url_or_path, keyed=access_id is not None or access_key is not None)
    if named is not None:
        url_or_path, project = named.at, project or named.project
        access_id, access_key = named.access_id, named.access_key
    assert url_or_path is not None
    project = DEFAULT_PROJECT if project is None else project
    _check_texts({"project": project, "schema": schema}, proxy, ca_certificates)
    changed = CallOptions().changed(**options)  # type: ignore[misc]  # what is left of them
    location = _location(url_or_path) if storage is None or storage.folder else str(storage)
    if read_only and create:
        raise UsageError("a folder that is to be made is not for reading only")
    credentials = None
    begins = create
    if storage is None and _URL.match(location):
        if explicit:
            raise UsageError(
                f"{next(iter(explicit))} is for a data set, and {location} is a service"
            )
        if read_only:
            raise UsageError("read_only is for folders; a service's keys say what they may do")
        credentials = Credentials(access_id or "", access_key or "", sts_token, region)
    elif access_id is not None or access_key is not None:
        raise UsageError(
            f"{location!r} is a folder, which takes no access_id and access_key; a service's address "
            f"begins with http:// or https://"
        )
    elif proxy or ca_certificates or sts_token or region:
        raise UsageError("proxy, ca_certificates, sts_token and region are for services")
    elif storage is None or storage.folder:
        # Absolute, so that a pickled client finds the folder from another working directory.
        folder = Path(location).expanduser().absolute()
        try:
            begins = _check_folder(folder, location, create=create)
        except OSError as error:
            raise SettingsError(f"{location!r} cannot be opened: {error.strerror}") from error
        location = str(folder)
        storage, _ = storage_settings(**{**explicit, "folder": location})
    reopen = Reopen(
        location,
        credentials,
        changed,
        proxy,
        None if ca_certificates is None else os.fspath(ca_certificates),
        storage,
        read_only,
    )
    channel = Channel(reopen.transport(create=begins), changed, timing or Timing(), reopen)
    client = Client(channel, project, schema=schema)
    if begins:
        scope = opening.get() or Cancellation()
        try:
            with scope.interrupting(channel.transport.cancellation.cancel):
                client.create_project(if_not_exists=True)
        except BaseException:
            client.close()
            raise
    return client


def _check_texts(names: Mapping[str, object], proxy: object, ca_certificates: object) -> None:
    for name, value in names.items():
        if not isinstance(value, str) or not value:
            raise UsageError(f"connect needs {name} as text, not {value!r}")
    for name, text in (("proxy", proxy), ("ca_certificates", ca_certificates)):
        if text is not None and not isinstance(text, str | os.PathLike):
            raise UsageError(f"{name} is text, not {type(text).__name__}")


_OTHER_NAMES = {
    "access_key_id": "access_id",
    "access_key_secret": "access_key",
    "endpoint": "url_or_path",
    "secret": "access_key",
    "secret_access_key": "access_key",
    "secret_key": "access_key",
    "security_token": "sts_token",
    "token": "sts_token",
    "url": "url_or_path",
}
"""What neighbouring libraries call the same thing."""


def _check_names(options: Mapping[str, object]) -> None:
    """Refuses options that nothing takes, with the one that was probably meant.

    Raises:
        UsageError: there is one.
    """
    known = {
        *inspect.signature(connect).parameters,
        *StorageChanges.__annotations__,
        *CallOptions.__dataclass_fields__,
    } - {"options"}
    for name in options:
        if name in known:
            continue
        close = difflib.get_close_matches(name, known, n=1)
        meant = _OTHER_NAMES.get(name) or (close[0] if close else None)
        hint = f"did you mean {meant}?" if meant else f"it takes {', '.join(sorted(known))}"
        raise UsageError(f"connect has no option {name!r}; {hint}")


def _data_set(
    url_or_path: str | os.PathLike[str] | None, explicit: dict[str, Any]
) -> StorageSettings | None:
    """The data set that is meant where no location is given; None if it is not a data set.

    Raises:
        UsageError: a setting that is not known, or cannot mean anything.
    """
    if url_or_path is not None:
        return None
    if any(value is not None for value in explicit.values()):
        result, _ = storage_settings(**explicit)
        if not result.says_where:
            raise UsageError(f"{', '.join(explicit)} say nothing of where a data set is")
        return result
    return None if os.environ.get("FLETCHING_AT") else environments_data_set(os.environ)


def _location(url_or_path: str | os.PathLike[str]) -> str:
    """The URL or path as text.

    Raises:
        UsageError: neither, or an address that lacks ``http://``.
    """
    if not isinstance(url_or_path, str | os.PathLike):
        raise UsageError(f"connect takes a URL or a path, not {type(url_or_path).__name__}")
    location = os.fspath(url_or_path)
    if not isinstance(location, str) or not location or "\0" in location:
        raise UsageError("connect takes a URL or a path as text")
    if not isinstance(url_or_path, str):
        return location
    scheme = _URL.match(location)
    if scheme is not None and scheme[1].lower() not in {"http", "https"}:
        raise UsageError(
            f"{scheme[0]} is no scheme that is spoken here: a service's address begins with http:// "
            "or https://, and a folder is given as its path"
        )
    if scheme is not None:
        return location
    if meant := meant_url(location):
        raise UsageError(
            f"{location!r} has no scheme: a service's address begins with http:// or https://; did "
            f"you mean {meant} ? A folder of that name is ./{location}"
        )
    return location


def _check_folder(folder: Path, given: str, *, create: bool) -> bool:
    """Whether a data folder is to be begun at a path.

    Raises:
        UsageError: there is no data folder, and none was asked for.
    """
    if not folder.exists():
        if create:
            return True
        raise UsageError(
            f"there is no folder or profile {given!r}: give the path of a data folder, the URL of a "
            "service (http://host:port), or create=True to make the folder"
        )
    if not folder.is_dir():
        raise UsageError(f"{given!r} is a file, not a data folder")
    if any((folder / name).exists() for name in _DATA_FOLDER):
        return create
    if any(folder.iterdir()) and not create:
        raise UsageError(
            f"{given!r} is a folder of other things, not a data folder; create=True makes it one"
        )
    return True


def _named(url_or_path: object, *, keyed: bool) -> Profile | None:
    """Where to connect and as whom, if that is for the environment or a profile to say.

    A location that is given is the location; a profile then gives the key of its URL, and a profile's
    name stands for all that it holds.

    Raises:
        UsageError: nothing is given, and nothing says where; or what says so makes no sense.
    """
    if url_or_path is None:
        location = os.environ.get("FLETCHING_AT")
        result = _profile(location) if location else _chosen_profile()
        if result is None and not location:
            raise UsageError(
                "connect got no URL or path, FLETCHING_AT is not set, and there is no profile; "
                "fletching login makes one"
            )
        key = _environments_key()
        project = os.environ.get("FLETCHING_PROJECT") or None
        if result is None:
            assert location
            result = Profile(location, location)
        if key is not None and _URL.match(result.at):
            result = dataclasses.replace(result, access_id=key[0], access_key=key[1])
        return dataclasses.replace(result, project=project or result.project)
    if keyed or not isinstance(url_or_path, str):
        return None
    return _profile(url_or_path)


def _profile(location: str) -> Profile | None:
    """The profile that a text names, or that has the key of a URL."""
    if _URL.match(location):
        result = Profiles().of_url(location)
        return None if result is None else dataclasses.replace(result, at=location)
    if os.sep in location or not location or os.path.lexists(location):
        return None
    return Profiles().get(location)


def _chosen_profile() -> Profile | None:
    """The profile that is meant where nothing is named."""
    profiles = Profiles()
    chosen = os.environ.get("FLETCHING_PROFILE")
    name = chosen or profiles.default
    result = None if name is None else profiles.get(name)
    if result is None and chosen:
        raise UsageError(
            f"FLETCHING_PROFILE names {chosen!r}, and the profiles are: "
            f"{', '.join(profiles.names) or 'none; fletching login makes one'}"
        )
    return result


def _environments_key() -> tuple[str, str] | None:
    """Access id and secret of ``FLETCHING_ACCESS_KEY`` or ``FLETCHING_ACCESS_KEY_FILE``.

    Raises:
        UsageError: a key that is none, or a file that cannot be read.
    """
    source, key = "FLETCHING_ACCESS_KEY", os.environ.get("FLETCHING_ACCESS_KEY")
    file = os.environ.get("FLETCHING_ACCESS_KEY_FILE")
    if not key and file:
        source = "FLETCHING_ACCESS_KEY_FILE"
        try:
            key = Path(file).read_text().strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise UsageError(f"{source}: cannot read {file}: {exc}") from exc
    if not key:
        return None
    access_id, colon, secret = key.partition(":")
    if not (colon and access_id and secret):
        raise UsageError(f"{source} is not of the form ID:SECRET")
    return access_id, secret
