"""Files into tables: what a file holds is shown first, then a table is made or rows are appended.

Only a piece of the file is sent to find out what it holds: the beginning of CSV, JSON lines and Arrow,
the end of Parquet. The file itself goes through plain HTTP's own path, in one commit or not at all.
"""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

from fletching.errors import InvalidArgumentError, NoSuchTableError, UsageError
from fletching.ipc.encoding import encode_schema
from fletching.protocol.messages.admin import CreateTable, DescribeTable, TableInfo
from fletching.protocol.messages.changes import RenameTable
from fletching.protocol.types.row_formats import (
    DELIMITERS,
    FileFormat,
    ReadOptions,
    check_names,
    open_csv,
    open_json_lines,
)
from fletching.protocol.types.table_schema import format_type, odps_type_of_field
from fletching.server.console.code_snippets import upload_code
from fletching.server.console.data.table_summary import whole_schema
from fletching.server.console.page_cells import clean
from fletching.server.console.sign_in import check_sent
from fletching.server.console.visit import Visit, table_path
from fletching.server.plain.rows_in import stored_rows
from fletching.types import DEFAULT_SCHEMA, TableName

__all__ = ["create_from_file", "file_schema", "upload_page", "upload_rows"]

MAX_PIECE_BYTES = 8 << 20
HEAD_BYTES = 256 << 10
"""What a page's script sends of a file whose beginning says what it holds."""

_EXTENSIONS = {
    "parquet": "parquet",
    "pq": "parquet",
    "csv": "csv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "arrows": "arrow",
    "arrow": "arrow",
    "ipc": "arrow",
    "feather": "arrow",
}
_KNOWN = {
    "parquet": FileFormat.PARQUET,
    "csv": FileFormat.CSV,
    "jsonl": FileFormat.JSONL,
    "arrow": FileFormat.STREAM,
}


async def upload_page(visit: Visit) -> None:
    """Answers with the form."""
    data = {
        "project": visit.project,
        "schema": visit.asked.get("schema") or DEFAULT_SCHEMA,
        "table": visit.asked.get("table", ""),
        "head_bytes": HEAD_BYTES,
    }
    given = _named(visit) if visit.asked.get("table", "").strip() else None
    code = upload_code(visit, given, str(data["schema"]))
    await visit.pages.show("upload", "Upload", data, at="upload", here="/upload", code=code)


def _named(visit: Visit) -> TableName:
    name = visit.asked.get("table", "").strip()
    if not name:
        raise InvalidArgumentError("which table?")
    return TableName(visit.project, name, visit.asked.get("schema") or DEFAULT_SCHEMA)


async def _schema_of_piece(visit: Visit) -> tuple[str, pa.Schema]:
    """The format and schema of the file whose piece is the request's body."""
    check_sent(visit.exchange)
    extension = visit.asked.get("file", "").rpartition(".")[2].lower()
    chosen = visit.asked.get("as") or _EXTENSIONS.get(extension, "")
    if chosen not in _KNOWN:
        raise InvalidArgumentError(
            f"a file of Parquet, CSV, JSON lines or Arrow is wanted, not {clean(extension)[:20]!r}"
        )
    piece = await visit.exchange.read_body(MAX_PIECE_BYTES)
    with visit.service.calls.enter():
        schema = await visit.service.workers.cpu.run(_read_schema, chosen, piece)
    return chosen, schema


def _read_schema(chosen: str, piece: bytes) -> pa.Schema:
    try:
        schema = _opened(chosen, piece)
        check_names("the file", schema)
    except (pa.ArrowException, UnicodeDecodeError, OSError, EOFError) as exc:
        reason = (str(exc).splitlines() or ["it cannot be read"])[0]
        raise InvalidArgumentError(f"the file is not readable as {chosen}: {reason}") from exc
    except UsageError as exc:
        raise InvalidArgumentError(exc.message) from exc
    return pa.schema([_storable(field) for field in schema])


def _storable(field: pa.Field) -> pa.Field:
    """A column that no value was seen of is text; values of a dictionary stand for themselves."""
    if pa.types.is_null(field.type):
        return field.with_type(pa.string())
    return field


