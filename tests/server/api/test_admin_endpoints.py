"""Administration that waits: for statements to end, and for versions that are not there yet."""

from __future__ import annotations

import asyncio
import contextlib
from types import SimpleNamespace
from typing import Any

import pytest

from fletching.errors import InvalidParameterError
from fletching.protocol.messages.admin import CancelStatement, GetStatement, RunStatement
from fletching.protocol.messages.changes import VersionPage, WaitForVersion
from fletching.protocol.messages.responses import Response
from fletching.server.api import admin_endpoints
from fletching.server.api.admin_endpoints import answer_statement
from fletching.types import TableName

GIVEN = "20260131123456789" + "0123456789ab"


class Instances:
    """Statements that end after so many looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.calls: list[str] = []

    def namespace(self, request: RunStatement) -> str:
        return request.project

    def _row(self) -> Any:
        self.looks -= 1
        return SimpleNamespace(id=GIVEN, ended_at=0.0 if self.looks >= 0 else 1.0)

    def run(self, text: str, namespace: str, **options: Any) -> Any:
        self.calls.append(f"run {text} in {namespace} as {options['instance_id']}")
        self.waited = options["wait_seconds"]
        return self._row()

    def get(self, project: str, instance_id: str) -> Any:
        self.calls.append(f"get {project} {instance_id[:4]}")
        return self._row()

    def cancel(self, row: Any) -> None:
        assert not row.ended_at
        self.calls.append("cancel")
        self.looks = 0

    def state(self, row: Any) -> Any:
        return row


async def run(function: Any, *arguments: Any, **options: Any) -> Any:
    return function(*arguments, **options)


def service_of(instances: Instances) -> Any:
    return SimpleNamespace(
        workers=SimpleNamespace(query=SimpleNamespace(run=run)),
        engine=SimpleNamespace(instances=instances),
        authorize=print,
        visible=print,
        authorize_instance=lambda _exchange, _row: instances.calls.append("authorize"),
    )


def answered(instances: Instances, request: Any) -> Any:
    exchange: Any = SimpleNamespace(access_id="ann")
    return asyncio.run(answer_statement(exchange, service_of(instances), request))


def test_a_statement_is_waited_for_as_long_as_is_asked() -> None:
    instances = Instances(2)
    request = RunStatement(project="p", text="select 1", wait_seconds=9.0)
    assert answered(instances, request).ended_at == 1.0
    assert instances.calls == ["run select 1 in p as None", "get p 2026", "get p 2026"]
    # That keeps a thread only for a moment; nothing but the exchange waits for the rest.
    assert instances.waited == pytest.approx(0.1)
    instances = Instances(2)
    assert (
        answered(instances, GetStatement(project="p", instance_id=GIVEN, wait_seconds=0.0)).ended_at
        == 0.0
    )
    assert instances.calls == ["get p 2026", "authorize"]


def test_only_what_runs_is_cancelled() -> None:
    running = Instances(1)
    assert (
        answered(
            running, CancelStatement(project="p", instance_id=GIVEN, wait_seconds=9.0)
        ).ended_at
        == 1.0
    )
    assert running.calls == ["get p 2026", "authorize", "cancel", "get p 2026"]
    ended = Instances(0)
    answered(ended, CancelStatement(project="p", instance_id=GIVEN, wait_seconds=9.0))
    assert ended.calls == ["get p 2026", "authorize"]


@pytest.mark.parametrize("instance_id", ["x", GIVEN + "0", GIVEN.upper(), GIVEN[1:]])
def test_an_id_that_a_client_made_has_the_form_of_ours(instance_id: str) -> None:
    instances = Instances(0)
    answered(instances, RunStatement(project="p", text="t", instance_id=GIVEN))
    assert instances.calls == [f"run t in p as {GIVEN}"]
    with pytest.raises(InvalidParameterError):
        answered(instances, RunStatement(project="p", text="t", instance_id=instance_id))


def test_versions_are_looked_for_until_there_are_some(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)

    def wait(looks: int, timeout_ms: int, *, draining: bool = False) -> VersionPage:
        slept.clear()
        report: list[WaitForVersion] = []

        async def call(request: WaitForVersion) -> Response:
            report.append(request)
            result: Any = ["a version"] if len(report) > looks else []
            return VersionPage(versions=result)

        service: Any = SimpleNamespace(
            call=call, draining=draining, calls=SimpleNamespace(enter=contextlib.nullcontext)
        )
        request = WaitForVersion(table=TableName("p", "t"), since=3, timeout_ms=timeout_ms)
        page = asyncio.run(admin_endpoints._awaited_versions(service, request))
        # The engine is asked to look, never to wait.
        assert {(each.since, each.timeout_ms) for each in report} == {(3, 0)}
        assert isinstance(page, VersionPage)
        return page

    assert wait(0, 0).versions
    assert slept == []
    assert wait(2, 60_000).versions
    assert slept == [pytest.approx(0.05), pytest.approx(0.075)]
    assert wait(9, 60_000).versions
    assert max(slept) == pytest.approx(0.5)
    assert not wait(1, 0).versions
    assert not wait(1, 60_000, draining=True).versions
