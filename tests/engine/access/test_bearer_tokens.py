"""Tokens are genuine until they end, say what they are for, and nobody else can make one."""

from __future__ import annotations

import base64
import hmac

import pytest

from fletching.engine.access.bearer_tokens import BearerClaim, BearerTokens, ReadScope
from fletching.errors import UsageError
from fletching.types import TableName

TOKENS = BearerTokens(b"k" * 32)
SECRETS = {"id": "s", "xx": "s"}
SESSION = ReadScope(TableName("demo", "plätze, oder so", "s"), "0123abcd", 5000)


def text_of(token: str) -> str:
    return base64.b64decode(token).decode()


def signed(body: str) -> str:
    """A genuine token of any text, as another release might write it."""
    key = hmac.digest(b"k" * 32, b"fletching bearer tokens", "sha256")
    mac = hmac.digest(key, f"{body}\ns".encode(), "sha256").hex()
    return base64.b64encode(f"{body},{mac}".encode()).decode()


def test_they_are_genuine_until_they_end() -> None:
    token = TOKENS.sign("id", "s", 1000.0)
    assert TOKENS.verify(token, SECRETS.get) == BearerClaim("id", 1000)
    assert TOKENS.verify(token, SECRETS.get) == BearerClaim("id", 1000)
    # clients read the expiry there
    assert text_of(token).split(",")[2] == "1000"
    assert text_of(token).rpartition(",")[0] == "fletching,id,1000"


def test_for_one_instance() -> None:
    token = TOKENS.sign("id", "s", 1000.0, ("demo", "2026x"))
    assert TOKENS.verify(token, SECRETS.get) == BearerClaim("id", 1000, instance=("demo", "2026x"))
    assert text_of(token).split(",")[2] == "1000"
    for scope in (("", "i"), ("p", ""), ("p,q", "i"), ("p", "i\n")):
        with pytest.raises(UsageError):
            TOKENS.sign("id", "s", 1000.0, scope)


def test_for_one_session() -> None:
    token = TOKENS.sign("id", "s", 1000.0, reading=SESSION)
    assert TOKENS.verify(token, SECRETS.get) == BearerClaim("id", 1000, reading=SESSION)
    assert TOKENS.verify(token, SECRETS.get) == BearerClaim("id", 1000, reading=SESSION)
    assert text_of(token).split(",")[2] == "1000"
    # An instance that has the tag's name is an instance still.
    other = TOKENS.sign("id", "s", 1000.0, ("read", "5000"))
    assert TOKENS.verify(other, SECRETS.get) == BearerClaim("id", 1000, instance=("read", "5000"))
    with pytest.raises(UsageError):
        TOKENS.sign("id", "s", 1000.0, ("p", "i"), SESSION)


@pytest.mark.parametrize("token", ["", "x", "ä", base64.b64encode(b"a,b,c,d").decode()])
def test_others_are_not_genuine(token: str) -> None:
    assert TOKENS.verify(token, SECRETS.get) is None


@pytest.mark.parametrize("session", [None, SESSION])
def test_a_changed_one_is_not_genuine(session: ReadScope | None) -> None:
    text = text_of(TOKENS.sign("id", "s", 1000.0, reading=session))
    for changed in (text.replace("1000", "9999"), text.replace("id", "xx"), text[:-1] + "!"):
        assert TOKENS.verify(base64.b64encode(changed.encode()).decode(), SECRETS.get) is None
    # A scope cannot be cut off.
    cut = ",".join([*text.split(",")[:3], text.rpartition(",")[2]])
    expected = BearerClaim("id", 1000) if session is None else None
    assert TOKENS.verify(base64.b64encode(cut.encode()).decode(), SECRETS.get) == expected
    other = BearerTokens(b"y" * 32)
    assert other.verify(TOKENS.sign("id", "s", 1000.0), SECRETS.get) is None


def test_scopes_of_later_releases_open_nothing() -> None:
    assert TOKENS.verify(signed("fletching,id,1000"), SECRETS.get) == BearerClaim("id", 1000)
    for scope in ("one", "write,5000,x,v1", "read,5000,x,v2", "a,b,c", "a,b,c,d,e"):
        assert TOKENS.verify(signed(f"fletching,id,1000,{scope}"), SECRETS.get) is None
