"""Whether this server can serve: each part that every request needs is asked, and is named if it fails.

Balancers ask again and again, and a part that hangs must not take one worker per question. So one look
runs at a time, and everybody who asks meanwhile shares it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fletching.errors import FletchingError, IdentityError, ServiceUnavailableError

__all__ = ["Readiness"]

LOOK_SECONDS = 5.0
"""A part that has not answered for so long does not."""

Run = Callable[[Callable[[], str]], Awaitable[str]]
"""Runs a function in a worker, to be awaited."""


class Readiness:
    """Looks at the parts of a server. For the event loop."""

    def __init__(self, parts: tuple[tuple[str, Callable[[], object]], ...], run: Run) -> None:
        """Looks at nothing yet.

        Args:
            parts: what is asked, in this order, and what each is called; a part fails by raising.
            run: the worker that asks; looks block.
        """
        self._parts = parts
        self._run = run
        self._look: asyncio.Future[str] | None = None
        self._asking = parts[0][0] if parts else ""

    def _ask(self) -> str:
        """Runs in a worker: empty, or what is wrong with the first part that fails."""
        for name, check in self._parts:
            self._asking = name
            try:
                check()
            except IdentityError:
                return f"{name} is not the one that was opened"
            except FletchingError:
                return f"{name} does not answer"
        return ""

    async def check(self) -> None:
        """Returns if every part answers.

        Raises:
            ServiceUnavailableError: one does not; the message names it, and nothing of its insides.
        """
        if self._look is None:
            self._look = asyncio.ensure_future(self._run(self._ask))
            self._look.add_done_callback(self._ended)
        look = self._look
        done, _ = await asyncio.wait({look}, timeout=LOOK_SECONDS)
        if not done:
            self._tell(f"{self._asking} does not answer")
        self._tell(look.result())

    def _ended(self, look: asyncio.Future[str]) -> None:
        if self._look is look:
            self._look = None

    @staticmethod
    def _tell(wrong: str) -> None:
        if wrong:
            raise ServiceUnavailableError(wrong)
