"""Changes that were made under an idempotency key: what each was, and what it came to.

A repetition gets the report of the first. Whether it is a repetition is compared, as far as it is known of
both: the kind of change and what it was asked for. Rows are compared where the key is made of a retry's trace
id: by their number, and by checksum if they came in the same encoding (`engine/writing/body_checksum`). A key
of the caller's stands for whatever rows it comes with: a job or an epoch that is computed anew may find others,
and is to be made once all the same. Conditions such as ``if_version`` are not compared: they say when a change
may be made, and not what it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection

from fletching.catalog.version_rows import find_change, remember_change
from fletching.engine.writing.body_checksum import BodyChecksum
from fletching.errors import InvalidArgumentError, KeyReusedError
from fletching.protocol.messages.requests import TableRequest
from fletching.protocol.messages.responses import Changed
from fletching.types import is_text

__all__ = ["Intent", "check_key", "intent_of", "remember", "replayed"]

MAX_KEY_LENGTH = 200
_MAX_SHOWN = 100
"""Characters of what was asked for that are kept; of what is longer a digest follows them."""
_CONDITIONS = ("table", "session_id", "if_version", "idempotency_key")


class Intent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a change is asked to do; None is what is not known.

    Attributes:
        operation: what the table's history calls it.
        contents: what else was asked for, to be read by people.
        rows: how many were sent with it, of a retry.
        body: checksum of these, likewise.
    """

    operation: str
    contents: str | None = None
    rows: int | None = None
    body: BodyChecksum | None = None

    @classmethod
    def of_rows(
        cls,
        operation: str,
        partition: Iterable[tuple[str, str]],
        rows: int | None = None,
        body: BodyChecksum | None = None,
    ) -> Intent:
        """Of rows that are written, appended or in place of others."""
        values = sorted((name.casefold(), value) for name, value in partition)
        where = ", ".join(f"{name}={value}" for name, value in values)
        return cls(operation=operation, contents=_shown(where), rows=rows, body=body)

    @classmethod
    def of_statement(cls, operation: str, statement: str) -> Intent:
        """Of rows that a statement computes: they may be others whenever it is run."""
        return cls(operation=operation, contents=_shown(statement))

    def is_other(self, first: Intent) -> bool:
        """Whether this is certainly not what the first was."""
        if self.operation != first.operation:
            return True
        return any(
            mine is not None and theirs is not None and mine != theirs
            for mine, theirs in ((self.contents, first.contents), (self.rows, first.rows))
        ) or (self.body is not None and first.body is not None and self.body.is_other(first.body))

    def __str__(self) -> str:
        text = self.operation if self.rows is None else f"{self.operation} of {self.rows} rows"
        return f"{text} ({self.contents})" if self.contents else text


class _Made(Changed, frozen=True, kw_only=True):
    """A report as it is kept; earlier releases kept it without the intent."""

    intent: Intent | None = None


def check_key(key: str | None) -> None:
    """Refuses idempotency keys that are empty or very long, or no text."""
    if key is not None and not is_text(key):
        raise InvalidArgumentError("an idempotency key is text in UTF-8")
    if key is not None and not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise InvalidArgumentError(f"an idempotency key has 1 to {MAX_KEY_LENGTH} characters")


def intent_of(request: TableRequest[Any], operation: str) -> Intent:
    """What a request asks for by its fields."""
    asked = []
    for field in msgspec.structs.fields(request):
        value, factory = getattr(request, field.name), field.default_factory
        default = field.default if factory is msgspec.NODEFAULT else factory()
        if field.name not in _CONDITIONS and value != default:
            text = hashlib.sha256(value).hexdigest()[:16] if isinstance(value, bytes) else value
            asked.append(f"{field.name}: {text}")
    return Intent(operation=operation, contents=_shown(", ".join(asked)))


def _shown(text: str) -> str:
    if len(text) <= _MAX_SHOWN:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{text[:_MAX_SHOWN]}.. {digest}"


def replayed(
    connection: Connection, table_id: str, key: str | None, intent: Intent
) -> Changed | None:
    """The report that this change got before, if it was made.

    Raises:
        KeyReusedError: another change was made with the key.
    """
    kept = None if key is None else find_change(connection, table_id, key)
    if kept is None:
        return None
    first, report = _MADE.decode(kept).intent, _CHANGED.decode(kept)
    if first is not None and intent.is_other(first):
        raise KeyReusedError(
            f"idempotency key {key!r} was used in version {report.version} of the table for another "
            f"change: {first}. This one, {intent}, was not made; give it a key of its own"
        )
    return report


def remember(
    connection: Connection,
    table_id: str,
    key: str | None,
    report: Changed,
    intent: Intent,
    *,
    now: float,
) -> None:
    """Keeps what a change was for its repetition, in the transaction that makes it; without a key nothing."""
    if key is None:
        return
    made = _Made(**msgspec.structs.asdict(report), intent=intent)
    remember_change(connection, table_id, key, msgspec.json.encode(made), now)


# At import: see protocol/codec/codec_admin.py.
_CHANGED = msgspec.json.Decoder(Changed)
_MADE = msgspec.json.Decoder(_Made)
