"""Who asks: signatures of requests."""

from __future__ import annotations

import dataclasses

from fletching.errors import UsageError
from fletching.protocol.http import headers as header_names
from fletching.protocol.http.signing import sign

__all__ = ["Credentials", "SessionCredentials"]


@dataclasses.dataclass(frozen=True, slots=True)
class Credentials:
    """An access id and its secret; the secret is never shown.

    Attributes:
        access_id: names the key.
        access_key: the secret; never sent.
        sts_token: goes with a temporary key.
        region: signs for this region (v4); None signs the legacy way.
    """

    access_id: str
    access_key: str = dataclasses.field(repr=False)
    sts_token: str | None = dataclasses.field(default=None, repr=False)
    region: str | None = None

    def __post_init__(self) -> None:
        for name in ("access_id", "access_key", "sts_token", "region"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise UsageError(f"{name} is text, not {type(value).__name__}")
        if not self.access_id or not self.access_key:
            raise UsageError(
                "a service needs access_id and access_key; `fletching serve` prints them"
            )
        for name in ("access_id", "sts_token", "region"):
            value = getattr(self, name) or ""
            # They travel in headers, whose text is ASCII; nothing else could ever verify.
            if not (value.isascii() and value.isprintable()):
                raise UsageError(f"{name} has characters that are not printable ASCII")

    def signed(
        self, method: str, target: str, headers: dict[str, str], now: float
    ) -> dict[str, str]:
        """The headers with what proves who asks.

        Args:
            method: the HTTP method.
            target: path and query as sent.
            headers: everything else that is sent, Date included.
            now: seconds since the epoch.
        """
        if self.sts_token is not None:
            headers = {**headers, header_names.STS_TOKEN: self.sts_token}
        authorization = sign(
            method,
            target,
            headers,
            access_id=self.access_id,
            secret=self.access_key,
            region=self.region,
            now=now,
        )
        return {**headers, header_names.AUTHORIZATION: authorization}


@dataclasses.dataclass(frozen=True, slots=True)
class SessionCredentials:
    """What reads one session, in place of a key: a token of the service's that ends with the session.

    Attributes:
        token: sent with each request; not shown.
    """

    token: str = dataclasses.field(repr=False)

    def signed(
        self,
        method: str,  # noqa: ARG002  # as `Credentials.signed`
        target: str,  # noqa: ARG002
        headers: dict[str, str],
        now: float,  # noqa: ARG002
    ) -> dict[str, str]:
        """The headers with the token; the rest of the request is not looked at."""
        return {**headers, header_names.BEARER_TOKEN: self.token}
