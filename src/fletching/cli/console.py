"""``fletching console``: the address of a server's console, opened where there is a browser."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from fletching.cli.cli_options import placed
from fletching.cli.location import Location
from fletching.cli.output import say
from fletching.errors import UsageError

__all__ = ["console"]


@placed
def console(
    location: Location,
    no_open: Annotated[
        bool, typer.Option("--no-open", help="Print the address, and open no browser.")
    ] = False,
) -> None:
    """Open the console of a server, or print where it is."""
    if not location.is_url:
        raise UsageError(
            f"{location.at} ({location.origin}) is a folder: fletching serve {location.at} has the console"
        )
    location.await_server()
    address = f"{location.at.rstrip('/').removesuffix('/api')}/console"
    sys.stdout.write(address + "\n")
    if no_open or not sys.stdout.isatty():
        return
    import webbrowser

    if not webbrowser.open(address):
        say("no browser is here; open the address in yours")
