"""The keys that sign requests, and what they were granted, in the catalog.

Secrets are stored encrypted (AES-256-GCM, a key derived from the folder's server key, the access id
as associated data), so the catalog alone gives none away and no secret can be moved to another id.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hmac
import logging
import re
import secrets
from collections.abc import Callable, Iterator

from sqlalchemy import Connection

from fletching.catalog import access_rows as catalog
from fletching.catalog.access_rows import GrantRow, KeyRow
from fletching.catalog.database import Database
from fletching.engine.access.bearer_tokens import BearerTokens
from fletching.engine.access.permissions import AccessKey, AccessSnapshot, Grant, Permission
from fletching.engine.context import Clock
from fletching.engine.identity import check_key
from fletching.errors import CorruptObjectError, UsageError

__all__ = ["AccessKeys"]

_LOG = logging.getLogger("fletching.engine.access")
_LAST_MOMENT = 253_402_300_800
_ACCESS_ID = re.compile(r"[A-Za-z0-9._@-]{1,128}")


def is_access_id(text: str) -> bool:
    """Whether requests can be signed with an id: others fall apart in the Authorization header."""
    return _ACCESS_ID.fullmatch(text) is not None


_NONCE_BYTES = 12


class AccessKeys:
    """Keys and grants in the catalog. Thread-safe; every change is one durable transaction."""

    def __init__(
        self,
        database: Database,
        server_key: bytes,
        clock: Clock,
        check_may_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Works on the catalog of a data folder with that folder's server key.

        ``check_may_change`` refuses changes of a folder that was opened for reading.
        """
        self._database = database
        self._check_may_change = check_may_change
        self._clock = clock
        self._unreadable: set[str] = set()
        self._server_key = server_key
        self._cipher_key = hmac.digest(server_key, b"fletching access keys", "sha256")
        self._tokens = BearerTokens(server_key)

    @contextlib.contextmanager
    def _change(self) -> Iterator[Connection]:
        self._check_may_change()
        with self._database.write() as connection:
            yield connection

    # --- keys --------------------------------------------------------------------------------

    def create(
        self,
        *,
        access_id: str | None = None,
        owner: str | None = None,
        secret: str | None = None,
        expires_at: float | None = None,
        sts: bool = False,
        comment: str = "",
    ) -> AccessKey:
        """Makes a key; its secret is in the reply and never shown again.

        Args:
            access_id: by default a new one.
            owner: whom its grants may be given to instead; by default the id itself.
            secret: by default a new one of 240 random bits.
            expires_at: when it ends, in seconds since the epoch.
            sts: give it a security token that must come with every request.
            comment: for people.

        Raises:
            UsageError: an id of other characters than letters, digits, ``. _ @ -``, or an end that no
                calendar has.
            AlreadyExistsError: the id is taken.
            IdentityError: the catalog's server key is another by now.
        """
        if expires_at is not None and not 0 <= expires_at < _LAST_MOMENT:
            raise UsageError("a key ends before the year 10000, or never: leave its end out")
        access_id = access_id or f"fl{secrets.token_hex(8)}"
        if not is_access_id(access_id):
            raise UsageError(
                f"access id {access_id!r} has characters other than A-Z a-z 0-9 . _ @ -"
            )
        key = AccessKey(
            access_id=access_id,
            owner=owner or access_id,
            secret=secret or secrets.token_urlsafe(30),
            security_token=secrets.token_urlsafe(48) if sts else None,
            comment=comment,
            created_at=self._clock(),
            expires_at=expires_at,
        )
        with self._change() as connection:
            check_key(connection, self._server_key)
            catalog.insert_key(connection, self._row(key))
        return key

    def rotate(self, access_id: str) -> AccessKey:
        """Gives a key a new secret (and token); the old one stops working at once.

        Raises:
            NotFoundError: there is no such key in use.
        """
        with self._change() as connection:
            check_key(connection, self._server_key)
            row = catalog.find_key(connection, access_id)
            sts = row is not None and row.security_token is not None
            secret = secrets.token_urlsafe(30)
            token = secrets.token_urlsafe(48) if sts else None
            catalog.replace_secret(
                connection,
                access_id,
                self._encrypt(access_id, secret),
                None if token is None else self._encrypt(access_id, token),
            )
            row = catalog.find_key(connection, access_id)
        assert row is not None
        return self._key(row)

    def revoke(self, access_id: str) -> None:
        """Ends a key for good; idempotent.

        Raises:
            NotFoundError: there is no such key.
        """
        with self._change() as connection:
            catalog.revoke_key(connection, access_id, self._clock())

    def all_keys(self) -> list[AccessKey]:
        """All keys, revoked ones too, with their secrets: show those to nobody."""
        with self._database.read() as connection:
            rows = catalog.list_keys(connection)
        return [self._readable(row) or _sealed(row) for row in rows]

    # --- grants ------------------------------------------------------------------------------

    def grant(self, grant: Grant) -> bool:
        """Gives a permission; says whether it is new.

        Raises:
            UsageError: an empty grantee or pattern.
        """
        if not (grant.grantee and grant.project and grant.table):
            raise UsageError("a grant needs a grantee, a project pattern and a table pattern")
        with self._change() as connection:
            return catalog.insert_grant(connection, _grant_row(grant, self._clock()))

    def revoke_grant(self, grant: Grant) -> bool:
        """Takes a permission back; says whether there was one."""
        with self._change() as connection:
            return catalog.delete_grant(connection, _grant_row(grant, 0.0))

    def grants(self) -> list[Grant]:
        """All grants."""
        with self._database.read() as connection:
            return [_grant(row) for row in catalog.list_grants(connection)]

    def snapshot(self) -> AccessSnapshot:
        """Keys in use and grants as they are now."""
        with self._database.read() as connection:
            rows = catalog.list_keys(connection)
            granted = [_grant(row) for row in catalog.list_grants(connection)]
        by_grantee: dict[str, tuple[Grant, ...]] = {}
        for grant in granted:
            by_grantee[grant.grantee] = (*by_grantee.get(grant.grantee, ()), grant)
        return AccessSnapshot(
            keys={
                key.access_id: key
                for key in (self._readable(row) for row in rows if row.revoked_at is None)
                if key is not None
            },
            grants=by_grantee,
        )

    def _readable(self, row: KeyRow) -> AccessKey | None:
        """A key; None, and once a line in the log, if its secret does not decrypt.

        One row that nobody can read must not shut out the others.
        """
        try:
            return self._key(row)
        except CorruptObjectError as error:
            if row.id not in self._unreadable:
                self._unreadable.add(row.id)
                _LOG.error("access key %s is left out: %s", row.id, error)
            return None

    # --- bearer tokens -----------------------------------------------------------------------

    @property
    def tokens(self) -> BearerTokens:
        """Signs and verifies what stands for a key without its secret."""
        return self._tokens

    # --- encryption --------------------------------------------------------------------------

    def _row(self, key: AccessKey) -> KeyRow:
        token = key.security_token
        return KeyRow(
            id=key.access_id,
            owner=key.owner,
            secret=self._encrypt(key.access_id, key.secret),
            security_token=None if token is None else self._encrypt(key.access_id, token),
            comment=key.comment,
            created_at=key.created_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
        )

    def _key(self, row: KeyRow) -> AccessKey:
        token = row.security_token
        return dataclasses.replace(
            _without_secret(row),
            secret=self._decrypt(row.id, row.secret),
            security_token=None if token is None else self._decrypt(row.id, token),
        )

    def _encrypt(self, access_id: str, text: str) -> bytes:
        # Imported here: its library takes a tenth of a second to load.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + AESGCM(self._cipher_key).encrypt(nonce, text.encode(), access_id.encode())

    def _decrypt(self, access_id: str, data: bytes) -> str:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce, sealed = bytes(data[:_NONCE_BYTES]), bytes(data[_NONCE_BYTES:])
        try:
            return AESGCM(self._cipher_key).decrypt(nonce, sealed, access_id.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise CorruptObjectError(
                f"the secret of access key {access_id} does not decrypt with this folder's"
                " server.key: was that file replaced?"
            ) from error


def _sealed(row: KeyRow) -> AccessKey:
    """What can be told of a key whose secret does not decrypt."""
    comment = f"{row.comment} (does not decrypt with this server.key)".lstrip()
    return dataclasses.replace(_without_secret(row), comment=comment)


def _without_secret(row: KeyRow) -> AccessKey:
    return AccessKey(
        access_id=row.id,
        owner=row.owner,
        secret="",
        comment=row.comment,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )


def _grant(row: GrantRow) -> Grant:
    return Grant(row.grantee, row.project_pattern, row.table_pattern, Permission(row.permission))


def _grant_row(grant: Grant, now: float) -> GrantRow:
    return GrantRow(grant.grantee, grant.project, grant.table, grant.permission.value, now)
