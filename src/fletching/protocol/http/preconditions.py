"""Conditional requests (RFC 9110, 13): what the client has already, and what it wants left alone.

What is served here has strong entity tags and no date of a change, so that the fields with dates say
nothing (13.1.3, 13.1.4). Whatever is no list of tags matches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from fletching.errors import PreconditionFailedError

__all__ = ["check_unconditional", "is_not_modified", "range_holds"]

_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\U0010ffff]*")')
_LIST = re.compile(rf"[ \t,]*(?:{_TAG.pattern}[ \t]*(?:,[ \t,]*|\Z))*")

Header = Callable[[str], str]
"""The value of a field by its lower-case name, of repeated ones all with commas between; or nothing."""


def is_not_modified(header: Header, tag: str) -> bool:
    """Whether a GET or HEAD is answered with 304: the client has what has this tag.

    Raises:
        PreconditionFailedError: it wanted something else than there is.
    """
    wanted, known = header("if-match"), header("if-none-match")
    if wanted and wanted.strip() != "*" and tag not in _tags(wanted, weak=False):
        raise PreconditionFailedError(f"If-Match names none that is there: the tag is {tag}")
    return known.strip() == "*" or tag in _tags(known, weak=True)


def range_holds(header: Header, tag: str) -> bool:
    """Whether a Range counts: without If-Range always, else only of what the client has a part of."""
    return header("if-range").strip() in {"", tag}


def check_unconditional(header: Header) -> None:
    """Refuses a request that changes something on a condition that is not looked at where it changes.

    Raises:
        PreconditionFailedError: it has such a condition.
    """
    if header("if-match").strip() not in {"", "*"} or header("if-none-match"):
        raise PreconditionFailedError("conditions are not taken here; if_version= is")


def _tags(text: str, *, weak: bool) -> set[str]:
    """The tags of a list, without their marks of weakness; ``weak`` says whether such ones count."""
    if not _LIST.fullmatch(text):
        return set()
    return {match[2] for match in _TAG.finditer(text) if weak or not match[1]}
