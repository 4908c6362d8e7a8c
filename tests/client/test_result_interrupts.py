"""Ctrl-C while statements run, also before the service has answered for the first time."""

from __future__ import annotations

import _thread
import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import fletching
from fletching.errors import ConflictError, InvalidParameterError, NotFoundError, ServiceError
from fletching.protocol.messages.admin import (
    GetStatement,
    RunStatement,
    StatementState,
    new_instance_id,
)

LONG = "select count(*) from t a, t b, t c, t d, t e where a.n + b.n + c.n + d.n + e.n = -1"


@pytest.fixture(params=["http", "embedded"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A client, and the engine behind it."""
    table = "create table t (n bigint); insert into t select explode(sequence(1, 2000))"
    if request.param == "embedded":
        with fletching.connect(tmp_path / "data", project="demo", create=True) as client:
            client.sql(table)
            yield client
        return
    with (
        fletching.serve(tmp_path / "data", port=0, access_keys={"k": "s"}, access_log=False) as server,
        fletching.connect(server.url, project="demo", access_id="k", access_key="s") as client,
    ):  # fmt: skip
        client.sql(table)
        yield client


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.4])
def test_an_interrupt_cancels_before_the_first_answer(opened: Any, seconds: float) -> None:
    made: list[str] = []
    original = opened.channel.call

    def noting(request: Any) -> Any:
        made.extend([request.instance_id] if isinstance(request, RunStatement) else [])
        if made and not timer.is_alive() and timer.ident is None:
            timer.start()
        return original(request)

    timer = threading.Timer(seconds, _thread.interrupt_main)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(opened.channel), "call", lambda _self, request: noting(request))
        with pytest.raises(KeyboardInterrupt):
            opened.sql(LONG)
        timer.join()
    asked = GetStatement(project="demo", instance_id=made[0], wait_seconds=1.0)
    deadline = time.monotonic() + 600
    while True:
        try:
            state = opened.channel.call(asked)
        except NotFoundError:
            if seconds == 0.0:
                return  # the interrupt came before anything was sent
            raise
        if not state.running:
            break
        assert time.monotonic() < deadline
    assert state.error is not None
    assert state.error[1] == "Cancelled"


def test_statements_under_an_id_run_once(opened: Any) -> None:
    id_ = new_instance_id(time.time())
    insert = RunStatement(
        project="demo", text="insert into t values (-5)", instance_id=id_, wait_seconds=20.0
    )
    states = [opened.channel.call(insert) for _ in range(3)]
    assert [(state.instance_id, state.affected_rows) for state in states] == [(id_, 1)] * 3
    assert opened.sql("select count(*) c from t where n = -5").to_pylist() == [{"c": 1}]
    other = RunStatement(project="demo", text="select 1", instance_id=id_)
    with pytest.raises(ConflictError, match="other statements have the id"):
        opened.channel.call(other)


@pytest.mark.parametrize("opened", ["http"], indirect=True)
def test_ids_of_another_form_are_refused(opened: Any) -> None:
    for id_ in ("x", "../../a", "1" * 29 + "g", "20260101000000000ABCDEF123456"):
        with pytest.raises((InvalidParameterError, ServiceError), match="17 digits"):
            opened.channel.call(RunStatement(project="demo", text="select 1", instance_id=id_))


@pytest.mark.parametrize("opened", ["embedded"], indirect=True)
@pytest.mark.parametrize(
    ("status", "code", "runs"), [(503, "ServiceUnavailable", 2), (400, "InvalidArgument", 1)]
)
def test_statements_are_run_again_under_their_id_where_the_service_failed(
    opened: Any, status: int, code: str, runs: int
) -> None:
    ids: list[str] = []
    original = opened.channel.call

    def failing_once(_self: Any, request: Any) -> Any:
        state = original(request)
        ids.append(request.instance_id)
        error = (status, code, "not now")
        return (
            StatementState(instance_id=state.instance_id, error=error) if len(ids) == 1 else state
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(opened.channel), "call", failing_once)
        expected = (
            contextlib.nullcontext() if runs == 2 else pytest.raises(ServiceError, match="not now")
        )
        with expected:
            assert opened.sql("insert into t values (-7)").affected_rows == 1
    assert len(ids) == runs
    assert len(set(ids)) == 1
    assert opened.sql("select count(*) c from t where n = -7").to_pylist() == [{"c": 1}]
