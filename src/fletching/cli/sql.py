"""``fletching sql``: statements in MaxCompute's dialect, and what came of them."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fletching.cli.cli_options import placed
from fletching.cli.head import JsonRows, Vertical, print_rows
from fletching.cli.location import Location
from fletching.cli.output import counted, print_text, progress, say
from fletching.cli.output_files import is_free, may_write
from fletching.cli.sql_prompt import run_prompt
from fletching.cli.tabular import FileFormat, format_of, write_batches
from fletching.errors import UsageError
from fletching.human_figures import human_bytes

if TYPE_CHECKING:
    from fletching.client.client import Client
    from fletching.client.result import Result

__all__ = ["sql"]

SHOWN_ROWS = 1000
"""Rows that a terminal gets; files and pipes get all."""


@placed
def sql(
    location: Location,
    statement: Annotated[
        str | None,
        typer.Argument(
            metavar="STATEMENT",
            help="One statement, or several with ; between them; - reads them from a pipe.",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="Take the statements from a file."),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter",
            "-p",
            metavar="NAME=VALUE",
            help="A text for :NAME in the statement; may be repeated.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write the rows to a file, as get does."
        ),
    ] = None,
    file_format: Annotated[
        FileFormat | None,
        typer.Option(
            "--format", help="Of --output, if its suffix does not tell; alone, of what is printed."
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", "--force", help="Replace a file without asking.")
    ] = False,
    vertical: Vertical = False,
    as_json: JsonRows = False,
) -> None:
    """Run SQL in the dialect of MaxCompute: queries, CREATE, INSERT, MERGE, ...

    Rows are a table on a terminal and tab-separated elsewhere; other statements say what they did. Without a
    statement, a terminal gets a prompt: several lines until ;, a history, Ctrl-C to cancel.
    """
    parameters = _parameters(parameter or [])
    asked = statement is None and file is None and output is None
    if asked and sys.stdin.isatty() and sys.stdout.isatty():
        with location.open() as client:
            run_prompt(
                lambda text: _show(client, text, parameters, vertical=vertical, as_json=as_json)
            )
        return
    text = _statements(statement, file)
    if output is None and file_format is not None:
        output = "-"
    chosen = None if output is None else file_format or format_of(output)
    with location.open() as client:
        if output is None:
            _show(client, text, parameters, vertical=vertical, as_json=as_json)
            return
        if not replace and not is_free(output) and _is_query(text):
            # What is wrong with a query is told first; then whether there is a place for its rows, before
            # anything is computed.
            client.sql(f"EXPLAIN {text}", parameters)
        replace = may_write(output, replace=replace)
        started = time.perf_counter()
        result = client.sql(text, parameters)
        if not result.has_rows:
            _tell(result, started)
            return
        with progress("rows", result.num_rows, quiet=output == "-") as task:
            rows = write_batches(
                output,
                result.schema,
                result.to_batches(),
                chosen,
                replace=replace,
                on_batch=lambda batch: task.add(batch.num_rows, batch.nbytes),
            )
        say(
            f"{counted(rows, 'row')}, {human_bytes(task.bytes)} "
            f"in {time.perf_counter() - started:.2f} s"
        )


def _show(
    client: Client, text: str, parameters: dict[str, str] | None, *, vertical: bool, as_json: bool
) -> None:
    """Runs statements and shows what came of them."""
    import pyarrow as pa

    started = time.perf_counter()
    result = client.sql(text, parameters)
    if not result.has_rows:
        _tell(result, started)
        return
    terminal = sys.stdout.isatty() and not as_json
    left = min(result.num_rows, SHOWN_ROWS) if terminal else result.num_rows
    shown = pa.Table.from_batches(_first(result.to_batches(), left), result.schema)
    print_rows(shown, vertical=vertical, as_json=as_json)
    if terminal:
        more = "" if left == result.num_rows else f", of which {left:,} are shown; --output has all"
        say(f"{counted(result.num_rows, 'row')} in {time.perf_counter() - started:.2f} s{more}")


def _tell(result: Result, started: float) -> None:
    """What a statement without rows did."""
    if result.text:
        print_text(result.text.rstrip("\n"))
    seconds = f" in {time.perf_counter() - started:.2f} s"
    if result.affected_rows is not None:
        say(counted(result.affected_rows, "row") + " changed" + seconds)
    elif not result.text:
        say("done" + seconds)


def _first(batches: object, rows: int) -> list[object]:
    result: list[object] = []
    for batch in batches:  # type: ignore[attr-defined]  # pyarrow has no types
        if rows <= 0:
            break
        result.append(batch.slice(0, rows))
        rows -= batch.num_rows
    return result


def _statements(statement: str | None, file: Path | None) -> str:
    if (statement is None) == (file is None):
        raise UsageError("give a statement, or --file FILE")
    if file is not None:
        try:
            return file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            raise UsageError(f"cannot read {file}: {exc}") from exc
    return sys.stdin.read() if statement == "-" else statement or ""


_QUERY = re.compile(r"\s*(?:select|with|from|values)\b", re.IGNORECASE)


def _is_query(text: str) -> bool:
    """Whether a text is surely one query, which may be looked at without changing anything."""
    alone = ";" not in text.strip().removesuffix(";")
    return alone and _QUERY.match(text) is not None and "insert" not in text.lower()


def _parameters(given: list[str]) -> dict[str, str] | None:
    result: dict[str, str] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(f"--parameter is NAME=VALUE, not {each!r}")
        result[name] = value
    return result or None
