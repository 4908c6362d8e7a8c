"""Texts of JSON columns: whether each is one JSON value (RFC 8259), looked at many at once.

A value may be of any kind, scalars included, with blanks around it. Keys may come twice and numbers have any
size, since the text itself is what is stored. No JSON are the empty text, NaN and infinities, comments, a byte
order mark, and half of a surrogate pair, which UTF-8 has no bytes for.

Many texts go to a parser in one call, each in brackets of its own and on a line of its own, which take exactly
one value. What closes the brackets opens others (``1] [2``): then there are more values than texts. None can
become fewer, as no string reaches over a line, and what a text leaves open has no place for the next bracket.
"""

from __future__ import annotations

import contextlib
import itertools

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fletching.protocol.types.json_depth import json_depth

__all__ = ["MAX_JSON_VALUE_DEPTH", "json_refusal"]

MAX_JSON_VALUE_DEPTH = 500
"""How deep a value may nest: parsers recurse, and Python's own ends before a thousand."""

_CHUNK_BYTES, _CHUNK_TEXTS = 1 << 20, 1 << 16
"""What is parsed in one call, during which no other thread of Python runs."""

_LINES = msgspec.json.Decoder(tuple[msgspec.Raw])
_ONE = msgspec.json.Decoder(msgspec.Raw)


def json_refusal(texts: pa.Array) -> str:
    """Why one of some texts is no JSON; empty if each is.

    Cost: a small object for each text, by parts, beside looking at its bytes and a copy of them.

    Args:
        texts: of the type string or large_string, without nulls.
    """
    _, offsets, data = texts.buffers()
    width = np.int32 if pa.types.is_string(texts.type) else np.int64
    ends: NDArray[np.int32 | np.int64] = np.frombuffer(offsets, width)
    ends = ends[texts.offset : texts.offset + len(texts) + 1]
    view = memoryview(data or b"")
    start = 0
    while start < len(texts):
        end = int(np.searchsorted(ends, int(ends[start]) + _CHUNK_BYTES, side="right")) - 1
        end = min(max(end, start + 1), start + _CHUNK_TEXTS)
        why = _refusal(texts.slice(start, end - start), ends[start : end + 1], view)
        if why:
            return why
        start = end
    return ""


def _refusal(texts: pa.Array, ends: NDArray[np.int32 | np.int64], data: memoryview) -> str:
    depth = _depth(ends, data)
    if depth > MAX_JSON_VALUE_DEPTH:
        return f"it nests {depth} deep, the limit is {MAX_JSON_VALUE_DEPTH}"
    if len(texts) > 1:
        # A part of small texts has room for offsets of 32 bits.
        lines = pa.ListArray.from_arrays([0, len(texts)], texts.cast(pa.string()))
        joined = pc.binary_join(lines, "]\n[")[0].as_buffer()
        with contextlib.suppress(msgspec.DecodeError, RecursionError):
            if len(_LINES.decode_lines(b"".join((b"[", joined, b"]")))) == len(texts):
                return ""
    # One of them by itself says what is wrong with it.
    each = (_single(data[start:end]) for start, end in itertools.pairwise(ends.tolist()))
    return next(filter(None, each), "")


def _single(text: memoryview) -> str:
    try:
        _ONE.decode(text)
    except RecursionError:
        return f"it nests deeper than {MAX_JSON_VALUE_DEPTH}"
    except msgspec.DecodeError as error:
        return str(error).removeprefix("JSON is malformed: ")
    return ""


def _depth(ends: NDArray[np.int32 | np.int64], data: memoryview) -> int:
    """How deep the deepest nests, if one may nest too deep: it has as many brackets that open, and that close."""
    if int(np.diff(ends).max()) <= 2 * MAX_JSON_VALUE_DEPTH:
        return 0
    letters = np.frombuffer(data, np.uint8)[int(ends[0]) : int(ends[-1])]
    # The bit between them makes a brace of a bracket. An empty text, which has no sum, is no JSON anyway.
    opening = (letters | 0x20) == ord("{")
    starts = np.minimum(ends[:-1] - ends[0], len(letters) - 1)
    many = np.add.reduceat(opening, starts, dtype=np.int64) > MAX_JSON_VALUE_DEPTH
    rich = [data[int(ends[i]) : int(ends[i + 1])] for i in np.flatnonzero(many)]
    return json_depth(b"\n".join(rich), MAX_JSON_VALUE_DEPTH)
