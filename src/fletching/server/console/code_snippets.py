"""The same as code: what shows in other places what a page shows."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote, urlencode

from fletching.server.console.visit import Visit
from fletching.types import DEFAULT_SCHEMA, TableName

__all__ = [
    "Snippet",
    "history_code",
    "partitions_code",
    "query_code",
    "rows_code",
    "segments_code",
    "tables_code",
    "twin_code",
    "upload_code",
]


class Snippet(NamedTuple):
    """Code to copy."""

    language: str
    text: str


def _connect(visit: Visit, project: str) -> str:
    return (
        f"client = fletching.connect({visit.origin!r}, project={project!r},\n"
        "                           access_id=..., access_key=...)\n"
    )


def _odps(visit: Visit, project: str) -> str:
    return f"o = ODPS(access_id, secret, project={project!r}, endpoint={visit.origin + '/api'!r})\n"


def _python_name(table: TableName) -> str:
    return repr(table.name if table.schema == DEFAULT_SCHEMA else f"{table.schema}.{table.name}")


def _sql_name(table: TableName) -> str:
    names = [table.name] if table.schema == DEFAULT_SCHEMA else [table.schema, table.name]
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)


def _rows_url(visit: Visit, table: TableName, query: dict[str, str]) -> str:
    names = (table.project, table.schema, table.name)
    path = "/".join(quote(name, safe="") for name in names)
    return f"{visit.origin}/fletching/v1/tables/{path}/rows?{urlencode(query)}"


def _curl(url: str) -> Snippet:
    return Snippet("curl", f'curl -H "Authorization: Bearer $TOKEN" {shlex.quote(url)}')


def tables_code(visit: Visit, project: str, prefix: str) -> list[Snippet]:
    """The list of tables."""
    python = f"client.list_tables({repr(prefix) if prefix else ''})"
    listed = f", prefix={prefix!r}" if prefix else ""
    url = f"{visit.origin}/fletching/v1/projects/{quote(project, safe='')}/schemas/default/tables"
    return [
        Snippet("Python", _connect(visit, project) + python),
        Snippet(
            "PyODPS",
            _odps(visit, project) + f"list(o.list_tables(project={project!r}{listed}))",
        ),
        Snippet("SQL", "SHOW TABLES"),
        _curl(url + (f"?{urlencode({'prefix': prefix})}" if prefix else "")),
    ]


def rows_code(
    visit: Visit,
    table: TableName,
    *,
    predicate: str = "",
    version: int | None = None,
    offset: int = 0,
    limit: int | None = None,
    order: str = "",
    descending: bool = False,
) -> list[Snippet]:
    """Rows of a table."""
    options = [f"filter={predicate!r}"] if predicate else []
    name = _python_name(table)
    reading = f"client.table({name})" + ("" if version is None else f".as_of({version})")
    query = {"format": "csv"}
    query |= {"filter": predicate} if predicate else {}
    query |= {} if version is None else {"version": str(version)}
    query |= {"offset": str(offset)} if offset else {}
    query |= {} if limit is None else {"limit": str(limit)}
    where = f"\nWHERE {predicate}" if predicate else ""
    cut = "" if limit is None else f"\nLIMIT {limit}"
    down = " DESC" if descending else ""
    sort = f"\nORDER BY `{order.replace('`', '``')}`{down}" if order else ""
    direction = "descending" if descending else "ascending"
    by = f".sort_by([({order!r}, {direction!r})])" if order else ""
    shell = ["fletching", "get", table.name, f"{table.name}.parquet"]
    shell += ["--filter", predicate] if predicate else []
    shell += ["--at", visit.origin, "--project", table.project]
    return [
        Snippet(
            "Python",
            _connect(visit, table.project) + f"{reading}.scan({', '.join(options)}).to_table(){by}",
        ),
        Snippet(
            "PyODPS",
            _odps(visit, table.project) + f"o.get_table({table.name!r}).head(100)",
        ),
        # SQL reads tables as they are.
        *(
            [Snippet("SQL", f"SELECT * FROM {_sql_name(table)}{where}{sort}{cut}")]  # noqa: S608 - shown
            if version is None
            else []
        ),
        _curl(_rows_url(visit, table, query)),
        Snippet("Shell", shlex.join(shell)),
    ]


def partitions_code(visit: Visit, table: TableName) -> list[Snippet]:
    """The partitions of a table."""
    name = _python_name(table)
    return [
        Snippet("Python", _connect(visit, table.project) + f"client.table({name}).partitions()"),
        Snippet(
            "PyODPS",
            _odps(visit, table.project) + f"list(o.get_table({table.name!r}).partitions)",
        ),
        Snippet("SQL", f"SHOW PARTITIONS {_sql_name(table)}"),
    ]


def history_code(
    visit: Visit, table: TableName, since: int | None, until: int | None
) -> list[Snippet]:
    """The versions of a table, or the changes between two."""
    name = _python_name(table)
    if since is None:
        return [
            Snippet("Python", _connect(visit, table.project) + f"client.table({name}).versions()")
        ]
    return [
        Snippet(
            "Python",
            _connect(visit, table.project)
            + f"client.table({name}).changes({since}, {until}).to_table()",
        )
    ]


def query_code(visit: Visit, project: str, text: str) -> list[Snippet]:
    """A statement."""
    quoted = shlex.quote(text)
    return [
        Snippet("Python", _connect(visit, project) + f"client.sql({text!r}).to_table()"),
        Snippet(
            "PyODPS", _odps(visit, project) + f"o.execute_sql({text!r}).open_reader().to_pandas()"
        ),
        Snippet("SQL", text),
        Snippet(
            "Shell",
            f"fletching sql {quoted} --at {shlex.quote(visit.origin)} --project {shlex.quote(project)}",
        ),
    ]


def segments_code(keys: Sequence[str]) -> list[Snippet]:
    """A stored segment, which is a file like any other; nothing without one."""
    if not keys:
        return []
    path = f"data/objects/{keys[0]}"
    return [
        Snippet("Python", f"import pyarrow as pa\npa.ipc.open_file({path!r}).read_all()"),
        Snippet("Shell", f"fletching inspect {shlex.quote(path)}"),
    ]


def upload_code(visit: Visit, table: TableName | None, schema: str) -> list[Snippet]:
    """A file that becomes a table's rows; ``table`` is None for one that is not there yet."""
    project, shown = visit.project, TableName(visit.project, "TABLE", schema)
    name, location = _python_name(table or shown), ["--at", visit.origin, "--project", project]
    read = 'rows = pyarrow.parquet.read_table("FILE.parquet")\n'
    does = (
        f"client.create_table({name}, rows)"
        if table is None
        else f"client.table({name}).append(rows)"
    )
    odps = (table or shown).name
    url = _rows_url(visit, table or shown, {"format": "parquet"})
    made = ["--create"] if table is None else []
    return [
        Snippet("Python", _connect(visit, project) + read + does),
        Snippet("PyODPS", _odps(visit, project) + f"o.write_table({odps!r}, frame)"),
        *(
            []
            if table is None
            else [
                Snippet(
                    "curl",
                    'curl -X POST -H "Authorization: Bearer $TOKEN" --data-binary @FILE.parquet '
                    + shlex.quote(url),
                )
            ]
        ),
        Snippet("Shell", shlex.join(["fletching", "put", odps, "FILE.parquet", *made, *location])),
    ]


def twin_code(visit: Visit, page: str, *commands: str) -> list[Snippet]:
    """What a page says as JSON, and the commands that do what it does, on the service's machine."""
    shell = [Snippet("Shell", "\n".join(commands))] if commands else []
    query = {key: value for key, value in visit.asked.items() if key != "format"}
    url = f"{visit.origin}/console{page}?{urlencode(query | {'format': 'json'})}"
    return [*shell, _curl(url)]
