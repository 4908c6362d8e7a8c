"""Who asks: the access id of the request that a thread is working for, and the request's own id.

The server sets them where it begins a request, and they follow it into the threads that work for it;
what is done without a request (a folder opened in this process, upkeep) has none. Versions of tables
record who asked; lines of the log bear both, and the trace that the request is part of.
"""

from __future__ import annotations

import contextvars

__all__ = ["access_id", "begin_request", "request_id", "trace_id", "work_for"]

_access_id: contextvars.ContextVar[str] = contextvars.ContextVar("fletching_access_id", default="")
_request_id: contextvars.ContextVar[str] = contextvars.ContextVar(
    "fletching_request_id", default=""
)
_trace_id: contextvars.ContextVar[str] = contextvars.ContextVar("fletching_trace_id", default="")


def access_id() -> str:
    """The access id that the current work is done for; empty if there is none."""
    return _access_id.get()


def work_for(name: str) -> None:
    """What this task or thread does from now on is done for this access id."""
    _access_id.set(name)


def request_id() -> str:
    """The request that the current work is done for; empty if there is none."""
    return _request_id.get()


def trace_id() -> str:
    """The trace that the current work is part of; empty if there is none."""
    return _trace_id.get()


def begin_request(request: str, trace: str = "") -> None:
    """What this task or thread does from now on is done for this request, and nobody known yet."""
    _request_id.set(request)
    _trace_id.set(trace)
    _access_id.set("")
