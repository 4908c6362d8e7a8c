from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
from email.utils import formatdate
from typing import Any

import pytest
from tests.application_signatures import signed_by_application
from tests.server.asgi_exchanges import exchange_of

from fletching.engine.access.bearer_tokens import BearerClaim
from fletching.engine.access.permissions import AccessKey
from fletching.errors import (
    RequestTimeTooSkewedError,
    ServiceError,
    SignatureMismatchError,
    ThrottledError,
    UnauthorizedError,
)
from fletching.protocol.http.blob_links import signed_link
from fletching.protocol.http.signing import sign
from fletching.server.auth.authentication import MAX_FAILING_PAIRS, Authenticator, FailureLimiter
from fletching.server.auth.key_ring import KeyRing
from fletching.server.auth.principal import Principal
from fletching.server.http.exchange import Exchange
from fletching.server.server_settings import ServerSettings

NOBODY: Any = None  # no byte is received or sent

NOW = 1_800_000_000.0
PATH = "/api/storage/v2"
QUERY = "Action=TableRead&Target=projects.p.tables.t&SessionId=a+b%2Fc"


@dataclasses.dataclass
class Signed:
    """A request with everything that a signature may cover."""

    method: str = "POST"
    target: str = f"{PATH}?{QUERY}"
    date: float = NOW
    access_id: str = "id"
    secret: str = "k3y-of-id"
    region: str | None = None
    endpoint: str = ""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    drop: tuple[str, ...] = ()

    def exchange(self) -> Exchange:
        headers = {
            "date": formatdate(self.date, usegmt=True),
            "content-type": "application/json",
            "x-odps-user-agent": "test é",
            **self.headers,
        }
        headers.setdefault(
            "authorization",
            sign(
                self.method,
                self.target[len(self.endpoint) :],
                headers,
                access_id=self.access_id,
                secret=self.secret,
                region=self.region,
                now=self.date,
            ),
        )
        path, _, query = self.target.partition("?")
        scope: dict[str, Any] = {
            "type": "http",
            "method": self.method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [
                (name.encode(), value.encode())
                for name, value in headers.items()
                if name not in self.drop
            ],
        }
        return exchange_of(scope, NOBODY, NOBODY, "request", ServerSettings())


def authenticator() -> Authenticator:
    keys = [AccessKey("id", "id", "k3y-of-id"), AccessKey("app", "app", "app-secret")]
    return Authenticator(Ring(*keys), 900.0, lambda: NOW)


@pytest.mark.parametrize(
    "signed",
    [
        Signed(),
        Signed(method="GET", target=PATH),
        Signed(region="cn-test"),
        Signed(target="/api/projects/p", endpoint="/api"),
        Signed(date=NOW - 899),
        Signed(date=NOW + 899),
    ],
    ids=repr,
)
def test_a_good_signature_says_who_asks(signed: Signed) -> None:
    exchange = signed.exchange()
    assert authenticator().identify(exchange) == Principal("id")
    assert exchange.access_id == "id"


def test_the_signature_is_the_one_that_the_protocol_describes() -> None:
    lines = [
        "POST",
        "",
        "application/json",
        formatdate(NOW, usegmt=True),
        "x-odps-user-agent:test é",
        f"{PATH}?Action=TableRead&SessionId=a b/c&Target=projects.p.tables.t",
    ]
    digest = hmac.new(b"k3y-of-id", "\n".join(lines).encode(), hashlib.sha1).digest()
    signature = f"ODPS id:{base64.b64encode(digest).decode()}"
    exchange = Signed(headers={"authorization": signature}).exchange()
    assert authenticator().identify(exchange).access_id == "id"


@pytest.mark.parametrize(
    ("signed", "error"),
    [
        (Signed(drop=("authorization",)), UnauthorizedError),
        (Signed(headers={"authorization": "Basic abc"}), UnauthorizedError),
        (Signed(headers={"authorization": "ODPS id"}), UnauthorizedError),
        (Signed(headers={"authorization": "ODPS :x"}), UnauthorizedError),
        (Signed(drop=("date",)), UnauthorizedError),
        (Signed(headers={"date": "yesterday"}), UnauthorizedError),
        (Signed(date=NOW - 901), RequestTimeTooSkewedError),
        (Signed(date=NOW + 901), RequestTimeTooSkewedError),
        (Signed(secret="other"), SignatureMismatchError),
        (Signed(access_id="nobody"), SignatureMismatchError),
        (Signed(endpoint="/other"), SignatureMismatchError),
        (Signed(headers={"authorization": "ODPS id:AAAA"}), SignatureMismatchError),
        (Signed(headers={"authorization": "ODPS id:é"}), SignatureMismatchError),
        (Signed(drop=("x-odps-user-agent",)), SignatureMismatchError),
        (
            Signed(drop=("authorization",), headers={"x-odps-bearer-token": "t"}),
            UnauthorizedError,
        ),
    ],
    ids=repr,
)
def test_everything_else_is_refused_without_its_secrets(
    signed: Signed, error: type[ServiceError]
) -> None:
    exchange = signed.exchange()
    with pytest.raises(error) as caught:
        authenticator().identify(exchange)
    assert exchange.access_id == ""
    assert "k3y-of-id" not in str(caught.value)
    # Words that make clients fall back to another signature version.
    assert "invalid or missing" not in str(caught.value)


