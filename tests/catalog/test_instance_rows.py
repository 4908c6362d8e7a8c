"""SQL instances: the first outcome stays, and lists say what was asked for."""

from __future__ import annotations

import dataclasses

from sqlalchemy import Connection

from fletching.catalog.instance_rows import (
    InstanceFilter,
    InstanceRow,
    ask_to_cancel,
    asked_to_cancel,
    find_instance,
    forget_instances,
    insert_instance,
    list_instances,
    update_instance,
)


def running(name: str, created_at: float = 1.0, **columns: str) -> InstanceRow:
    row = InstanceRow(name, "p", "ann", "task", "select 1", False, "", None, created_at, 0.0)
    return dataclasses.replace(row, **columns)  # type: ignore[arg-type]  # texts alone


def test_the_first_outcome_stays(rows: Connection) -> None:
    row = running("i")
    insert_instance(rows, row)
    done = dataclasses.replace(row, succeeded=True, result="42", selection=b"s", ended_at=5.0)
    update_instance(rows, done)
    update_instance(rows, dataclasses.replace(row, result="late", ended_at=6.0))
    assert find_instance(rows, "P", "i") == done
    assert find_instance(rows, "q", "i") is None
    assert find_instance(rows, "p", "j") is None


def test_only_what_runs_can_be_cancelled(rows: Connection) -> None:
    for name in ("a", "b"):
        insert_instance(rows, running(name))
    assert asked_to_cancel(rows, ["a", "b"]) == []
    assert ask_to_cancel(rows, "a")
    assert asked_to_cancel(rows, ["a", "b"]) == ["a"]
    assert asked_to_cancel(rows, []) == []
    update_instance(rows, dataclasses.replace(running("b"), ended_at=5.0))
    assert not ask_to_cancel(rows, "b")
    assert not ask_to_cancel(rows, "none")


def test_lists_are_filtered_and_paged_newest_first(rows: Connection) -> None:
    insert_instance(rows, running("a", 1.0))
    insert_instance(rows, running("b", 2.0, owner="bob", task_name="other"))
    insert_instance(rows, running("c", 2.0))
    insert_instance(rows, running("d", 3.0, kind="SQLRT"))
    insert_instance(rows, running("e", 4.0, project_key="q"))
    update_instance(rows, dataclasses.replace(running("a", 1.0), ended_at=9.0))

    def names(wanted: InstanceFilter, limit: int = 9, after: InstanceRow | None = None) -> str:
        marker = None if after is None else (after.created_at, after.id)
        return "".join(row.id for row in list_instances(rows, "P", limit, wanted, marker))

    everything = InstanceFilter()
    assert names(everything) == "cba"
    assert names(everything, 2) == "cb"
    assert names(everything, 2, running("b", 2.0)) == "a"
    assert names(InstanceFilter(running=True)) == "cb"
    assert names(InstanceFilter(running=False)) == "a"
    assert names(InstanceFilter(since=2.0)) == "cb"
    assert names(InstanceFilter(until=2.0)) == "a"
    assert names(InstanceFilter(owner="bob")) == "b"
    assert names(InstanceFilter(task_name="task")) == "ca"
    assert names(InstanceFilter(without_kind="")) == "dcba"
    forget_instances(rows, 2.0)
    assert names(everything) == "cb"
