"""Who asks: signatures of requests (PROTOCOL 7)."""

from __future__ import annotations

import dataclasses

from fletching.errors import UsageError

__all__ = ["Credentials"]


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
        """Refuses half a key."""
        if not self.access_id or not self.access_key:
            raise UsageError(
                "a service needs access_id and access_key; `fletching serve` prints them"
            )