def test_an_unknown_key_and_a_wrong_signature_look_the_same() -> None:
    messages = set()
    for signed in (Signed(access_id="nobody"), Signed(secret="other")):
        with pytest.raises(SignatureMismatchError) as caught:
            authenticator().identify(signed.exchange())
        messages.add(caught.value.message)
    assert len(messages) == 1


def test_an_application_signs_as_well() -> None:
    first = Signed().exchange().header("authorization")
    second = signed_by_application(first, access_id="app", secret="app-secret")
    headers = {"authorization": first, "application-authentication": second}
    assert authenticator().identify(Signed(headers=headers).exchange()) == Principal("id")
    for wrong in (
        signed_by_application(first, access_id="app", secret="other"),
        signed_by_application(first, access_id="nobody", secret="app-secret"),
    ):
        headers["application-authentication"] = wrong
        with pytest.raises(SignatureMismatchError):
            authenticator().identify(Signed(headers=headers).exchange())


@pytest.mark.parametrize(
    "change", [{"expires_at": NOW}, {"expires_at": NOW - 1}, {"security_token": "token"}]
)
def test_an_application_whose_key_is_not_good_enough(change: dict[str, Any]) -> None:
    first = Signed().exchange().header("authorization")
    second = signed_by_application(first, access_id="app", secret="app-secret")
    headers = {"authorization": first, "application-authentication": second}
    application = AccessKey("app", "app", "app-secret")
    assert identify(Ring(KEY, application), Signed(headers=headers)) == Principal("id")
    ring = Ring(KEY, dataclasses.replace(application, **change))
    with pytest.raises(SignatureMismatchError, match="application"):
        identify(ring, Signed(headers=headers))


def linked(ring: Ring, *, secret: str = "k3y-of-id", token: str | None = None) -> Principal | None:
    link = signed_link("reference", "id", secret, int(NOW) + 60, token=token)
    path, _, query = link.partition("?")
    scope = {
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [],
        "client": ("10.0.0.1", 1),
    }
    exchange = exchange_of(scope, NOBODY, NOBODY, "request", ServerSettings())
    return Authenticator(ring, 900.0, lambda: NOW).identify_link(exchange)


def test_a_link_opens_while_its_key_does() -> None:
    assert linked(Ring(KEY)) == Principal("id")
    with pytest.raises(UnauthorizedError) as caught:
        linked(Ring(dataclasses.replace(KEY, expires_at=NOW)))
    assert caught.value.code == "AuthenticationRequestExpired"
    with pytest.raises(SignatureMismatchError):
        linked(Ring(KEY), secret="other")
    with pytest.raises(SignatureMismatchError):
        linked(Ring())


def test_a_link_of_a_temporary_key_needs_its_token() -> None:
    ring = Ring(dataclasses.replace(KEY, security_token="token"))
    for wrong in (None, "", "other"):
        with pytest.raises(SignatureMismatchError):
            linked(ring, token=wrong)
    assert linked(ring, token="token") == Principal("id")
    # The token itself is not in the link.
    assert "token" not in signed_link("r", "id", "secret", 1, token="token")


# --- keys of the folder ----------------------------------------------------------------------


class Ring(KeyRing):
    """Keys as a folder may have them; grants are proven elsewhere."""

    def __init__(self, *keys: AccessKey) -> None:
        self.keys = {key.access_id: key for key in keys}

    def find(self, access_id: str) -> AccessKey | None:
        return self.keys.get(access_id)

    def bearer(self, token: str) -> tuple[AccessKey, BearerClaim] | None:
        access_id, _, state = token.partition("/")
        key = self.keys.get(access_id)
        return (
            None
            if key is None or not state
            else (
                key,
                BearerClaim(access_id, 0 if state == "expired" else 1 << 40),
            )
        )


def identify(ring: Ring, signed: Signed, **options: Any) -> Principal:
    return Authenticator(ring, 900.0, lambda: NOW, **options).identify(signed.exchange())


KEY = AccessKey("id", "ann", "k3y-of-id")


def test_an_expired_key_is_told_only_to_whoever_has_it() -> None:
    ring = Ring(dataclasses.replace(KEY, expires_at=NOW))
    with pytest.raises(UnauthorizedError) as caught:
        identify(ring, Signed())
    assert caught.value.code == "AuthenticationRequestExpired"
    with pytest.raises(SignatureMismatchError):
        identify(ring, Signed(secret="other"))
    assert identify(Ring(dataclasses.replace(KEY, expires_at=NOW + 1)), Signed()).key is not None


