"""Who asks: the signature that every request but health carries.

The schemes are those of docs/conformance.md, "Authentication".
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable

from fletching.engine.access.permissions import AccessKey
from fletching.errors import SignatureMismatchError, ThrottledError, UnauthorizedError
from fletching.protocol.http import headers as header_names
from fletching.protocol.http.blob_links import LinkClaim, parse_link, verify_link
from fletching.protocol.http.signing import (
    Claim,
    check_date,
    check_scope_date,
    parse_application,
    parse_authorization,
    verify,
    verify_application,
)
from fletching.server.auth.key_ring import KeyRing
from fletching.server.auth.principal import Principal
from fletching.server.http.exchange import Exchange

__all__ = ["Authenticator", "FailureLimiter"]

MAX_FAILING_PAIRS = 10_000
"""Pairs of client address and access id whose failures are remembered."""


class FailureLimiter:
    """Counts failures to prove an identity, by client address and access id, in fixed windows.

    Above the limit a failure is answered with a request to wait. It never stands in the way of who can
    prove the identity: another at the same address, as behind a proxy, must not be able to lock it out.
    """

    def __init__(
        self, most: int, window_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._window = window_seconds
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def failed(self, who: tuple[str, str]) -> None:
        """Counts a failure; the pairs that failed longest ago are forgotten first.

        Raises:
            ThrottledError: it is one too many of this window; with the seconds until it ends.
        """
        now = self._clock()
        started, count = self._failures.pop(who, (now, 0))
        if now - started >= self._window:
            started, count = now, 0
        self._failures[who] = (started, count + 1)
        while len(self._failures) > MAX_FAILING_PAIRS:
            self._failures.popitem(last=False)
        if count >= self._most:
            raise ThrottledError(
                "too many requests of this client could not be verified",
                retry_after_seconds=started + self._window - now,
            )


class Authenticator:
    """Verifies who asks, against a key ring. Does not block; used on the event loop."""

    def __init__(
        self,
        keys: KeyRing,
        allowed_skew_seconds: float,
        clock: Callable[[], float] = time.time,
        *,
        limiter: FailureLimiter | None = None,
        allow_anonymous: bool = False,
    ) -> None:
        self._keys = keys
        self._allowed_skew = allowed_skew_seconds
        self._clock = clock
        self._limiter = limiter or FailureLimiter(20, 60.0)
        self._allow_anonymous = allow_anonymous
        # Checked in place of an unknown id's secret, so that the time taken does not tell which
        # ids exist.
        self._nobody = secrets.token_hex(16)

    def identify(self, exchange: Exchange) -> Principal:
        """Verifies a request and notes its access id for the log.

        Raises:
            UnauthorizedError: no credentials, or none of a known form; a key or token that is
                genuine but has expired (code AuthenticationRequestExpired).
            RequestTimeTooSkewedError: the request's date is too far from now.
            SignatureMismatchError: unknown key, wrong signature, wrong token; which is not said.
            ThrottledError: not verified, and this client has failed too often with this access id.
        """
        authorization = exchange.header(header_names.AUTHORIZATION)
        token = exchange.header(header_names.BEARER_TOKEN)
        address = exchange.peer.rpartition(":")[0]
        if authorization[:7].lower() == "bearer ":
            # How plain HTTP sends a token (RFC 6750).
            authorization, token = "", authorization[7:].strip()
        if not authorization and token:
            # Tokens are not guessable one by one, so all of a client's failures count together.
            return self._counted((address, ""), lambda: self._bearer(exchange, token))
        if not authorization:
            if self._allow_anonymous:
                return Principal("anonymous")
            raise UnauthorizedError("the request is not signed: an Authorization header is needed")
        claim = parse_authorization(authorization)
        now = self._clock()
        check_date(exchange.header(header_names.DATE), now, self._allowed_skew)
        check_scope_date(claim, now)
        who = (address, claim.access_id[:128])
        return self._counted(who, lambda: self._signed(exchange, claim, authorization, now))

    def identify_token(self, exchange: Exchange, token: str) -> Principal:
        """Verifies a bearer token that came in another way than a header.

        Raises:
            UnauthorizedError: it is not genuine, or has expired.
            ThrottledError: this client has failed too often.
        """
        address = exchange.peer.rpartition(":")[0]
        return self._counted((address, ""), lambda: self._bearer(exchange, token))

    def check_secret(self, exchange: Exchange, access_id: str, secret: str) -> None:
        """Verifies a secret that somebody typed.

        Raises:
            UnauthorizedError: unknown id or wrong secret, which is not said; also a temporary key,
                whose token nobody types.
            ThrottledError: this client has failed too often with this access id.
        """
        address = exchange.peer.rpartition(":")[0]

        def verified() -> Principal:
            key = self._keys.find(access_id)
            expected = self._nobody if key is None else key.secret
            same = hmac.compare_digest(expected.encode(), secret.encode("utf-8", "replace"))
            usable = key is not None and key.security_token is None
            if key is None or not (same and usable) or key.expired(self._clock()):
                raise UnauthorizedError("the access id or the secret is wrong")
            return Principal(access_id, key=key)

        self._counted((address, access_id[:128]), verified)

    def _counted(self, who: tuple[str, str], verified: Callable[[], Principal]) -> Principal:
        try:
            return verified()
        except (SignatureMismatchError, UnauthorizedError):
            self._limiter.failed(who)
            raise

    def _bearer(self, exchange: Exchange, token: str) -> Principal:
        result = self._keys.bearer(token)
        if result is None:
            raise UnauthorizedError("the bearer token does not verify")
        key, claim = result
        now = self._clock()
        if claim.expired(now) and claim.reading is not None:
            raise UnauthorizedError(
                f"the token for reading {claim.reading} has expired: refresh the session, or plan the "
                "read anew, where the key is, and hand out its parts again",
                code="AuthenticationRequestExpired",
            )
        if claim.expired(now) or key.expired(now):
            raise _expired()
        exchange.access_id = key.access_id
        return Principal(
            key.access_id,
            key=key,
            instance=claim.instance,
            reading=claim.reading,
            token_expires_at=claim.expires_at,
        )

    def _signed(
        self, exchange: Exchange, claim: Claim, authorization: str, now: float
    ) -> Principal:
        key = self._verify(claim, exchange)
        if key is None:
            raise SignatureMismatchError(
                "the signature does not match: check access id, secret and endpoint"
            )
        if key.expired(now):
            raise _expired()
        self._check_application(exchange, authorization)
        exchange.access_id = claim.access_id
        return Principal(claim.access_id, key)

    def identify_link(self, exchange: Exchange) -> Principal | None:
        """Verifies a signed link to a blob; None if the request is none.

        Raises:
            InvalidParameterError: a signature without access id and expiry.
            SignatureMismatchError: wrong signature, unknown key, or expired.
        """
        claim = parse_link(dict(exchange.query))
        if claim is None or exchange.verb != "GET":
            return None
        who = (exchange.peer.rpartition(":")[0], claim.access_id[:128])
        return self._counted(who, lambda: self._linked(exchange, claim))

    def _linked(self, exchange: Exchange, claim: LinkClaim) -> Principal:
        key = self._keys.find(claim.access_id)
        secret = self._nobody if key is None else key.secret
        token = None if key is None else key.security_token
        verify_link(claim, secret, exchange.path, self._clock(), token=token)
        if key is None:  # nobody's secret signed it: cannot be
            raise SignatureMismatchError("the link's signature does not match")
        if key.expired(self._clock()):
            raise _expired()
        exchange.access_id = claim.access_id
        return Principal(claim.access_id, key=key)

    def _verify(self, claim: Claim, exchange: Exchange) -> AccessKey | None:
        key = self._keys.find(claim.access_id)
        matches = verify(
            claim,
            self._nobody if key is None else key.secret,
            exchange.method,
            exchange.target,
            exchange.headers,
        )
        if key is not None and key.security_token is not None:
            received = exchange.header(header_names.STS_TOKEN).encode("utf-8", "surrogateescape")
            matches &= hmac.compare_digest(key.security_token.encode(), received)
        return key if matches else None

    def _check_application(self, exchange: Exchange, authorization: str) -> None:
        value = exchange.header(header_names.APPLICATION_AUTHENTICATION)
        if not value:
            return
        claim = parse_application(value)
        key = self._keys.find(claim.access_id)
        secret = self._nobody if key is None else key.secret
        matches = verify_application(claim, secret, authorization)
        # A temporary key's secret proves nothing without its token, and there is no place for one here.
        unusable = key is None or key.security_token is not None or key.expired(self._clock())
        if unusable or not matches:
            raise SignatureMismatchError("the application's signature does not match")


def _expired() -> UnauthorizedError:
    """Said only to whoever proved to have the key or token."""
    return UnauthorizedError(
        "the access key or token has expired", code="AuthenticationRequestExpired"
    )
