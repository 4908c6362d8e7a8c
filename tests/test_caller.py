"""Work is done for whoever the task or thread works for, and for nobody else."""

from __future__ import annotations

import contextvars

from fletching import caller


def test_the_access_id_stays_in_its_context() -> None:
    def work(name: str) -> str:
        caller.work_for(name)
        return caller.access_id()

    assert contextvars.copy_context().run(work, "one") == "one"
    assert contextvars.copy_context().run(work, "two") == "two"
    assert contextvars.copy_context().run(caller.access_id) == ""
