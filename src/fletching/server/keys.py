"""Access keys: who may sign requests, and the key that a folder gets at its first start."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from fletching.errors import StorageError, UsageError

__all__ = ["KEY_FILE", "KeyRing", "StaticKeys", "first_key", "parse_key"]

KEY_FILE = "access-key"
"""In the data folder: the generated key as ``id:secret``, readable by its owner alone."""


class KeyRing(Protocol):
    """Looks secrets up. Thread-safe and quick: asked for every request, on the event loop."""

    def secret(self, access_id: str) -> str | None:
        """The secret of an access id, or None if there is no such key."""


class StaticKeys:
    """Keys that do not change while the service runs."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        if not keys:
            raise UsageError("no access key is given: nobody could sign a request")
        for access_id, secret in keys.items():
            if not access_id or not secret or ":" in access_id or "/" in access_id:
                raise UsageError("an access key needs an id without ':' and '/', and a secret")
        self._keys = dict(keys)

    def secret(self, access_id: str) -> str | None:
        """The secret of an access id, or None; see ``KeyRing``."""
        return self._keys.get(access_id)


def parse_key(text: str) -> tuple[str, str]:
    """Reads ``id:secret``.

    Raises:
        UsageError: the text is not of this form; the text is not repeated, as it holds a secret.
    """
    access_id, colon, secret = text.strip().partition(":")
    if not (colon and access_id and secret):
        raise UsageError("an access key is given as id:secret")
    return access_id, secret


def first_key(folder: Path) -> tuple[str, str, bool]:
    """Returns the folder's own key, which is generated and kept at the first call.

    Returns:
        Access id, secret, and whether the key is new. Two processes that start at once get the same.

    Raises:
        StorageError: the key can be neither read nor written.
    """
    path = folder / KEY_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            return *parse_key(path.read_text("utf-8")), False
        access_id, secret = f"fl{secrets.token_hex(6)}", secrets.token_urlsafe(30)
        # Written under another name and linked: whoever finds the file finds it whole, and of two
        # processes one wins.
        staging = folder / f".{KEY_FILE}.{secrets.token_hex(4)}"
        descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(f"{access_id}:{secret}\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                path.hardlink_to(staging)
            except FileExistsError:
                return *parse_key(path.read_text("utf-8")), False
        finally:
            staging.unlink()
    except OSError as exc:
        raise StorageError(
            f"the access key {path} cannot be read or written: {exc.strerror}", key=KEY_FILE
        ) from exc
    return access_id, secret, True
