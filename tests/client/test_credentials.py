"""What proves who asks: never shown, and refused where it could never verify."""

from __future__ import annotations

import pickle

import pytest

from fletching.client.credentials import Credentials, SessionCredentials
from fletching.errors import UsageError


def test_secrets_are_never_shown() -> None:
    shown = repr(Credentials("id", "secret", "token")) + repr(SessionCredentials("token"))
    assert "secret" not in shown
    assert "token" not in shown
    assert pickle.loads(pickle.dumps(Credentials("id", "secret"))) == Credentials("id", "secret")


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (("", "secret"), "access_id and access_key"),
        (("id", ""), "access_id and access_key"),
        ((("id", "secret"), "secret"), "access_id is text, not tuple"),
        (("id", b"secret"), "access_key is text, not bytes"),
        (("id\n", "secret"), "access_id has characters"),
        (("idé", "secret"), "access_id has characters"),
        (("id", "secret", "a\x7fb"), "sts_token has characters"),
        (("id", "secret", None, "eu\r\nx"), "region has characters"),
    ],
)
def test_half_a_key_is_refused(values: tuple[object, ...], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Credentials(*values)  # type: ignore[arg-type]


def test_what_is_signed_changes_the_signature() -> None:
    headers = {"Date": "Thu, 01 Jan 2026 00:00:00 GMT"}
    key = Credentials("id", "secret")
    signed = key.signed("GET", "/a?b=c", headers, 0.0)
    assert signed == key.signed("GET", "/a?b=c", headers, 0.0)
    assert signed["Date"] == headers["Date"]
    for other in (
        key.signed("PUT", "/a?b=c", headers, 0.0),
        key.signed("GET", "/a?b=d", headers, 0.0),
        Credentials("id", "other").signed("GET", "/a?b=c", headers, 0.0),
        Credentials("id", "secret", region="eu").signed("GET", "/a?b=c", headers, 0.0),
    ):
        assert other["authorization"] != signed["authorization"]
    assert "secret" not in str(signed)


def test_tokens_travel_beside_what_is_signed() -> None:
    signed = Credentials("id", "secret", "sts").signed("GET", "/", {"Date": "x"}, 0.0)
    assert "sts" in signed.values()
    asked = SessionCredentials("token").signed("GET", "/", {"Date": "x"}, 0.0)
    assert "token" in asked.values()
    assert "authorization" not in asked
