"""``fletching verify | gc | compact | maintain | migrate | servers | adopt``: upkeep, whether or not servers run."""

from __future__ import annotations

import dataclasses
import datetime as dt
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fletching.cli.cli_options import JsonOutput, placed
from fletching.cli.location import Location
from fletching.cli.output import (
    ExitCode,
    bytes_figure,
    count_figure,
    counted,
    print_json,
    print_table,
    progress,
    say,
)
from fletching.errors import UsageError
from fletching.human_figures import human_bytes, human_count
from fletching.server.signals import stopping_signals
from fletching.types import TableName

if TYPE_CHECKING:
    from fletching.engine.engine import Engine

__all__ = ["adopt", "compact", "gc", "maintain", "migrate", "servers", "verify"]

Folder = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FOLDER]", help="The data folder, instead of --at.", show_default=False
    ),
]


@placed
def verify(
    location: Location,
    folder: Folder = None,
    recount: Annotated[
        bool,
        typer.Option(
            "--recount", help="First set wrong totals of tables to what their segments have."
        ),
    ] = False,
    last: Annotated[
        bool,
        typer.Option("--last", help="Tell how the last verification ended, and verify nothing."),
    ] = False,
    json_output: JsonOutput = False,
) -> None:
    """Prove every checksum of segments, blob packs and the catalog's references and totals.

    Exits with 3 if anything is damaged, and names it.
    """
    if last and recount:
        raise UsageError("--last changes nothing, and --recount does: give one of them")
    with location.open_engine(folder, looks=not recount) as engine:
        if last:
            _last_verification(engine, json_output=json_output)
            return
        for item in engine.recount() if recount else ():
            say(f"{item.name}: {', '.join(item.problems)}")
        verification = engine.verify()
        damaged = []
        objects = done = 0
        total = verification.total_bytes
        with progress("verifying", total, unit="bytes", quiet=json_output) as task:
            for checked in verification:
                objects += bool(checked.bytes)
                done += checked.bytes
                if checked.problems:
                    damaged.append(checked)
                task.add(checked.bytes)
    if json_output:
        print_json(
            {
                "objects": objects,
                "bytes": done,
                "damaged": [{"name": item.name, "problems": item.problems} for item in damaged],
            }
        )
    elif damaged:
        rows = [(item.name, problem) for item in damaged for problem in item.problems]
        print_table(["object", "what is wrong"], rows, title="damaged")
    if not json_output:
        result = f"{human_count(len(damaged))} damaged" if damaged else "all as written"
        say(f"{counted(objects, 'object')}, {human_bytes(done)}: {result}")
    if damaged:
        raise typer.Exit(ExitCode.DIFFERENT)


def _last_verification(engine: Engine, *, json_output: bool) -> None:
    """Tells of the last verification, by whichever server or command it was."""
    run = engine.operations.last_run("verification")
    if json_output:
        print_json(None if run is None else dataclasses.asdict(run))
    elif run is None:
        say("nothing was verified here yet")
    else:
        if run.problems:
            print_table(["what is wrong"], [(each,) for each in run.problems], title="damaged")
        ended = dt.datetime.fromtimestamp(run.ended_at, dt.UTC).isoformat(" ", "seconds")
        say(f"{ended} ({run.place}): {run.summary}")
    if run is not None and run.problem_count:
        raise typer.Exit(ExitCode.DIFFERENT)


@placed
def gc(
    location: Location,
    folder: Folder = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", "-n", help="Tell what would go, and keep it.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Delete objects that the catalog does not know however many they are, and believe a clock"
            " that was set forward.",
        ),
    ] = False,
    json_output: JsonOutput = False,
) -> None:
    """Collect orphans, expired sessions and removed segments; never what a live session needs.

    A running server does this by itself.
    """
    with (
        location.open_engine(folder) as engine,
        progress("collecting", unit="steps", quiet=json_output) as task,
    ):
        report = engine.collect(dry_run=dry_run, force=force, progress=task.reach)
    if json_output:
        print_json(
            {
                "dry_run": report.dry_run,
                "skipped": report.skipped,
                "refused": report.refused,
                "bytes": report.bytes,
                "collected": [
                    {"kind": item.kind, "name": item.name, "bytes": item.bytes}
                    for item in report.collected
                ],
            }
        )
        return
    if report.skipped:
        say(report.skipped)
        raise typer.Exit(ExitCode.FAILED)
    if report.collected:
        rows = [
            (item.kind, item.name, bytes_figure(item.bytes) if item.bytes else "")
            for item in report.collected
        ]
        print_table(["kind", "what", "size"], rows, figures=["size"])
    verb = "would go" if dry_run else "gone"
    say(f"{counted(len(report.collected), 'thing')}, {human_bytes(report.bytes)}: {verb}")
    if report.refused:
        say(report.refused)
        raise typer.Exit(ExitCode.FAILED)


@placed
def adopt(
    location: Location,
    folder: Folder = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask: you know what was lost.")
    ] = False,
) -> None:
    """Accept a folder's catalog, objects and server key as belonging together, as they are now.

    For when one of them was lost for good. Without its catalog, a folder gets an empty one, and the
    objects are garbage; without its server key, access keys and blob references are dead. Restore
    what was lost from a backup instead, wherever there is one.
    """
    storage = location.data_set(folder, create=True)
    path = None if storage.folder is None else Path(storage.folder)
    if path is not None and (not path.is_dir() or not any(path.iterdir())):
        raise UsageError(f"{path} is no data folder")
    if not yes:
        typer.confirm(
            f"Accept {storage} as it is now? What is missing from it is gone after that.",
            abort=True,
            err=True,
        )
    location.open_engine(folder, adopt=True).close()
    say(f"{storage} is accepted as it is")


