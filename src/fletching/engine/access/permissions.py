"""What access keys may do to which tables.

A *grant* gives a grantee (an access id, or the owner of several keys) a permission on the tables
that a project pattern and a table pattern match (``*`` and ``?`` as in file names, case-insensitive;
a table pattern with a dot is matched against ``schema.table``). ``admin`` includes ``write``,
``write`` includes ``read``.
"""

from __future__ import annotations

import dataclasses
import enum
import fnmatch
from collections.abc import Mapping, Sequence

from fletching.errors import NoPermissionError
from fletching.protocol.messages import admin, changes, requests
from fletching.protocol.messages.requests import InstanceRequest, Request, TableRequest
from fletching.types import TableName

__all__ = [
    "AccessKey",
    "AccessSnapshot",
    "Grant",
    "Permission",
    "needed_permission",
]


class Permission(enum.StrEnum):
    """What a grant allows; each includes the ones before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    @property
    def rank(self) -> int:
        """Its place in the order."""
        return list(Permission).index(self)


_READS: frozenset[type[Request]] = frozenset(
    {
        requests.CreateReadSession,
        requests.GetReadSession,
        requests.ReadTable,
        requests.PreviewTable,
        requests.ReadBlobs,
        requests.CreateInstanceReadSession,
        requests.GetInstanceReadSession,
        requests.ReadInstance,
        admin.DescribeTable,
        admin.ListTables,
        admin.ListPartitions,
        admin.ListSchemas,
        changes.ListVersions,
        changes.ListTags,
        changes.WaitForVersion,
        # What they do is asked for request by request.
        admin.RunStatement,
        admin.GetStatement,
        admin.CancelStatement,
    }
)
_ADMINISTERS: frozenset[type[Request]] = frozenset(
    {
        admin.CreateTable,
        admin.DropTable,
        admin.AddColumns,
        admin.CreateProject,
        admin.CreateSchema,
        admin.DropSchema,
        changes.AlterColumn,
        changes.AlterTable,
        changes.DropColumns,
        changes.ExpireVersions,
        changes.RenameColumn,
        changes.RenameTable,
    }
)


def needed_permission(kind: type[Request]) -> Permission:
    """What a request's caller must have been granted; one that is not known here needs ``write``."""
    if kind in _READS:
        return Permission.READ
    return Permission.ADMIN if kind in _ADMINISTERS else Permission.WRITE


@dataclasses.dataclass(frozen=True, slots=True)
class Grant:
    """A permission on what two patterns match."""

    grantee: str
    project: str
    table: str
    permission: Permission

    def covers(self, table: TableName) -> bool:
        """Whether a table is among those granted."""
        if not self.covers_project(table.project):
            return False
        # Names are equal as the catalog compares them: case-folded, not only in lower case.
        pattern = self.table.casefold()
        name = table.wanted.name.casefold()
        if "." in pattern:
            return fnmatch.fnmatchcase(f"{table.schema.casefold()}.{name}", pattern)
        return fnmatch.fnmatchcase(name, pattern)

    def covers_all(self, project: str) -> bool:
        """Whether every table of a project is among those granted, those that come later included."""
        return self.table in {"*", "*.*"} and self.covers_project(project)

    def covers_project(self, project: str) -> bool:
        """Whether tables of a project may be among those granted."""
        return fnmatch.fnmatchcase(project.casefold(), self.project.casefold())


@dataclasses.dataclass(frozen=True, slots=True)
class AccessKey:
    """A key, decrypted. Times are seconds since the epoch."""

    access_id: str
    owner: str
    secret: str = dataclasses.field(repr=False)
    security_token: str | None = dataclasses.field(default=None, repr=False)
    """Must come with every request (STS), if the key has one."""
    comment: str = ""
    created_at: float = 0.0
    expires_at: float | None = None
    revoked_at: float | None = None

    def expired(self, now: float) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and now >= self.expires_at


@dataclasses.dataclass(frozen=True, slots=True)
class AccessSnapshot:
    """Keys in use and all grants at one moment. Immutable: asked on every request."""

    keys: Mapping[str, AccessKey]
    grants: Mapping[str, Sequence[Grant]]
    """By grantee."""

    def grants_of(self, key: AccessKey) -> list[Grant]:
        """What a key was granted by its own id or through its owner."""
        result = [*self.grants.get(key.access_id, ())]
        if key.owner != key.access_id:
            result += self.grants.get(key.owner, ())
        return result

    def check(self, key: AccessKey, request: Request) -> None:
        """Refuses a request that the key's grants do not allow.

        What a page lists is left to ``may_read``.

        Raises:
            NoPermissionError: they do not; said before anything is looked up.
        """
        if isinstance(request, requests.ReadBlobs):
            # Which tables they belong to shows when the references are read; those are checked then.
            return
        permission = needed_permission(type(request))
        granted = [g for g in self.grants_of(key) if g.permission.rank >= permission.rank]
        if isinstance(request, TableRequest):
            names = _tables_of(request)
            refused = [name for name in names if not any(g.covers(name) for g in granted)]
            allowed = not refused
            what = f"table {(refused or names)[0]}"
        else:
            project = _project_of(request)
            what = f"project {project}"
            if isinstance(request, admin.CreateProject):
                # Only who may administer all tables of it may make it.
                allowed = any(grant.covers_all(project) for grant in granted)
            elif isinstance(request, admin.CreateSchema | admin.DropSchema):
                allowed = any(grant.covers_all(project) for grant in granted)
            else:
                allowed = any(grant.covers_project(project) for grant in granted)
        if not allowed:
            raise NoPermissionError(f"access key {key.access_id} may not {permission} {what}")

    def may_read_all(self, key: AccessKey, project: str) -> bool:
        """Whether a key may know of everything in a project: no pattern but ``*`` says so."""
        return any(grant.covers_all(project) for grant in self.grants_of(key))

    def may_enter(self, key: AccessKey, project: str) -> bool:
        """Whether a key may know of a project: some table of it may be among those granted."""
        return any(grant.covers_project(project) for grant in self.grants_of(key))

    def may_operate(self, key: AccessKey) -> bool:
        """Whether a key may see and do what concerns the service as a whole: it administers everything."""
        return any(
            grant.project == "*"
            and grant.table in {"*", "*.*"}
            and grant.permission is Permission.ADMIN
            for grant in self.grants_of(key)
        )

    def may_read(self, key: AccessKey, table: TableName) -> bool:
        """Whether a key may know of a table."""
        return any(grant.covers(table) for grant in self.grants_of(key))


def _tables_of(request: TableRequest) -> list[TableName]:
    """The tables that a request names: one that gets another name is a table of that name from then on."""
    table = request.table
    if isinstance(request, changes.RenameTable):
        return [table, TableName(table.project, request.new_name, table.schema)]
    return [table]


def _project_of(request: Request) -> str:
    if isinstance(request, InstanceRequest):
        return request.project
    project = getattr(request, "project", "")
    return project if isinstance(project, str) else ""
