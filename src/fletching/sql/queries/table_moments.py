"""Which version of a table a query reads: ``VERSION AS OF 12``, ``VERSION AS OF 'tag'``, ``TIMESTAMP AS OF '..'``."""

from __future__ import annotations

import dataclasses
import datetime as dt

from fletching.errors import InvalidArgumentError
from fletching.sql.parsing.dialect import exp

__all__ = ["TableMoment", "table_moment"]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclasses.dataclass(frozen=True)
class TableMoment:
    """A version by its number, by a tag, or as the newest at a moment; one of them is given."""

    version: int | None = None
    tag: str | None = None
    moment_us: int | None = None


def table_moment(node: exp.Expr) -> TableMoment | None:
    """What stands behind a table's name; None for the table as it is.

    Raises:
        InvalidArgumentError: it is no version, tag or moment.
    """
    if node.args.get("changes"):
        raise InvalidArgumentError("the changes of a table are not read by statements")
    written = node.args.get("version")
    if written is None:
        return None
    kind, value = str(written.args.get("kind")), written.expression
    if kind == "AS OF" and written.name == "VERSION" and isinstance(value, exp.Literal):
        if not value.is_string and not value.name.isdecimal():
            raise InvalidArgumentError("VERSION AS OF takes a version's number or a tag's name")
        if value.name.isdecimal():
            return TableMoment(version=int(value.name))
        return TableMoment(tag=value.name)
    if kind == "AS OF" and written.name == "TIMESTAMP":
        if isinstance(value, exp.Cast) and value.is_type(
            exp.DataType.Type.TIMESTAMP, exp.DataType.Type.DATETIME, exp.DataType.Type.TIMESTAMPLTZ
        ):
            value = value.this
        if isinstance(value, exp.Literal) and value.is_string:
            return TableMoment(moment_us=_microseconds(value.name))
        raise InvalidArgumentError("TIMESTAMP AS OF takes a text: '2026-01-31 12:00:00'")
    raise InvalidArgumentError("a table has VERSION AS OF or TIMESTAMP AS OF behind its name")


def _microseconds(text: str) -> int:
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidArgumentError(
            f"{text[:60]!r} is no moment: TIMESTAMP AS OF takes '2026-01-31 12:00:00', UTC unless it"
            " has an offset"
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return (moment - _EPOCH) // dt.timedelta(microseconds=1)
