"""``fletching show``: one table's columns and figures."""

from __future__ import annotations

from fletching.cli.cli_options import JsonOutput, TableArgument, placed
from fletching.cli.location import Location
from fletching.cli.ls import when
from fletching.cli.named_tables import find_table
from fletching.cli.output import counted, print_json, print_table
from fletching.human_figures import human_bytes

__all__ = ["show"]


@placed
def show(
    location: Location,
    table: TableArgument,
    as_json: JsonOutput = False,
) -> None:
    """Show a table's columns, partition columns and figures."""
    with location.open() as client:
        result = find_table(client, table)
        info, schema = result.info, result.schema
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
        ["column", "ODPS type", "Arrow type", "note"],
        [
            (
                column.name,
                column.type,
                str(schema.field(column.name).type),
                role or ("" if column.nullable else "not null"),
            )
            for column, role in data + parts
        ],
        caption=(f"{info.comment}\n" if info.comment else "")
        + f"{info.table}, version {info.version}, changed {when(info.modified_at)}\n"
        f"{counted(info.rows, 'row')}, {human_bytes(info.bytes)} in"
        f" {counted(info.segments, 'segment')}",
    )
