"""The operating system's errors as ours."""

from __future__ import annotations

import errno
import os

import pytest

from fletching.errors import CorruptObjectError, StorageError, StorageFullError
from fletching.objects.object_errors import said_by_store, store_is_full, translated


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


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (
            (
                "Generic S3 error: Error performing GET http://h:1/b/k?X=1 in 3.7s, after 12 retries,"
                " max_retries: 12, retry_timeout: 180s  - HTTP error: error sending request\n\nDebug source:\nx"
            ),
            "HTTP error: error sending request",
        ),
        (
            (
                "Generic S3 error: Error performing PUT http://h:1/b/k in 3.7s, after 12 retries - Server"
                " returned non-2xx status code: 503 Service Unavailable: busy, see http://h:1/why"
            ),
            "it answers 503 Service Unavailable",
        ),
        ("Error <Code>A</Code><Message>Not\n  now.</Message><HostId>h</HostId>", "A: Not now"),
        ("Error <Code>SlowDown</Code>", "SlowDown"),
        ("no way to https://h.example/b?sig=1 was found", "no way to it was found"),
        ("x" * 1000, "x" * 300),
    ],
)
def test_what_a_store_says_is_one_line_without_urls(message: str, sentence: str) -> None:
    assert said_by_store(RuntimeError(message)) == sentence


def test_credentials_that_nobody_gave_are_named() -> None:
    error = RuntimeError("error sending request for url (http://169.254.169.254/latest/api/token)")
    assert "AWS_ACCESS_KEY_ID" in said_by_store(error)


@pytest.mark.parametrize(
    ("message", "full"),
    [
        (
            "Error <Code>XMinioStorageFull</Code><Message>Storage backend has reached</Message>",
            True,
        ),
        ("Error <Code>QuotaExceeded</Code>", True),
        ("Server returned non-2xx status code: 507 Insufficient Storage: ", True),
        ("Server returned non-2xx status code: 500 Internal Server Error: ", False),
        ("Error <Code>InternalError</Code>", False),
        ("Error performing PUT http://h/5070?status code: 5070", False),
    ],
)
def test_a_full_store_is_told_from_a_broken_one_where_it_says_so(message: str, full: bool) -> None:
    assert store_is_full(RuntimeError(message)) is full
