from __future__ import annotations

import pytest

from fletching.errors import InvalidParameterError
from fletching.protocol.http.targets import (
    InstanceName,
    format_instance,
    format_table,
    parse_instance,
    parse_storage_path,
    parse_table,
    storage_path,
)
from fletching.protocol.messages.vocabulary import ApiVersion
from fletching.types import TableName


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("projects.p.tables.t", TableName("p", "t")),
        ("projects.p.schemas.s1.tables.t", TableName("p", "t", "s1")),
    ],
)
def test_tables_have_one_target_each(text: str, table: TableName) -> None:
    assert parse_table(text) == table
    assert format_table(table) == text


def test_the_default_schema_may_be_named_or_empty() -> None:
    assert parse_table("projects.p.schemas.default.tables.t") == TableName("p", "t")
    assert parse_table("projects.p.schemas..tables.t") == TableName("p", "t")


def test_instances_have_one_target_each() -> None:
    assert parse_instance(format_instance("p", "2026a")) == InstanceName("p", "2026a")


@pytest.mark.parametrize(
    "text", ["", "p.t", "projects.p", "projects..tables.t", "projects.p.tables.a.b", "x" * 9999]
)
def test_other_targets_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameterError, match="Target"):
        parse_table(text)
    with pytest.raises(InvalidParameterError, match="Target"):
        parse_instance(text)


@pytest.mark.parametrize("version", list(ApiVersion))
def test_storage_paths_may_repeat_or_lack_api(version: ApiVersion) -> None:
    path = storage_path(version)
    assert parse_storage_path(path) is version
    assert parse_storage_path("/api" + path) is version
    assert parse_storage_path(path.removeprefix("/api")) is version
    assert parse_storage_path("/api/api" + path) is None


def test_other_paths_and_versions() -> None:
    assert parse_storage_path("/api/projects/p/tables/t") is None
    with pytest.raises(InvalidParameterError, match="version 4"):
        parse_storage_path("/api/storage/v4")
