"""The command line's front: assembles the commands and turns errors into sentences and exit codes."""

from __future__ import annotations

import os
import sys

import typer

from fletching import __version__
from fletching.cli import blob, lz4
from fletching.cli.bench import bench
from fletching.cli.create import create
from fletching.cli.drop import drop
from fletching.cli.get import get
from fletching.cli.head import head
from fletching.cli.inspect import inspect
from fletching.cli.keys import keys
from fletching.cli.ls import ls
from fletching.cli.output import ExitCode, diagnostics
from fletching.cli.put import put
from fletching.cli.quickstart.command import quickstart
from fletching.cli.serve import serve
from fletching.cli.show import show
from fletching.cli.upkeep import compact, gc, verify
from fletching.errors import FletchingError, UsageError

__all__ = ["app", "main"]

app = typer.Typer(
    name="fletching",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Tables and blobs over plain HTTP: verbatim, verified, exactly once.",
    epilog="Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 data differs or is damaged.",
)

# In the order a newcomer meets them.
for _command in (
    quickstart,
    serve,
    create,
    ls,
    show,
    put,
    get,
    head,
    drop,
    inspect,
    verify,
    gc,
    compact,
    bench,
):
    app.command()(_command)
app.add_typer(blob.app, name="blob")
app.add_typer(lz4.app, name="lz4")
app.add_typer(keys)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        sys.stdout.write(f"fletching {__version__}\n")
        raise typer.Exit


def main() -> None:
    """Runs the command line; an error of ours is one sentence on stderr, never a traceback."""
    try:
        app()
    except UsageError as exc:
        _say(exc)
        sys.exit(ExitCode.USAGE)
    except FletchingError as exc:
        _say(exc)
        sys.exit(ExitCode.FAILED)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # The reader of our stdout went away (`| head`): not our fault, and nothing to say. Point
        # stdout elsewhere so that the interpreter's flush at exit does not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.OK)


def _say(error: FletchingError) -> None:
    diagnostics().print(f"error: {error}", style="red", markup=False, soft_wrap=True)
