from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
from email.utils import formatdate
from typing import Any

import pytest

from fletching.errors import (
    RequestTimeTooSkewedError,
    ServiceError,
    SignatureMismatchError,
    UnauthorizedError,
)
from fletching.protocol.signing import sign, sign_application
from fletching.server.auth import Authenticator, Principal
from fletching.server.exchange import Exchange
from fletching.server.keys import StaticKeys
from fletching.server.settings import ServerSettings

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
        return Exchange(scope, None, None, "request", ServerSettings())


def authenticator() -> Authenticator:
    return Authenticator(StaticKeys({"id": "k3y-of-id", "app": "app-secret"}), 900.0, lambda: NOW)


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
    # Words that make clients fall back to another signature version (PROTOCOL 6).
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
    second = sign_application(first, access_id="app", secret="app-secret")
    headers = {"authorization": first, "application-authentication": second}
    assert authenticator().identify(Signed(headers=headers).exchange()) == Principal("id", "app")
    for wrong in (
        sign_application(first, access_id="app", secret="other"),
        sign_application(first, access_id="nobody", secret="app-secret"),
    ):
        headers["application-authentication"] = wrong
        with pytest.raises(SignatureMismatchError):
            authenticator().identify(Signed(headers=headers).exchange())
