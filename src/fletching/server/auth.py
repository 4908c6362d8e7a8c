"""Who asks: the signature that every request but health carries (PROTOCOL 7)."""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable

from fletching.errors import SignatureMismatchError, UnauthorizedError
from fletching.protocol import headers as names
from fletching.protocol.blob_links import parse_link, verify_link
from fletching.protocol.signing import (
    Claim,
    check_date,
    check_scope_date,
    parse_application,
    parse_authorization,
    verify,
    verify_application,
)
from fletching.server.exchange import Exchange
from fletching.server.keys import KeyRing

__all__ = ["Authenticator", "Principal"]


@dataclasses.dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller."""

    access_id: str
    application_id: str | None = None
    """The access id of the application that signed as well, if one did."""


class Authenticator:
    """Verifies signatures against a key ring. Does not block; used on the event loop."""

    def __init__(
        self,
        keys: KeyRing,
        allowed_skew_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._allowed_skew = allowed_skew_seconds
        self._clock = clock
        # Checked in place of an unknown id's secret, so that the time taken does not tell which
        # ids exist.
        self._nobody = secrets.token_hex(16)

    def identify(self, exchange: Exchange) -> Principal:
        """Verifies a request and notes its access id for the log.

        Raises:
            UnauthorizedError: no credentials, or none of a known form.
            RequestTimeTooSkewedError: the request's date is too far from now.
            SignatureMismatchError: unknown key or wrong signature; which of them is not said.
        """
        authorization = exchange.header(names.AUTHORIZATION)
        if not authorization:
            raise UnauthorizedError("the request is not signed: an Authorization header is needed")
        claim = parse_authorization(authorization)
        now = self._clock()
        check_date(exchange.header(names.DATE), now, self._allowed_skew)
        check_scope_date(claim, now)
        if not self._verify(claim, exchange):
            raise SignatureMismatchError(
                "the signature does not match: check access id, secret and endpoint"
            )
        application = self._application(exchange, authorization)
        exchange.access_id = claim.access_id
        return Principal(claim.access_id, application)

    def identify_link(self, exchange: Exchange) -> Principal | None:
        """Verifies a signed link to a blob; None if the request is none.

        Raises:
            InvalidParameterError: a signature without access id and expiry.
            SignatureMismatchError: wrong signature, unknown key, or expired.
        """
        claim = parse_link(dict(exchange.query))
        if claim is None or exchange.method not in {"GET", "HEAD"}:
            return None
        secret = self._keys.secret(claim.access_id)
        verify_link(claim, self._nobody if secret is None else secret, exchange.path, self._clock())
        exchange.access_id = claim.access_id
        return Principal(claim.access_id)

    def _verify(self, claim: Claim, exchange: Exchange) -> bool:
        secret = self._keys.secret(claim.access_id)
        matches = verify(
            claim,
            self._nobody if secret is None else secret,
            exchange.method,
            exchange.target,
            exchange.headers,
        )
        return matches and secret is not None

    def _application(self, exchange: Exchange, authorization: str) -> str | None:
        value = exchange.header(names.APPLICATION_AUTHENTICATION)
        if not value:
            return None
        claim = parse_application(value)
        secret = self._keys.secret(claim.access_id)
        matches = verify_application(claim, secret or self._nobody, authorization)
        if secret is None or not matches:
            raise SignatureMismatchError("the application's signature does not match")
        return claim.access_id
