"""``fletching show``: one table's columns and figures."""

from __future__ import annotations

from typing import Annotated

import typer

from fletching.cli.cli_options import AccessKey, At, JsonOutput, Project, open_client
from fletching.cli.ls import when
from fletching.cli.output import console, human_bytes, human_count, print_json, print_table

__all__ = ["show"]


def show(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table's name.")],
    at: At = "./data",
    project: Project = "demo",
    access_key: AccessKey = None,
    as_json: JsonOutput = False,
) -> None:
    """Show a table's columns, partition columns and figures."""
    with open_client(at, project, access_key) as client:
        found = client.table(table)
        info, schema = found.info, found.schema
    data = [(column, "") for column in info.schema.data_columns]
    parts = [(column, "partition") for column in info.schema.partition_columns]
    if as_json:
        print_json(
            {
                "table": str(info.table),
                "table_id": info.table_id,
                "version": info.version,
                "rows": info.rows,
                "bytes": info.bytes,
                "segments": info.segments,
                "created_at": info.created_at,
                "modified_at": info.modified_at,
                "comment": info.comment,
                "columns": [
                    {
                        "name": column.name,
                        "type": column.type,
                        "arrow_type": str(schema.field(column.name).type),
                        "nullable": column.nullable,
                        "partition": bool(role),
                    }
                    for column, role in data + parts
                ],
            }
        )
        return
    print_table(
        None,
        [("column", "left"), ("ODPS type", "left"), ("Arrow type", "left"), ("note", "left")],
        [
            (
                column.name,
                column.type,
                str(schema.field(column.name).type),
                role or ("" if column.nullable else "not null"),
            )
            for column, role in data + parts
        ],
    )
    console().print(
        f"{info.table}, version {info.version}: {human_count(info.rows)} rows, "
        f"{human_bytes(info.bytes)} in {human_count(info.segments)} segment{'s' * (info.segments != 1)}, "
        f"changed {when(info.modified_at)}",
        markup=False,
        soft_wrap=True,
    )
