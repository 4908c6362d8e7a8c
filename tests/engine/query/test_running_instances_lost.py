"""An instance whose process has died ends with it; one that may still run is left as it is."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests.instance_rows import RUNNING

from fletching.catalog.instance_rows import InstanceRow
from fletching.engine.presence import DEAD_SECONDS, Presence
from fletching.engine.query.instance_results import selection_of
from fletching.engine.query.running_instances import ended_with_its_process


def row(created_at: float, server: str = "") -> InstanceRow:
    return dataclasses.replace(RUNNING, created_at=created_at, server=server)


def test_a_statement_whose_time_is_long_over_has_ended(house: Any) -> None:
    context = house.engine.context
    limit = context.settings.sql_seconds + 600
    young = row(context.clock() - limit + 1)
    assert ended_with_its_process(context, young) is young
    old = ended_with_its_process(context, row(context.clock() - limit))
    assert old.ended_at == old.created_at + context.settings.sql_seconds
    assert not old.succeeded
    assert "ended before the statement did" in old.result
    error = selection_of(old).error
    assert error is not None
    assert error[:2] == (500, "InternalServerError")


@pytest.mark.parametrize(
    ("age", "dead", "lost"), [(0, True, False), (1, True, True), (1, False, False)]
)
def test_the_dead_are_known_after_a_while(
    house: Any, monkeypatch: pytest.MonkeyPatch, age: int, dead: bool, lost: bool
) -> None:
    context = house.engine.context
    monkeypatch.setattr(Presence, "is_dead", lambda *_: dead)
    result = row(context.clock() - age * (DEAD_SECONDS + 1), "other server")
    assert (ended_with_its_process(context, result) is not result) is lost
    nobody = row(context.clock() - DEAD_SECONDS - 1)
    assert ended_with_its_process(context, nobody) is nobody
