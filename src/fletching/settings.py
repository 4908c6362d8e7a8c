"""Settings: said by keywords and options, else by the environment, else by a file, else by default.

Every setting has one name. ``catalog`` is the keyword ``catalog`` of ``serve`` and ``connect``, the
option ``--catalog`` of the commands, the variable ``FLETCHING_CATALOG`` and the line ``catalog = ...``
of a TOML file. A name that is not known is refused wherever it stands: a server told by a wrong name
where its catalog is would else begin a new one.

Here is what says where a data set is. What a server is told besides, ``server.server_settings`` lists;
it stands in the file's table ``[server]``.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tomllib
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Self, TypeVar

from fletching.errors import UsageError

__all__ = [
    "VARIABLES",
    "SettingsFile",
    "StorageChanges",
    "StorageOptions",
    "StorageSettings",
    "check_environment",
    "environments_data_set",
    "meant_url",
    "parse_setting",
    "read_settings",
    "setting",
    "storage_settings",
    "unknown_name",
    "variables_of",
]

PREFIX = "FLETCHING_"
TESTS = "FLETCHING_TEST_"
CONFIG = "FLETCHING_CONFIG"
SERVER_TABLE = "server"
KEY_BYTES = 32

_CATALOG_SCHEMES = ("postgres://", "postgresql://", "postgresql+psycopg://")
_OBJECT_SCHEMES = ("s3://", "gs://", "az://", "abfss://", "memory://")

KIB = 1024
MIB = 1024 * KIB

# What somebody meant as the address of a service: `http:/host`, and `host:port`, `//user@[::1]:8787/api`, `localhost`.
_LAME_URL = re.compile(r"(https?)(?::(?!//)/?|//)(.*)", re.IGNORECASE)
_ADDRESS = re.compile(
    r"(?://)?((?:[^/@\s]*@)?(?:(?:\[[0-9A-Fa-f:.]+\]|[^/:@\s]+):\d{1,5}|\d+(?:\.\d+){3}|localhost)(?:/.*)?)",
    re.ASCII,
)

_UNITS = {"": 1, "k": KIB, "kib": KIB, "m": MIB, "mib": MIB, "g": 1024 * MIB, "gib": 1024 * MIB}
_SIZE = re.compile(r"\s*([0-9]{1,18})\s*([a-z]*)\s*", re.IGNORECASE | re.ASCII)
_SECONDS = re.compile(r"\s*[0-9]{1,15}(?:\.[0-9]{0,21})?(?:e-[0-9]{1,3})?\s*")
_WORDS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}

_Kind = TypeVar("_Kind")


def setting(default: object, unit: str, meaning: str, *, secret: bool = False) -> Any:
    """A field of a table of settings.

    Args:
        default: its value where nothing says another.
        unit: what its value is; ``path`` in a file is relative to that file.
        meaning: one sentence or two, for the lists of settings in options and docs.
        secret: whether it is kept out of what is printed, and has no option: the list of processes
            shows options to everybody.
    """
    return dataclasses.field(
        default=default,
        repr=not secret,
        metadata={"unit": unit, "meaning": meaning, "secret": secret},
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StorageSettings:
    """Where a data set is: catalog, objects and server key, and how this process uses them.

    A folder is the short form of a SQLite catalog, local objects and a key file, all inside it. What is
    said besides a folder is elsewhere. Immutable, hashable; pickles with its secrets.
    """

    folder: str | None = setting(
        None,
        "path",
        "The data folder. It holds everything that the other settings do not put elsewhere.",
    )
    catalog: str | None = setting(
        None, "URL", "Keep the catalog in PostgreSQL (postgresql://...) instead of the folder."
    )
    objects: str | None = setting(
        None,
        "URL",
        "Keep objects in an object store (s3://BUCKET/PREFIX, gs://, az://) instead of the folder.",
    )
    server_key_file: str | None = setting(
        None,
        "path",
        "The file of the secret that all servers of one data set share; made at the first start. "
        "[server.key in the folder]",
    )
    server_key: str | None = setting(
        None,
        "64 hex digits",
        "That secret itself, instead of a file: openssl rand -hex 32 makes one.",
        secret=True,
    )
    catalog_pool: int = setting(
        50, "connections", "Maximum connections of one process to PostgreSQL."
    )
    catalog_migrate: bool = setting(
        True,
        "true or false",
        "Migrate a catalog of an older release when it is opened; false refuses it, for rollouts in "
        "which fletching migrate does that.",
    )
    cache_dir: str | None = setting(
        None,
        "path",
        "Folder for copies of segments from an object store, which reads map as local ones. "
        "Processes may share it.",
    )
    cache_bytes: int = setting(
        16 * 1024 * MIB, "bytes", "Maximum bytes of the copies in cache_dir."
    )

    def __post_init__(self) -> None:
        """Refuses what cannot mean anything.

        Raises:
            UsageError: a URL of another kind, a key that is none, or too small a pool.
        """
        if self.catalog is not None and not self.catalog.startswith(_CATALOG_SCHEMES):
            raise UsageError(
                f"the catalog {without_secrets(self.catalog)!r} is no URL that begins with"
                " postgresql://"
            )
        if self.objects is not None and not self.objects.startswith(_OBJECT_SCHEMES):
            raise UsageError(
                f"the object store {without_secrets(self.objects)!r} is no URL that begins with"
                " s3://, gs:// or az://"
            )
        scheme, _, path = (self.objects or "").partition("://")
        if self.objects is not None and scheme != "memory" and not path.strip("/"):
            raise UsageError(f"the object store {self.objects!r} names no bucket")
        if self.server_key is not None and self.server_key_file is not None:
            raise UsageError("the server key is given twice: as server_key and as server_key_file")
        if self.server_key is not None and parse_server_key(self.server_key.encode()) is None:
            raise UsageError(
                "setting server_key is not 64 hexadecimal digits: openssl rand -hex 32 makes one"
            )
        if isinstance(self.catalog_pool, bool) or self.catalog_pool < 2:
            raise UsageError(f"setting catalog_pool is {self.catalog_pool}: it must be at least 2")
        if isinstance(self.cache_bytes, bool) or self.cache_bytes < 0:
            raise UsageError(f"setting cache_bytes is {self.cache_bytes}: it cannot be negative")

    @property
    def says_where(self) -> bool:
        """Whether a data set is meant at all."""
        return self.folder is not None or self.catalog is not None or self.objects is not None

    def __repr__(self) -> str:
        """As ``str``: two of the values may hold passwords."""
        return f"StorageSettings({self})"

    def __str__(self) -> str:
        """Where the data set is, for people, without secrets."""
        if self.catalog is None and self.objects is None:
            return str(self.folder)
        catalog = self.catalog or f"{self.folder}/catalog.sqlite"
        objects = self.objects or f"{self.folder}/objects"
        return f"{without_secrets(catalog)} and {without_secrets(objects)}"


class StorageOptions(typing.TypedDict, total=False):
    """What ``serve`` takes by name beside a folder: the other fields of `StorageSettings`."""

    catalog: str | None
    objects: str | None
    server_key_file: str | os.PathLike[str] | None
    server_key: str | None
    catalog_pool: int | None
    catalog_migrate: bool | None
    cache_dir: str | os.PathLike[str] | None
    cache_bytes: int | None


class StorageChanges(StorageOptions, total=False):
    """What ``connect`` takes by name beside a folder: these, and a file that says them."""

    config: str | os.PathLike[str] | None


def without_secrets(url: str) -> str:
    """A URL for a message: what stands before its host, and behind a question mark, is left out."""
    url = url.partition("?")[0]
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url.rpartition("@")[2][:200]
    return f"{scheme}://{rest.rpartition('@')[2]}"[:200]


def parse_server_key(data: bytes) -> bytes | None:
    """The 32 bytes of a server key, which a file holds as they are or as hexadecimal digits."""
    if len(data) == KEY_BYTES:
        return data
    try:
        text = data.decode("ascii").strip()
        key = bytes.fromhex(text) if len(text) == 2 * KEY_BYTES else b""
    except ValueError:
        return None
    return key if len(key) == KEY_BYTES else None


# --- where settings are said ---


def variables_of(kind: type) -> frozenset[str]:
    """The environment variable of each setting of a table."""
    return frozenset(f"{PREFIX}{field.name.upper()}" for field in dataclasses.fields(kind))


VARIABLES = variables_of(StorageSettings) | {
    CONFIG,
    "FLETCHING_ACCESS_KEY",
    "FLETCHING_ACCESS_KEY_FILE",
    "FLETCHING_AT",
    "FLETCHING_COMMAND",
    "FLETCHING_CONFIG_DIR",
    "FLETCHING_CRASH_AT",
    "FLETCHING_PROFILE",
    "FLETCHING_PROJECT",
    "FLETCHING_SERVER_ACCESS_KEY",
    "FLETCHING_SERVER_ACCESS_KEY_FILE",
}
"""All that are known but those of a server's settings, and of tests."""

