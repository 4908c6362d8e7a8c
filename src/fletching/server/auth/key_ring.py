"""Access keys: who may sign requests, and the key that a folder gets at its first start."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fletching.engine.access.access_keys import AccessKeys, is_access_id
from fletching.engine.access.bearer_tokens import BearerClaim
from fletching.engine.access.permissions import AccessKey, AccessSnapshot, Grant, Permission
from fletching.errors import StorageError, UsageError
from fletching.protocol.messages.requests import Request
from fletching.types import TableName

__all__ = ["KEY_FILE", "KeyRing", "first_key", "keys_in", "parse_key", "started_keys"]

KEY_FILE = "access-key"
"""In the data folder: the generated key as ``id:secret``, readable by its owner alone."""


def started_keys(keys: Mapping[str, str]) -> dict[str, AccessKey]:
    """The keys that a service is started with, by access id: ids and secrets, looked through.

    Raises:
        UsageError: there is none, or one with which nobody could sign.
    """
    if not isinstance(keys, Mapping):
        raise UsageError(f"access keys are a dict of id to secret, not {type(keys).__name__}")
    if not keys:
        raise UsageError("no access key is given: nobody could sign a request")
    for access_id, secret in keys.items():
        # Ids stand in the Authorization header, which clients send as ASCII and which is taken
        # apart at ':', '/' and blanks: with any other id nobody could ever sign.
        texts = isinstance(access_id, str) and isinstance(secret, str)
        if not texts or not is_access_id(access_id) or not secret:
            raise UsageError(
                f"an access key needs an id of A-Z a-z 0-9 . _ @ - and a secret, not {access_id!r}"
            )
    return {
        access_id: AccessKey(access_id=access_id, owner=access_id, secret=secret)
        for access_id, secret in keys.items()
    }


class KeyRing:
    """The keys that the service was started with, which may do everything, and those of the folder.

    Thread-safe and quick: asked for every request, on the event loop. The folder's keys and grants are
    known as they were at the last ``refresh``, at most ``refresh_seconds`` ago.
    """

    def __init__(
        self,
        started_with: Mapping[str, AccessKey],
        keys: AccessKeys,
        *,
        refresh_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._static = started_with
        self._keys = keys
        self._refresh_seconds = refresh_seconds
        self._clock = clock
        self._wall_clock = wall_clock
        self._refreshing = threading.Lock()
        self._refreshed_at: float | None = None
        self._snapshot = AccessSnapshot({}, {})

    def find(self, access_id: str) -> AccessKey | None:
        """The key of an access id, also an expired one; None if there is none in use."""
        return self._static.get(access_id) or self._snapshot.keys.get(access_id)

    def bearer(self, token: str) -> tuple[AccessKey, BearerClaim] | None:
        """The key that a genuine bearer token stands for, and what the token says."""
        ring = {}

        def secret_of(access_id: str) -> str | None:
            ring[access_id] = key = self.find(access_id)
            return None if key is None else key.secret

        claim = self._keys.tokens.verify(token, secret_of)
        key = None if claim is None else ring[claim.access_id]
        return None if claim is None or key is None else (key, claim)

    def check(self, key: AccessKey, request: Request) -> None:
        """Refuses what the key was not granted.

        Raises:
            NoPermissionError: it was not.
        """
        if not self._is_static(key):
            self._snapshot.check(key, request)

    def may_read(self, key: AccessKey, table: TableName) -> bool:
        """Whether the key may know of a table."""
        return self._is_static(key) or self._snapshot.may_read(key, table)

    def may_read_all(self, key: AccessKey, project: str) -> bool:
        """Whether the key may know of everything in a project."""
        return self._is_static(key) or self._snapshot.may_read_all(key, project)

    def may_enter(self, key: AccessKey, project: str) -> bool:
        """Whether the key may know of a project."""
        return self._is_static(key) or self._snapshot.may_enter(key, project)

    def may_operate(self, key: AccessKey) -> bool:
        """Whether the key may see and do what concerns the service as a whole."""
        return self._is_static(key) or self._snapshot.may_operate(key)

    def _is_static(self, key: AccessKey) -> bool:
        return key.access_id in self._static

    def granted(self) -> list[tuple[AccessKey, Sequence[Grant]]]:
        """All keys in use, by access id, and what each was granted."""
        snapshot, now = self._snapshot, self._wall_clock()
        result = {
            name: (key, snapshot.grants_of(key))
            for name, key in snapshot.keys.items()
            if not key.expired(now)
        }
        result |= {
            name: (key, [Grant(name, "*", "*", Permission.ADMIN)])
            for name, key in self._static.items()
        }
        return [result[name] for name in sorted(result)]

    def stale(self) -> bool:
        """Whether ``refresh`` should be called, in a worker, before the ring is asked."""
        at = self._refreshed_at
        return at is None or self._clock() - at >= self._refresh_seconds

    def refresh(self) -> None:
        """Looks at the folder's keys and grants; blocks. Of several callers one does it."""
        with self._refreshing:
            if self.stale():
                self._snapshot = self._keys.snapshot()
                self._refreshed_at = self._clock()


def parse_key(text: str) -> tuple[str, str]:
    """Reads ``id:secret``.

    Raises:
        UsageError: the text is not of this form; the text is not repeated, as it holds a secret.
    """
    access_id, colon, secret = text.strip().partition(":")
    if not (colon and access_id and secret):
        raise UsageError("an access key is given as id:secret")
    return access_id, secret


def keys_in(path: Path) -> dict[str, str]:
    """Reads a file of keys, one ``id:secret`` a line; empty lines and those behind a # do not count.

    Raises:
        UsageError: the file cannot be read, or holds none.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"the access keys in {path} cannot be read: {exc}") from exc
    result = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not result:
        raise UsageError(f"{path} holds no access key; each is a line ID:SECRET")
    return dict(map(parse_key, result))


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
