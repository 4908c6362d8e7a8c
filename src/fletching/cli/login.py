"""``fletching login | logout | status``: where commands work when nothing is said, and as whom."""

from __future__ import annotations

import getpass
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from fletching.cli.cli_options import JsonOutput, placed
from fletching.cli.location import Location
from fletching.cli.output import counted, print_json, print_text, say
from fletching.errors import FletchingError, NoPermissionError, NoSuchProjectError, UsageError

__all__ = ["login", "logout", "status"]


def login(
    url: Annotated[str, typer.Argument(metavar="URL|FOLDER", help="The server, or a folder.")],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="PROFILE", help="What to call it. [default: the host]"),
    ] = None,
    project: Annotated[
        str | None, typer.Option("--project", metavar="NAME", help="The project to work in.")
    ] = None,
    access_key_file: Annotated[
        str | None,
        typer.Option(
            "--access-key-file",
            metavar="FILE|-",
            help="A file with the key as ID:SECRET, or - for stdin. By default you are asked.",
        ),
    ] = None,
    no_keyring: Annotated[
        bool,
        typer.Option("--no-keyring", help="Keep the secret in the configuration file in any case."),
    ] = False,
    wait: Annotated[
        float | None,
        typer.Option(
            "--wait", metavar="SECONDS", min=0, help="How long to wait for the server. [default: 3]"
        ),
    ] = None,
) -> None:
    """Store a server's address and key as a profile, for commands and for Python.

    The key is tried before it is kept: in the system's keyring, or in a file of mode 0600.
    """
    from fletching.client.profiles import Profile, Profiles, default_name

    profiles = Profiles()
    if not Location(url).is_url:
        folder = Location(url).folder(Path(url).expanduser()).resolve()
        profile = Profile(name or default_name(f"x://{folder.name}"), str(folder), project)
        profiles.save(profile)
        say(f"profile {profile.name}: {folder}")
        return
    given = sys.stdin.readline() if access_key_file == "-" else None
    file = None if access_key_file in {None, "-"} else Path(access_key_file or "")
    if given is None and file is None:
        given = _asked()
    location = Location(url, project, given, file, wait)
    location.await_server()
    access_id, secret = location.key()
    tables = _tried(location, access_id, secret)
    profile = Profile(name or default_name(url), url.rstrip("/"), project, access_id, secret)
    where = profiles.save(profile, keyring=not no_keyring)
    say(
        f"signed in to {url} as {access_id}; {counted(tables, 'table')} in project {location.project}\n"
        f"profile {profile.name}, its secret in {where}"
    )


def _asked() -> str:
    if not sys.stdin.isatty():
        raise UsageError("nobody is here to ask: --access-key-file FILE, or - for stdin")
    return getpass.getpass("access key (ID:SECRET, not shown): ")


def _tried(location: Location, access_id: str, secret: str) -> int:
    """How many tables the key sees; an error of the server says why it is none."""
    from fletching.client import connect

    with connect(
        location.at, project=location.project, access_id=access_id, access_key=secret
    ) as client:
        try:
            return len(client.list_tables())
        except (NoPermissionError, NoSuchProjectError) as exc:
            # The key is genuine, and may be meant for another project.
            say(f"note: {exc}")
            return 0


def logout(
    name: Annotated[
        str | None, typer.Argument(metavar="[PROFILE]", help="By default that of the last login.")
    ] = None,
) -> None:
    """Delete a profile and its secret."""
    from fletching.client.profiles import Profiles

    profiles = Profiles()
    wanted = name or profiles.default
    if wanted is None:
        raise UsageError("there is no profile; fletching login makes one")
    if not profiles.remove(wanted):
        known = ", ".join(profiles.names) or "none"
        raise UsageError(f"there is no profile {wanted}; there are: {known}")
    say(f"forgot profile {wanted}")


@placed
def status(location: Location, as_json: JsonOutput = False) -> None:
    """Show the server and key in use, and whether the server answers."""
    from fletching.client.profiles import Profiles

    profiles = Profiles()
    document: dict[str, object] = {
        "at": location.at,
        "from": location.origin,
        "project": location.project,
        "access_id": None,
        "key_from": None,
        "reachable": False,
        "tables": None,
        "milliseconds": None,
        "error": None,
        "profiles": profiles.names,
        "default_profile": profiles.default,
    }
    failure: FletchingError | None = None
    try:
        if location.is_url:
            document["key_from"] = location.key_source() or None
            if document["key_from"]:
                document["access_id"] = location.key()[0]
        with location.open() as client:
            client.list_tables()
            started = time.perf_counter()
            document["tables"] = len(client.list_tables())
            document["milliseconds"] = round((time.perf_counter() - started) * 1000, 1)
            document["reachable"] = True
    except FletchingError as exc:
        failure = exc
        document["error"] = str(exc)
    if as_json:
        print_json(document)
    else:
        print_text("\n".join(_lines(document)))
    if failure is not None:
        raise failure


def _lines(document: dict[str, object]) -> list[str]:
    lines = [f"at        {document['at']} ({document['from']})"]
    if document["access_id"]:
        lines.append(f"as        {document['access_id']} ({document['key_from']})")
    lines.append(f"project   {document['project']}")
    if document["reachable"]:
        tables = document["tables"]
        assert isinstance(tables, int)
        lines.append(
            f"state     {counted(tables, 'table')}, listed in {document['milliseconds']} ms"
        )
    else:
        lines.append("state     not reachable")
    names = document["profiles"]
    assert isinstance(names, list)
    if names:
        shown = [
            f"{each} (default)" if each == document["default_profile"] else each for each in names
        ]
        lines.append(f"profiles  {', '.join(shown)}")
    return lines
