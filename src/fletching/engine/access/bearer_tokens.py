"""Bearer tokens: texts that stand for a key until a moment, in place of a signature.

A token is base64 of ``fletching,{access id},{expiry}[,{scope}],{MAC}``; clients read the expiry. The
MAC is made with a key that is derived from the server key, so that every server of a data set takes
the tokens of the others, and covers the access key's secret, so that a key which gets another secret
leaves no token behind. There are three scopes::

    (none)                      whatever the key may do
    {project},{instance}        looking at one instance
    read,{until},{claim},v1     reading one session, or any of one table, and the blobs of that table;
                                `claim` is base64url of the JSON [project, schema, table, session or null]

A token for reading can be exchanged for a later one while it is valid, up to `until`: a job that lasts
goes on, and what leaks ends.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hmac
import json
import re
from collections.abc import Callable

from fletching.errors import UsageError
from fletching.types import TableName

__all__ = ["BearerClaim", "BearerTokens", "ReadScope"]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_READ_TAG = "read"
_READ_FORM = "v1"


@dataclasses.dataclass(frozen=True, slots=True)
class ReadScope:
    """What a token for reading reads.

    Attributes:
        table: whose sessions.
        session_id: the one session; None for any of the table, those that it opens itself among them.
        renewable_until: seconds since the epoch, up to which the token's holder may exchange it for
            a later one.
    """

    table: TableName
    session_id: str | None
    renewable_until: int

    def __str__(self) -> str:
        if self.session_id is None:
            return f"table {self.table}"
        return f"session {self.session_id}"


@dataclasses.dataclass(frozen=True, slots=True)
class BearerClaim:
    """What a genuine bearer token says.

    Attributes:
        access_id: whose key it stands for.
        expires_at: when its time is over, in seconds since the epoch.
        instance: (project, id) of the one instance that it may look at; None if it is not for one.
        reading: the session or the table that it may read; None if it is not for reading. With
            neither, it may do whatever its key may.
    """

    access_id: str
    expires_at: int
    instance: tuple[str, str] | None = None
    reading: ReadScope | None = None

    def expired(self, now: float) -> bool:
        """Whether its time is over."""
        return now >= self.expires_at


class BearerTokens:
    """Signs and verifies tokens. Thread-safe; nothing is kept."""

    def __init__(self, server_key: bytes) -> None:
        self._key = hmac.digest(server_key, b"fletching bearer tokens", "sha256")

    def sign(
        self,
        access_id: str,
        secret: str,
        expires_at: float,
        instance: tuple[str, str] | None = None,
        reading: ReadScope | None = None,
    ) -> str:
        """A token for a key, or for a part of what the key may do, for as long as it has this secret.

        Raises:
            UsageError: a name that cannot stand in a token, or two scopes.
        """
        if instance is not None and reading is not None:
            raise UsageError("a token is for an instance or for reading, not both")
        scope: tuple[str, ...] = ()
        if instance is not None:
            if not all(_NAME.fullmatch(name) for name in instance):
                raise UsageError("a token is for an instance by its project and id")
            scope = instance
        if reading is not None:
            table = reading.table
            claim = [table.project, table.schema, table.name, reading.session_id]
            packed = base64.urlsafe_b64encode(json.dumps(claim).encode()).decode("ascii")
            scope = (_READ_TAG, str(reading.renewable_until), packed, _READ_FORM)
        text = ",".join(["fletching", access_id, str(int(expires_at)), *scope])
        return base64.b64encode(f"{text},{self._mac(text, secret)}".encode()).decode("ascii")

    def verify(self, token: str, secret_of: Callable[[str], str | None]) -> BearerClaim | None:
        """What a genuine token says; None if it is not genuine.

        Args:
            token: as it came.
            secret_of: the secret that the key of an access id has now; None if there is no such key.
        """
        try:
            text = base64.b64decode(token, validate=True).decode("ascii")
        except (binascii.Error, ValueError):
            return None
        body, _, mac = text.rpartition(",")
        _, _, rest = body.partition(",")
        secret = secret_of(rest.partition(",")[0])
        if secret is None or not hmac.compare_digest(self._mac(body, secret), mac):
            return None
        # From here on it is what `sign` of this or another release wrote.
        access_id, expiry, *scope = rest.split(",")
        expires_at = int(expiry)
        if not scope:
            return BearerClaim(access_id, expires_at)
        if len(scope) == 2:
            return BearerClaim(access_id, expires_at, instance=(scope[0], scope[1]))
        if len(scope) == 4 and (scope[0], scope[3]) == (_READ_TAG, _READ_FORM):
            project, schema, table, session_id = json.loads(base64.urlsafe_b64decode(scope[2]))
            reading = ReadScope(TableName(project, table, schema), session_id, int(scope[1]))
            return BearerClaim(access_id, expires_at, reading=reading)
        # A later release's scope is narrower than the key, in a way that is not known here.
        return None

    def _mac(self, text: str, secret: str) -> str:
        # No text has a line break, so that no two pairs are one.
        return hmac.digest(self._key, f"{text}\n{secret}".encode(), "sha256").hex()
