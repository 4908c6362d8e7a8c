"""A key that was only declared becomes one that is kept unique, or nothing changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import text
from typer.testing import CliRunner

import fletching
from fletching import faultpoints
from fletching.cli.main import app
from fletching.client import Client, Table
from fletching.engine.writing import keyed_rows
from fletching.errors import ConflictError, InvalidArgumentError, UsageError

SCHEMA = pa.schema([("id", pa.int64()), ("v", pa.string())])


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with fletching.connect(tmp_path / "data", create=True) as opened:
        yield opened


def engine(client: Client) -> Any:
    transport: Any = client.channel.transport
    return transport.engine


def declared(client: Client, ids: list[int | None], **options: Any) -> Table:
    """A table as an earlier release left it: with a key that nobody checked."""
    table = client.create_table("t", SCHEMA, **options)
    database = engine(client).context.database
    with database.write() as connection:
        connection.execute(text("UPDATE tables SET primary_key = '[\"id\"]', keyed = false"))
    table = client.table("t")
    for part in (ids[:3], ids[3:]):
        if part:
            table.append(pa.table({"id": part, "v": [f"v{n}" for n in part]}, SCHEMA))
    return table


def content(table: Table) -> list[tuple[int, str]]:
    rows = table.scan().to_table()
    return list(zip(rows["id"].to_pylist(), rows["v"].to_pylist(), strict=True))


def sound(client: Client) -> bool:
    return not [item for item in engine(client).verify() if item.problems]


@pytest.mark.parametrize("at_once", [1 << 21, 1])
def test_rows_of_one_key_are_found_however_far_apart_they_are(
    client: Client, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyed_rows, "KEYS_AT_ONCE", at_once)
    table = declared(client, [1, 2, 1, 3, 2, 1])
    with pytest.raises(InvalidArgumentError, match="3 rows"):
        table.enforce_primary_key()
    table.enforce_primary_key(keep_last=True)
    assert content(table) == [(3, "v3"), (2, "v2"), (1, "v1")]
    assert sound(client)


def test_a_declared_key_is_kept_unique_from_then_on(client: Client) -> None:
    table = declared(client, [1, 2, 3, 4, 5])
    with pytest.raises(UsageError, match="enforce_primary_key"):
        table.delete_keys({"id": [1]})
    before = table.versions(limit=1)[0].version
    kept = content(table)
    report = table.enforce_primary_key()
    assert (report.version, report.rows_deleted, report.rows_inserted) == (before + 1, 0, 0)
    newest = table.versions(limit=1)[0]
    assert (newest.operation, newest.data_change) == ("enforce key", False)
    assert table.changes(before).to_table().num_rows == 0
    assert content(table) == content(table.as_of(before)) == kept
    assert table.upsert({"id": [2, 9], "v": ["new", "new"]}).rows_updated == 1
    assert table.append({"id": [9], "v": ["again"]}).rows_updated == 1
    assert table.delete_keys({"id": [1, 77]}).rows_deleted == 1
    assert table.count_rows() == 5
    assert table.enforce_primary_key().version == table.versions(limit=1)[0].version
    assert sound(client)


def test_the_last_row_of_a_key_stays_if_that_is_asked_for(client: Client) -> None:
    table = declared(client, [1, 2, 1, 3, 2])
    versions = table.versions()
    with pytest.raises(InvalidArgumentError, match=r"2 rows .* later row"):
        table.enforce_primary_key()
    assert table.versions() == versions
    report = table.enforce_primary_key(keep_last=True)
    assert report.rows_deleted == 2
    assert sorted(content(table)) == [(1, "v1"), (2, "v2"), (3, "v3")]
    assert sound(client)
    assert len(content(table.as_of(versions[0].version))) == 5


def test_the_key_is_unique_within_a_partition(client: Client) -> None:
    table = client.create_table("p", "id BIGINT", partition_by=["d"])
    with engine(client).context.database.write() as connection:
        connection.execute(text("UPDATE tables SET primary_key = '[\"id\"]', keyed = false"))
    table = client.table("p")
    table.append({"id": [1, 2, 1], "d": ["a", "a", "b"]})
    assert table.enforce_primary_key().rows_deleted == 0
    table.upsert({"id": [1], "d": ["b"]})
    assert table.count_rows() == 3
    assert sound(client)


def test_what_cannot_be_a_key_changes_nothing(client: Client) -> None:
    table = declared(client, [1, None, 3])
    versions = table.versions()
    with pytest.raises(InvalidArgumentError, match="null"):
        table.enforce_primary_key()
    assert table.versions() == versions
    with pytest.raises(InvalidArgumentError, match="declares no primary key"):
        client.create_table("none", SCHEMA).enforce_primary_key()
    engine(client).collect()
    assert sound(client)


def test_rows_that_come_meanwhile_are_not_left_without_a_key(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = declared(client, [1, 2, 3])
    session = table.write_session()
    with session.writer() as writer:
        writer.write(pa.table({"id": [50], "v": ["staged"]}, SCHEMA))
    waiting = [lambda: table.append(pa.table({"id": [4], "v": ["v4"]}, SCHEMA))]

    def reach(point: str) -> None:
        if point == "change.segments_durable" and waiting:
            waiting.pop()()

    with monkeypatch.context() as patch:
        patch.setattr(faultpoints, "reach", reach)
        table.enforce_primary_key()
    assert [number for number, _ in content(table)] == [1, 2, 3, 4]
    with pytest.raises(ConflictError, match="write them anew"):
        session.commit()
    table.upsert({"id": [4], "v": ["again"]})
    assert table.count_rows() == 4
    assert sound(client)


def test_the_command(client: Client, tmp_path: Path) -> None:
    declared(client, [1, 1])
    location = ["--at", str(tmp_path / "data")]
    refused = CliRunner().invoke(app, ["enforce-key", "t", *location])
    assert refused.exit_code != 0
    done = CliRunner().invoke(app, ["enforce-key", "t", "--keep-last", "--yes", *location])
    assert done.exit_code == 0, done.stderr
    assert "1 row deleted" in done.stderr
    assert client.table("t").count_rows() == 1