def _opened(chosen: str, piece: bytes) -> pa.Schema:
    if chosen == "parquet":
        # Its schema is behind the rows: whoever reads only that needs nothing of them.
        return pq.read_schema(io.BytesIO(b"PAR1" + piece))
    if chosen == "arrow":
        if piece[:6] == b"ARROW1":
            raise InvalidArgumentError(
                "this is an Arrow file; send an Arrow stream (.arrows): plain HTTP takes those"
            )
        return pa.ipc.open_stream(piece).schema
    # What is cut off in mid-line says nothing.
    ends = len(piece) < HEAD_BYTES
    whole = piece if ends else piece[: piece.rfind(b"\n") + 1]
    if chosen == "jsonl":
        return open_json_lines(io.BytesIO(whole), ReadOptions()).schema
    options = ReadOptions(whole=ends)
    return open_csv(
        "the file", lambda: io.BytesIO(whole), options, DELIMITERS[FileFormat.CSV], again=True
    ).schema


async def _existing(visit: Visit, name: TableName) -> TableInfo | None:
    try:
        return await visit.call(DescribeTable(table=name))
    except NoSuchTableError:
        return None


async def file_schema(visit: Visit) -> None:
    """Answers with what a file holds, and how that goes with the table of that name, as JSON."""
    chosen, schema = await _schema_of_piece(visit)
    name = _named(visit)
    info = await _existing(visit, name)
    there = {} if info is None else {f.name.casefold(): f for f in whole_schema(info)}
    columns: list[dict[str, object]] = []
    for field in schema:
        known = there.get(field.name.casefold())
        try:
            odps = format_type(odps_type_of_field(field))
        except UsageError:
            odps = ""
        columns.append(
            {
                "name": clean(field.name),
                "type": odps,
                "arrow_type": str(field.type),
                "table_type": "" if known is None else str(known.type),
                "problem": "not in the table" if there and known is None else "",
            }
        )
    given = {field.name.casefold() for field in schema}
    missing = [field.name for key, field in there.items() if key not in given]
    await visit.pages.json(
        {
            "format": chosen,
            "exists": info is not None,
            "rows": 0 if info is None else info.rows,
            "columns": columns,
            "missing": missing,
            "rows_address": visit.pages.address(table_path(name, "/rows"), {"format": chosen}),
            "table_address": visit.pages.address(table_path(name)),
        }
    )


async def create_from_file(visit: Visit) -> None:
    """Makes the table for a file, as JSON; nobody sees it before `upload_rows` has filled it.

    Raises:
        AlreadyExistsError: there is one of that name.
        InvalidArgumentError: a table cannot have these columns.
    """
    chosen, schema = await _schema_of_piece(visit)
    name = _named(visit)
    wanted = [each.strip() for each in visit.asked.get("partition", "").split(",") if each.strip()]
    partition = []
    for each in wanted:
        if each not in schema.names:
            raise InvalidArgumentError(f"the file has no column {each[:60]!r} to partition by")
        field = schema.field(each)
        try:
            partition.append((each, format_type(odps_type_of_field(field))))
        except UsageError as exc:
            raise InvalidArgumentError(exc.message) from exc
    data = pa.schema([field for field in schema if field.name not in wanted])
    made = await visit.call(
        CreateTable(
            table=name,
            arrow_schema=bytes(encode_schema(data)),
            partition_columns=tuple(partition),
            unlisted=True,
        )
    )
    address = visit.pages.address(table_path(made.table, "/rows"), {"format": chosen})
    await visit.pages.json({"rows_address": address}, status=201)


async def upload_rows(visit: Visit) -> None:
    """Appends a file's rows, and names the table that was made for them.

    Raises:
        AlreadyExistsError: another table has that name by now; nobody sees the rows.
        FletchingError: see ``stored_rows``.
    """
    check_sent(visit.exchange)
    answer = await stored_rows(visit.exchange, visit.service, visit.table)
    if visit.table.unlisted_id:
        name = visit.table.wanted
        await visit.call(RenameTable(table=visit.table, new_name=name.name))
        answer["table"] = str(name)
    await visit.pages.json(answer)