@placed
def migrate(
    location: Location,
    folder: Folder = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only tell whether it is needed: exits with 3 if so.")
    ] = False,
) -> None:
    """Migrate a catalog to this release, or make an empty one, once for all servers.

    For rollouts: servers with FLETCHING_CATALOG_MIGRATE=false only check it, and this comes first.
    """
    from fletching.catalog.migrations import NEWEST_REVISION
    from fletching.engine.data_folder import DataFolder
    from fletching.engine.engine_settings import EngineSettings

    storage = location.data_set(folder, create=True)
    settings = EngineSettings.of(dataclasses.replace(storage, catalog_migrate=True))
    where = None if storage.folder is None else Path(storage.folder)
    before = DataFolder(where, settings).catalog_revision()
    if check:
        say(f"the catalog is at revision {before or 'none'}, this release at {NEWEST_REVISION}")
        if before != NEWEST_REVISION:
            raise typer.Exit(ExitCode.DIFFERENT)
        return
    from fletching.engine.engine import Engine

    Engine.open(where, settings=settings).close()
    say(
        f"the catalog is at revision {NEWEST_REVISION}"
        + ("" if before == NEWEST_REVISION else f", and was at {before or 'none'}")
    )


@placed
def servers(location: Location, folder: Folder = None, json_output: JsonOutput = False) -> None:
    """List the servers that share a data set in PostgreSQL and an object store.

    A folder's servers are processes of its machine, and are not kept count of.
    """
    from fletching.engine.presence import DEAD_SECONDS

    with location.open_engine(folder) as engine:
        now = engine.context.clock()
        result = engine.context.presence.servers()
    if json_output:
        print_json(
            [
                {**dataclasses.asdict(row), "lives": row.seen_at > now - DEAD_SECONDS}
                for row in result
            ]
        )
        return
    print_table(
        ["id", "name", "url", "release", "up", "seen"],
        [
            (
                row.id,
                row.name,
                row.url,
                row.release,
                f"{(now - row.started_at) / 3600:.1f} h",
                f"{now - row.seen_at:.0f} s ago"
                + ("" if row.seen_at > now - DEAD_SECONDS else ", dead"),
            )
            for row in result
        ],
    )


@placed
def maintain(
    location: Location,
    folder: Folder = None,
    once: Annotated[
        bool, typer.Option("--once", help="One round of compaction and retention, then end.")
    ] = False,
) -> None:
    """Compact and collect in the background until SIGTERM or Ctrl-C, for servers that do not.

    Those are started with FLETCHING_MAINTENANCE=false. Several of these may run; one works at a time.
    """
    stopped = threading.Event()
    with stopping_signals(stopped.set), location.open_engine(folder) as engine:
        engine.check_writable()
        if once:
            merged = sum(report.merged for report in engine.compact())
            report = engine.collect()
            say(
                f"{counted(merged, 'segment')} merged, {counted(len(report.collected), 'thing')} gone"
            )
            if report.skipped:
                say(report.skipped)
            if report.refused:
                say(report.refused)
                raise typer.Exit(ExitCode.FAILED)
            return
        engine.start_maintenance()
        say("maintaining; stop: Ctrl-C")
        stopped.wait()
    say("stopped")


@placed
def compact(
    location: Location,
    table: Annotated[
        str | None, typer.Argument(metavar="[TABLE]", help="One table; all of them by default.")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="The data folder, instead of --at.", show_default=False),
    ] = None,
    min_segments: Annotated[
        int, typer.Option("--min-segments", min=2, help="How many neighbours are worth a merge.")
    ] = 2,
    purge: Annotated[
        bool,
        typer.Option(
            "--purge",
            help="Write every segment anew that has lost rows: they are then only in older versions.",
        ),
    ] = False,
    json_output: JsonOutput = False,
) -> None:
    """Merge small segments by copying their messages; open snapshots keep what they read.

    A running server does this by itself. Exits with 3 if a segment is damaged and was left alone, or, with
    --purge, if one still has deleted rows for whatever reason.
    """
    with location.open_engine(folder) as engine:
        name = None if table is None else TableName(location.project, table)
        with progress("compacting", unit="tables", quiet=json_output) as task:
            reports = engine.compact(
                name, min_segments=min_segments, purge=purge, progress=task.reach
            )
    if json_output:
        print_json([{**dataclasses.asdict(item), "table": str(item.table)} for item in reports])
    else:
        rows = [
            (
                str(item.table),
                count_figure(item.merged),
                count_figure(item.made),
                bytes_figure(item.bytes),
            )
            for item in reports
            if item.merged
        ]
        if rows:
            figures = ["merged", "into", "size"]
            print_table(["table", *figures], rows, figures=figures)
        elif not any(item.key_runs for item in reports):
            say("nothing to merge")
        for item in reports:
            if item.key_runs:
                say(f"{item.table}: merged the key runs of {counted(item.key_runs, 'segment')}")
            if item.skipped:
                say(f"{item.table}: {item.skipped}")
            for key in item.damaged:
                say(f"{item.table}: {key} is damaged; left alone")
            for key in item.unpurged:
                say(f"{item.table}: {key} still has rows that were deleted")
    if any(item.problems for item in reports):
        raise typer.Exit(ExitCode.DIFFERENT)
