"""Waiting in tests for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_SECONDS = 600.0
"""How long that may take: a machine may have much else to do."""


def until(
    condition: Callable[[], object], seconds: float = PATIENCE_SECONDS, *, pause: float = 0.01
) -> None:
    """Waits until a condition holds; fails if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"nothing came of it in {seconds:.0f} s"
        time.sleep(pause)
