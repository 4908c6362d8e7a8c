"""What a planner may ask of a read session beside its reply: ours, and no part of the Storage API.

On the wire they are the extension field ``Details`` of a session's reply, an object with these fields in
the API's way of writing names (``SplitRows``, ...); a field that was not asked for is left out.
"""

from __future__ import annotations

import msgspec

from fletching.errors import ProtocolError

__all__ = ["ColumnDetails", "PartitionDetails", "SessionDetails", "read_details"]


class ColumnDetails(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """What is known of a column's values in the rows of a session's segments.

    Bounds are in physical form: whole numbers for dates (days), timestamps (the column's unit) and decimals
    (scaled). No value is outside of them; one that is not known is None.
    """

    name: str
    lower: bool | int | float | str | None = None
    upper: bool | int | float | str | None = None
    null_count: int | None = None
    has_nan: bool = False
    fields: tuple[ColumnDetails, ...] = ()
    """Of a struct, in its order: a field of a null struct counts as null."""


class PartitionDetails(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A partition's values and how many of the session's rows it has."""

    values: tuple[str, ...]
    rows: int


class SessionDetails(
    msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True
):
    """What was asked for; all of it is of the snapshot before any filter."""

    split_rows: tuple[int, ...] | None = None
    split_bytes: tuple[int, ...] | None = None
    partition_columns: tuple[str, ...] = ()
    partitions: tuple[PartitionDetails, ...] | None = None
    """In the order of the rows; none are left out, and one may come again where changes are read."""
    columns: tuple[ColumnDetails, ...] | None = None
    deleted_rows: int = 0
    """Rows of the segments that the session does not show, and whose values count in ``columns``."""


def read_details(value: object) -> SessionDetails | None:
    """The details that a reply has in its field, as parsed JSON; None if it has none.

    Raises:
        ProtocolError: they are of another form.
    """
    if value is None:
        return None
    try:
        return _DECODER.decode(msgspec.json.encode(value))
    except msgspec.ValidationError as exc:
        raise ProtocolError(f"Details of the reply are not: {exc}", side="remote") from None


# At import: see protocol/codec/codec_admin.py.
_DECODER = msgspec.json.Decoder(SessionDetails)
