"""A lease that is held while a block of work runs, and renewed for as long as that takes."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
from collections.abc import Iterator

from sqlalchemy import Connection

from fletching.catalog.leases import (
    acquire_lease,
    holds_lease,
    release_lease,
    release_leases_of,
    renew_lease,
)
from fletching.engine.context import EngineContext
from fletching.engine.presence import BEAT_SECONDS, DEAD_SECONDS
from fletching.errors import ConflictError, FletchingError

__all__ = ["LEASE_SECONDS", "HeldLease", "hold_lease"]

LEASE_SECONDS = DEAD_SECONDS
"""How long after its death a holder keeps others from the work, where nothing else tells of it."""
RENEW_SECONDS = BEAT_SECONDS

_LOG = logging.getLogger("fletching.engine.upkeep.held_lease")


class HeldLease:
    """What the work asks of its lease."""

    def __init__(self, context: EngineContext, name: str, number: int) -> None:
        self._context = context
        self._name = name
        self._number = number
        self._stop = threading.Event()

    def check(self, connection: Connection) -> None:
        """Refuses to go on with work that somebody else has taken over.

        Call it in each transaction of the work; until that ends, nobody else gets the lease.

        Raises:
            ConflictError: the lease has passed on.
        """
        if not holds_lease(connection, self._name, self._number):
            raise ConflictError(f"the lease of {self._name} has passed to another process")

    def renew(self) -> None:
        """Extends the lease; a failure shows in ``check``."""
        context = self._context
        try:
            with context.database.write(durable=False) as connection:
                renew_lease(
                    connection,
                    self._name,
                    self._number,
                    now=context.clock(),
                    seconds=LEASE_SECONDS,
                )
        except FletchingError as error:
            _LOG.warning("the lease of %s could not be renewed: %s", self._name, error)

    def keep(self) -> None:
        """Renews until ``stop``; runs in a thread of its own."""
        while not self._stop.wait(RENEW_SECONDS):
            self.renew()

    def stop(self) -> None:
        """Ends ``keep``."""
        self._stop.set()


@contextlib.contextmanager
def hold_lease(context: EngineContext, name: str) -> Iterator[HeldLease | None]:
    """Holds a lease for the block, or gives None if another process has it.

    A holder that the store knows to be dead does not count.
    """
    # Two threads of one process are two holders, and both go with it.
    holder = f"{context.store.writer}/{secrets.token_hex(4)}"
    # Asked for outside the transaction: it looks at the store.
    dead = context.store.dead_writers()
    with context.database.write() as connection:
        if dead:
            release_leases_of(connection, dead)
        number = acquire_lease(connection, name, holder, now=context.clock(), seconds=LEASE_SECONDS)
    if number is None:
        yield None
        return
    held = HeldLease(context, name, number)
    thread = threading.Thread(target=held.keep, name=f"fletching-lease-{name}", daemon=True)
    thread.start()
    try:
        yield held
    finally:
        held.stop()
        thread.join()
        try:
            with context.database.write() as connection:
                release_lease(connection, name, holder)
        except FletchingError as error:
            # The work is done, or failed for a reason of its own; the lease ends by itself.
            _LOG.warning("the lease of %s could not be given back: %s", name, error)
