"""``fletching quickstart``: the main job with progress bars, ending in a table of what was measured."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from fletching.cli.output import (
    ExitCode,
    console,
    diagnostics,
    human_bytes,
    human_count,
    print_json,
    print_table,
    progress_bars,
)
from fletching.cli.quickstart.files import TABLE as FILES_TABLE
from fletching.cli.quickstart.files import installed_files, move_files, user_blobs
from fletching.cli.quickstart.job import Mismatch, Report, Step, move_table
from fletching.cli.quickstart.sources import Source, standard_library, user_files

__all__ = ["quickstart"]

PROJECT = "demo"


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
    """Move real tables in and out over HTTP and prove it.

    The standard library's source, or your own files, go in through parallel write streams and come
    back whole, projected and one partition alone; every value is compared.

    Exits with 0 when every value came back, with 3 when anything differs.
    """
    import fletching

    sources = user_files(source) if source else standard_library()
    files = user_blobs(source) if source else installed_files()
    steps: list[Step] = []
    try:
        with fletching.serve(folder, port=0, project=PROJECT) as server:
            access_id, secret = server.access_key
            client = fletching.connect(
                server.url, project=PROJECT, access_id=access_id, access_key=secret
            )
            if not as_json:
                diagnostics().print(f"serving {folder} on {server.url}")
            with client, progress_bars(quiet=as_json) as bars:
                for one in sources:
                    steps.extend(move_table(client, one, _reporter(bars, one.table)))
                if files is not None:
                    steps.extend(move_files(client, files, _reporter(bars, FILES_TABLE)))
    except Mismatch as exc:
        diagnostics().print(f"[bold red]the data differs[/] {exc}", soft_wrap=True)
        raise typer.Exit(ExitCode.DIFFERENT) from None
    if as_json:
        print_json([{**dataclasses.asdict(s), "gb_per_s": s.gigabytes_per_second} for s in steps])
        return
    origins = [one.origin for one in sources] + ([files.origin] if files else [])
    _summary(origins, steps)
    _what_next(folder, sources)


def _reporter(bars: Progress, table: str) -> Report:
    """Draws one bar per table; the first step counts the rows, so the later ones have a total."""
    task = bars.add_task(table, total=None)
    moved: dict[str, int] = {}

    def report(step: str, rows: int, _bytes: int) -> None:
        moved[step] = moved.get(step, 0) + rows
        total = next(iter(moved.values())) if len(moved) > 1 else None
        bars.update(task, description=f"{table}: {step}", completed=moved[step], total=total)

    return report


def _summary(origins: list[str], steps: list[Step]) -> None:
    console().print("Moved in and out over HTTP; every value came back:", soft_wrap=True)
    for origin in dict.fromkeys(origins):
        console().print(f"  {origin}", soft_wrap=True, markup=False)
    console().print()
    print_table(
        None,
        [
            ("table", "left"),
            ("step", "left"),
            ("rows", "right"),
            ("bytes", "right"),
            ("seconds", "right"),
            ("GB/s", "right"),
        ],
        [
            (
                step.table if index == 0 or steps[index - 1].table != step.table else "",
                step.name,
                human_count(step.rows),
                human_bytes(step.bytes),
                f"{step.seconds:.3f}",
                f"{step.gigabytes_per_second:.2f}",
            )
            for index, step in enumerate(steps)
        ],
        caption="Bytes are Arrow buffers or file contents. Writes include the fsync.",
    )


def _what_next(folder: Path, sources: list[Source]) -> None:
    table = sources[-1].table
    # Run through make, the command is inside a virtual environment that is not on the PATH.
    command = "fletching" if shutil.which("fletching") else os.path.relpath(sys.argv[0])
    console().print(
        f"""
What to try next
  serve it again     {command} serve {folder} --port 8787
  look at a table    {command} head {table} --at {folder}
  list the tables    {command} ls --at {folder}
  take one out       {command} get {table} {table}.parquet --at {folder}
  in Python          fletching.connect("{folder}").table("{table}").scan().to_table()
""".rstrip(),
        soft_wrap=True,
        markup=False,
    )