_WHERE = (CONFIG, "FLETCHING_FOLDER", "FLETCHING_CATALOG", "FLETCHING_OBJECTS")
_STORAGE = ("FLETCHING_CATALOG", "FLETCHING_OBJECT", "FLETCHING_SERVER_KEY")


def meant_url(location: str) -> str:
    """The URL that somebody meant whose location has no scheme, or none that is whole; empty of what is a path."""
    if lame := _LAME_URL.fullmatch(location):
        return f"{lame[1]}://{lame[2]}"
    address = _ADDRESS.fullmatch(location)
    return f"http://{address[1]}" if address and not os.path.lexists(location) else ""


def check_environment(names: Iterable[str], settings: Collection[str]) -> None:
    """Refuses variables that begin as ours and say nothing to this release.

    Args:
        names: of all variables.
        settings: the variables of a server's settings.

    Raises:
        UsageError: there is one; the message names it, and one that may have been meant.
    """
    known = VARIABLES | set(settings)
    for name in sorted(names):
        if name.startswith(PREFIX) and name not in known and not name.startswith(TESTS):
            raise unknown_name("the environment variable", name, known)


def check_storage_variables(names: Iterable[str]) -> None:
    """The same of those alone that look as if they said where data is.

    Raises:
        UsageError: as above.
    """
    for name in sorted(names):
        if name.startswith(_STORAGE) and name not in VARIABLES:
            raise unknown_name("the environment variable", name, VARIABLES)


