"""What every request's body goes through on its way into objects: taken, finished or given up.

A table's rows (`Ingest`) and blobs (`BlobUpload`) store different things by the same rule, which is
here: one thread works on the body at a time, its states are in ``states``, whatever fails leaves
nothing behind, and a body that is being finished cannot be aborted.
"""

from __future__ import annotations

import abc
import contextlib
import threading
from collections.abc import Iterator

from fletching.engine.writing.states import UploadEvent, UploadLife

__all__ = ["BodyUpload"]


class BodyUpload(abc.ABC):
    """One body. All methods block; of several threads one works while the others wait."""

    def __init__(self) -> None:
        self._life = UploadLife()
        # Held by whoever works on the body, so that nothing is dropped under its hands.
        self._working = threading.RLock()

    @property
    def ended(self) -> bool:
        """Whether it is finished or aborted: nothing is left to do, or to give up."""
        return self._life.ended

    def abort(self) -> bool:
        """Drops everything, unless ``finish`` has begun; idempotent. Waits for an ``accept`` that runs.

        Returns:
            Whether nothing of the body remains. False says that ``finish`` runs or has returned:
            what it says or raises is the outcome, and this call changed nothing.
        """
        if not self._life.allows(UploadEvent.ABORT):
            return False
        with self._working:
            if not self._life.allows(UploadEvent.ABORT):
                return False  # it was finished, or failed in that, while this call waited
            self._life.step(UploadEvent.ABORT)
            self._drop_objects()
            return True

    @contextlib.contextmanager
    def _accepting(self) -> Iterator[None]:
        """The caller takes more of the body; if it raises, everything is dropped."""
        with self._working:
            self._life.step(UploadEvent.ACCEPT)
            with self._dropping():
                yield

    @contextlib.contextmanager
    def _finishing(self) -> Iterator[None]:
        """The caller finishes the body: it is done, or everything is dropped if it raises."""
        self._life.step(UploadEvent.FINISH)
        with self._dropping():
            yield
        self._life.step(UploadEvent.COMMITTED)

    @contextlib.contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self._life.step(UploadEvent.FAILED)
            self._drop_objects()
            raise

    @abc.abstractmethod
    def _drop_objects(self) -> None:
        """Removes what was stored and is not the catalog's; the caller works on the body."""
