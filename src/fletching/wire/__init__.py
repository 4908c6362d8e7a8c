"""Byte layers around payloads: CRC32C blocks, blob frames, content codings. Pure: no I/O, no clock.

Each layer has an ``Encoder`` and a ``Decoder`` of the same shape. A decoder takes input with
``feed(buffer)``, gives what is complete with ``events()``, and is told the end with ``finish()``,
which raises if the input ended inside a unit; read ``events()`` once more after it. An encoder
returns lists of buffers to send. For layers that carry plain bytes an event is a ``memoryview``.

Buffers given to ``feed`` or ``encode`` are borrowed, not copied, until what they produced has been
used: feed buffers that are not overwritten, such as the ``bytes`` of a socket or file read.
"""

from fletching.wire import blob_frames, content_coding, crc32c_blocks, stack

__all__ = ["blob_frames", "content_coding", "crc32c_blocks", "stack"]
