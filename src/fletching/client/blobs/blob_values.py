"""Blobs and references as values: what is put, what is got, what a cell holds."""

from __future__ import annotations

import base64
import dataclasses
import io
import mimetypes
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeAlias

from fletching.client.argument_checks import text_of
from fletching.client.blobs.blob_conversions import encoded
from fletching.errors import UsageError
from fletching.wire.blob_frames import BlobHeader

if TYPE_CHECKING:
    from typing import IO

__all__ = ["Blob", "BlobData", "BlobSource", "content_type_of", "reference_text"]

BlobData: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike[str] | io.IOBase
"""What a blob's contents may be given as: bytes, the path of a file, or an open binary file."""

CHUNK_BYTES = 1 << 20
"""Contents are read and sent by chunks of this size."""

_TEXT = re.compile(rb"[A-Za-z0-9+/_-]+=*")


# Names that are newer than many systems' tables, and what a compressed file is as it is.
_CONTENT_TYPES = {
    ".arrow": "application/vnd.apache.arrow.file",
    ".arrows": "application/vnd.apache.arrow.stream",
    ".jsonl": "application/x-ndjson",
    ".ndjson": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
    ".zst": "application/zstd",
}
_COMPRESSED = {
    "br": "application/x-brotli",
    "bzip2": "application/x-bzip2",
    "compress": "application/x-compress",
    "gzip": "application/gzip",
    "xz": "application/x-xz",
}


def content_type_of(name: str) -> str | None:
    """What a file's name says that its bytes are; None if it says nothing.

    The bytes of ``x.csv.gz`` are gzip, and whoever is told ``text/csv`` reads rubbish.
    """
    result = _CONTENT_TYPES.get(PurePosixPath(name).suffix.lower())
    if result is not None:
        return result
    content_type, encoding = mimetypes.guess_type(name)
    if encoding is not None:
        return _COMPRESSED.get(encoding, "application/octet-stream")
    return content_type


@dataclasses.dataclass(frozen=True, slots=True)
class Blob:
    """A blob's contents with what is known of them.

    For putting, ``data`` may also be the path of a file (a ``str`` or ``Path``) or an open binary
    file; a file gives its name, and by that its content type, where none is given.

    Attributes:
        data: the contents; ``bytes`` of a blob that was got.
        content_type: a media type, e.g. ``image/png``.
        file_name: kept with the blob; it names nothing here.
        reference: where it came from; None before it was put.
    """

    data: Any
    content_type: str | None = None
    file_name: str | None = None
    reference: str | None = None

    @property
    def size(self) -> int:
        """Bytes of contents that are in memory; not ``len``, as an empty blob is something, too."""
        return memoryview(self.data).nbytes

    def __bytes__(self) -> bytes:
        """The contents, if they are in memory."""
        return bytes(self.data)

    def __repr__(self) -> str:
        size = (
            f"{self.size} bytes" if isinstance(self.data, bytes | bytearray | memoryview) else "…"
        )
        about = [self.content_type, self.file_name]
        return f"<Blob {', '.join([size, *(text for text in about if text)])}>"


class BlobSource:
    """The contents of a blob to put, by chunks; again from the start where they can be rewound.

    Attributes:
        length: bytes, or None if only reading tells.
        rewindable: whether they can be iterated more than once.
        header: content type and file name.
    """

    def __init__(
        self, data: Any, *, content_type: str | None = None, file_name: str | None = None
    ) -> None:
        """Looks at the contents, reads nothing.

        Raises:
            UsageError: contents of no known kind, a file that is not there, or a text file.
        """
        if isinstance(data, Blob):
            content_type = content_type or data.content_type
            file_name = file_name or data.file_name
            data = data.data
        for about, value in (("content_type", content_type), ("file_name", file_name)):
            if value is not None:
                text_of(about, value)
        made = encoded(data)
        if made is not None:
            data, content_type = made[0], content_type or made[1]
        self._view: memoryview | None = None
        self._path: Path | None = None
        self._file: Any = None
        self._start = 0
        self.rewindable = True
        self.length: int | None = None
        if isinstance(data, str | os.PathLike):
            self._path = Path(data)
            file_name = file_name or _name_of(self._path)
            try:
                self.length = self._path.stat().st_size
            except (OSError, ValueError) as exc:
                reason = exc.strerror if isinstance(exc, OSError) else exc
                raise UsageError(f"cannot read {str(self._path)!r}: {reason}") from exc
        elif hasattr(data, "read"):
            self._take_file(data)
            name = getattr(data, "name", None)
            if isinstance(name, str):
                file_name = file_name or _name_of(Path(name))
        else:
            try:
                self._view = memoryview(data).cast("B")
            except TypeError as exc:
                raise UsageError(
                    "a blob is bytes, a path, an open binary file, a PIL image or a numpy array, not "
                    f"{type(data).__name__}"
                ) from exc
            self.length = self._view.nbytes
        if content_type is None and file_name is not None:
            content_type = content_type_of(file_name)
        self.header = BlobHeader(content_type=content_type or None, file_name=file_name or None)

    def _take_file(self, file: IO[bytes]) -> None:
        if isinstance(file, io.TextIOBase):
            raise UsageError("a blob's file must be open in binary mode ('rb')")
        self._file = file
        try:
            self._start = file.tell()
            self.length = file.seek(0, os.SEEK_END) - self._start
            file.seek(self._start)
        except (OSError, AttributeError, io.UnsupportedOperation):
            self.rewindable = False

    def chunks(self) -> Iterator[memoryview]:
        """The contents: views of bytes given, fresh memory of what is read from a file.

        Raises:
            UsageError: a file that cannot be read, or that changed its length.
        """
        if self._view is not None:
            for start in range(0, self._view.nbytes, CHUNK_BYTES):
                yield self._view[start : start + CHUNK_BYTES]
        elif self._path is not None:
            try:
                with self._path.open("rb") as file:
                    yield from self._read(file)
            except OSError as exc:
                raise UsageError(f"cannot read {self._path}: {exc.strerror}") from exc
        else:
            if self.rewindable:
                self._file.seek(self._start)
            yield from self._read(self._file)

    def _read(self, file: IO[bytes]) -> Iterator[memoryview]:
        read = 0
        while chunk := file.read(CHUNK_BYTES):
            if isinstance(chunk, str):
                raise UsageError("a blob's file must be open in binary mode ('rb')")
            read += len(chunk)
            if self.length is not None and read > self.length:
                break
            yield memoryview(chunk)
        if self.length is not None and read != self.length:
            raise UsageError("a blob's file changed its length while it was read")


def _name_of(path: Path) -> str:
    """A file's name as text; what of it is no UTF-8 is marked as such."""
    return os.fsencode(path.name).decode(errors="replace")


def reference_text(reference: object) -> str:
    """The text of a blob reference, from whatever a cell or a call gives for it.

    Args:
        reference: the text, its UTF-8 bytes, its decoded bytes, or a pyarrow scalar of these.

    Raises:
        UsageError: none of these, or empty or null.
    """
    if hasattr(reference, "as_py"):
        reference = reference.as_py()
    if isinstance(reference, Blob):
        reference = reference.reference
    if isinstance(reference, bytes | bytearray | memoryview):
        data = bytes(reference)
        # Decoded bytes almost never are base64 text; a text always is.
        reference = data.decode() if _TEXT.fullmatch(data) else base64.b64encode(data).decode()
    if not isinstance(reference, str) or not reference.strip():
        raise UsageError(f"a blob reference is text or bytes, not {type(reference).__name__}")
    return text_of("a blob reference", reference.strip())
