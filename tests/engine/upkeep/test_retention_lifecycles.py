"""Lifecycles that are switched off and on."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from fletching.sql.statements.statement_kinds import Namespace


def test_partitions_stay_while_the_lifecycle_is_disabled(house: Any) -> None:
    house.engine.ensure_project("demo")
    here = Namespace("demo", "default")

    def run(text: str) -> str:
        row = house.engine.instances.run(text, here)
        assert row.succeeded, row.result
        return str(row.result)

    run("create table t (n bigint) partitioned by (pt string) lifecycle 2")
    house.append(pa.record_batch({"n": [1]}), "pt=1", table=house.table)
    run("alter table t disable lifecycle")
    house.clock.advance(3 * 86_400)
    house.engine.collect()
    assert run("show partitions t") == "pt=1"
    assert "lifecycle 2" in run("show create table t").lower()
    run("alter table t enable lifecycle")
    house.engine.collect()
    assert run("show partitions t") == ""


def test_a_partition_stays_while_its_lifecycle_is_disabled(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fletching.engine.upkeep.retention._SEGMENTS_PER_STEP", 1)
    house.engine.ensure_project("demo")

    def run(text: str, *, fails: bool = False) -> str:
        row = house.engine.instances.run(text, Namespace("demo", "default"))
        assert row.succeeded is not fails, row.result
        return str(row.result)

    run("create table t (n bigint) partitioned by (pt string) lifecycle 2")
    run("insert into t values (1, '1'), (2, '2'), (3, '3'), (4, '4')")
    for pt in "124":
        run(f"alter table t partition (pt='{pt}') disable lifecycle")
    run("alter table t partition (pt='4') enable lifecycle")
    # One that is made again is another partition.
    house.clock.advance(1)
    run("alter table t drop partition (pt='2'); insert into t values (2, '2')")
    house.clock.advance(3 * 86_400)
    house.engine.collect()
    assert run("show partitions t") == "pt=1"
    assert "Lifecycle: disabled" in run("desc t partition (pt='1')")
    run("alter table t partition (pt='1') enable lifecycle")
    assert "Lifecycle" not in run("desc t partition (pt='1')")
    house.engine.collect()
    assert run("show partitions t") == ""
    assert "there is no partition pt=1" in run(
        "alter table t partition (pt='1') disable lifecycle", fails=True
    )
    assert "DISABLE LIFECYCLE" in run(
        "alter table t partition (pt='1') set lifecycle 1", fails=True
    )
