"""Request ids: what a reply and the log share, so that an operator finds one by the other."""

from __future__ import annotations

import itertools
import secrets

__all__ = ["new_request_id"]

# 64 random bits per process and a counter: unique without a system call per request.
_PROCESS = secrets.token_hex(8)
_counter = itertools.count(1)


def new_request_id() -> str:
    """Returns an id no other request has, on any server: 16 hex digits, a dash, a number."""
    return f"{_PROCESS}-{next(_counter):08x}"