def unknown_name(
    what: str, name: str, known: Collection[str], file: Path | None = None
) -> UsageError:
    """The error of a name that nobody knows, with the nearest of those that are known."""
    where = "" if file is None else f" in {file}"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return UsageError(f"{what} {name}{where} is not known{hint}")


_SETTINGS_BYTES = 1 << 20
"""Of a file of settings: what has more is a device, or a file of something else."""


@dataclasses.dataclass(frozen=True, slots=True)
class SettingsFile:
    """A TOML file: settings of the data set at its top, those of servers in its table ``server``."""

    path: Path
    values: Mapping[str, object]

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Reads a file.

        Raises:
            UsageError: it cannot be read, is too long, is no TOML, or has a name at its top that is not known.
        """
        file = Path(path).expanduser().absolute()
        try:
            with file.open("rb") as opened:
                content = opened.read(_SETTINGS_BYTES + 1)
            if len(content) > _SETTINGS_BYTES:
                raise UsageError(
                    f"{file} has more than {_SETTINGS_BYTES:,} bytes: it is no file of settings"
                )
            values = tomllib.loads(content.decode())
        except OSError as error:
            raise UsageError(f"the settings {file} cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"the settings {file} are no TOML: {error}") from error
        known = {field.name for field in dataclasses.fields(StorageSettings)} | {SERVER_TABLE}
        for name in values:
            if name not in known:
                raise unknown_name("the setting", name, known, file)
        if not isinstance(values.get(SERVER_TABLE, {}), dict):
            raise UsageError(f"{SERVER_TABLE} in {file} is no table")
        return cls(file, values)

    def table(self, name: str) -> SettingsFile:
        """The settings of one table, which may be absent."""
        result = self.values.get(name)
        return SettingsFile(self.path, result if isinstance(result, Mapping) else {})

    def value(self, field: dataclasses.Field[object], kind: object) -> object:
        """What the file says of one setting.

        Raises:
            UsageError: a value of another type.
        """
        value = self.values[field.name]
        where = f"{field.name} in {self.path}"
        options = _options(kind)
        if isinstance(value, str):
            value = parse_setting(where, value, kind)
        elif isinstance(value, int) and not isinstance(value, bool) and float in options:
            value = float(value)
        elif type(value) not in options:
            raise UsageError(f"{where} is {value!r}, and should be {field.metadata['unit']}")
        if field.metadata["unit"] == "path" and value:
            value = str(self.path.parent / Path(str(value)).expanduser())
        return value


def read_settings(
    kind: type[_Kind],
    given: Mapping[str, object],
    environment: Mapping[str, str],
    file: SettingsFile | None = None,
    defaults: Mapping[str, object] | None = None,
) -> _Kind:
    """One table's settings; what is ``given`` and not None comes first, the file last.

    Args:
        kind: the table, a dataclass whose fields ``setting`` made.
        given: by keyword or option.
        environment: ``FLETCHING_<NAME>`` counts; an empty one means the default.
        file: what a file says of this table.
        defaults: other values than the table's for settings of which nothing is said.

    Raises:
        UsageError: a name that is not known, or a value that is not of its setting's type.
    """
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for name in given:
        if name not in fields:
            raise unknown_name("the setting", name, fields)
    for name in file.values if file is not None else ():
        if name not in fields and name != SERVER_TABLE:
            assert file is not None
            raise unknown_name("the setting", name, fields, file.path)
    hints = typing.get_type_hints(kind)
    values: dict[str, object] = dict(defaults or {})
    ranks: dict[str, int] = {}
    for name, field in fields.items():
        variable = f"{PREFIX}{name.upper()}"
        if given.get(name) is not None:
            value, ranks[name] = given[name], 2
            values[name] = os.fspath(value) if isinstance(value, os.PathLike) else value
            _check_type(field, values[name], hints[name])
        elif variable in environment:
            values[name] = parse_setting(variable, environment[variable], hints[name])
            ranks[name] = 1
        elif file is not None and name in file.values:
            values[name], ranks[name] = file.value(field, hints[name]), 0
    _keep_one(values, ranks, "server_key", "server_key_file")
    return kind(**values)


def _check_type(field: dataclasses.Field[object], value: object, kind: object) -> None:
    """Refuses a value of another type than its setting's; a word may stand for its enum's member.

    Raises:
        UsageError: it names the setting, the value and the unit.
    """
    options = tuple(each for each in _options(kind) if isinstance(each, type))
    fits = isinstance(value, options) and (bool in options or not isinstance(value, bool))
    fits |= float in options and isinstance(value, int) and not isinstance(value, bool)
    fits |= isinstance(value, str) and any(issubclass(each, str) for each in options)
    if not fits:
        shown = type(value).__name__ if field.metadata.get("secret") else repr(value)
        raise UsageError(f"setting {field.name} is {shown}, and should be {field.metadata['unit']}")


def _keep_one(values: dict[str, object], ranks: Mapping[str, int], name: str, other: str) -> None:
    """Of two ways to say one thing, the one that was said with more weight counts."""
    if values.get(name) is None or values.get(other) is None or ranks[name] == ranks[other]:
        return
    del values[name if ranks[name] < ranks[other] else other]


def storage_settings(
    environment: Mapping[str, str] | None = None,
    *,
    config: str | os.PathLike[str] | None = None,
    **given: object,
) -> tuple[StorageSettings, SettingsFile | None]:
    """Where the data set is that somebody means, and the file that says so in part, if one does.

    Args:
        environment: by default this process's.
        config: the file; else ``FLETCHING_CONFIG`` names it, if there is one.
        given: settings by keyword or option; None says nothing.

    Raises:
        UsageError: something that is not known, or cannot mean anything.
    """
    environment = os.environ if environment is None else environment
    check_storage_variables(environment)
    path = config or environment.get(CONFIG) or None
    file = None if path is None else SettingsFile.read(path)
    return read_settings(StorageSettings, given, environment, file), file


def environments_data_set(environment: Mapping[str, str]) -> StorageSettings | None:
    """The data set that the environment alone says, with its file; None if it says none.

    Raises:
        UsageError: as ``storage_settings``.
    """
    if not any(environment.get(name) for name in _WHERE):
        return None
    result, _ = storage_settings(environment)
    return result if result.says_where else None


def _options(kind: object) -> tuple[object, ...]:
    return typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)


def parse_setting(where: str, text: str, kind: object) -> object:
    """Reads a setting's text, wherever it stands; sizes may carry KiB, MiB or GiB.

    Args:
        where: what it is called there, for the message.
        text: what stands there.
        kind: the setting's type.

    Raises:
        UsageError: it is not of that type.
    """
    options = _options(kind)
    if type(None) in options and not text:
        return None
    if bool in options:
        if text.lower() not in _WORDS:
            raise UsageError(f"{where}={text!r} is neither true nor false")
        return _WORDS[text.lower()]
    if int in options:
        match = _SIZE.fullmatch(text)
        if match is None or match[2].lower() not in _UNITS:
            raise UsageError(f"{where}={text!r} is not a whole number (KiB, MiB, GiB may follow)")
        return int(match[1]) * _UNITS[match[2].lower()]
    if float in options:
        if not _SECONDS.fullmatch(text):
            raise UsageError(f"{where}={text!r} is not a number")
        return float(text)
    return text
