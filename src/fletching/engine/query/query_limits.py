"""What one query may use."""

from __future__ import annotations

import dataclasses

__all__ = ["QueryLimits"]


@dataclasses.dataclass(frozen=True, slots=True)
class QueryLimits:
    """What one query may use.

    Attributes:
        memory_bytes: memory of its sorts, joins and aggregates; what is more is spilled.
        threads: how many threads it computes with.
        spill_bytes: most bytes in the spill folder.
        seconds: how long it may run.
    """

    memory_bytes: int = 1 << 30
    threads: int = 2
    spill_bytes: int = 16 << 30
    seconds: float = 3600.0
