"""``fletching inspect``: what is inside a file of Arrow IPC data; renders `fletching.ipc.Inspection`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from fletching.cli.cli_options import JsonOutput
from fletching.cli.output import ExitCode, console, print_json, printable
from fletching.cli.output_files import may_write, writing
from fletching.errors import UsageError
from fletching.human_figures import human_bytes, human_count

if TYPE_CHECKING:
    from rich.console import Console
    from typing_extensions import Buffer

    from fletching.ipc.reports import Inspection, MessageReport, PartReport

__all__ = ["inspect"]

_HEAD_MESSAGES = 30
_TAIL_MESSAGES = 5
_HEAD_COLUMNS = 60


def inspect(
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A file, or - for stdin.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Also decode and validate all contents.")
    ] = False,
    as_json: JsonOutput = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="OUT.HTML", help="Also write a page, drawn to scale."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="List every message and column, however many.")
    ] = False,
) -> None:
    """Show the messages of an Arrow IPC stream or file, and what is wrong with it.

    Exits with 0 if it is sound, and with 3 if it is damaged or holds no Arrow data.
    """
    from fletching.ipc import inspect_bytes

    name = "standard input" if file == "-" else file
    if html is not None:
        may_write(str(html), replace=True)
    report = inspect_bytes(_read(file), verify=verify)
    if html is not None:
        from fletching.ipc.inspection_page import page

        with writing(str(html), replace=True) as out:
            out.write(page(report, name).encode())
    if as_json:
        print_json(report.as_dict())
    else:
        render(report, name, console(), every=every)
    if not report.ok:
        raise typer.Exit(ExitCode.DIFFERENT)


def _read(file: str) -> Buffer:
    import pyarrow as pa

    if file == "-":
        return sys.stdin.buffer.read()
    path = Path(file)
    if path.is_fifo():
        return path.read_bytes()  # it cannot be mapped
    if not path.is_file():
        # A device is not: some have no end, and everything is looked at in memory.
        raise UsageError(f"{file} is not a file or pipe")
    if path.stat().st_size == 0:
        return b""
    with pa.memory_map(os.fsencode(file)) as mapped:
        data: Buffer = mapped.read_buffer()
        return data


def render(report: Inspection, name: str, out: Console, *, every: bool = False) -> None:
    """Prints a report for people, in 80 columns if the console has no more."""
    _line(out, f"{name}: {human_count(report.length)} bytes ({human_bytes(report.length)})")
    previous = 0
    for part in report.parts:
        if part.start > previous:
            _line(out, f"  {human_count(part.start - previous)} other bytes at {previous}")
        _part(part, out, every=every, verified=report.verified)
        previous = part.end
    if report.parts and previous < report.length:
        _line(out, f"  {human_count(report.length - previous)} other bytes at {previous}")
    for problem in report.problems:
        style = "bold red" if problem.severity == "error" else "yellow"
        text = Text(f"{problem.severity}", style=style)
        text.append(printable(f" at {problem.offset}: {problem.text}"), style="default")
        out.print(text, soft_wrap=True)
    out.print(_verdict(report))


def _verdict(report: Inspection) -> Text:
    errors = sum(problem.severity == "error" for problem in report.problems)
    if errors:
        return Text(f"damaged: {errors} error{'s' * (errors > 1)}", style="bold red")
    checked = "all contents are valid" if report.verified else "contents not read (see --verify)"
    if report.verified and report.problems:
        checked = "safe to read, with the warnings above"
    return Text(f"sound: {checked}", style="green")


def _line(out: Console, text: str) -> None:
    out.print(Text(printable(text)), soft_wrap=True)


def _part(part: PartReport, out: Console, *, every: bool, verified: bool) -> None:
    where = f" at {part.start}" if part.start else ""
    _line(
        out,
        f"{part.kind}{where}: {human_count(part.end - part.start)} bytes,"
        f" {human_count(part.batches)} record batches, {human_count(part.rows)} rows,"
        f" {len(part.schema)} columns, {part.endianness}-endian",
    )
    _messages(part, out, every=every, verified=verified)
    _columns(part, out, every=every)
    for key, value in part.footer_metadata.items():
        text = value.decode("utf-8", "replace")
        _line(out, f"  footer metadata {key.decode('utf-8', 'replace')}: {_clip(text, 60)}")


def _messages(part: PartReport, out: Console, *, every: bool, verified: bool) -> None:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for heading in ("offset", "message", "rows", "meta", "body", "codec", "pad", "align", "copy"):
        right = heading not in {"message", "codec", "copy"}
        table.add_column(heading, justify="right" if right else "left", no_wrap=True)
    if verified:
        table.add_column("valid", no_wrap=True)
    messages = part.messages
    hidden = len(messages) - _HEAD_MESSAGES - _TAIL_MESSAGES
    if every or hidden <= 1:
        hidden = 0
    for index, message in enumerate(messages):
        if hidden and index == _HEAD_MESSAGES:
            table.add_row("", f"... {hidden} more")
        if hidden and _HEAD_MESSAGES <= index < len(messages) - _TAIL_MESSAGES:
            continue
        table.add_row(*_message(message, verified=verified))
    if part.marker is not None:
        offset, length = part.marker
        table.add_row(str(offset), "end of stream", "", str(length))
    else:
        table.add_row("-", Text("no end marker", style="yellow"))
    if part.kind == "file":
        if part.footer is None:
            table.add_row("-", Text("no footer", style="bold red"))
        else:
            table.add_row(str(part.footer[0]), "footer", "", human_count(part.footer[1]))
    out.print(table)


_SHORT = {"dictionary batch": "dictionary", "record batch": "batch"}


def _message(message: MessageReport, *, verified: bool) -> list[str | Text]:
    name = _SHORT.get(message.type, message.type)
    if message.dictionary_id is not None:
        name += f" {message.dictionary_id}" + (" delta" if message.is_delta else "")
    if message.prefix_length == 4:
        name += " legacy"
    has_arrays = message.zero_copy is not None
    row: list[str | Text] = [
        str(message.offset),
        name,
        "" if message.rows is None else human_count(message.rows),
        human_count(message.metadata_length),
        human_count(message.body_length),
        message.codec or ("-" if has_arrays else ""),
        human_count(message.padding) if has_arrays else "",
        "" if message.alignment is None else str(message.alignment),
        ("zero" if message.zero_copy else "copies") if has_arrays else "",
    ]
    if verified:
        valid = {None: Text(""), True: Text("yes", "green"), False: Text("NO", "bold red")}
        row.append(valid[message.verified])
    return row


def _columns(part: PartReport, out: Console, *, every: bool) -> None:
    batches = [m for m in part.messages if m.columns and m.dictionary_id is None]
    dictionaries = [m for m in part.messages if m.columns and m.dictionary_id is not None]
    if not batches and not dictionaries:
        for name, data_type in part.schema[: None if every else _HEAD_COLUMNS]:
            _line(out, f"  {name}: {data_type}")
        return
    sums: list[list[int]] = [[0, 0, 0] for _ in part.schema]
    for message in batches:
        for total, column in zip(sums, message.columns, strict=True):
            total[0] += column.nulls
            total[1] += column.stored_bytes
            total[2] += column.uncompressed_bytes
    rows: list[tuple[str, str, list[int]]] = [
        (name, data_type, total) for (name, data_type), total in zip(part.schema, sums, strict=True)
    ]
    if dictionaries:
        columns = [column for message in dictionaries for column in message.columns]
        total = [
            sum(column.nulls for column in columns),
            sum(column.stored_bytes for column in columns),
            sum(column.uncompressed_bytes for column in columns),
        ]
        rows.append(("(dictionaries)", "", total))
    whole = sum(total[1] for _, _, total in rows) or 1
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("column", max_width=20, overflow="ellipsis", no_wrap=True)
    table.add_column("type", max_width=22, overflow="ellipsis", no_wrap=True)
    for heading in ("nulls", "bytes", "share", "ratio"):
        table.add_column(heading, justify="right", no_wrap=True)
    shown = rows if every or len(rows) <= _HEAD_COLUMNS else rows[:_HEAD_COLUMNS]
    for name, data_type, (nulls, stored, uncompressed) in shown:
        table.add_row(
            Text(_clip(name, 40)),
            Text(printable(data_type)),
            human_count(nulls),
            human_count(stored),
            f"{stored / whole:.1%}",
            f"{uncompressed / stored:.2f}" if stored else "-",
        )
    if len(shown) < len(rows):
        table.add_row(f"... {len(rows) - len(shown)} more")
    out.print(table)


def _clip(text: str, length: int) -> str:
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return shown if len(shown) <= length else shown[: length - 1] + "\N{HORIZONTAL ELLIPSIS}"
