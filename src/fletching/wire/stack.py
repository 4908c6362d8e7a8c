"""Layers nested into one: a stack of byte encoders, or of byte decoders, used like a single one.

The outermost layer, the one next to the wire, is named first in both directions. Which layers an
action nests, and in what order, is said in ``fletching.protocol.http.layers`` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from typing_extensions import Buffer

__all__ = ["ByteDecoder", "ByteEncoder", "DecoderStack", "EncoderStack"]


class ByteEncoder(Protocol):
    """A layer that turns payload into wire bytes."""

    def encode(self, data: Buffer, /) -> Sequence[Buffer]:
        """Buffers to send for this payload."""

    def finish(self) -> Sequence[Buffer]:
        """Buffers that end the layer."""


class ByteDecoder(Protocol):
    """A layer that turns wire bytes into payload (or, innermost, into events)."""

    def feed(self, data: Buffer, /) -> None:
        """Queues wire bytes."""

    def events(self) -> Iterator[Any]:
        """What is complete."""

    def finish(self) -> None:
        """Tells that the input ended."""


class EncoderStack:
    """Encodes through every layer, innermost first."""

    def __init__(self, *outermost_first: ByteEncoder) -> None:
        self._layers = outermost_first[::-1]

    def encode(self, data: Buffer) -> list[Buffer]:
        """Returns the wire bytes that payload completes."""
        buffers: list[Buffer] = [data]
        for layer in self._layers:
            buffers = [coded for buffer in buffers for coded in layer.encode(buffer)]
        return buffers

    def finish(self) -> list[Buffer]:
        """Ends every layer, innermost first; returns the last wire bytes."""
        buffers: list[Buffer] = []
        for layer in self._layers:
            buffers = [coded for buffer in buffers for coded in layer.encode(buffer)]
            buffers.extend(layer.finish())
        return buffers


class DecoderStack:
    """Decodes through every layer, outermost first; its events are those of the innermost layer."""

    def __init__(self, *outermost_first: ByteDecoder) -> None:
        self._outermost = outermost_first[0]
        self._layers = outermost_first

    def feed(self, data: Buffer) -> None:
        """Queues wire bytes; borrows them as long as the layers do."""
        self._outermost.feed(data)

    def events(self) -> Iterator[Any]:
        """Yields the innermost layer's events; raises whatever a layer finds wrong."""
        return self._events_of(len(self._layers) - 1)

    def _events_of(self, index: int) -> Iterator[Any]:
        layer = self._layers[index]
        if index > 0:
            for payload in self._events_of(index - 1):
                layer.feed(payload)
                yield from layer.events()
        yield from layer.events()

    def finish(self) -> None:
        """Tells every layer that the input ended, outermost first; read ``events()`` once more after.

        Raises:
            WireError: of the outermost layer that the input does not end well for.
        """
        for index, layer in enumerate(self._layers):
            layer.finish()
            if index + 1 < len(self._layers):
                for payload in layer.events():
                    self._layers[index + 1].feed(payload)
