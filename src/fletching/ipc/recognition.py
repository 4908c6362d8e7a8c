"""What bytes look like that are not the Arrow data they were taken for, so that errors can say so."""

from __future__ import annotations

from typing import Final

from fletching.errors import MalformedFrameError, WireError

__all__ = ["HEAD_BYTES", "looks_like", "recognized"]

HEAD_BYTES: Final = 64
"""How much of the start of an input is looked at."""

# First bytes, what has them, and what to do instead; sources: each format's specification.
_SIGNATURES: Final = (
    (b"ARROW1", "an Arrow IPC file", "open_file reads it"),
    (b"PAR1", "a Parquet file", "pyarrow.parquet reads it"),
    (b"PARE", "an encrypted Parquet file", "pyarrow.parquet reads it"),
    (b"FEA1", "a Feather V1 file", "pyarrow.feather reads it"),
    (b"ORC", "an ORC file", "pyarrow.orc reads it"),
    (b"Obj\x01", "an Avro file", None),
    (b"\x1f\x8b", "gzip-compressed data", "decompress it first"),
    (b"\x28\xb5\x2f\xfd", "Zstandard-compressed data", "decompress it first"),
    (b"\x04\x22\x4d\x18", "an LZ4 frame", "decompress it first"),
    (b"BZh", "bzip2-compressed data", "decompress it first"),
    (b"\xfd7zXZ\0", "xz-compressed data", "decompress it first"),
    (b"\xff\x06\0\0sNaPpY", "Snappy-framed data", "decompress it first"),
    (b"PK\x03\x04", "a ZIP archive", "unpack it first"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", None),
    (b"SQLite format 3\0", "an SQLite database", None),
    (b"%PDF-", "a PDF document", None),
    (b"\x93NUMPY", "a NumPy array", "numpy.load reads it"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image", None),
    (b"\xff\xd8\xff", "a JPEG image", None),
    # Behind a byte order mark: as a length, it would be an odd one, which no writer writes.
    (b"\xff\xfe", "UTF-16 text", "make it UTF-8 first"),
    (b"\xfe\xff", "UTF-16 text", "make it UTF-8 first"),
)
_TEXT: Final = frozenset(range(0x20, 0x7F)) | frozenset(b"\t\r\n")


def looks_like(head: bytes) -> str | None:
    """What data that starts with these bytes looks like, with what reads it; None if nothing is known.

    Args:
        head: the first bytes, up to `HEAD_BYTES` of them; fewer recognise less.
    """
    for signature, name, advice in _SIGNATURES:
        # Four bytes are enough: a receiver may have no more when it finds that they are no length.
        if head.startswith(signature) or (len(head) >= 4 and signature.startswith(head)):
            return name if advice is None else f"{name} ({advice})"
    head = head[:HEAD_BYTES]
    text = head.removeprefix(b"\xef\xbb\xbf")
    if len(head) < 4 or not _is_text(text):
        return None
    start = text.lstrip()[:1]
    if start in (b"{", b"["):
        return "JSON text (pyarrow.json reads it)"
    if start == b"<":
        return "XML or HTML text"
    line = text.splitlines()[0] if text else b""
    if any(separator in line for separator in (b",", b";", b"\t", b"|")):
        return "CSV text (pyarrow.csv reads it)"
    return "text"


def _is_text(head: bytes) -> bool:
    if _TEXT.issuperset(head):
        return True
    try:
        decoded = head[: len(head) - 3].decode()  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return decoded.isprintable() or all(c.isprintable() or c in "\t\r\n" for c in decoded)


def recognized(error: WireError, head: bytes) -> WireError:
    """The error to raise for an input that could not be read from its first byte on.

    Args:
        error: what reading it gave.
        head: the input's first bytes.

    Returns:
        An error that says what the input looks like, or the same error if nothing is known.
    """
    name = looks_like(head)
    if name is None:
        return error
    return MalformedFrameError(
        f"this is not an Arrow IPC stream: it looks like {name}",
        layer=error.layer,
        offset=error.offset,
        expected=error.expected,
        actual=error.actual,
    )