def test_a_secret_that_somebody_typed() -> None:
    def typed(ring: Ring, access_id: str = "id", secret: str = "k3y-of-id") -> None:
        Authenticator(ring, 900.0, lambda: NOW).check_secret(Signed().exchange(), access_id, secret)

    typed(Ring(KEY))
    for ring, *wrong in (
        (Ring(KEY), "id", "other"),
        (Ring(KEY), "id", ""),
        (Ring(KEY), "nobody", "k3y-of-id"),
        # Nobody types the token of a temporary key.
        (Ring(dataclasses.replace(KEY, security_token="token")), "id", "k3y-of-id"),
        (Ring(dataclasses.replace(KEY, expires_at=NOW)), "id", "k3y-of-id"),
    ):
        with pytest.raises(UnauthorizedError, match="the access id or the secret is wrong"):
            typed(ring, *wrong)


@pytest.mark.parametrize("token", [None, "", "other", "tok"])
def test_a_temporary_key_needs_its_token(token: str | None) -> None:
    ring = Ring(dataclasses.replace(KEY, security_token="token"))
    headers = {} if token is None else {"authorization-sts-token": token}
    with pytest.raises(SignatureMismatchError):
        identify(ring, Signed(headers=headers))
    right = Signed(headers={"authorization-sts-token": "token"})
    assert identify(ring, right) == Principal("id")
    # a key without a token does not mind one
    assert identify(Ring(KEY), right) == Principal("id")


def test_bearer_tokens() -> None:
    def bearer(token: str) -> Signed:
        return Signed(headers={"x-odps-bearer-token": token}, drop=("authorization", "date"))

    assert identify(Ring(KEY), bearer("id/good")) == Principal("id", token_expires_at=1 << 40)
    for token in ("nobody/good", "junk"):
        with pytest.raises(UnauthorizedError) as caught:
            identify(Ring(KEY), bearer(token))
        assert caught.value.code == "Unauthorized"
        assert "invalid or missing" not in caught.value.message
    for ring, token in (
        (Ring(KEY), "id/expired"),
        (Ring(dataclasses.replace(KEY, expires_at=NOW)), "id/good"),
    ):
        with pytest.raises(UnauthorizedError) as caught:
            identify(ring, bearer(token))
        assert caught.value.code == "AuthenticationRequestExpired"


def test_anonymous_only_when_allowed() -> None:
    unsigned = Signed(drop=("authorization",))
    with pytest.raises(UnauthorizedError):
        identify(Ring(KEY), unsigned)
    assert identify(Ring(KEY), unsigned, allow_anonymous=True) == Principal("anonymous")
    # who signs is still verified
    with pytest.raises(SignatureMismatchError):
        identify(Ring(KEY), Signed(secret="other"), allow_anonymous=True)


def test_failures_of_one_client_and_key_are_limited_and_lock_nobody_out() -> None:
    now = [0.0]
    limiter = FailureLimiter(3, 60.0, lambda: now[0])
    verifier = Authenticator(Ring(KEY), 900.0, lambda: NOW, limiter=limiter)

    def guess(expected: type[Exception], access_id: str = "id") -> Exception:
        with pytest.raises(expected) as caught:
            verifier.identify(Signed(access_id=access_id, secret="guess").exchange())
        return caught.value

    for window in (0.0, 60.0, 120.0):  # each begins anew, and is as long as the first
        now[0] = window
        for _ in range(3):
            guess(SignatureMismatchError)
        now[0] = window + 10.0
        refused = guess(ThrottledError)
        assert isinstance(refused, ThrottledError)
        assert refused.retry_after_seconds == 50.0
        # another key of the same client is not affected
        guess(SignatureMismatchError, f"nobody-{window}")
        # and whoever has the key comes in, from the same address, too
        assert verifier.identify(Signed().exchange()) == Principal("id")
        now[0] = window + 59.9
        guess(ThrottledError)


def test_slow_failures_never_add_up() -> None:
    now = [0.0]
    limiter = FailureLimiter(2, 10.0, lambda: now[0])
    for _ in range(50):
        now[0] += 6.0
        limiter.failed(("a", "b"))


def test_the_limiter_remembers_a_bounded_number_of_clients() -> None:
    limiter = FailureLimiter(1, 60.0, lambda: 0.0)
    for number in range(MAX_FAILING_PAIRS + 10):
        limiter.failed((str(number), "id"))
    assert len(limiter._failures) == MAX_FAILING_PAIRS
    limiter.failed(("0", "id"))
    with pytest.raises(ThrottledError):
        limiter.failed((str(MAX_FAILING_PAIRS), "id"))
