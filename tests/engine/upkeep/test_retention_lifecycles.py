"""Lifecycles that are switched off and on."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from fletching.sql.statement_kinds import Namespace


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
