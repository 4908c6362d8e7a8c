"""Changes and history of a table as JSON over HTTP: one path per verb, all POST.

``POST /fletching/v1/projects/{p}/schemas/{s}/tables/{t}/actions/{verb}``; the body has the fields of
the request in `messages.changes`, bytes as base64, partitions as text; the reply is JSON likewise.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fletching.errors import NotFoundError
from fletching.protocol.codec.wire_kinds import parse_partition
from fletching.protocol.messages import changes
from fletching.protocol.messages.admin import TableInfo
from fletching.protocol.messages.requests import Request
from fletching.protocol.messages.responses import Done, Response

__all__ = ["ACTION_REPLIES", "action_body", "action_of", "action_path", "request_of_action"]

_ACTIONS: dict[str, tuple[type[Request], type[Response]]] = {
    "delete": (changes.DeleteRows, changes.Changed),
    "update": (changes.UpdateRows, changes.Changed),
    "merge": (changes.MergeRows, changes.Changed),
    "replace": (changes.ReplaceRows, changes.Changed),
    "truncate": (changes.TruncateTable, changes.Changed),
    "restore": (changes.RestoreTable, changes.Changed),
    "enforce_key": (changes.EnforceKey, changes.Changed),
    "versions": (changes.ListVersions, changes.VersionPage),
    "wait": (changes.WaitForVersion, changes.VersionPage),
    "create_tag": (changes.CreateTag, changes.TagList),
    "tags": (changes.ListTags, changes.TagList),
    "drop_tag": (changes.DropTag, changes.TagList),
    "expire_versions": (changes.ExpireVersions, changes.Expired),
    "compact": (changes.CompactTable, Done),
    "drop_columns": (changes.DropColumns, TableInfo),
    "rename_column": (changes.RenameColumn, TableInfo),
    "alter_column": (changes.AlterColumn, TableInfo),
    "rename": (changes.RenameTable, TableInfo),
    "alter": (changes.AlterTable, TableInfo),
    "touch": (changes.TouchTable, TableInfo),
}
_NAMES = {request: name for name, (request, _) in _ACTIONS.items()}

ACTION_REPLIES: dict[type[Request], type[Response]] = dict(_ACTIONS.values())
"""What each request is answered with."""


def action_path(request: Request) -> str:
    """The path of a request below its table's."""
    return f"/actions/{_NAMES[type(request)]}"


def action_of(name: str) -> type[Request]:
    """The request of a verb.

    Raises:
        NotFoundError: there is no such verb.
    """
    if name not in _ACTIONS:
        raise NotFoundError(f"there is no action {name[:100]!r}")
    return _ACTIONS[name][0]


def action_body(request: Request) -> dict[str, object]:
    """The JSON body of a request: its fields, without those that say nothing."""
    fields: dict[str, object] = msgspec.to_builtins(request)
    del fields["table"]
    partition = fields.get("partition")
    if partition is not None:
        fields["partition"] = str(request.partition)  # type: ignore[attr-defined]  # has the field
    return fields


def request_of_action(
    name: str,
    fields: dict[str, object],
    build: Callable[[type[Request], dict[str, object]], Request],
) -> Request:
    """A request from its verb and JSON body; ``build`` makes it and reports what does not fit."""
    kind = action_of(name)
    partition = fields.get("partition")
    if isinstance(partition, str):
        spec = parse_partition(partition, "partition")
        fields = {**fields, "partition": msgspec.to_builtins(spec)}
    request: Request = build(kind, fields)
    return request
