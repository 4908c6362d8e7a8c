"""How tables and scans look in a notebook: what is known of them without asking the service."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping

import pyarrow as pa

from fletching.errors import UsageError
from fletching.protocol.types.table_schema import format_type, odps_type_of_field

__all__ = ["html_view"]

MOST_COLUMNS = 100
"""More are counted and not listed."""


def _odps_type(field: pa.Field) -> str:
    try:
        return format_type(odps_type_of_field(field))
    except UsageError:
        # Kept as it is, though no ODPS type says it.
        return ""


def html_view(
    title: str,
    facts: Mapping[str, object],
    schema: pa.Schema,
    partition_columns: Iterable[str] = (),
) -> str:
    """A heading, facts and a table of columns as HTML, every text of it escaped."""
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
    told = "; ".join(
        f"{html.escape(name)}: {html.escape(str(value))}"
        for name, value in facts.items()
        if value not in (None, "")
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f"<div><p><b>{html.escape(title)}</b></p>"
        + (f"<p>{told}</p>" if told else "")
        + f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
