"""A verified caller: what identifying a request comes to."""

from __future__ import annotations

import dataclasses

from fletching.engine.access.bearer_tokens import ReadScope
from fletching.engine.access.permissions import AccessKey

__all__ = ["Principal"]


@dataclasses.dataclass(frozen=True, slots=True)
class Principal:
    """A verified caller."""

    access_id: str
    key: AccessKey | None = dataclasses.field(default=None, compare=False, repr=False)
    """The caller's key; None for an anonymous caller."""
    instance: tuple[str, str] | None = None
    """(Project, id) of the one instance that the caller's token lets him look at, if it is for one."""
    reading: ReadScope | None = None
    """The session or table that the caller's token lets him read, if it is for reading."""

    token_expires_at: int | None = None
    """When the token ends that the caller came with, in seconds since the epoch; None without one."""

    @property
    def limited(self) -> bool:
        """Whether the caller may do less than his key, by the token that he came with."""
        return self.instance is not None or self.reading is not None
