"""What is found out when a data set is opened, so that a wrong setting is one sentence at the start.

Later the same faults are those of a part that is away for a while, and are waited for or answered with
503; at the start nothing has worked yet, and it is the settings that are in doubt.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Iterator, Mapping

from fletching.engine.context import EngineContext
from fletching.errors import (
    CorruptObjectError,
    FletchingError,
    IdentityError,
    ServiceUnavailableError,
    SettingsError,
    StorageError,
)
from fletching.settings import without_secrets

__all__ = [
    "CLOCK_SECONDS",
    "PROBE_PREFIX",
    "check_clock",
    "check_endpoint",
    "check_writable",
    "reaching",
]

CLOCK_SECONDS = 300.0
"""How far this machine's clock may be from the catalog's: signatures of clients whose clocks are right
would else be refused by the one server and taken by the other."""

PROBE_PREFIX = "probes"

_PREFIX = re.compile(r"(?:opening|listing|reading|writing|committing|deleting)[^:]* failed: ")
_SENTENCE = 300
_ENDPOINTS = ("AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")


@contextlib.contextmanager
def reaching(part: str, location: object) -> Iterator[None]:
    """Turns what a part answers at the start into one sentence that names it.

    Args:
        part: ``catalog`` or ``object store``.
        location: its URL; a path, for what is in the folder, changes nothing.

    Raises:
        SettingsError: it does not answer, or refuses.
    """
    try:
        yield
    except (IdentityError, CorruptObjectError, SettingsError):
        raise
    except (StorageError, ServiceUnavailableError) as error:
        # All that the catalog says begins so, whatever was done when it said it.
        others = error.message.startswith("the catalog ") and part != "catalog"
        if not isinstance(location, str) or others:
            raise
        raise SettingsError(
            f"the {part} {without_secrets(location)} cannot be used: {_reason(error)}"
        ) from error


def check_endpoint(environment: Mapping[str, str]) -> None:
    """Refuses an endpoint of an object store that is no URL, before the store's driver meets it.

    Raises:
        SettingsError: there is one.
    """
    for name in _ENDPOINTS:
        value = environment.get(name)
        if value and not value.startswith(("http://", "https://")):
            raise SettingsError(f"{name}={value[:100]!r} is no URL that begins with https://")


def _reason(error: FletchingError) -> str:
    """What the part itself said, on one line."""
    text = error.message
    # What our own layers said around it is not news here.
    text = text.removeprefix("the catalog is not available: ")
    text = text.removeprefix("the catalog failed: ")
    text = _PREFIX.sub("", text)
    return " ".join(text.split())[:_SENTENCE]


def check_clock(context: EngineContext) -> None:
    """Refuses to start beside others with a clock that is wrong.

    Raises:
        SettingsError: this machine's clock and the database's are far from each other.
    """
    if context.database.is_sqlite:
        return
    ahead = time.time() - context.database.clock()()
    if abs(ahead) > CLOCK_SECONDS:
        raise SettingsError(
            f"this machine's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the"
            f" catalog's, and may be {CLOCK_SECONDS:.0f} s off: set both by the same time service"
        )


def check_writable(context: EngineContext) -> None:
    """Proves that objects can be made and deleted; for whoever is going to write.

    Raises:
        SettingsError: they cannot.
    """
    location = context.settings.objects_url
    if location is None:
        return
    with reaching("object store", location):
        key = f"{PROBE_PREFIX}/{context.store.writer}-{secrets.token_hex(6)}"
        sink = context.create_object(key)
        try:
            sink.write(b"Can objects be made here?")
            sink.commit()
        finally:
            sink.abort()
        context.store.delete(key)
