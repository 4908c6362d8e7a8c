"""Rows of statements that ran, for tests that ask what is told of them."""

from __future__ import annotations

import dataclasses

from fletching.catalog.instance_rows import InstanceRow

ENDED = InstanceRow(
    id="i1",
    project_key="demo",
    owner="ann",
    task_name="task",
    statement="select 1",
    succeeded=True,
    result="",
    selection=None,
    created_at=1_000_000.0,
    ended_at=1_000_002.5,
)
"""A statement that ended well."""

RUNNING = dataclasses.replace(ENDED, succeeded=False, ended_at=0.0)
"""The same statement while it runs."""
