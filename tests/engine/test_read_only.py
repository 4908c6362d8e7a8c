"""Data folders that can only be read: everything can be read, nothing changes, no byte is written."""

from __future__ import annotations

import os
import pickle
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fletching
from fletching.client import Client
from fletching.engine.engine import Engine
from fletching.engine.read_only import copy_catalog
from fletching.errors import NoPermissionError, StorageError, UsageError

SCHEMA = "id BIGINT, text STRING, picture BLOB"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder with two versions of a table; it must be the same afterwards, and scratch be gone."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    path = tmp_path / "data"
    with fletching.connect(path, create=True) as client:
        table = client.create_table("t", SCHEMA)
        table.append({"id": [1, 2], "text": ["a", None], "picture": [b"one", b"two"]})
        table.append({"id": [3], "text": ["c"], "picture": [b"three"]})
    before = contents(path)
    yield path
    assert contents(path) == before
    assert not list(scratch.glob("fletching-read-only-*"))


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in (folder, *folder.rglob("*"))
    }


@pytest.fixture
def client(folder: Path) -> Iterator[Client]:
    with fletching.connect(folder, read_only=True) as client:
        yield client


def test_everything_can_be_read(client: Client) -> None:
    table = client.table("t")
    assert [each.name for each in client.list_tables()] == ["t"]
    assert table.scan(columns=["id"], filter="id > 1").to_table()["id"].to_pylist() == [2, 3]
    assert table.as_of(1).count_rows() == 2
    cells = table.to_table()["picture"]
    assert [bytes(blob.data) for blob in client.get_blobs(cells) if blob] == [
        b"one",
        b"two",
        b"three",
    ]
    with table.scan().session() as session:
        assert sum(split.to_table().num_rows for split in session.splits(3)) == 3
    copy = pickle.loads(pickle.dumps(table))
    assert copy.count_rows() == 3
    copy.channel.transport.close()


def test_statements_are_answered(client: Client) -> None:
    assert client.sql("select sum(id) s from t").to_table().to_pydict() == {"s": [6]}


CHANGES: dict[str, Any] = {
    "append": lambda client, table: table.append({"id": [4]}),
    "overwrite": lambda client, table: table.overwrite({"id": [4]}),
    "write session": lambda client, table: table.write_session(),
    "stream": lambda client, table: table.stream_writer("s"),
    "delete": lambda client, table: table.delete("id = 1"),
    "update": lambda client, table: table.update({"text": "upper(text)"}),
    "truncate": lambda client, table: table.truncate(),
    "restore": lambda client, table: table.restore(1),
    "tag": lambda client, table: table.create_tag("a", 1),
    "add column": lambda client, table: table.add_columns("more BIGINT"),
    "rename": lambda client, table: table.rename("u"),
    "compact": lambda client, table: table.compact(),
    "create": lambda client, table: client.create_table("u", "id BIGINT"),
    "drop": lambda client, table: client.drop_table("t"),
    "project": lambda client, table: client.create_project(),
    "insert": lambda client, table: client.sql("insert into t values (4, 'd', null)"),
    "create by SQL": lambda client, table: client.sql("create table u as select * from t"),
    "drop by SQL": lambda client, table: client.sql("drop table t"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_no_change_is_taken(client: Client, name: str) -> None:
    table = client.table("t")
    with pytest.raises(NoPermissionError, match="reading only"):
        CHANGES[name](client, table)
    assert client.table("t").count_rows() == 3


def test_no_key_is_made_or_revoked(folder: Path) -> None:
    """It would be acknowledged, and gone with the copy of the catalog."""
    with Engine.open(folder, read_only=True) as engine:
        for change in (
            lambda: engine.access_keys.create(access_id="me"),
            lambda: engine.access_keys.revoke("me"),
            lambda: engine.ensure_project("other"),
        ):
            with pytest.raises(NoPermissionError, match="reading only"):
                change()
        assert not engine.access_keys.all_keys()


def test_a_folder_that_cannot_be_written_to_is_opened_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = os.access

    def denied(path: Any, mode: int, **options: Any) -> bool:
        return allowed(path, mode, **options) and not (Path(path) == folder and mode & os.W_OK)

    monkeypatch.setattr(os, "access", denied)
    with fletching.connect(folder) as client:
        assert client.table("t").count_rows() == 3
        with pytest.raises(NoPermissionError):
            client.table("t").append({"id": [4]})
    with pytest.raises(StorageError, match="cannot be written to"):
        fletching.connect(folder, read_only=False)
    with Engine.open(folder, read_only=None) as engine:
        assert not [problem for checked in engine.verify() for problem in checked.problems]


def test_what_is_said_beside_it_must_make_sense(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="to be made"):
        fletching.connect(tmp_path / "new", create=True, read_only=True)
    with pytest.raises(UsageError, match="for folders"):
        fletching.connect("http://127.0.0.1:1", access_id="a", access_key="b", read_only=True)
    assert not (tmp_path / "new").exists()


def test_what_the_log_of_the_catalog_holds_is_seen(tmp_path: Path) -> None:
    """As beside a writer: the newest commits are in the log, and not in the catalog's own file."""
    with fletching.connect(tmp_path / "data", create=True) as writer:
        table = writer.create_table("t", "id BIGINT")
        table.append({"id": [1]})
        assert (tmp_path / "data" / "catalog.sqlite-wal").stat().st_size > 0
        with fletching.connect(tmp_path / "data", read_only=True) as reader:
            seen = reader.table("t")
            table.append({"id": [2]})
            assert seen.count_rows() == 1, "it is seen as it was when it was opened"


def test_a_catalog_that_cannot_be_copied_whole_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "catalog.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE t (a)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 1000,)] * 100)
    connection.close()
    data = bytearray(file.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    file.write_bytes(data)
    with pytest.raises(StorageError, match="damaged"):
        copy_catalog(file)
