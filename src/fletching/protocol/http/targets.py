"""The ``Target`` query parameter and the storage path."""

from __future__ import annotations

import dataclasses
import re

from fletching.errors import InvalidParameterError
from fletching.protocol.messages.vocabulary import ApiVersion
from fletching.types import DEFAULT_SCHEMA, TableName

__all__ = [
    "BLOB_TARGET",
    "InstanceName",
    "format_instance",
    "format_table",
    "parse_instance",
    "parse_storage_path",
    "parse_table",
    "storage_path",
]

BLOB_TARGET = "generic.blob"
"""The target of BlobRead."""

_TABLE = re.compile(
    r"projects\.(?P<project>[^.]{1,255})(?:\.schemas\.(?P<schema>[^.]{0,255}))?\.tables\.(?P<table>[^.]{1,255})"
)
_INSTANCE = re.compile(r"projects\.(?P<project>[^.]{1,255})\.instances\.(?P<instance>[^.]{1,255})")
_PATH = re.compile(r"(?:/api){0,2}/storage/v(?P<version>[0-9]{1,9})/?")


@dataclasses.dataclass(frozen=True, slots=True)
class InstanceName:
    """An instance (a SQL statement that was run) in its project."""

    project: str
    instance_id: str


def parse_table(target: str) -> TableName:
    """Reads ``projects.p[.schemas.s].tables.t``; without a schema it is the default one.

    Raises:
        InvalidParameterError: the target has another form.
    """
    match = _TABLE.fullmatch(target)
    if match is None:
        raise InvalidParameterError(
            f"Target {target[:200]!r} is not projects.<project>[.schemas.<schema>].tables.<table>"
        )
    return TableName(match["project"], match["table"], match["schema"] or DEFAULT_SCHEMA)


def format_table(table: TableName) -> str:
    """The target of a table; the default schema is left out, as PyODPS does."""
    if table.schema == DEFAULT_SCHEMA:
        return f"projects.{table.project}.tables.{table.name}"
    return f"projects.{table.project}.schemas.{table.schema}.tables.{table.name}"


def parse_instance(target: str) -> InstanceName:
    """Reads ``projects.p.instances.id``.

    Raises:
        InvalidParameterError: the target has another form.
    """
    match = _INSTANCE.fullmatch(target)
    if match is None:
        raise InvalidParameterError(
            f"Target {target[:200]!r} is not projects.<project>.instances.<id>"
        )
    return InstanceName(match["project"], match["instance"])


def format_instance(project: str, instance_id: str) -> str:
    """The target of an instance."""
    return f"projects.{project}.instances.{instance_id}"


def parse_storage_path(path: str) -> ApiVersion | None:
    """The API version of a storage path, or None if the path is not one.

    ``/api/storage/v2`` and ``v3``; a further ``/api`` (an endpoint that already ended in it) or none
    at all is accepted.

    Raises:
        InvalidParameterError: a storage path of a version that is not spoken here.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    try:
        return ApiVersion(int(match["version"]))
    except ValueError:
        spoken = ", ".join(str(int(version)) for version in ApiVersion)
        raise InvalidParameterError(
            f"storage API version {match['version']} is not spoken here; versions: {spoken}"
        ) from None


def storage_path(api_version: ApiVersion) -> str:
    """The path of all storage actions of a version."""
    return f"/api/storage/v{int(api_version)}"
