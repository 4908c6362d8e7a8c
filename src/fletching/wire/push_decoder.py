"""What decoders that are fed have in common: input waits in a queue, and an error stays."""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import Iterable, Iterator
from typing import ClassVar, Generic, TypeVar

from typing_extensions import Buffer

from fletching.errors import MalformedFrameError, WireError

__all__ = ["PushDecoder"]

_Event = TypeVar("_Event")


class PushDecoder(abc.ABC, Generic[_Event]):
    """Is fed bytes of any length and gives what they complete.

    A decoder that failed gives nothing more: every later call raises the same error.
    """

    _layer: ClassVar[str]
    """What errors name."""

    def __init__(self) -> None:
        self._chunks: deque[memoryview] = deque()  # fed and not looked at
        self._ready: deque[_Event] = deque()  # found by `finish`
        self._offset = 0
        self._finished = False
        self._error: WireError | None = None

    @property
    def offset(self) -> int:
        """Bytes of the input that were consumed so far."""
        return self._offset

    def feed(self, data: Buffer) -> None:
        """Queues bytes of the input; borrows ``data`` until ``events()`` has been exhausted."""
        if self._finished:
            raise MalformedFrameError(
                "bytes after the end of the input", layer=self._layer, offset=self._offset
            )
        view = memoryview(data).cast("B")
        if len(view):
            self._chunks.append(view)

    def events(self) -> Iterator[_Event]:
        """Yields what the input gives until more is needed.

        Raises:
            WireError: the input is malformed, as the class says; what came before it has been given.
        """
        if self._error is not None:
            raise self._error
        while self._ready:
            yield self._ready.popleft()
        try:
            yield from self._events()
        except WireError as error:
            self._fail(error)
            raise

    def finish(self) -> None:
        """Tells that the input ended; what its end completes is in ``events()``.

        Raises:
            TruncatedStreamError: it ended inside a part.
            WireError: as `events`, of input that had not been looked at.
        """
        if self._error is not None:
            raise self._error
        if self._finished:
            return
        self._ready = deque(self.events())
        self._finished = True
        try:
            self._ready.extend(self._last_events())
        except WireError as error:
            self._fail(error)
            raise

    @abc.abstractmethod
    def _events(self) -> Iterator[_Event]:
        """Takes from the queue what is complete."""

    @abc.abstractmethod
    def _last_events(self) -> Iterable[_Event]:
        """What the end of the input completes; refuses an end where more is needed."""

    def _fail(self, error: WireError) -> None:
        if error.offset is None:
            error.offset = self._offset
        self._error = error
        self._chunks.clear()
