"""``fletching quickstart``: the main job with progress bars, ending in a table of what was measured."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

import fletching
from fletching.cli.output import (
    ExitCode,
    bytes_figure,
    count_figure,
    print_json,
    print_table,
    progress,
    say,
)
from fletching.cli.quickstart.files import TABLE as FILES_TABLE
from fletching.cli.quickstart.files import installed_files, move_files, user_blobs
from fletching.cli.quickstart.job import Mismatch, Report, Step, move_table
from fletching.cli.quickstart.sources import LeftOut, Source, standard_library, user_files
from fletching.client.progress import ProgressMeter
from fletching.human_figures import human_bytes

__all__ = ["quickstart"]

PROJECT = "demo"

RESIDENT_BYTES = 128 << 20
"""Mapped files count as a process's memory. However large the input is, this much of it does at most."""

BODY_BYTES = 32 << 20
"""What a write stream gathers before it sends; enough for its speed."""


def quickstart(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="Where the service keeps its data; made if absent, kept after."
        ),
    ] = Path("quickstart-data"),
    source: Annotated[
        Path | None,
        typer.Option(
            "--input",
            metavar="PATH",
            help="A Parquet, CSV or Arrow IPC file, or a folder of them. [default: the standard "
            "library's source]",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Move real tables in and out over HTTP and compare them.

    The standard library's source, or your own files, go in through parallel write streams and come
    back whole, projected and one partition alone; every value is compared.

    Exits with 0 when every value came back, with 3 when anything differs.
    """
    sources, left_out = user_files(source) if source else (standard_library(), [])
    files = user_blobs(source) if source else installed_files()
    steps: list[Step] = []
    try:
        with fletching.serve(
            folder, port=0, project=PROJECT, mapped_bytes=RESIDENT_BYTES
        ) as server:
            access_id, secret = server.access_key
            client = fletching.connect(
                server.url,
                project=PROJECT,
                access_id=access_id,
                access_key=secret,
                # Over HTTP as from another machine: on this host rows would else be mapped, and the
                # speeds those of doing nothing.
                direct="never",
                write_body_bytes=BODY_BYTES,
            )
            if not as_json:
                say(f"serving {folder} on {server.url}")
            with client, progress("quickstart", quiet=as_json) as task:
                for item in sources:
                    steps.extend(move_table(client, item, _reporter(task, item.table)))
                if files is not None:
                    steps.extend(move_files(client, files, _reporter(task, FILES_TABLE)))
    except Mismatch as exc:
        say(f"error: the data differs: {exc}")
        raise typer.Exit(ExitCode.DIFFERENT) from None
    if as_json:
        for each in left_out:
            say(f"left out: {each.reason}")
        print_json([{**dataclasses.asdict(s), "gb_per_s": s.gigabytes_per_second} for s in steps])
        return
    origins = [item.origin for item in sources] + ([files.origin] if files else [])
    _summary(origins, steps, left_out)
    _what_next(folder, sources)


def _reporter(task: ProgressMeter, table: str) -> Report:
    """Shows a table's steps one after the other; the first counts the rows, the later have a total."""
    first: dict[str, int] = {}
    current = ""

    def report(step: str, rows: int, size: int) -> None:
        nonlocal current
        if step != current:
            current = step
            task.restart(f"{table}: {step}", next(iter(first.values()), None))
        if len(first) == 0 or step in first:
            first[step] = first.get(step, 0) + rows
        task.add(rows, size)

    return report


def _summary(origins: list[str], steps: list[Step], left_out: list[LeftOut]) -> None:
    out = sys.stdout
    if left_out:
        out.write("Left out, because it cannot be read:\n")
        out.writelines(f"  {each.reason}\n" for each in left_out)
        out.write("The others moved in and out over HTTP; every value of theirs came back:\n")
    else:
        out.write("Moved in and out over HTTP; every value came back:\n")
    out.writelines(f"  {origin}\n" for origin in dict.fromkeys(origins))
    out.write("\n")
    print_table(
        ["table", "step", "rows", "bytes", "seconds", "speed"],
        [
            (
                step.table if index == 0 or steps[index - 1].table != step.table else "",
                step.name,
                count_figure(step.rows),
                bytes_figure(step.bytes),
                f"{step.seconds:.3f}",
                _speed(step),
            )
            for index, step in enumerate(steps)
        ],
        figures=["rows", "bytes", "seconds", "speed"],
        caption="Bytes are Arrow buffers or file contents. Writes include the fsync.",
    )


LEAST_SECONDS = 0.01
"""A step shorter than this says nothing of a speed."""


def _speed(step: Step) -> str:
    return "" if step.seconds < LEAST_SECONDS else f"{human_bytes(step.bytes / step.seconds)}/s"


def _what_next(folder: Path, sources: list[Source]) -> None:
    table = sources[-1].table
    # Run through make, the command is inside a virtual environment that is not on the PATH.
    command = "fletching" if shutil.which("fletching") else os.path.relpath(sys.argv[0])
    if command.endswith("__main__.py"):
        command = "python -m fletching"
    sys.stdout.write(
        f"""
What to try next
  serve it again     {command} serve {folder} --port 8787
  look at a table    {command} head {table} --at {folder}
  list the tables    {command} ls --at {folder}
  take one out       {command} get {table} {table}.parquet --at {folder}
  in Python          fletching.connect("{folder}").table("{table}").scan().to_table()
""".rstrip()
        + "\n"
    )
