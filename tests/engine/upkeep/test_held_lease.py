"""A lease is one holder's while the work lasts, the dead count for nothing, and what is late is refused."""

from __future__ import annotations

from typing import Any

import pytest

from fletching.engine.upkeep.held_lease import LEASE_SECONDS, hold_lease
from fletching.errors import ConflictError, StorageError


def test_one_holds_it_at_a_time(house: Any) -> None:
    context = house.engine.context
    with hold_lease(context, "work") as held:
        assert held is not None
        with hold_lease(context, "work") as other:
            assert other is None
        with hold_lease(context, "other work") as another:
            assert another is not None
        with context.database.write() as connection:
            held.check(connection)
    with hold_lease(context, "work") as held:
        assert held is not None


def test_it_is_given_back_when_the_work_fails(house: Any) -> None:
    context = house.engine.context

    def fails() -> None:
        with hold_lease(context, "work"):
            raise ValueError

    with pytest.raises(ValueError):
        fails()
    with hold_lease(context, "work") as held:
        assert held is not None


def test_what_is_late_is_refused(house: Any, clock: Any) -> None:
    context = house.engine.context
    with hold_lease(context, "work") as held:
        assert held is not None
        clock.advance(LEASE_SECONDS - 1)
        held.renew()
        clock.advance(LEASE_SECONDS - 1)
        with hold_lease(context, "work") as other:
            assert other is None  # it was renewed
        clock.advance(2)
        with hold_lease(context, "work") as other:
            assert other is not None
            with (
                pytest.raises(ConflictError, match="work has passed"),
                context.database.write() as connection,
            ):
                held.check(connection)


def test_the_lease_of_a_dead_process_is_free(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    context = house.engine.context
    with hold_lease(context, "work"):
        writer = context.store.writer
        monkeypatch.setattr(type(context.store), "dead_writers", lambda _: frozenset({writer}))
        with hold_lease(context, "work") as other:
            assert other is not None


def test_a_renewal_that_fails_is_logged_and_the_work_goes_on(
    house: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise StorageError("the catalog is away")

    with hold_lease(house.engine.context, "work") as held:
        assert held is not None
        with monkeypatch.context() as patch:
            patch.setattr("fletching.engine.upkeep.held_lease.renew_lease", fails)
            held.renew()
    assert "work could not be renewed: the catalog is away" in caplog.text


def test_a_lease_that_cannot_be_given_back_fails_no_work_that_is_done(
    house: Any, clock: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise StorageError("the catalog is away")

    context = house.engine.context
    with monkeypatch.context() as patch, hold_lease(context, "work"):
        patch.setattr("fletching.engine.upkeep.held_lease.release_lease", fails)
    assert "work could not be given back: the catalog is away" in caplog.text
    with hold_lease(context, "work") as other:
        assert other is None
    clock.advance(LEASE_SECONDS + 1)
    with hold_lease(context, "work") as other:
        assert other is not None


def test_what_the_work_failed_of_is_told_and_not_the_lease(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise StorageError("the catalog is away")

    monkeypatch.setattr("fletching.engine.upkeep.held_lease.release_lease", fails)
    with pytest.raises(ZeroDivisionError), hold_lease(house.engine.context, "work"):
        raise ZeroDivisionError
