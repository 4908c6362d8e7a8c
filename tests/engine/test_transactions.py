"""What no transaction of the catalog may do: wait for the object store, unless it says so and only reads.

Locks of PostgreSQL are held as long as a transaction lasts, and a bucket that hangs may take minutes to say so;
a transaction that says nothing for half a minute is ended by the database.
"""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.catalog.database import Database
from fletching.objects.local import LocalStore


@pytest.fixture
def asked_inside(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Where the store was asked for something inside of a transaction."""
    answers: list[str] = []
    depth = threading.local()

    def counted(method: Any) -> Callable[..., Any]:
        @contextlib.contextmanager
        def transaction(*arguments: Any, **options: Any) -> Iterator[Any]:
            with method(*arguments, **options) as connection:
                waits = not options.get("patient", False)
                depth.now = getattr(depth, "now", 0) + waits
                try:
                    yield connection
                finally:
                    depth.now -= waits

        return transaction

    def noted(name: str, method: Any) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if getattr(depth, "now", 0):
                frames = traceback.extract_stack(limit=12)[:-1]
                answers.append(
                    f"{name}: " + " < ".join(f"{f.name}:{f.lineno}" for f in frames[::-1])
                )
            return method(*arguments, **options)

        return call

    for name in ("read", "write", "trial"):
        monkeypatch.setattr(Database, name, counted(getattr(Database, name)))
    for name in ("create", "open", "delete", "list"):
        monkeypatch.setattr(LocalStore, name, noted(name, getattr(LocalStore, name)))
    return answers


def test_no_transaction_waits_for_the_store(tmp_path: Path, asked_inside: list[str]) -> None:
    with fletching.connect(tmp_path / "data", create=True) as client:
        rows = pa.table({"id": pa.array(range(10), pa.int64()), "text": ["a"] * 10})
        plain = client.create_table("plain", rows.schema)
        engine: Any = plain.channel.transport.engine  # type: ignore[attr-defined]  # embedded
        keyed = client.create_table("keyed", rows.schema, primary_key=["id"])
        parts = client.create_table("parts", rows.schema, partition_by=["p"])
        for number in range(3):
            plain.append(rows)
            keyed.upsert(rows)
            parts.append(rows, partition={"p": str(number)})
        assert plain.scan().to_table().num_rows == 30
        plain.delete("id = 3")
        plain.update({"text": "upper(text)"}, where="id = 4")
        keyed.merge(rows, on=["id"])
        keyed.delete_keys(rows.select(["id"]).slice(0, 2))
        plain.create_tag("one", version=1)
        plain.restore(2)
        parts.overwrite(rows, partition={"p": "0"})
        plain.add_columns({"more": pa.int32()})
        assert plain.changes(since=1).to_table().num_rows
        client.sql("insert into plain select id, text, 1 from keyed")
        assert client.sql("select count(*) as n from plain").to_table()["n"].to_pylist()
        client.create_table("gone", rows.schema).append(rows)
        client.drop_table("gone")
        engine.compact()
        for table in (plain, keyed):
            table.compact(purge=True)
        assert engine.collect(dry_run=True).dry_run
        engine.collect(force=True)
        assert list(engine.verify())
    assert asked_inside == [], "\n".join(asked_inside)


def test_nor_does_one_that_clears_up(house: Any, clock: Any, asked_inside: list[str]) -> None:
    rows = pa.table({"id": [1, 2]})
    house.create(rows.schema)
    house.append(rows)
    house.append(rows, overwrite=True)
    session = house.session()
    house.stream(session)
    house.write(rows, session)
    house.open_read()
    for _ in range(3):
        clock.advance(3 * 86_400)
        assert house.engine.collect(dry_run=True) is not None
        house.engine.collect()
    assert len(house.object_keys()) == 1
    assert asked_inside == [], "\n".join(asked_inside)
