"""``fletching keys``: who may sign requests to a service, and what each may do.

Works on the data folder itself, whether or not a service runs over it; a running one notices within
its setting ``key_refresh_seconds``.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fletching.cli.output import console, diagnostics, print_json
from fletching.errors import UsageError

if TYPE_CHECKING:
    from fletching.engine.access.access import AccessKey, AccessKeys, Grant

__all__ = ["keys"]

keys = typer.Typer(
    name="keys",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Manage the access keys of a data folder and what each may do.",
)

Folder = Annotated[
    Path, typer.Option("--folder", envvar="FLETCHING_FOLDER", help="The data folder.")
]
KeyId = Annotated[str, typer.Argument(metavar="ID", help="The access id.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
_DEFAULT_FOLDER = Path("./data")

_SPAN = re.compile(r"(\d{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[AccessKeys]:
    from fletching.engine.engine import Engine

    if not folder.is_dir():
        raise UsageError(f"there is no data folder {folder}; give --folder")
    with Engine.open(folder) as engine:
        yield engine.access_keys


def _seconds(text: str) -> int:
    """A span like ``90d`` or ``12h``."""
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None:
        raise UsageError(f"{text!r} is no span like 30m, 12h or 90d")
    return int(match[1]) * _SECONDS[match[2]]


def _parse_grant(grantee: str, text: str) -> Grant:
    """``PERMISSION``, ``PERMISSION:PROJECT`` or ``PERMISSION:PROJECT.TABLE``."""
    from fletching.engine.access.access import Grant, Permission

    word, _, where = text.partition(":")
    project, _, table = where.partition(".")
    try:
        permission = Permission(word.lower())
    except ValueError:
        known = ", ".join(Permission)
        raise UsageError(f"{word!r} is no permission; there are {known}") from None
    return Grant(grantee, project or "*", table or "*", permission)


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _state(key: AccessKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "expired" if key.expired(time.time()) else "in use"


def _show_secret(key: AccessKey, *, as_json: bool) -> None:
    """Prints a key with its secret, which nothing shows again."""
    if as_json:
        document: dict[str, Any] = {
            "access_id": key.access_id,
            "access_key": key.secret,
            "owner": key.owner,
            "expires_at": key.expires_at,
        }
        if key.security_token is not None:
            document["security_token"] = key.security_token
        print_json(document)
        return
    out = console()
    out.print("access key (shown this once):", markup=False)
    out.print(f"  {key.access_id}:{key.secret}", markup=False, soft_wrap=True)
    if key.security_token is not None:
        out.print(f"  security token: {key.security_token}", markup=False, soft_wrap=True)


@keys.command()
def create(
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
    folder: Folder = _DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Make an access key and print it, this once."""
    with _opened(folder) as access:
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
        diagnostics().print(
            f"it may do nothing yet: fletching keys grant {key.access_id} read:PROJECT",
            markup=False,
        )


@keys.command(name="list")
def list_(folder: Folder = _DEFAULT_FOLDER, as_json: Json = False) -> None:
    """List the keys of the folder and their grants, without secrets."""
    with _opened(folder) as access:
        found, grants = access.all_keys(), access.grants()
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
                    for key in found
                ],
                "grants": [
                    {
                        "grantee": grant.grantee,
                        "permission": grant.permission.value,
                        "project": grant.project,
                        "table": grant.table,
                    }
                    for grant in grants
                ],
            }
        )
        return
    from rich.table import Table

    table = Table(box=None)
    for heading in ("access id", "owner", "state", "created", "expires", "grants", "comment"):
        table.add_column(heading)
    for key in found:
        mine = [g for g in grants if g.grantee in {key.access_id, key.owner}]
        table.add_row(
            key.access_id,
            key.owner,
            _state(key),
            _moment(key.created_at),
            _moment(key.expires_at),
            " ".join(f"{g.permission}:{g.project}.{g.table}" for g in mine) or "-",
            key.comment,
        )
    console().print(table)


@keys.command()
def revoke(access_id: KeyId, folder: Folder = _DEFAULT_FOLDER) -> None:
    """End a key for good."""
    with _opened(folder) as access:
        access.revoke(access_id)
    diagnostics().print(f"revoked {access_id}", markup=False)


@keys.command()
def rotate(access_id: KeyId, folder: Folder = _DEFAULT_FOLDER, as_json: Json = False) -> None:
    """Give a key a new secret and print it, this once; the old one stops working."""
    with _opened(folder) as access:
        key = access.rotate(access_id)
    _show_secret(key, as_json=as_json)


@keys.command()
def grant(
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
    folder: Folder = _DEFAULT_FOLDER,
) -> None:
    """Allow an access id or owner to do something."""
    grants = [_parse_grant(grantee, text) for text in what]
    with _opened(folder) as access:
        for item in grants:
            changed = access.revoke_grant(item) if take_back else access.grant(item)
            done = ("took back" if take_back else "granted") if changed else "nothing to do for"
            diagnostics().print(
                f"{done} {item.permission} on {item.project}.{item.table} for {grantee}",
                markup=False,
            )


@keys.command()
def token(
    access_id: KeyId,
    expires_in: Annotated[
        str, typer.Option(metavar="SPAN", help="When the token ends, like 30m or 12h.")
    ] = "12h",
    folder: Folder = _DEFAULT_FOLDER,
    as_json: Json = False,
) -> None:
    """Print a bearer token that stands for a key until it ends; revoking the key ends it too."""
    expires_at = time.time() + _seconds(expires_in)
    with _opened(folder) as access:
        if all(key.access_id != access_id for key in access.all_keys()):
            raise UsageError(f"there is no access key {access_id} in {folder}")
        text = access.bearer_token(access_id, expires_at)
    if as_json:
        print_json({"access_id": access_id, "token": text, "expires_at": int(expires_at)})
    else:
        console().print(text, markup=False, soft_wrap=True)
