"""Jobs: what a client submits as an instance, read from its XML and given back as it came.

::

    <Instance><Job><Priority>9</Priority><Guid>..</Guid><Tasks>
      <SQL | SQLCost | Merge | SQLRT>
        <Name>..</Name>
        <Config><Property><Name>settings</Name><Value>{json of texts}</Value></Property>..</Config>
        <Query>..</Query>               SQL, SQLCost
        <TableName>..</TableName>       Merge
      </..>
    </Tasks></Job></Instance>

A job has one task. Kinds of tasks that nothing here runs are refused as methods are.
"""

from __future__ import annotations

import dataclasses
import json
import re
from xml.etree import ElementTree as ET

from fletching.engine.query.instances import COST, MERGE, SESSION, SQL, InstanceRow
from fletching.errors import InvalidParameterError, MethodNotAllowedError
from fletching.server.metadata.documents import element, parse_root

__all__ = ["MAX_JOB_BYTES", "Job", "job_document", "parse_job", "parse_settings", "priority_of"]

MAX_JOB_BYTES = 8 * 1024 * 1024 + 512 * 1024
"""Longest body of a job: room for the longest statement that is read, and what stands around it."""

_KINDS = frozenset({SQL, COST, MERGE, SESSION})
_DEFAULT_PRIORITY = 9
_TABLE = re.compile(r"([^\s()]+)\s*(partition\s*\(.*\))?\s*", re.IGNORECASE | re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True)
class Job:
    """A task that a client wants to run.

    Attributes:
        kind: one of those in `fletching.engine.query.instances`.
        task_name: what the client calls it.
        statement: what is to be run; empty for a session.
        settings: the client's, as text.
        source: the job as it came, without the statement.
    """

    kind: str
    task_name: str
    statement: str
    settings: dict[str, str]
    source: str


def parse_job(body: bytes) -> Job:
    """Reads the body of an instance creation.

    Raises:
        InvalidParameterError: it is not one task, or not readable.
        MethodNotAllowedError: its task is of a kind that nothing here runs.
    """
    root = parse_root(body, "Instance")
    tasks = root.find("Job/Tasks")
    elements = [] if tasks is None else list(tasks)
    if len(elements) != 1 or elements[0].tag not in _KINDS:
        others = [task.tag[:40] for task in elements if task.tag not in _KINDS]
        others += [child.tag[:40] for child in root if child.tag != "Job"]
        if others:
            raise MethodNotAllowedError(f"{', '.join(others[:5])}: nothing here runs such tasks")
        raise InvalidParameterError(f"an instance takes one task; this has {len(elements)}")
    task = elements[0]
    settings: dict[str, str] = {}
    for item in task.iterfind("Config/Property"):
        if item.findtext("Name") == "settings":
            settings = parse_settings(item.findtext("Value") or "")
        elif item.findtext("Name") == "archiveSettings":
            raise MethodNotAllowedError("tables cannot be archived: there is one kind of storage")
    statement = (task.findtext("Query") or "").strip()
    if task.tag == MERGE:
        statement = _merge_statement(task, settings)
    query = task.find("Query")
    if query is not None:
        query.text = None
    job = root.find("Job")
    assert job is not None  # the task was found in it
    return Job(
        kind=task.tag,
        task_name=(task.findtext("Name") or f"Anonymous{task.tag}Task").strip()[:200],
        statement=statement,
        settings=settings,
        source=ET.tostring(job, encoding="unicode"),
    )


def _merge_statement(task: ET.Element, settings: dict[str, str]) -> str:
    if "odps.merge.cold.storage.mode" in settings:
        raise MethodNotAllowedError("tables cannot be frozen: there is one kind of storage")
    text = (task.findtext("TableName") or "").strip()
    match = _TABLE.fullmatch(text)
    if match is None:
        raise InvalidParameterError(f"the table to merge is {text[:100]!r}, not a name")
    name = ".".join(f"`{part.strip('`')}`" for part in match[1].split("."))
    return f"ALTER TABLE {name} {match[2] or ''} MERGE SMALLFILES"


def parse_settings(text: str) -> dict[str, str]:
    """Reads the settings of a task.

    Raises:
        InvalidParameterError: they are no JSON object.
    """
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        raise InvalidParameterError("the settings of the task are not JSON") from None
    if not isinstance(value, dict):
        raise InvalidParameterError("the settings of the task are not an object")
    return {str(name): str(setting) for name, setting in value.items()}


def job_document(row: InstanceRow) -> ET.Element:
    """The job of an instance as its client submitted it."""
    if not row.source:
        # Run by a client that speaks another protocol, or by an older release.
        task = element(
            row.kind, element("Name", text=row.task_name), element("Query", text=row.statement)
        )
        return element(
            "Job", element("Priority", text=str(_DEFAULT_PRIORITY)), element("Tasks", task)
        )
    job = ET.fromstring(row.source)  # noqa: S314 - written by us from what was read safely
    for query in job.iterfind("Tasks/*/Query"):
        query.text = row.statement
    return job


def priority_of(row: InstanceRow) -> int:
    """The priority that the client gave a job; nothing here waits by it."""
    text = (job_document(row).findtext("Priority") or "").strip()
    return (
        int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else _DEFAULT_PRIORITY
    )
