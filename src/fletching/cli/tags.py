"""``fletching tag``: names for versions of a table; retention keeps a version as long as it has one."""

from __future__ import annotations

from typing import Annotated

import typer

from fletching.cli.cli_options import JsonOutput, TableArgument, placed
from fletching.cli.location import Location
from fletching.cli.named_tables import as_moment, find_table
from fletching.cli.output import print_json, print_table, say

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Names for versions of a table; a version that has one stays readable.",
)

Name = Annotated[str, typer.Argument(metavar="TAG", help="The tag's name, such as before-sale.")]


@app.command("list")
@placed
def list_tags(location: Location, table: TableArgument, as_json: JsonOutput = False) -> None:
    """List a table's tags and the versions that they name."""
    with location.open() as client:
        tags = find_table(client, table).tags()
    if as_json:
        print_json([{"tag": name, "version": version} for name, version in tags.items()])
        return
    print_table(
        ["tag", "version"],
        [(name, str(version)) for name, version in tags.items()],
        figures=["version"],
    )


@app.command()
@placed
def create(
    location: Location,
    table: TableArgument,
    name: Name,
    version: Annotated[
        str | None,
        typer.Argument(metavar="VERSION|TIME|TAG", help="What it names. [default: the newest]"),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the name from another version.")
    ] = False,
    as_json: JsonOutput = False,
) -> None:
    """Name a version, so that it stays readable."""
    with location.open() as client:
        result = find_table(client, table)
        result.create_tag(name, None if version is None else as_moment(version), replace=replace)
        named = result.tags()[name]
    if as_json:
        print_json({"table": table, "tag": name, "version": named})
    else:
        say(f"{name} is version {named} of {table}")


@app.command()
@placed
def delete(location: Location, table: TableArgument, name: Name) -> None:
    """Forget a tag; its version then stays as long as others do."""
    with location.open() as client:
        find_table(client, table).drop_tag(name)
    say(f"{table} has no tag {name} any more")
