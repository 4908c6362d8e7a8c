"""What declared types ask of values beyond Arrow's is asked on every way in, and of nothing that is stored already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from fletching.client import Client, Table
from fletching.errors import FletchingError, UsageError
from fletching.protocol.types.arrow_types import arrow_field
from fletching.protocol.types.declared_rules import DeclaredRules
from fletching.protocol.types.odps_types import parse_type

COLUMNS = "id BIGINT NOT NULL, j JSON, a ARRAY<JSON>, n BIGINT"

Write = Callable[[Client, Table, str], Any]


def _session(_: Client, table: Table, text: str) -> None:
    with table.write_session() as session:
        with session.writer("s") as writer:
            writer.write({"id": [7], "j": [text]})
        session.commit()


def _statement(text: str) -> Write:
    return lambda client, _, value: client.sql(text.format(value))


WRITES: dict[str, Write] = {
    "arrow": lambda _, table, text: table.append(pa.table({"id": [7], "j": [text]})),
    "large": lambda _, table, text: table.append(
        pa.table({"id": [7], "j": pa.array([text], pa.large_string())})
    ),
    "bytes": lambda _, table, text: table.append(pa.table({"id": [7], "j": [text.encode()]})),
    "dictionary": lambda _, table, text: table.append(
        pa.table({"id": [7], "j": pa.array([text]).dictionary_encode()})
    ),
    "rows": lambda _, table, text: table.append([{"id": 7, "j": text}]),
    "nested": lambda _, table, text: table.append([{"id": 7, "a": ["1", text]}]),
    "pandas": lambda _, table, text: table.append(pd.DataFrame({"id": [7], "j": [text]})),
    "session": _session,
    "upsert": lambda _, table, text: table.upsert(
        {"id": [1], "j": [text]}, on=["id"], columns=["j"]
    ),
    "overwrite": lambda _, table, text: table.overwrite({"id": [1], "j": [text]}),
    "update": lambda _, table, text: table.update(values={"j": text}, where="id = 1"),
    "expression": lambda _, table, text: table.update({"j": f"'{text}'"}, where="id = 1"),
    "INSERT": _statement("insert into t (id, j) values (7, '{}')"),
    "INSERT of an array": _statement(
        "insert into t (id, a) select 7, array('1', '{}')"
    ),
    "INSERT of a CAST": _statement("insert into t (id, j) select 7, cast('{}' as json)"),
    "UPDATE": _statement("update t set j = '{}' where id = 1"),
    "MERGE": _statement(
        "merge into t t using (select 1 id, '{}' j) s on t.id = s.id"
        " when matched then update set j = s.j"
    ),
}  # fmt: skip


@pytest.mark.parametrize("keyed", [False, True])
def test_every_way_in_refuses_what_is_no_json(client: Client, keyed: bool) -> None:
    table = client.create_table("t", COLUMNS, primary_key=["id"] if keyed else ())
    table.append([{"id": 1, "j": "0", "n": 5}])
    for name, write in WRITES.items():
        sound, version = f'{{"way": ["{name}"]}}', table.versions()[0].version
        with pytest.raises(FletchingError, match=r"takes JSON, and .* none \(.*\(?byte|truncated"):
            write(client, table, sound[:-1])
        assert table.versions()[0].version == version, name
        write(client, table, sound)
        assert sound in str(table.scan().to_table().to_pylist()), name


def test_what_an_earlier_release_took_does_not_stand_in_the_way(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = client.create_table("t", "id BIGINT NOT NULL, j JSON, v VARCHAR(3), n BIGINT")
    old: list[dict[str, Any]] = [
        {"id": i, "j": "{" if i % 2 else "1", "v": "abcd", "n": 0} for i in range(10)
    ]
    with monkeypatch.context() as patched:
        patched.setattr(DeclaredRules, "check", lambda *_: None)
        table.append(old)
    assert table.scan().to_table().to_pylist() == old
    assert table.scan(filter="j = '{'").count() == 5
    table.update(values={"n": 1}, where="id < 2")
    table.update({"n": "n + 1"}, where="id < 2")
    client.sql("update t set n = n + 1 where id < 2")
    client.sql("delete from t where id = 9")
    table.merge({"id": [0, 1], "n": [9, 9]}, on=["id"], when_matched="update", columns=["n"])
    table.compact(purge=True)
    rows = sorted(table.scan().to_table().to_pylist(), key=lambda row: row["id"])
    assert rows == [{**row, "n": 9 if row["id"] < 2 else 0} for row in old[:9]]
    with pytest.raises(FletchingError, match="takes JSON"):
        table.update({"j": "j"}, where="id = 1")
    table.update({"j": "'1'", "v": "'abc'"}, where="id < 10")
    assert set(table.scan(columns=["v"]).to_table()["v"].to_pylist()) == {"abc"}


def test_the_client_says_at_once_what_takes_it_no_time(client: Client) -> None:
    table = client.create_table("t", "v VARCHAR(3)")
    with pytest.raises(UsageError, match=r"up to 3 characters, .* one of 4 in row 1"):
        table.append({"v": ["abc", "abcd"]})


def test_documents_that_are_deep(client: Client) -> None:
    table = client.create_table("t", pa.schema([arrow_field("j", parse_type("json"))]))
    for opening, closing in ("[]", ('{"a":', "}")):
        deep = opening * 500 + "1" + closing * 500
        table.append({"j": [deep]})
        with pytest.raises(FletchingError, match="nests 501 deep, the limit is 500"):
            table.append({"j": ["1", f"[{deep}]"]})
    assert table.scan().count() == 2
