"""Leases: one holder at a time, and a number that says when it changed."""

from __future__ import annotations

from sqlalchemy import Connection

from fletching.catalog.leases import (
    acquire_lease,
    forget_lease,
    holds_lease,
    release_lease,
    release_leases_of,
    renew_lease,
)


def test_one_holder_until_the_time_is_over(rows: Connection) -> None:
    assert acquire_lease(rows, "work", "a", now=100.0, seconds=10.0) == 1
    assert acquire_lease(rows, "work", "b", now=109.9, seconds=10.0) is None
    assert acquire_lease(rows, "work", "a", now=109.9, seconds=10.0) == 1  # its own, longer
    assert acquire_lease(rows, "work", "b", now=119.8, seconds=10.0) is None
    assert acquire_lease(rows, "work", "b", now=119.9, seconds=10.0) == 2
    assert acquire_lease(rows, "other", "a", now=119.9, seconds=10.0) == 1


def test_the_number_fences_a_holder_who_slept(rows: Connection) -> None:
    assert not holds_lease(rows, "work", 1)
    first = acquire_lease(rows, "work", "a", now=0.0, seconds=10.0)
    assert first == 1
    assert holds_lease(rows, "work", first)
    second = acquire_lease(rows, "work", "b", now=11.0, seconds=10.0)
    assert second == 2
    assert not holds_lease(rows, "work", first)
    assert not renew_lease(rows, "work", first, now=12.0, seconds=10.0)
    assert holds_lease(rows, "work", second)
    assert renew_lease(rows, "work", second, now=20.0, seconds=10.0)
    assert acquire_lease(rows, "work", "a", now=29.9, seconds=10.0) is None


def test_what_is_given_up_is_free_and_counts_on(rows: Connection) -> None:
    assert acquire_lease(rows, "work", "a", now=0.0, seconds=10.0) == 1
    release_lease(rows, "work", "b")  # not theirs
    assert holds_lease(rows, "work", 1)
    release_lease(rows, "work", "a")
    assert not holds_lease(rows, "work", 1)
    assert not renew_lease(rows, "work", 1, now=1.0, seconds=10.0)
    assert acquire_lease(rows, "work", "b", now=1.0, seconds=10.0) == 2


def test_the_leases_of_the_dead_are_freed_by_the_beginning_of_their_names(rows: Connection) -> None:
    for name, holder in (("one", "srv1/7"), ("two", "srv1%/8"), ("three", "srv2/9")):
        assert acquire_lease(rows, name, holder, now=0.0, seconds=99.0) == 1
    release_leases_of(rows, [])
    release_leases_of(rows, ["srv1%"])  # a sign of LIKE is a letter like others
    assert [holds_lease(rows, name, 1) for name in ("one", "two", "three")] == [True, False, True]
    release_leases_of(rows, ["srv2/", "srv1/"])
    assert not any(holds_lease(rows, name, 1) for name in ("one", "two", "three"))


def test_a_forgotten_lease_begins_anew(rows: Connection) -> None:
    acquire_lease(rows, "work", "a", now=0.0, seconds=10.0)
    forget_lease(rows, "work")
    assert not holds_lease(rows, "work", 1)
    assert acquire_lease(rows, "work", "b", now=1.0, seconds=10.0) == 1
