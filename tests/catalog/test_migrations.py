"""Folders that earlier releases wrote open, whole, and can be written to."""

from __future__ import annotations

import re
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from fletching.catalog import migrations
from fletching.catalog.database import Database
from fletching.catalog.schema import metadata
from fletching.engine.engine import Engine
from fletching.protocol.messages.admin import DescribeTable
from fletching.protocol.messages.requests import (
    CommitWriteSession,
    CreateReadSession,
    CreateWriteSession,
    CreateWriteStream,
    ReadTable,
    WriteTable,
)
from fletching.types import TableName

FOLDERS = Path(__file__).with_name("folders")
KEPT = TableName("demo", "kept")
CLOCK = 1_800_000_100.0


def scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def test_the_migrations_end_at_the_newest_revision_in_a_line() -> None:
    assert scripts().get_heads() == [migrations.NEWEST_REVISION]
    names = [path.name for path in Path(migrations.__file__).parent.glob("versions/0*.py")]
    numbers = sorted(int(name[:4]) for name in names)
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_migrations_make_the_tables_of_the_schema(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "catalog.sqlite")
    migrations.upgrade(database, step_by_step=True)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert migrations.current_revision(connection) == migrations.NEWEST_REVISION
    database.close()


@pytest.mark.parametrize("revision", ["0004", "0008", "0010"])
def test_who_knows_the_tables_of_before_can_go_on_with_them(tmp_path: Path, revision: str) -> None:
    """While servers are replaced one by one, the old ones read and insert what they know of."""
    database = Database.open(tmp_path / "catalog.sqlite")
    schemas: list[dict[str, dict[str, Any]]] = []
    for until in (revision, migrations.NEWEST_REVISION):
        migrations.upgrade(database, until, step_by_step=True)
        with database.read() as connection:
            look = inspect(connection)
            schemas.append(
                {
                    table: {column["name"]: column for column in look.get_columns(table)}
                    for table in look.get_table_names()
                }
            )
    database.close()
    before, after = schemas
    assert before.keys() <= after.keys()
    for table, columns in before.items():
        assert columns.keys() <= after[table].keys(), table
        for name, column in after[table].items():
            if name in columns:
                assert str(column["type"]) == str(columns[name]["type"]), (table, name)
                assert column["nullable"] >= columns[name]["nullable"], (table, name)
            else:
                # An insert that does not name it succeeds.
                assert column["nullable"] or column["default"] is not None, (table, name)


def test_a_migration_that_fails_leaves_the_catalog_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "catalog.sqlite"
    database = Database.open(path)
    migrations.upgrade(database, "0001")
    from alembic.operations import Operations

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr(Operations, "add_column", fail)
        with pytest.raises(RuntimeError):
            migrations.upgrade(database)
    with database.read() as connection:
        assert migrations.current_revision(connection) == "0001"
    migrations.upgrade(database)
    database.close()


def folders() -> list[str]:
    return sorted(path.stem for path in FOLDERS.glob("*.zip"))


def test_the_first_release_is_among_the_kept_folders() -> None:
    assert "0001" in folders()


@pytest.mark.parametrize("revision", folders())
def test_a_kept_folder_opens_whole(tmp_path: Path, revision: str) -> None:
    with zipfile.ZipFile(FOLDERS / f"{revision}.zip") as kept:
        kept.extractall(tmp_path)
    with sqlite3.connect(tmp_path / "catalog.sqlite") as before:
        assert before.execute("SELECT version_num FROM alembic_version").fetchone() == (revision,)
    before.close()
    with Engine.open(tmp_path, clock=lambda: CLOCK) as engine:
        call: Any = engine.call
        info = call(DescribeTable(table=KEPT))
        assert (info.rows, info.segments, info.version, info.comment) == (5, 2, 2, "kept")
        assert str(info.table) == "demo.default.Kept"
        assert [item for item in engine.verify() if item.problems] == []
        assert read(engine) == {0: "a", 1: "a", 2: "a", 3: "b", 4: "b"}
        # what that release had begun can be ended, and new rows go on from there
        call(CommitWriteSession(table=KEPT, session_id="ws-open"))
        assert read(engine).keys() == set(range(9))
        append(engine, [100, 101])
        assert read(engine).keys() == {*range(9), 100, 101}
        (report,) = engine.compact(KEPT, min_segments=1)
        assert not report.damaged
        assert engine.collect().skipped == ""
        assert [item for item in engine.verify() if item.problems] == []
        assert read(engine).keys() == {*range(9), 100, 101}


def read(engine: Engine) -> dict[int, str]:
    session: Any = engine.call(CreateReadSession(table=KEPT))
    plan = engine.read(ReadTable(table=KEPT, session_id=session.session_id))
    table = pa.ipc.open_stream(b"".join(bytes(piece) for piece in plan.buffers())).read_all()
    for number, name in zip(table["id"].to_pylist(), table["name"].to_pylist(), strict=True):
        assert re.fullmatch(rf"(row|new) {number}", name)
    return dict(zip(table["id"].to_pylist(), table["pt"].to_pylist(), strict=True))


def append(engine: Engine, numbers: list[int]) -> None:
    call: Any = engine.call
    session = call(CreateWriteSession(table=KEPT)).session_id
    names: dict[str, Any] = {"table": KEPT, "session_id": session, "stream_id": "s"}
    call(CreateWriteStream(**names))
    table = pa.table({
        "id": pa.array(numbers, pa.int64()),
        "name": [f"new {n}" for n in numbers],
        "pt": ["d"] * len(numbers),
    })  # fmt: skip
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    ingest = engine.open_ingest(WriteTable(**names))
    ingest.decoder.feed(sink.getvalue())
    ingest.accept(list(ingest.decoder))
    ingest.finish()
    from fletching.protocol.messages.requests import CloseWriteStream

    call(CloseWriteStream(**names))
    call(CommitWriteSession(table=KEPT, session_id=session))
