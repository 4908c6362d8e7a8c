"""The operating system's errors as ours, and what object stores say: the one place where they are known."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator

from fletching.errors import FletchingError, StorageError, StorageFullError

__all__ = ["said_by_store", "storage_error", "store_is_full", "translated"]

_XML = re.compile(r"<(Code|Message)>(.*?)</\1>", re.DOTALL)
_STATUS = re.compile(r"status code: (\d{3}[A-Za-z ]*)")
_ABOUT_THE_REQUEST = re.compile(
    r"^Generic \S+ error: |Error performing \w+ \S+ in .*?  ?- |Error performing list request: "
)
_FULL = re.compile(
    r"<Code>(?:XMinioStorageFull|XMinioAdminBucketQuotaExceeded|QuotaExceeded)</Code>"
    r"|status code: 507\b"
)
"""How stores that tell say that they have no room: MinIO, Ceph (of a quota), and what speaks HTTP strictly."""
_SENTENCE = 300


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
        raise storage_error(error, doing, key) from error


def storage_error(error: OSError, doing: str, key: str | None) -> FletchingError:
    """What `translated` raises, for calls so frequent that a block around each would be felt."""
    what = f"{doing} {key}" if key else doing
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        return StorageFullError(
            f"no room while {what}: {error.strerror}. Make room there and try again", key=key
        )
    return StorageError(f"{what} failed: {error.strerror}", key=key)


def store_is_full(error: BaseException) -> bool:
    """Whether an object store says that it has no room. Some, SeaweedFS for one, only say that something is wrong.

    Args:
        error: as of `said_by_store`.
    """
    return _FULL.search(str(error)) is not None


def said_by_store(error: BaseException) -> str:
    """What an object store, or the way to it, said, on one line; without URLs, which are nobody's business.

    Args:
        error: of obstore's, whose text has the request, the whole reply, and what Rust knows of both.
    """
    text = str(error).partition("\n\nDebug source")[0]
    if "169.254.169.254" in text:
        return (
            "no credentials are set (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or those of its"
            " kind), and this machine has no role that gives some"
        )
    parts = dict(_XML.findall(text))
    status = _STATUS.search(text)
    if parts:
        words = " ".join(parts.get("Message", "").split()).rstrip(".")
        text = ": ".join(filter(None, (parts.get("Code", ""), words)))
    elif status is not None:
        text = f"it answers {status[1].strip()}"
    else:
        text = _ABOUT_THE_REQUEST.sub("", text)
        text = re.sub(r"https?://\S+", "it", text)
    return " ".join(text.split())[:_SENTENCE]
