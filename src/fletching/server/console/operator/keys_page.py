"""Access keys and grants. A secret is shown once, in the reply to what made it, and not kept."""

from __future__ import annotations

import time

from fletching.engine.access.permissions import AccessKey, Grant, Permission
from fletching.errors import ConflictError, InvalidArgumentError, UsageError
from fletching.server.console.code_snippets import twin_code
from fletching.server.console.visit import Visit

__all__ = ["change_keys", "keys_page"]

MOST_DAYS = 3650


async def keys_page(visit: Visit) -> None:
    """Answers with all keys, revoked ones too, and all grants."""
    await _show(visit)


async def _show(visit: Visit, made: AccessKey | None = None, problem: str = "") -> None:
    service = visit.service
    access, run = service.engine.access_keys, service.workers.io.run
    keys, grants = await run(access.all_keys), await run(access.grants)
    now = time.time()
    data: dict[str, object] = {
        "access_keys": [
            {
                "access_id": key.access_id,
                "owner": key.owner,
                "comment": key.comment,
                "created_at": key.created_at,
                "expires_at": key.expires_at,
                "revoked_at": key.revoked_at,
                "temporary": key.security_token is not None,
                "state": "revoked"
                if key.revoked_at is not None
                else "expired"
                if key.expired(now)
                else "in use",
            }
            for key in keys
        ],
        "grants": [
            {
                "grantee": grant.grantee,
                "project": grant.project,
                "table": grant.table,
                "permission": grant.permission.value,
            }
            for grant in grants
        ],
        "permissions": [permission.value for permission in Permission],
        "confirm": visit.asked.get("confirm", ""),
        "key": visit.asked.get("key", ""),
        "me": visit.exchange.access_id,
    }
    await visit.pages.show(
        "keys",
        "Keys and grants",
        data,
        at="keys",
        here="/keys",
        code=twin_code(
            visit,
            "/keys",
            "fletching keys list --at FOLDER",
            "fletching keys create ann --grant read:demo --at FOLDER",
        ),
        # Not among the data: a secret has no JSON twin.
        made=made,
        problem=problem,
        status=400 if problem else 200,
    )


async def change_keys(visit: Visit) -> None:
    """Does what the form says: create, rotate or revoke a key, give or take a grant."""
    form = await visit.form()
    try:
        made = await _changed(visit, form)
    except (UsageError, InvalidArgumentError, ConflictError) as exc:
        await _show(visit, problem=exc.message)
        return
    if made is not None:
        await _show(visit, made)
        return
    await visit.pages.go("/keys")


async def _changed(visit: Visit, form: dict[str, str]) -> AccessKey | None:
    """Does it, and returns the key that has a new secret."""
    access, run = visit.service.engine.access_keys, visit.service.workers.write.run
    action, access_id = form.get("action", ""), form.get("access_id", "").strip()
    if action == "create":
        expires_at = _end(form.get("days", "").strip())
        return await run(
            lambda: access.create(
                access_id=access_id or None,
                owner=form.get("owner", "").strip() or None,
                comment=form.get("comment", "").strip()[:200],
                expires_at=expires_at,
            )
        )
    if action == "rotate":
        return await run(access.rotate, access_id)
    if action == "revoke":
        if access_id == visit.exchange.access_id:
            raise ConflictError("this is the key that you are signed in with")
        await run(access.revoke, access_id)
    elif action in {"grant", "ungrant"}:
        grant = Grant(
            form.get("grantee", "").strip(),
            form.get("project", "").strip(),
            form.get("table", "").strip(),
            _permission(form.get("permission", "")),
        )
        await run(access.grant if action == "grant" else access.revoke_grant, grant)
    else:
        raise InvalidArgumentError("keys are created, rotated, revoked; grants given and taken")
    return None


def _end(days: str) -> float | None:
    if not days:
        return None
    short = days.isascii() and days.isdecimal() and len(days) <= 6
    if not (short and 0 < int(days) <= MOST_DAYS):
        raise InvalidArgumentError(f"days is a number from 1 to {MOST_DAYS}")
    return time.time() + 86_400 * int(days)


def _permission(text: str) -> Permission:
    try:
        return Permission(text)
    except ValueError as exc:
        raise InvalidArgumentError(f"a permission is {', '.join(Permission)}") from exc
