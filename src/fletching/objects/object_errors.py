"""The operating system's errors as ours: the one place where they are known."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from fletching.errors import FletchingError, StorageError, StorageFullError

__all__ = ["translated"]


@contextlib.contextmanager
def translated(doing: str, key: str | None) -> Iterator[None]:
    """Raises the block's OSErrors as StorageFullError or StorageError; ours pass unchanged.

    Args:
        doing: what is being done, for the message.
        key: the object it is done to.
    """
    try:
        yield
    except FletchingError:
        raise
    except OSError as error:
        what = f"{doing} {key}" if key else doing
        if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise StorageFullError(f"no room while {what}: {error.strerror}", key=key) from error
        raise StorageError(f"{what} failed: {error.strerror}", key=key) from error
