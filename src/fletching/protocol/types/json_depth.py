"""How deep JSON nests, found without a parser: how deep one of those goes by itself depends on the interpreter."""

from __future__ import annotations

__all__ = ["json_depth"]

_NO_MARKS = bytes(set(range(256)) - set(b'[]{}"'))
# One level down is the byte 1, one up is -1.
_STEPS = bytes.maketrans(b'[{]}"', b"\x01\x01\xff\xff\x00")


def json_depth(data: bytes, enough: int) -> int:
    """How deep the deepest brackets are; 0 if there are too few to nest deeper than ``enough``.

    Whether it is JSON at all is not looked at; of what is none it is the depth that a parser comes to, or more.
    """
    if data.count(b"[") + data.count(b"{") <= enough:
        return 0
    import numpy as np

    if b"\\" in data:
        # A quote inside of a text is escaped, and an escaped backslash escapes none.
        data = data.replace(rb"\\", b"").replace(rb"\"", b"")
    marks = data.translate(None, _NO_MARKS)
    steps = np.frombuffer(marks.translate(_STEPS), np.int8)
    # Counted in a byte quotes are even or odd as before.
    quotes = np.cumsum((np.frombuffer(marks, np.uint8) == ord('"')).view(np.uint8), dtype=np.uint8)
    steps = steps * (1 - (quotes & 1).view(np.int8))
    return int(np.cumsum(steps.astype(np.int32)).max(initial=0))
