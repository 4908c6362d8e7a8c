"""Who asks: the access id of the request that a thread is working for.

The server sets it where it hands a request to a worker; what is done without a request (a folder
opened in this process, upkeep) has none. Versions of tables record it.
"""

from __future__ import annotations

import contextvars

__all__ = ["access_id", "work_for"]

_access_id: contextvars.ContextVar[str] = contextvars.ContextVar("fletching_access_id", default="")


def access_id() -> str:
    """The access id that the current work is done for; empty if there is none."""
    return _access_id.get()


def work_for(name: str) -> None:
    """What this task or thread does from now on is done for this access id."""
    _access_id.set(name)
