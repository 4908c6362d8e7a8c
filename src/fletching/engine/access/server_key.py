"""The secret of a data set, shared by all its servers: 32 random bytes, made once."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from fletching.errors import StorageError
from fletching.settings import KEY_BYTES, parse_server_key

__all__ = ["load_server_key"]


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
        os.write(descriptor, secrets.token_bytes(KEY_BYTES))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    # Whoever links first has made the key; the others use it.
    with contextlib.suppress(FileExistsError):
        os.link(temporary, path)
    temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
