"""Profiles: servers that somebody logged in to, kept for the command line and for `fletching.connect`.

A profile is a name, a URL (or a folder), a project and an access key. They are in ``config.toml`` of
the configuration folder (``FLETCHING_CONFIG_DIR``, else ``$XDG_CONFIG_HOME/fletching``, else
``~/.config/fletching``), a file that its owner alone can read. A secret is kept by the system's
keyring where there is one and the package ``keyring`` is installed, else in that file.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import secrets
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from fletching.errors import StorageError, UsageError

__all__ = ["Profile", "Profiles", "config_folder", "default_name"]

CONFIG_FILE = "config.toml"
KEYRING_SERVICE = "fletching"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclasses.dataclass(frozen=True, slots=True)
class Profile:
    """Where to connect, and as whom.

    Attributes:
        name: how it is called: letters, digits, ``_`` and ``-``.
        at: a server's URL or a folder.
        project: the project to work in; None for the usual one.
        access_id: names the key; None for a folder.
        access_key: the key's secret.
    """

    name: str
    at: str
    project: str | None = None
    access_id: str | None = None
    access_key: str | None = dataclasses.field(default=None, repr=False)


def config_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where the configuration is; the folder need not exist."""
    environment = os.environ if environment is None else environment
    given = environment.get("FLETCHING_CONFIG_DIR")
    if given:
        return Path(given).expanduser()
    base = environment.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path("~/.config").expanduser()) / "fletching"


def default_name(url: str) -> str:
    """A profile's name made from a URL: its host, and the port where it has one."""
    host = url.partition("://")[2].partition("/")[0]
    name = re.sub(r"[^A-Za-z0-9]+", "-", host).strip("-")[:64]
    return name or "server"


class Profiles:
    """The profiles of a configuration folder, read when the object is made.

    Attributes:
        path: the file they are in.
        default: the name of the one that is meant where nothing is named; None if there is none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Reads the file; one that is absent holds nothing.

        Raises:
            UsageError: the file is not what `save` writes, or others may read its secrets.
        """
        self.path = (folder or config_folder()) / CONFIG_FILE
        self._entries: dict[str, dict[str, str]] = {}
        self.default: str | None = None
        try:
            with self.path.open("rb") as file:
                document = tomllib.load(file)
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
            raise UsageError(f"the configuration {self.path} cannot be read: {exc}") from exc
        self._read(document)

    def _read(self, document: dict[str, object]) -> None:
        entries = document.get("profiles", {})
        default = document.get("default")
        if not isinstance(entries, dict) or not (default is None or isinstance(default, str)):
            raise UsageError(f"the configuration {self.path} has no table [profiles.NAME]")
        for name, entry in entries.items():
            if (
                not isinstance(entry, dict)
                or not all(isinstance(value, str) for value in entry.values())
                or not entry.get("at")
            ):
                raise UsageError(f"profile {name!r} of {self.path} needs texts, and one named 'at'")
            self._entries[name] = dict(entry)
        self.default = default if default in self._entries else None

    @property
    def names(self) -> list[str]:
        """The names, in order."""
        return sorted(self._entries)

    def get(self, name: str) -> Profile | None:
        """The profile of a name, with its secret; None if there is none."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        access_id = entry.get("access_id")
        access_key = entry.get("access_key")
        if access_id is not None and access_key is None:
            access_key = _from_keyring(name, access_id)
        return Profile(name, entry["at"], entry.get("project"), access_id, access_key)

    def of_url(self, url: str) -> Profile | None:
        """The profile of a server's URL, the default one first; None if there is none."""
        wanted = url.rstrip("/")
        for name in [self.default, *self.names]:
            if name is not None and self._entries[name]["at"].rstrip("/") == wanted:
                return self.get(name)
        return None

    def save(self, profile: Profile, *, default: bool = True, keyring: bool = True) -> str:
        """Keeps a profile, in place of one of its name; says where its secret is.

        The file is replaced as a whole, readable by its owner alone.

        Raises:
            UsageError: a name that is none.
            StorageError: the file cannot be written.
        """
        if not _NAME.fullmatch(profile.name):
            raise UsageError(
                f"a profile's name has letters, digits, _ and -, and {profile.name!r} is none"
            )
        entry = {"at": profile.at}
        if profile.project is not None:
            entry["project"] = profile.project
        where = str(self.path)
        if profile.access_id is not None and profile.access_key is not None:
            entry["access_id"] = profile.access_id
            if keyring and _to_keyring(profile.name, profile.access_id, profile.access_key):
                where = "the system's keyring"
            else:
                entry["access_key"] = profile.access_key
        self._entries[profile.name] = entry
        if default or self.default is None:
            self.default = profile.name
        self._write()
        return where

    def remove(self, name: str) -> bool:
        """Forgets a profile and its secret; says whether there was one.

        Raises:
            StorageError: the file cannot be written.
        """
        entry = self._entries.pop(name, None)
        if entry is None:
            return False
        if "access_id" in entry and "access_key" not in entry:
            _out_of_keyring(name, entry["access_id"])
        if self.default == name:
            self.default = next(iter(self.names), None)
        self._write()
        return True

    def _write(self) -> None:
        lines = [] if self.default is None else [f"default = {_toml(self.default)}", ""]
        for name in self.names:
            lines.append(f"[profiles.{_toml(name)}]")
            lines += [f"{key} = {_toml(value)}" for key, value in self._entries[name].items()]
            lines.append("")
        staging = self.path.with_name(f".{CONFIG_FILE}.{secrets.token_hex(4)}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write("\n".join(lines))
                    file.flush()
                    os.fsync(file.fileno())
                staging.replace(self.path)
            finally:
                staging.unlink(missing_ok=True)
        except OSError as exc:
            raise StorageError(
                f"the configuration {self.path} cannot be written: {exc.strerror}"
            ) from exc


def _toml(text: str) -> str:
    """A basic string; JSON's escapes are TOML's, but for DEL, which TOML wants escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


# --- the system's keyring --------------------------------------------------------------------


def _keyring() -> ModuleType | None:
    """The keyring package, if it is installed and has a place for secrets; else None."""
    try:
        import keyring
        from keyring.backends import fail
    except ImportError:
        return None
    backend = keyring.get_keyring()
    # A backend of priority below 1 keeps secrets no better than our file does, or nowhere.
    if isinstance(backend, fail.Keyring) or getattr(backend, "priority", 0) < 1:
        return None
    return keyring


def _to_keyring(name: str, access_id: str, secret: str) -> bool:
    ring = _keyring()
    if ring is None:
        return False
    try:
        ring.set_password(KEYRING_SERVICE, f"{name}/{access_id}", secret)
    except Exception:  # noqa: BLE001  # a keyring that is locked, or not running: the file takes it
        return False
    return True


def _from_keyring(name: str, access_id: str) -> str | None:
    ring = _keyring()
    if ring is None:
        return None
    try:
        secret: str | None = ring.get_password(KEYRING_SERVICE, f"{name}/{access_id}")
    except Exception as exc:
        raise UsageError(
            f"the secret of profile {name} is in the system's keyring, which does not give it: {exc}"
        ) from exc
    return secret


def _out_of_keyring(name: str, access_id: str) -> None:
    ring = _keyring()
    if ring is None:
        return
    try:
        ring.delete_password(KEYRING_SERVICE, f"{name}/{access_id}")
    except Exception:  # noqa: BLE001  # it is gone already, or the keyring is: nothing is left to forget
        return
