"""The last run of each task of upkeep, in the catalog."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from fletching.catalog.opening import open_catalog
from fletching.catalog.upkeep_rows import UpkeepRun, last_runs, record_run

RUN = UpkeepRun("verification", 10.0, 20.0, "here", "sound", 2, ("a: b", "c: <d>"))


def test_the_run_that_is_told_last_is_kept(tmp_path: Path) -> None:
    database = open_catalog(tmp_path / "catalog.sqlite")
    other = dataclasses.replace(RUN, task="retention", problems=(), problem_count=0)
    late = dataclasses.replace(RUN, started_at=5.0, ended_at=30.0, place="there")
    with database.write() as connection:
        assert last_runs(connection) == {}
        record_run(connection, RUN)
        record_run(connection, other)
        assert last_runs(connection) == {"verification": RUN, "retention": other}
        record_run(connection, late)
        assert last_runs(connection) == {"verification": late, "retention": other}
        record_run(connection, RUN)  # by a clock that has been set back, perhaps: no time decides
        assert last_runs(connection) == {"verification": RUN, "retention": other}
    database.close()
