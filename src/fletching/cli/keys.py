"""``fletching keys``: who may sign requests to a service, and what each may do.

Works on the data folder itself, whether or not a service runs over it; a running one notices within
its setting ``key_refresh_seconds``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fletching.cli.cli_options import JsonOutput, placed
from fletching.cli.location import Location
from fletching.cli.output import print_json, print_table, say
from fletching.errors import UsageError

if TYPE_CHECKING:
    from fletching.engine.access.access_keys import AccessKeys
    from fletching.engine.access.permissions import AccessKey, Grant

__all__ = ["keys"]

keys = typer.Typer(
    name="keys",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Manage the access keys of a data folder and what each may do.",
)

Folder = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        envvar="FLETCHING_FOLDER",
        help="The data folder, instead of --at.",
        show_default=False,
    ),
]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The access id.")]

_SPAN = re.compile(r"([0-9]{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_OWN = "the folder's own, kept in its file access-key; may do everything"


@contextlib.contextmanager
def _opened(location: Location, folder: Path | None) -> Iterator[AccessKeys]:
    with location.open_engine(folder) as engine:
        yield engine.access_keys


def _own_key(location: Location, folder: Path | None) -> AccessKey | None:
    """The key that a service over the folder uses unless it is given others."""
    from fletching.engine.access.permissions import AccessKey
    from fletching.server.auth.key_ring import KEY_FILE, parse_key

    where = location.data_set(folder).folder
    if where is None:
        return None
    path = Path(where) / KEY_FILE
    try:
        access_id, secret = parse_key(path.read_text("utf-8"))
        created_at = path.stat().st_mtime
    except FileNotFoundError:
        return None
    return AccessKey(
        access_id=access_id, owner=access_id, secret=secret, comment=_OWN, created_at=created_at
    )


def _seconds(text: str) -> int:
    """A span like ``90d`` or ``12h``."""
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None:
        raise UsageError(f"{text!r} is no span like 30m, 12h or 90d")
    return int(match[1]) * _SECONDS[match[2]]


def _parse_grant(grantee: str, text: str) -> Grant:
    """``PERMISSION``, ``PERMISSION:PROJECT`` or ``PERMISSION:PROJECT.TABLE``."""
    from fletching.engine.access.permissions import Grant, Permission

    word, colon, where = text.partition(":")
    project, point, table = where.partition(".")
    if (colon and not project) or (point and not table):
        # Such as a script writes whose variable is empty: it never meant everything.
        raise UsageError(f"{text!r} ends without a pattern; * stands for all of them")
    try:
        permission = Permission(word.lower())
    except ValueError:
        known = ", ".join(Permission)
        raise UsageError(f"{word!r} is no permission; there are {known}") from None
    return Grant(grantee, project or "*", table or "*", permission)


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%MZ")


def _state(key: AccessKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expired(time.time()) else "in use"


def _show_secret(key: AccessKey, *, as_json: bool) -> None:
    """Prints a key with its secret, which nothing shows again."""
    if as_json:
        document: dict[str, object] = {
            "access_id": key.access_id,
            "access_key": key.secret,
            "owner": key.owner,
            "expires_at": key.expires_at,
        }
        if key.security_token is not None:
            document["security_token"] = key.security_token
        print_json(document)
        return
    sys.stdout.write(f"access key (shown this once):\n  {key.access_id}:{key.secret}\n")
    if key.security_token is not None:
        sys.stdout.write(f"  security token: {key.security_token}\n")


@keys.command()
@placed
def create(
    location: Location,
    access_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The access id; by default a new one.")
    ] = None,
    grant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PERMISSION[:PROJECT[.TABLE]]",
            help="What the key may do (read, write or admin) and where; * and ? match names. May be repeated.",
        ),
    ] = None,
    owner: Annotated[
        str | None, typer.Option(help="Whose key it is: grants to an owner hold for all its keys.")
    ] = None,
    expires_in: Annotated[
        str | None, typer.Option(metavar="SPAN", help="When it ends, like 12h or 90d.")
    ] = None,
    sts: Annotated[
        bool, typer.Option("--sts", help="Give it a security token that requests must carry.")
    ] = False,
    comment: Annotated[str, typer.Option(help="For people.")] = "",
    folder: Folder = None,
    as_json: JsonOutput = False,
) -> None:
    """Make an access key and print it, this once."""
    with _opened(location, folder) as access:
        key_id = access_id
        grants = [_parse_grant("?", text) for text in grant or ()]
        key = access.create(
            access_id=key_id,
            owner=owner,
            expires_at=None if expires_in is None else time.time() + _seconds(expires_in),
            sts=sts,
            comment=comment,
        )
        for item in grants:
            access.grant(
                _parse_grant(key.access_id, f"{item.permission}:{item.project}.{item.table}")
            )
    _show_secret(key, as_json=as_json)
    if not grants and not owner:
        say(f"it may do nothing yet: fletching keys grant {key.access_id} read:PROJECT")


@keys.command(name="list")
@placed
def list_(location: Location, folder: Folder = None, as_json: JsonOutput = False) -> None:
    """List the keys of the folder and their grants, without secrets."""
    with _opened(location, folder) as access:
        result, grants = access.all_keys(), access.grants()
    own = _own_key(location, folder)
    if own is not None:
        result = [own, *result]
    if as_json:
        print_json(
            {
                "keys": [
                    {
                        "access_id": key.access_id,
                        "owner": key.owner,
                        "state": _state(key),
                        "sts": key.security_token is not None,
                        "comment": key.comment,
                        "created_at": key.created_at,
                        "expires_at": key.expires_at,
                        "revoked_at": key.revoked_at,
                    }
                    for key in result
                ],
                "grants": [dataclasses.asdict(grant) for grant in grants],
            }
        )
        return
    print_table(
        ["access id", "owner", "state", "created", "expires", "grants", "comment"],
        [
            (
                key.access_id,
                key.owner,
                _state(key),
                _moment(key.created_at),
                _moment(key.expires_at),
                "everything" if key is own else _granted(key, grants),
                key.comment,
            )
            for key in result
        ],
    )


def _granted(key: AccessKey, grants: list[Grant]) -> str:
    mine = [grant for grant in grants if grant.grantee in {key.access_id, key.owner}]
    return " ".join(f"{each.permission}:{each.project}.{each.table}" for each in mine) or "-"


@keys.command()
@placed
def revoke(location: Location, access_id: KeyId, folder: Folder = None) -> None:
    """End a key for good."""
    with _opened(location, folder) as access:
        own = _own_key(location, folder)
        if own is not None and own.access_id == access_id:
            raise UsageError(
                f"{access_id} is the folder's own key: fletching keys rotate {access_id} replaces "
                "it; it is not used while the service is started with other keys"
            )
        access.revoke(access_id)
    say(f"revoked {access_id}")


@keys.command()
@placed
def rotate(
    location: Location, access_id: KeyId, folder: Folder = None, as_json: JsonOutput = False
) -> None:
    """Give a key a new secret and print it, this once; the old one stops working."""
    with _opened(location, folder) as access:
        own = _own_key(location, folder)
        if own is not None and own.access_id == access_id:
            key = dataclasses.replace(own, secret=secrets.token_urlsafe(30))
            _keep_own(location.folder(folder), key)
            say("a service that runs now takes it when it is started again")
        else:
            key = access.rotate(access_id)
    _show_secret(key, as_json=as_json)


def _keep_own(folder: Path, key: AccessKey) -> None:
    """Writes the folder's own key anew; whoever reads the file finds the old one or the new."""
    from fletching.server.auth.key_ring import KEY_FILE

    staging = folder / f".{KEY_FILE}.{secrets.token_hex(4)}"
    descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(f"{key.access_id}:{key.secret}\n")
            file.flush()
            os.fsync(file.fileno())
        staging.replace(folder / KEY_FILE)
    finally:
        staging.unlink(missing_ok=True)


