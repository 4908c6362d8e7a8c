"""Where a reader stands, as a value that outlives it: session, split, row."""

from __future__ import annotations

import dataclasses

import msgspec

from fletching.client.argument_checks import text_of, whole_number
from fletching.errors import UsageError
from fletching.protocol.messages.requests import ReadTable
from fletching.types import DEFAULT_SCHEMA, TableName

__all__ = ["ResumeToken"]

_VERSION = 1


class _Text(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """The token's durable form, a JSON array."""

    version: int
    project: str
    schema: str
    table: str
    session_id: str
    index: int | None
    offset: int | None
    length: int | None
    row: int
    columns: tuple[str, ...] | None
    filtered: bool = False
    asked: tuple[str, ...] | None = None
    unfiltered: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ResumeToken:
    """A place in a split of a read session; ``str(token)`` is durable text, `parse` reads it back.

    Store it beside what was made of the rows before it, and a restarted job goes on with
    ``client.resume(token)``: every row once. The session must not have expired.

    Attributes:
        table: the table read.
        session_id: the read session, a snapshot of the table.
        index: the split's number, in a session divided by size or parallelism.
        offset: the split's first row in the session, in a session divided by row offset.
        length: the split's rows, where they are known.
        row: rows of the split before this place.
        columns: the columns handed out, where their order is not the service's.
        filtered: whether a filter leaves rows of the ``length`` out, so that only reading tells how
            many there are.
        asked: columns that the service is asked for, where they are fewer than the session's.
        unfiltered: whether some of the rows have yet to be left out by a filter that only the split itself
            has, so that the token alone does not tell what to read.
    """

    table: TableName
    session_id: str
    index: int | None = None
    offset: int | None = None
    length: int | None = None
    row: int = 0
    columns: tuple[str, ...] | None = None
    filtered: bool = False
    asked: tuple[str, ...] | None = None
    unfiltered: bool = False

    def __post_init__(self) -> None:
        by_offset = self.offset is not None and self.length is not None
        if (self.index is None) != by_offset:
            raise UsageError("a split is an index, or an offset and a length")
        numbers = (self.index, self.offset, self.length, self.row)
        if any(number is not None and number < 0 for number in numbers):
            raise UsageError("a split's index, offset, length and row must not be negative")
        if self.length is not None and self.row > self.length:
            raise UsageError(f"row {self.row} is beyond the split's {self.length} rows")

    def at(self, row: int) -> ResumeToken:
        """The same split at another row.

        Raises:
            UsageError: no whole number, or a row that the split has not.
        """
        whole_number("row", row)
        return dataclasses.replace(self, row=row)

    @property
    def row_count(self) -> int | None:
        """How many rows the split has, where that is known before it is read."""
        return None if self.filtered else self.length

    def request(self) -> ReadTable:
        """Asks for the split from its first row on.

        Raises:
            UsageError: its rows have yet to be filtered.
        """
        if self.unfiltered:
            raise UsageError(
                "the rows of this split have yet to be filtered by what the service cannot evaluate: read "
                "the split by to_batches, to_table and the like, which do that"
            )
        asked = self.asked or ()
        if self.index is not None:
            return ReadTable(
                table=self.table,
                session_id=self.session_id,
                index=self.index,
                data_columns=asked,
            )
        return ReadTable(
            table=self.table,
            session_id=self.session_id,
            offset=self.offset,
            count=self.length,
            data_columns=asked,
        )

    def __str__(self) -> str:
        """One line of JSON, stable over releases."""
        table = self.table
        text = _Text(
            _VERSION,
            table.project,
            table.schema,
            table.name,
            self.session_id,
            self.index,
            self.offset,
            self.length,
            self.row,
            self.columns,
            self.filtered,
            self.asked,
            self.unfiltered,
        )
        # What a token does not need is left out, as releases that did not know it wrote them.
        fields = list(msgspec.structs.astuple(text))
        for needed in (self.unfiltered, self.asked is not None, self.filtered):
            if needed:
                break
            del fields[-1]
        return msgspec.json.encode(fields).decode()

    @classmethod
    def parse(cls, text: str | ResumeToken) -> ResumeToken:
        """Reads a token's text.

        Raises:
            UsageError: it is not one, or was written by a later release.
        """
        if isinstance(text, ResumeToken):
            return text
        text_of("a resume token", text)
        try:
            fields = _DECODER.decode(text)
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise UsageError(f"not a resume token: {exc}") from exc
        if fields.version != _VERSION:
            raise UsageError(f"a resume token of version {fields.version}, not {_VERSION}")
        return cls(
            table=TableName(fields.project, fields.table, fields.schema or DEFAULT_SCHEMA),
            session_id=fields.session_id,
            index=fields.index,
            offset=fields.offset,
            length=fields.length,
            row=fields.row,
            columns=fields.columns,
            filtered=fields.filtered,
            asked=fields.asked,
            unfiltered=fields.unfiltered,
        )


# At import: see protocol/codec/codec_admin.py.
_DECODER = msgspec.json.Decoder(_Text)
