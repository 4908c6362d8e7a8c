"""The rule that rows and blobs share: one thread works, what fails leaves nothing, the outcome decides."""

from __future__ import annotations

import threading

import pytest

from fletching.engine.writing.body_upload import BodyUpload
from fletching.errors import FletchingError


class Upload(BodyUpload):
    """Keeps what it takes in a list, and counts how often it was emptied."""

    def __init__(self) -> None:
        super().__init__()
        self.stored: list[str] = []
        self.drops = 0
        self.inside = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def accept(self, item: str) -> None:
        with self._accepting():
            self.inside.set()
            self.go_on.wait()
            if item == "bad":
                raise ValueError(item)
            self.stored.append(item)

    def finish(self, *, fails: bool = False) -> str:
        with self._working, self._finishing():
            self.inside.set()
            self.go_on.wait()
            if fails:
                raise OSError("no")
            return "|".join(self.stored)

    def _drop_objects(self) -> None:
        self.stored.clear()
        self.drops += 1


def test_a_body_is_taken_and_finished() -> None:
    upload = Upload()
    upload.accept("a")
    upload.accept("b")
    assert not upload.ended
    assert upload.finish() == "a|b"
    assert upload.ended
    assert upload.drops == 0
    assert not upload.abort()  # what finish said stands
    assert upload.stored == ["a", "b"]
    with pytest.raises(FletchingError):
        upload.accept("c")


def test_what_fails_leaves_nothing() -> None:
    upload = Upload()
    upload.accept("a")
    with pytest.raises(ValueError, match="bad"):
        upload.accept("bad")
    assert (upload.stored, upload.drops, upload.ended) == ([], 1, True)
    for call in (lambda: upload.accept("b"), upload.finish):
        with pytest.raises(FletchingError):
            call()
    assert upload.stored == []


def test_a_failed_finish_leaves_nothing() -> None:
    upload = Upload()
    upload.accept("a")
    with pytest.raises(OSError, match="no"):
        upload.finish(fails=True)
    assert (upload.stored, upload.drops, upload.ended) == ([], 1, True)
    with pytest.raises(FletchingError):
        upload.finish()


def test_abort_drops_once_and_repeats() -> None:
    upload = Upload()
    upload.accept("a")
    assert upload.abort()
    assert (upload.stored, upload.ended) == ([], True)
    assert upload.abort()
    with pytest.raises(FletchingError):
        upload.finish()


def test_abort_waits_for_who_accepts() -> None:
    upload = Upload()
    upload.go_on.clear()
    accepting = threading.Thread(target=upload.accept, args=("a",))
    accepting.start()
    upload.inside.wait()
    outcomes: list[bool] = []
    aborting = threading.Thread(target=lambda: outcomes.append(upload.abort()))
    aborting.start()
    assert upload.drops == 0  # nothing is dropped under the hands of who accepts
    upload.go_on.set()
    accepting.join()
    aborting.join()
    assert outcomes == [True]
    assert upload.stored == []


def test_abort_is_refused_while_it_is_finished() -> None:
    upload = Upload()
    upload.accept("a")
    upload.go_on.clear()
    upload.inside.clear()
    results: list[str] = []
    finishing = threading.Thread(target=lambda: results.append(upload.finish()))
    finishing.start()
    upload.inside.wait()
    assert not upload.abort()
    upload.go_on.set()
    finishing.join()
    assert results == ["a"]
