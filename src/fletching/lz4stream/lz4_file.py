"""A stream of chained blocks as a binary file object."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Literal

from typing_extensions import Buffer

from fletching.errors import UsageError
from fletching.lz4stream.block_format import as_bytes_view
from fletching.lz4stream.stream_decoder import Decoder
from fletching.lz4stream.stream_encoder import Encoder
from fletching.lz4stream.streams import check_no_trailing

__all__ = ["LZ4StreamFile", "open"]

# Compressed bytes per read of the underlying file: what the decoder takes in one run.
_READ_BYTES = 512 * 1024


class LZ4StreamFile(io.BufferedIOBase):
    """Reads or writes the contents of a stream through a binary file that holds it compressed.

    Sequential: there is no seeking. Not safe for use by several threads at once.

    Args:
        file: the compressed side: any object with ``read(n)``, or ``write(buffer)``.
        codec: a ``Decoder`` to read, an ``Encoder`` to write.
        close_file: whether closing this closes ``file``.
    """

    def __init__(
        self, file: IO[bytes], codec: Decoder | Encoder, *, close_file: bool = False
    ) -> None:
        self._file = file
        self._decoder = codec if isinstance(codec, Decoder) else None
        self._encoder = codec if isinstance(codec, Encoder) else None
        self._close_file = close_file
        self._events: Iterator[bytes] = iter(())
        self._part: memoryview | bytes = b""
        self._ended = False
        self._flushes = self._encoder is not None
        self._position = 0
        self.mode = "rb" if self._decoder is not None else "wb"

    @property
    def name(self) -> object:
        """The compressed file's name, if it has one."""
        return getattr(self._file, "name", None)

    def readable(self) -> bool:
        """Whether this was opened for reading."""
        self._check_open()
        return self._decoder is not None

    def writable(self) -> bool:
        """Whether this was opened for writing."""
        self._check_open()
        return self._encoder is not None

    def tell(self) -> int:
        """The position in the decompressed bytes."""
        self._check_open()
        return self._position

    def close(self) -> None:
        """Writes what is left of the stream, and closes the file if it is ours; idempotent."""
        if self.closed:
            return
        try:
            if self._encoder is not None:
                for block in self._encoder.finish():
                    self._file.write(block)
                self._file.flush()
        finally:
            self._events, self._part = iter(()), b""
            # io's own close flushes once more, and the file may be gone by then.
            self._flushes = False
            try:
                if self._close_file:
                    self._file.close()
            finally:
                super().close()

    # --- reading -----------------------------------------------------------------------------

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to ``size`` bytes, fewer only at the end; all that is left if negative or None.

        Raises:
            WireError: as ``Decoder.events`` and ``Decoder.finish``, and for bytes after the end.
        """
        left = -1 if size is None else size
        parts: list[Buffer] = []
        while left and self._fill():
            part = self._take(left)
            parts.append(part)
            left = left - len(part) if left > 0 else left
        # Joined once: a read gives one object.
        return b"".join(parts)

    def read1(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes from what one chunk gives; empty only at the end."""
        return bytes(self._take(size)) if size and self._fill() else b""

    def readinto(self, buffer: Buffer, /) -> int:
        """Fills ``buffer``; fewer bytes only at the end."""
        target = as_bytes_view(buffer)
        received = 0
        while received < len(target) and self._fill():
            part = self._take(len(target) - received)
            target[received : received + len(part)] = part
            received += len(part)
        return received

    def readinto1(self, buffer: Buffer, /) -> int:
        """Fills ``buffer`` from what one chunk gives; 0 only at the end."""
        target = as_bytes_view(buffer)
        if not target or not self._fill():
            return 0
        part = self._take(len(target))
        target[: len(part)] = part
        return len(part)

    def _take(self, size: int) -> memoryview | bytes:
        part = self._part
        if size < 0 or size >= len(part):
            self._part = b""
        else:
            self._part = memoryview(part)[size:]
            part = memoryview(part)[:size]
        self._position += len(part)
        return part

    def _fill(self) -> bool:
        """Sees to it that a chunk is at hand; False at the end of the stream."""
        self._check_open()
        decoder = self._decoder
        if decoder is None:
            raise io.UnsupportedOperation("not open for reading")
        while not self._part:
            self._part = next(self._events, b"")
            if self._part:
                return True
            if self._ended:
                return False
            chunk = self._file.read(_READ_BYTES)
            if chunk:
                decoder.feed(chunk)
                self._events = decoder.events()
            else:
                decoder.finish()
                check_no_trailing(decoder)
                self._ended = True
        return True

    # --- writing -----------------------------------------------------------------------------

    def write(self, data: Buffer, /) -> int:
        """Takes all of ``data``; whole pages go to the file at once."""
        self._check_open()
        if self._encoder is None:
            raise io.UnsupportedOperation("not open for writing")
        view = as_bytes_view(data)
        for block in self._encoder.blocks_of(view):
            self._file.write(block)
        self._position += len(view)
        return len(view)

    def flush(self) -> None:
        """Flushes the file. The page in progress stays: ending it early costs compression."""
        if self._flushes:
            self._file.flush()

    def end_block(self) -> None:
        """Ends the current block early and flushes the file: a reader can have all of it."""
        self._check_open()
        if self._encoder is None:
            raise io.UnsupportedOperation("not open for writing")
        for block in self._encoder.flush():
            self._file.write(block)
        self._file.flush()

    def _check_open(self) -> None:
        if self.closed:
            raise UsageError("I/O operation on closed file")


def open(  # noqa: A001 - the module is used as lz4stream.open, as gzip.open is
    path: str | Path | IO[bytes],
    mode: Literal["rb", "wb", "xb"] = "rb",
    **options: Any,
) -> LZ4StreamFile:
    """Opens a file of chained blocks as a binary file object.

    Args:
        path: the file's path, or a binary file object, which stays open on close.
        mode: ``"rb"`` to read; ``"wb"`` to write, ``"xb"`` to write a new file.
        **options: those of ``Decoder`` or ``Encoder``.

    Raises:
        UsageError: an unknown mode or option.
        OSError: the file cannot be opened.
    """
    if mode not in ("rb", "wb", "xb"):
        raise UsageError(f"mode {mode!r} is not 'rb', 'wb' or 'xb'")
    try:
        codec = Decoder(**options) if mode == "rb" else Encoder(**options)
    except TypeError as error:
        raise UsageError(str(error)) from error
    if isinstance(path, str | Path):
        return LZ4StreamFile(Path(path).open(mode), codec, close_file=True)
    return LZ4StreamFile(path, codec)