@keys.command()
@placed
def grant(
    location: Location,
    grantee: Annotated[str, typer.Argument(metavar="GRANTEE", help="An access id or owner.")],
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="PERMISSION[:PROJECT[.TABLE]]...", help="read, write or admin, and where."
        ),
    ],
    take_back: Annotated[
        bool, typer.Option("--take-back", help="Remove the grants instead.")
    ] = False,
    folder: Folder = None,
) -> None:
    """Allow an access id or owner to do something."""
    grants = [_parse_grant(grantee, text) for text in what]
    with _opened(location, folder) as access:
        for item in grants:
            changed = access.revoke_grant(item) if take_back else access.grant(item)
            done = ("took back" if take_back else "granted") if changed else "nothing to do for"
            say(f"{done} {item.permission} on {item.project}.{item.table} for {grantee}")


@keys.command()
@placed
def token(
    location: Location,
    access_id: KeyId,
    expires_in: Annotated[
        str, typer.Option(metavar="SPAN", help="When the token ends, like 30m or 12h.")
    ] = "12h",
    folder: Folder = None,
    as_json: JsonOutput = False,
) -> None:
    """Print a bearer token that stands for a key until it ends; revoking or rotating the key ends it too."""
    expires_at = time.time() + _seconds(expires_in)
    with _opened(location, folder) as access:
        own = _own_key(location, folder)
        known = {key.access_id: key.secret for key in access.all_keys()}
        if own is not None:
            known[own.access_id] = own.secret
        if access_id not in known:
            raise UsageError(f"there is no access key {access_id} in {location.data_set(folder)}")
        text = access.tokens.sign(access_id, known[access_id], expires_at)
    if as_json:
        print_json({"access_id": access_id, "token": text, "expires_at": int(expires_at)})
    else:
        sys.stdout.write(text + "\n")
