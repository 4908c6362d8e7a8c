"""What clients ask of an instance: XML where they parse XML, JSON where they parse JSON.

::

    GET /projects/{p}/instances/{id}                           state                          XML
        ?taskstatus                                            state of its task              XML
        ?result                                                what it printed, or rows       XML
        ?source                                                the job as it was submitted    XML
        ?instanceprogress=TASK&taskname=TASK                   stages, workers                XML
        ?instancesummary&taskname=TASK                         time and bytes                 JSON
        ?instancedetail, ?detail, ?instancequota, ?cached      stages, quota, waiting         JSON
        ?log&id=..                                             of a worker: nothing           text

A result's text is base64, since XML cannot hold every character. Beside the rows of a query stands
what their columns are, from which clients since 0.13 make typed values.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from email.utils import formatdate
from xml.etree import ElementTree as ET

from fletching.engine.query.instances import MAX_CSV_ROWS, SESSION, InstanceRow, Instances
from fletching.server.metadata.documents import element
from fletching.server.metadata.jobs import job_document, priority_of

__all__ = [
    "detail",
    "progress_document",
    "queueing",
    "queueing_page",
    "quota",
    "result_document",
    "source_document",
    "state_of",
    "status_document",
    "status_of",
    "summary",
    "task_document",
    "times",
]


def status_of(row: InstanceRow) -> str:
    """The state of an instance, as clients name it."""
    return "Terminated" if row.ended_at else "Running"


def state_of(instances: Instances, row: InstanceRow) -> str:
    """The state of an instance's task, as clients name it."""
    if not row.ended_at:
        return "Running"
    if instances.cancelled(row):
        return "Cancelled"
    return "Success" if row.succeeded else "Failed"


def times(row: InstanceRow) -> tuple[str, str]:
    """When an instance began and ended, as RFC 822; nothing for the end while it runs."""
    ended = formatdate(row.ended_at, usegmt=True) if row.ended_at else ""
    return formatdate(row.created_at, usegmt=True), ended


def status_document(row: InstanceRow) -> ET.Element:
    """The state of an instance."""
    return element("Instance", element("Status", text=status_of(row)))


def task_document(instances: Instances, row: InstanceRow) -> ET.Element:
    """The state of an instance and of its task."""
    started, ended = times(row)
    task = element(
        "Task",
        element("Name", text=row.task_name),
        element("StartTime", text=started),
        Type=row.kind,
    )
    if ended:
        task.append(element("EndTime", text=ended))
    task.append(element("Status", text=state_of(instances, row)))
    root = status_document(row)
    root.append(element("Tasks", task))
    return root


def result_document(instances: Instances, row: InstanceRow) -> ET.Element:
    """What an instance printed, or the first rows that it chose. Blocks as long as rows are many."""
    rows = instances.has_rows(row)
    text = instances.result(row)
    task = element(
        "Task",
        element("Name", text=row.task_name),
        element(
            "Result",
            text=base64.b64encode(text.encode()).decode("ascii"),
            Transform="Base64",
            Format="csv" if rows else "text",
        ),
        Type=row.kind,
    )
    if rows:
        task.append(element("ResultDescriptor", text=_descriptor(instances, row)))
    task.append(element("Status", text=state_of(instances, row)))
    root = status_document(row)
    root.append(element("Tasks", task))
    return root


def _descriptor(instances: Instances, row: InstanceRow) -> str:
    columns = [
        {"Name": column.name, "Type": column.type}
        for column in instances.result_schema(row).data_columns
    ]
    truncated = instances.result_rows(row) > MAX_CSV_ROWS
    return json.dumps(
        {
            "IsSelect": True,
            "SelectResultStatus": "truncated" if truncated else "full",
            "Schema": {"Columns": columns},
        },
        ensure_ascii=False,
    )


def source_document(row: InstanceRow) -> ET.Element:
    """The job as its client submitted it."""
    return job_document(row)


def progress_document(instances: Instances, row: InstanceRow) -> ET.Element:
    """How far an instance is: one stage with one worker."""
    done = bool(row.ended_at)
    counts = {
        "BackupWorkers": 0,
        "TerminatedWorkers": int(done),
        "RunningWorkers": int(not done),
        "TotalWorkers": 1,
        "InputRecords": 0,
        "OutputRecords": instances.result_rows(row) if instances.has_rows(row) else 0,
        "FinishedPercentage": int(100 * instances.progress(row)),
    }
    stage = element(
        "Stage", *(element(tag, text=str(n)) for tag, n in counts.items()), ID="M1_job_0"
    )
    return element("Progress", stage)


def summary(instances: Instances, row: InstanceRow) -> dict[str, object]:
    """How long an instance took and how much it read; nothing while it runs."""
    if not row.ended_at:
        return {}
    seconds = row.ended_at - row.created_at
    read = instances.input_bytes(row)
    document = {
        "InstanceId": row.id,
        "RunTimeSeconds": round(seconds, 3),
        # Of what a job costs elsewhere, the time that it took and the bytes that it read are known.
        "Cost": {"CPU": round(100 * seconds), "Memory": 0, "Input": read},
    }
    text = f"run time: {seconds:.3f} s\ninput: {read} bytes"
    return {"Instance": {"JsonSummary": json.dumps(document), "Summary": text}}


def detail(row: InstanceRow) -> dict[str, object]:
    """The parts of an instance: none, as one process runs it."""
    started, ended = times(row)
    return {
        "mapReduce": {"jobs": [], "jsonSummary": "", "summary": ""},
        "Instance": {"Status": status_of(row), "StartTime": started, "EndTime": ended},
    }


def quota(row: InstanceRow) -> dict[str, object]:
    """What an instance was given to run in: there is one pool for all statements."""
    return {"quotaName": "default", "taskName": row.task_name, "status": status_of(row)}


def queueing(instances: Instances, row: InstanceRow, project: str) -> dict[str, object]:
    """An instance among those that wait or run."""
    started = dt.datetime.fromtimestamp(row.created_at, dt.UTC)
    return {
        "instanceId": row.id,
        "instancePriority": priority_of(row),
        "instanceProcess": round(instances.progress(row), 3),
        "jobName": row.task_name,
        "projectName": project,
        "skynetId": "",
        "startTime": f"{started:%Y-%m-%d %H:%M:%S} +0000",
        "taskType": row.kind,
        "taskName": row.task_name,
        "userAccount": row.owner,
        "status": status_of(row),
        "subStatus": [],
        "subStatusHistory": [],
        "waitingTime": 0,
        "totalTime": round((row.ended_at or row.created_at) - row.created_at, 3),
    }


def queueing_page(
    instances: Instances, rows: list[InstanceRow], project: str, marker: str, max_items: int
) -> ET.Element:
    """A page of instances that wait or run."""
    infos = [queueing(instances, row, project) for row in rows if row.kind != SESSION]
    return element(
        "Instances",
        element("Marker", text=marker),
        element("MaxItems", text=str(max_items)),
        element("Content", text=json.dumps(infos, ensure_ascii=False)),
    )
