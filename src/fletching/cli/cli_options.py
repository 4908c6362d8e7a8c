"""The options that every command about tables shares: where, which project, whose key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fletching.errors import UsageError

if TYPE_CHECKING:
    from fletching.client import Client

__all__ = ["AccessKey", "At", "JsonOutput", "Project", "open_client"]

At = Annotated[
    str,
    typer.Option(
        "--at",
        envvar="FLETCHING_AT",
        metavar="URL|FOLDER",
        help="A server's URL, or a data folder to open without a server.",
    ),
]
Project = Annotated[
    str, typer.Option("--project", envvar="FLETCHING_PROJECT", help="The project to work in.")
]
AccessKey = Annotated[
    str | None,
    typer.Option(
        "--access-key",
        envvar="FLETCHING_ACCESS_KEY",
        metavar="ID:SECRET",
        help="The access key for a server; a folder needs none.",
    ),
]
JsonOutput = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def open_client(at: str, project: str, access_key: str | None) -> Client:
    """Opens a client on a URL or folder from the shared options.

    Raises:
        UsageError: a URL without an access key, or a key that is not ``id:secret``.
    """
    from fletching.client import connect

    if "://" not in at:
        return connect(at, project=project)
    if access_key is None:
        raise UsageError(
            f"{at} needs an access key: give --access-key ID:SECRET or set FLETCHING_ACCESS_KEY"
        )
    access_id, colon, secret = access_key.partition(":")
    if not (colon and access_id and secret):
        raise UsageError("--access-key is not of the form ID:SECRET")
    return connect(at, project=project, access_id=access_id, access_key=secret)
