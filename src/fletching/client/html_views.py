"""How tables and scans look in a notebook: what is known of them without asking the service."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, TypeVar

import pyarrow as pa

from fletching.errors import UsageError
from fletching.protocol.types.table_schema import format_type, odps_type_of_field

__all__ = ["ShownList", "html_rows", "html_view"]

_Item = TypeVar("_Item")

MOST_COLUMNS = MOST_ROWS = 100
"""More are counted and not listed."""


def _odps_type(field: pa.Field) -> str:
    try:
        return format_type(odps_type_of_field(field))
    except UsageError:
        # Kept as it is, though no ODPS type says it.
        return ""


def html_view(
    title: str,
    properties: Mapping[str, object],
    schema: pa.Schema,
    partition_columns: Iterable[str] = (),
) -> str:
    """A heading, properties and a table of columns as HTML, every text of it escaped."""
    partitions = {name.casefold() for name in partition_columns}
    rows = []
    for field in list(schema)[:MOST_COLUMNS]:
        remarks = []
        if field.name.casefold() in partitions:
            remarks.append("partition")
        if not field.nullable:
            remarks.append("not null")
        cells = (field.name, _odps_type(field), str(field.type), ", ".join(remarks))
        rows.append("".join(f"<td>{html.escape(cell)}</td>" for cell in cells))
    if len(schema) > MOST_COLUMNS:
        rows.append(f'<td colspan="4">and {len(schema) - MOST_COLUMNS} more</td>')
    head = "".join(f"<th>{name}</th>" for name in ("column", "type", "Arrow type", ""))
    summary = "; ".join(
        f"{html.escape(name)}: {html.escape(str(value))}"
        for name, value in properties.items()
        if value not in (None, "")
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f"<div><p><b>{html.escape(title)}</b></p>"
        + (f"<p>{summary}</p>" if summary else "")
        + f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def html_rows(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A heading and a table as HTML, every text of it escaped; the first `MOST_ROWS` rows."""
    head = "".join(f"<th>{html.escape(each)}</th>" for each in heads)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape('' if each is None else str(each))}</td>" for each in row)
        + "</tr>"
        for row in rows[:MOST_ROWS]
    )
    if len(rows) > MOST_ROWS:
        body += f'<tr><td colspan="{len(heads)}">and {len(rows) - MOST_ROWS} more</td></tr>'
    return (
        f"<div><p><b>{html.escape(title)}</b></p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


class ShownList(list[_Item]):
    """A list that a notebook shows as a table; in all else a list."""

    TITLE: ClassVar[str] = ""
    HEADS: ClassVar[tuple[str, ...]] = ()

    def cells(self, item: _Item) -> tuple[object, ...]:
        """What a row of the table shows of an item."""
        raise NotImplementedError

    def _repr_html_(self) -> str:
        title = f"{len(self):,} {self.TITLE}{'' if len(self) == 1 else 's'}"
        return html_rows(title, self.HEADS, [self.cells(item) for item in self])
