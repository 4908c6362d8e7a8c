"""The operating system's errors as ours."""

from __future__ import annotations

import errno
import os

import pytest

from fletching.errors import CorruptObjectError, StorageError, StorageFullError
from fletching.objects.object_errors import translated


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StorageFullError),
        (errno.EDQUOT, StorageFullError),
        (errno.EFBIG, StorageFullError),
        (errno.EIO, StorageError),
        (errno.EACCES, StorageError),
        (errno.ENOENT, StorageError),
    ],
)
@pytest.mark.parametrize(("key", "what"), [("a/b", "writing a/b"), (None, "writing")])
def test_an_error_says_what_was_done_to_what(
    number: int, kind: type[Exception], key: str | None, what: str
) -> None:
    with pytest.raises((StorageError, StorageFullError)) as caught, translated("writing", key):
        raise OSError(number, os.strerror(number))
    error = caught.value
    assert type(error) is kind
    assert what in error.message
    assert os.strerror(number) in error.message
    if isinstance(error, StorageError):
        assert error.key == key
    assert isinstance(error.__cause__, OSError)


def test_ours_and_others_pass_unchanged() -> None:
    ours = CorruptObjectError("damaged")
    for error in (ours, ValueError("a mistake"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, translated("reading", "k"):
            raise error
        assert caught.value is error
    with translated("reading", "k"):
        pass
