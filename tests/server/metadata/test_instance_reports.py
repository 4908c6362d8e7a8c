"""What is told of an instance, running, ended well, failed and cancelled."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any, cast
from xml.etree import ElementTree as ET

import pyarrow as pa
import pytest
from tests.instance_rows import ENDED, RUNNING

from fletching.catalog.instance_rows import InstanceRow
from fletching.engine.query.instances import MAX_CSV_ROWS, SESSION, Instances
from fletching.protocol.types.table_schema import table_schema
from fletching.server.metadata import instance_reports as reports


class Known:
    """What the engine knows of the instance that is asked of."""

    def __init__(self, rows: int | None = None, *, cancelled: bool = False) -> None:
        self.rows, self.was_cancelled = rows, cancelled

    def cancelled(self, row: InstanceRow) -> bool:
        return self.was_cancelled

    def has_rows(self, row: InstanceRow) -> bool:
        return self.rows is not None

    def result(self, row: InstanceRow) -> str:
        return "ä\x01"

    def result_rows(self, row: InstanceRow) -> int:
        return self.rows or 0

    def result_schema(self, row: InstanceRow) -> Any:
        return table_schema(pa.schema([("id", pa.int64()), ("ü", pa.string())]))

    def progress(self, row: InstanceRow) -> float:
        return 0.256

    def input_bytes(self, row: InstanceRow) -> int:
        return 77


def known(*args: Any, **options: Any) -> Instances:
    return cast("Instances", Known(*args, **options))


@pytest.fixture
def ended() -> InstanceRow:
    return ENDED


@pytest.fixture
def running() -> InstanceRow:
    return RUNNING


def texts(document: ET.Element, path: str) -> list[str | None]:
    return [each.text for each in document.findall(path)]


def test_states_are_named_as_clients_name_them(ended: InstanceRow, running: InstanceRow) -> None:
    failed = dataclasses.replace(ended, succeeded=False)
    assert [reports.status_of(each) for each in (running, ended)] == ["Running", "Terminated"]
    assert reports.state_of(known(), running) == "Running"
    assert reports.state_of(known(), ended) == "Success"
    assert reports.state_of(known(), failed) == "Failed"
    assert reports.state_of(known(cancelled=True), failed) == "Cancelled"


def test_times_are_those_of_http(ended: InstanceRow, running: InstanceRow) -> None:
    assert reports.times(ended) == (
        "Mon, 12 Jan 1970 13:46:40 GMT",
        "Mon, 12 Jan 1970 13:46:42 GMT",
    )
    assert reports.times(running)[1] == ""
    assert texts(reports.task_document(known(), ended), "Tasks/Task/EndTime") != []
    assert texts(reports.task_document(known(), running), "Tasks/Task/EndTime") == []
    assert reports.detail(running)["Instance"] == {
        "Status": "Running",
        "StartTime": "Mon, 12 Jan 1970 13:46:40 GMT",
        "EndTime": "",
    }


def test_a_result_is_base64_with_what_its_columns_are(ended: InstanceRow) -> None:
    document = reports.result_document(known(3), ended)
    (result,) = document.findall("Tasks/Task/Result") or document.findall(".//Result")
    assert base64.b64decode(result.text or "").decode() == "ä\x01"
    assert result.get("Format") == "csv"
    descriptor = json.loads(document.findall(".//ResultDescriptor")[0].text or "")
    assert descriptor["SelectResultStatus"] == "full"
    assert [each["Name"] for each in descriptor["Schema"]["Columns"]] == ["id", "ü"]
    assert "ü" in (document.findall(".//ResultDescriptor")[0].text or "")
    ET.tostring(document)  # which XML's own rules let through
    cut = reports.result_document(known(MAX_CSV_ROWS + 1), ended)
    assert "truncated" in (cut.findall(".//ResultDescriptor")[0].text or "")
    printed = reports.result_document(known(), ended)
    assert printed.findall(".//ResultDescriptor") == []
    assert printed.findall(".//Result")[0].get("Format") == "text"


def test_progress_is_one_stage_with_one_worker(ended: InstanceRow, running: InstanceRow) -> None:
    document = reports.progress_document(known(5), running)
    stage = document.findall("Stage")[0]
    assert {each.tag: each.text for each in stage} == {
        "BackupWorkers": "0",
        "TerminatedWorkers": "0",
        "RunningWorkers": "1",
        "TotalWorkers": "1",
        "InputRecords": "0",
        "OutputRecords": "5",
        "FinishedPercentage": "25",
    }
    done = reports.progress_document(known(), ended).findall("Stage/TerminatedWorkers")
    assert [each.text for each in done] == ["1"]


def test_a_summary_says_what_it_took_once_it_has_ended(
    ended: InstanceRow, running: InstanceRow
) -> None:
    assert reports.summary(known(), running) == {}
    result: Any = reports.summary(known(), ended)["Instance"]
    assert json.loads(result["JsonSummary"])["RunTimeSeconds"] == 2.5
    # A hundredth of a core's second is what jobs are counted in elsewhere.
    assert json.loads(result["JsonSummary"])["Cost"] == {"CPU": 250, "Memory": 0, "Input": 77}
    assert result["Summary"] == "run time: 2.500 s\ninput: 77 bytes"


def test_a_queue_lists_statements_and_no_sessions(ended: InstanceRow) -> None:
    session = dataclasses.replace(ended, kind=SESSION)
    page = reports.queueing_page(known(), [ended, session], "demo", "next", 7)
    assert (texts(page, "Marker"), texts(page, "MaxItems")) == (["next"], ["7"])
    (info,) = json.loads(texts(page, "Content")[0] or "")
    assert info["instanceId"] == ended.id
    assert (info["userAccount"], info["projectName"]) == ("ann", "demo")
    assert (info["startTime"], info["totalTime"]) == ("1970-01-12 13:46:40 +0000", 2.5)
    assert info["instanceProcess"] == 0.256
    assert reports.quota(ended)["status"] == "Terminated"
