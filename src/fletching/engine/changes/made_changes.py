"""Changes that were made under an idempotency key: what each was, and what it came to.

A repetition gets the report of the first. Whether it is a repetition is compared, as far as it is known of
both: the kind of change and what it was asked for. Rows are compared where the key is made of a retry's trace
id: by their number, and by checksum if they came in the same encoding (`engine/writing/body_checksum`). A key
of the caller's stands for whatever rows it comes with: a job or an epoch that is computed anew may find others,
and is to be made once all the same. Conditions such as ``if_version`` are not compared: they say when a change
may be made, and not what it is.

A key is one of a table, by its id. Of what makes, drops or renames a table or a schema it is one of the names
(`scope_of`): these are what a repetition has, whatever there is under them by now. What finds nothing to do, as
with ``if_exists``, is remembered as well: its repetition does nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import Connection

from fletching.catalog.table_rows import TableRow, table_by_id
from fletching.catalog.version_rows import changes_of_run, find_change, remember_change
from fletching.engine.writing.body_checksum import BodyChecksum
from fletching.errors import InvalidArgumentError, KeyReusedError, NoSuchTableError
from fletching.protocol.messages.requests import Request
from fletching.protocol.messages.responses import Changed
from fletching.types import is_text

__all__ = [
    "Intent",
    "check_key",
    "intent_of",
    "remember",
    "replayed",
    "replayed_table",
    "reports_of_run",
    "run_key",
    "scope_of",
]

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
    """A report as it is kept; earlier releases kept it without the intent.

    Attributes:
        intent: what the change was asked to do.
        table_id: of the table that was made or renamed.
    """

    intent: Intent | None = None
    table_id: str = ""


def scope_of(name: str) -> str:
    """Where keys of what changes a name belong; unlike a table's id, the other such place, it ends in a dot."""
    return f"{name.casefold()}."


# --- keys of statements ---

_OF_RUN = re.compile(r"statement-(.+)-([0-9a-f]{12})-([0-9]+)-[0-9]+")
_MAX_RUN_LENGTH = 100


def run_key(run_id: str, text: str, statement: int, change: int) -> str:
    """The key of a change that one of some statements makes, so many changes after its first."""
    return f"statement-{_run(run_id)}-{_digest(text)[:12]}-{statement}-{change}"


def reports_of_run(connection: Connection, run_id: str, text: str) -> dict[int, list[Changed]]:
    """What changes that statements have made came to, by the number of the statement.

    Raises:
        KeyReusedError: other statements have made them.
    """
    result: dict[int, list[Changed]] = {}
    for key, report in changes_of_run(connection, _run(run_id)).items():
        parts = _OF_RUN.fullmatch(key)
        if parts is None or parts[2] != _digest(text)[:12]:
            raise KeyReusedError(
                f"other statements have made changes under the id {run_id}, such as"
                f" {_MADE.decode(report).intent}. These were not run; give them an id of their own"
            )
        result.setdefault(int(parts[3]), []).append(_CHANGED.decode(report))
    return result


def _run(run_id: str) -> str:
    return run_id if len(run_id) <= _MAX_RUN_LENGTH else _digest(run_id)


def _run_of(key: str) -> str | None:
    """The statements that make a change with a key; None of a key of another form."""
    parts = _OF_RUN.fullmatch(key)
    return None if parts is None else parts[1]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def check_key(key: str | None) -> None:
    """Refuses idempotency keys that are empty or very long, or no text."""
    if key is not None and not is_text(key):
        raise InvalidArgumentError("an idempotency key is text in UTF-8")
    if key is not None and not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise InvalidArgumentError(f"an idempotency key has 1 to {MAX_KEY_LENGTH} characters")


def intent_of(request: Request[Any], operation: str) -> Intent:
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
    return f"{text[:_MAX_SHOWN]}.. {_digest(text)[:16]}"


def replayed(connection: Connection, scope: str, key: str | None, intent: Intent) -> Changed | None:
    """The report that this change got before, if it was made.

    Args:
        connection: an open transaction.
        scope: the table's id, or what `scope_of` makes of the names.
        key: of the change.
        intent: what it is.

    Raises:
        KeyReusedError: another change was made with the key.
    """
    kept = None if key is None else find_change(connection, scope, key)
    if kept is None:
        return None
    first, report = _MADE.decode(kept).intent, _CHANGED.decode(kept)
    if first is not None and intent.is_other(first):
        raise KeyReusedError(
            f"idempotency key {key!r} was used in version {report.version} of the table for another "
            f"change: {first}. This one, {intent}, was not made; give it a key of its own"
        )
    return report


def replayed_table(
    connection: Connection, scope: str, key: str | None, intent: Intent
) -> TableRow | None:
    """The table that this change made or renamed before, whatever its name is by now; None if it did not.

    Raises:
        KeyReusedError: another change was made with the key.
        NoSuchTableError: the table was dropped since.
    """
    if key is None or replayed(connection, scope, key, intent) is None:
        return None
    kept = find_change(connection, scope, key)
    row = None if kept is None else table_by_id(connection, _MADE.decode(kept).table_id)
    if row is None or row.dropped_at is not None:
        raise NoSuchTableError(
            f"the {intent.operation} of key {key!r} was done, and the table was dropped since"
        )
    return row


def remember(
    connection: Connection,
    scope: str,
    key: str | None,
    report: Changed,
    intent: Intent,
    *,
    now: float,
    table_id: str = "",
) -> None:
    """Keeps what a change was for its repetition, in the transaction that makes it; without a key nothing.

    Arguments are those of `replayed`, and the table that was made or renamed.
    """
    if key is None:
        return
    made = _Made(**msgspec.structs.asdict(report), intent=intent, table_id=table_id)
    remember_change(connection, scope, key, msgspec.json.encode(made), now, run_id=_run_of(key))


# At import: see protocol/codec/codec_admin.py.
_CHANGED = msgspec.json.Decoder(Changed)
_MADE = msgspec.json.Decoder(_Made)
