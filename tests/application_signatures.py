"""What an application adds to a signed request: a second signature, over the first one's header."""

from __future__ import annotations

import base64
import hashlib
import hmac

__all__ = ["signed_by_application"]


def signed_by_application(authorization: str, *, access_id: str, secret: str) -> str:
    """The ``application-authentication`` value, as PyODPS makes it."""
    digest = hmac.new(secret.encode(), authorization.encode(), hashlib.sha1).digest()
    return (
        "account_provider:aliyun,signature_method:hmac-sha1,"
        f"access_id:{access_id},signature:{base64.b64encode(digest).decode()}"
    )
