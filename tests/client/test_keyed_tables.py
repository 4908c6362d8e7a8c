"""Updates, merges, upserts and deletes by key, over HTTP and over a folder alike."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from fletching.client import Client, Table
from fletching.errors import ConflictError, InvalidArgumentError, UsageError

SCHEMA = pa.schema([("id", pa.int64()), ("v", pa.string()), ("n", pa.int64())])


def rows(*ids: int, n: int = 0) -> pa.Table:
    return pa.table(
        {"id": list(ids), "v": [f"v{number}" for number in ids], "n": [n] * len(ids)}, SCHEMA
    )


def values(source: Any) -> dict[Any, Any]:
    result = source.scan() if isinstance(source, Table) else source
    table = result.to_table()
    assert len(set(table["id"].to_pylist())) == table.num_rows
    return dict(zip(table["id"].to_pylist(), table["n"].to_pylist(), strict=True))


@pytest.fixture
def keyed(client: Client) -> Table:
    table = client.create_table("keyed", SCHEMA, primary_key=["id"])
    table.append(rows(1, 2, 3))
    return table


@pytest.fixture
def plain(client: Client) -> Table:
    table = client.create_table("plain", SCHEMA)
    table.append(rows(1, 2, 3))
    return table


# --- updates


def test_an_update_works_everything_out_from_the_old_row(plain: Table) -> None:
    report = plain.update({"id": "n", "n": "id", "v": "upper(concat(v, '!'))"}, where="id > 1")
    assert (report.version, report.rows_updated, int(report)) == (2, 2, 2)
    assert plain.scan().to_table().to_pylist() == [
        {"id": 1, "v": "v1", "n": 0},
        {"id": 0, "v": "V2!", "n": 2},
        {"id": 0, "v": "V3!", "n": 3},
    ]
    assert plain.update(values={"v": "it's", "n": None}, where="n = 3").rows_updated == 1
    assert plain.scan(filter='v = "it\'s"').to_table()["n"].to_pylist() == [None]
    assert plain.update({"n": "1"}, where="v = 'nothing'").rows_updated == 0
    assert len(plain.versions()) == 4
    assert plain.as_of(1).scan().to_table()["id"].to_pylist() == [1, 2, 3]
    assert (
        plain.changes(1, 2).to_table()["_change_type"].to_pylist()
        == ["delete"] * 2 + ["insert"] * 2
    )


def test_an_update_moves_rows_to_another_partition(client: Client) -> None:
    table = client.create_table("moved", SCHEMA, partition_by=["pt"], primary_key=["id"])
    table.append(rows(1, 2), "pt=a")
    table.append(rows(1, 9), "pt=b")
    with pytest.raises(ConflictError):
        table.update(values={"pt": "b"}, where="pt = 'a'")
    assert table.update(values={"pt": "b"}, where="id = 2").rows_updated == 1
    assert [table.count_rows("pt=a"), table.count_rows("pt=b")] == [1, 3]
    assert table.update({"pt": "concat(pt, cast(id as string))"}, where="id = 9").rows_updated == 1
    assert values(table.scan(partitions="pt=b9")) == {9: 0}


@pytest.mark.parametrize(
    ("expressions", "plain_values", "where"),
    [
        ({"nothing": "1"}, None, None),
        ({"n": "nothing + 1"}, None, None),
        ({"n": "sum(n)"}, None, None),
        ({"n": "(select 1)"}, None, None),
        ({"n": "read_text('/etc/passwd')"}, None, None),
        ({"n": ""}, None, None),
        ({"n": "1; drop table x"}, None, None),
        ({"n": "'text'"}, None, None),
        ({"n": "1"}, {"N": 2}, None),
        ({"n": "1"}, None, "nothing"),
    ],
)
def test_an_update_that_cannot_be_changes_nothing(
    plain: Table, expressions: Any, plain_values: Any, where: str | None
) -> None:
    with pytest.raises(InvalidArgumentError):
        plain.update(expressions, values=plain_values, where=where)
    assert values(plain) == {1: 0, 2: 0, 3: 0}
    assert len(plain.versions()) == 2


def test_a_key_is_not_updated(keyed: Table) -> None:
    with pytest.raises(InvalidArgumentError, match="primary key"):
        keyed.update({"id": "id + 1"})
    with pytest.raises(UsageError):
        keyed.update()
    keyed.update({"n": "n + 7"}, where="id = 2")
    keyed.upsert(rows(2, n=8))
    assert values(keyed) == {1: 0, 3: 0, 2: 8}


# --- merges


def test_a_merge_updates_adds_and_deletes(plain: Table) -> None:
    report = plain.merge(rows(2, 4, n=5), on=["id"])
    assert (report.rows_inserted, report.rows_updated, report.rows_deleted) == (1, 1, 0)
    assert values(plain) == {1: 0, 3: 0, 2: 5, 4: 5}
    report = plain.merge(rows(1, 9), on=["id"], when_matched="delete", when_not_matched=None)
    assert (report.rows_inserted, report.rows_updated, report.rows_deleted) == (0, 0, 1)
    report = plain.merge(rows(2, 7, n=6), on=["id"], when_matched=None)
    assert (report.rows_inserted, report.rows_updated, report.rows_deleted) == (1, 0, 0)
    assert values(plain) == {3: 0, 2: 5, 4: 5, 7: 6}
    report = plain.merge(rows(2, 8, n=9), on=["id"], when_not_matched_by_source="delete")
    assert (report.rows_inserted, report.rows_updated, report.rows_deleted) == (1, 1, 3)
    assert values(plain) == {2: 9, 8: 9}
    before = len(plain.versions())
    assert plain.merge(rows(99), on=["id"], when_not_matched=None).version == before - 1
    assert len(plain.versions()) == before


def test_two_rows_for_one_are_refused_by_name(plain: Table) -> None:
    with pytest.raises(InvalidArgumentError, match="id=2"):
        plain.merge(rows(1, 2, 2), on=["id"])
    assert values(plain) == {1: 0, 2: 0, 3: 0}
    report = plain.merge(rows(2, 2), on=["id"], when_matched="delete")
    assert report.rows_deleted == 1
    assert plain.changes(report.version - 1).to_table().num_rows == 1
    # Two that are not there are two rows, in a table without a key.
    assert plain.merge(rows(5, 5), on=["id"]).rows_inserted == 2


def test_null_is_equal_to_nothing(plain: Table) -> None:
    nulls = pa.table({"id": [None, 1], "v": ["x", "y"], "n": [1, 2]}, SCHEMA)
    plain.append(nulls.slice(0, 1))
    report = plain.merge(nulls, on=["id"])
    assert (report.rows_inserted, report.rows_updated) == (1, 1)
    assert plain.count_rows() == 5


def test_a_merge_of_some_columns_keeps_the_others(plain: Table) -> None:
    several = pa.table({"n": [5, 6], "id": [2, 8]})
    report = plain.merge(several, on=["id"], columns=["n"])
    assert (report.rows_inserted, report.rows_updated) == (1, 1)
    result = {row["id"]: (row["v"], row["n"]) for row in plain.scan().to_table().to_pylist()}
    assert result == {1: ("v1", 0), 3: ("v3", 0), 2: ("v2", 5), 8: (None, 6)}
    assert plain.upsert(several, on=["id"], columns=["n"]).rows_updated == 2
    assert plain.count_rows() == 4


def test_a_row_may_replace_several(plain: Table) -> None:
    plain.append(rows(2))
    report = plain.merge(rows(2, n=4), on=["id"])
    assert report.rows_updated == 2
    assert sorted(plain.scan().to_table()["n"].to_pylist()) == [0, 0, 4, 4]


def test_merges_that_cannot_be_change_nothing(plain: Table) -> None:
    refused: list[Callable[[], object]] = [
        lambda: plain.merge(rows(1), on=[]),
        lambda: plain.merge(rows(1), on=["nothing"]),
        lambda: plain.merge(rows(1), on=["id"], when_matched="x"),  # type: ignore[arg-type]
        lambda: plain.merge(rows(1), on=["id"], if_version=0),
        lambda: plain.upsert(rows(1)),
        lambda: plain.delete_keys(rows(1)),
    ]
    for change in refused:
        with pytest.raises((InvalidArgumentError, UsageError, ConflictError)):
            change()
    assert values(plain) == {1: 0, 2: 0, 3: 0}
    assert len(plain.versions()) == 2


def test_overwriting_where_a_predicate_is_true(plain: Table) -> None:
    report = plain.overwrite(rows(2, 7, n=3), where="id IN (2, 3, 7)")
    assert (report.rows_inserted, report.rows_deleted, int(report)) == (2, 2, 2)
    assert values(plain) == {1: 0, 2: 3, 7: 3}
    with pytest.raises(InvalidArgumentError, match="1 of the 2"):
        plain.overwrite(rows(2, 5), where="id = 2")
    assert values(plain) == {1: 0, 2: 3, 7: 3}


# --- keys


def test_the_last_row_of_a_key_wins(keyed: Table) -> None:
    report = keyed.upsert(pa.concat_tables([rows(2, 5, n=1), rows(5, n=2), rows(2, n=3)]))
    assert (report.rows_inserted, report.rows_updated) == (1, 1)
    assert values(keyed) == {1: 0, 3: 0, 5: 2, 2: 3}
    report = keyed.append(rows(3, n=4))
    assert (report.rows_inserted, report.rows_updated) == (0, 1)
    assert values(keyed)[3] == 4
    kinds = keyed.changes(report.version - 1).to_table()["_change_type"].to_pylist()
    assert kinds == ["update_preimage", "update_postimage"]


def test_deleted_keys_need_not_be_there(keyed: Table) -> None:
    report = keyed.delete_keys({"id": [2, 99]})
    assert report.rows_deleted == 1
    assert values(keyed) == {1: 0, 3: 0}
    before = len(keyed.versions())
    assert keyed.delete_keys({"id": [2, 99]}).rows_deleted == 0
    assert len(keyed.versions()) == before
    with pytest.raises(UsageError):
        keyed.delete_keys({"v": ["x"]})


def test_a_key_is_unique_in_its_partition(client: Client) -> None:
    table = client.create_table("parts", SCHEMA, partition_by=["pt"], primary_key=["id"])
    for name in "ab":
        table.upsert(rows(1, 2), partition=f"pt={name}")
    table.upsert(rows(1, n=5), partition="pt=a")
    table.delete_keys({"id": [2], "pt": ["b"]})
    twice = rows(1).append_column("PT", pa.array(["b"]))
    for write in (table.upsert, table.append, table.overwrite):
        with pytest.raises(UsageError, match="the data has column 'PT', whose value the partition"):
            write(twice, partition="pt=a")
    assert values(table.scan(partitions="pt=a")) == {2: 0, 1: 5}
    assert values(table.scan(partitions="pt=b")) == {1: 0}
    table.overwrite(rows(7, 7, n=1), "pt=a")
    assert values(table.scan(partitions="pt=a")) == {7: 1}
    assert values(table.scan(partitions="pt=b")) == {1: 0}


@pytest.mark.parametrize("key", [[], ["id"]], ids=["no key", "key"])
@pytest.mark.parametrize("on", [["id"], ["id", "PT"], ["pt", "id"]], ids=",".join)
def test_an_upsert_keeps_to_partitions_whatever_it_names(
    client: Client, key: list[str], on: list[str]
) -> None:
    table = client.create_table("parts", SCHEMA, partition_by=["pt"], primary_key=key)
    for name in "ab":
        table.append(rows(1, 2), f"pt={name}")
    # The last of a key counts in each partition by itself, wherever the partition came first.
    several = pa.concat_tables([rows(1, 1, 1, n=5), rows(3, 3, n=7)])
    partitions = pa.array(["b", "a", "b", "c", "a"])
    numbered = several.set_column(2, "n", pa.array([4, 5, 6, 7, 8], pa.int64()))
    report = table.upsert(numbered.append_column("pt", partitions), on=on)
    assert (report.rows_inserted, report.rows_updated) == (2, 2)
    assert values(table.scan(partitions="pt=a")) == {2: 0, 1: 5, 3: 8}
    assert values(table.scan(partitions="pt=b")) == {2: 0, 1: 6}
    assert values(table.scan(partitions="pt=c")) == {3: 7}
    chosen = pa.table({"id": [2, 4], "n": [9, 9], "pt": ["b", "b"]})
    report = table.upsert(chosen, on=on, columns=["n"])
    assert (report.rows_inserted, report.rows_updated) == (1, 1)
    report = table.upsert(chosen.select(["id", "n"]), on=on, columns=["n"], partition="pt=c")
    assert (report.rows_inserted, report.rows_updated) == (2, 0)
    assert values(table.scan(partitions="pt=a")) == {2: 0, 1: 5, 3: 8}
    assert values(table.scan(partitions="pt=b")) == {1: 6, 2: 9, 4: 9}
    assert values(table.scan(partitions="pt=c")) == {3: 7, 2: 9, 4: 9}


@pytest.mark.parametrize(
    ("data_type", "keys"),
    [
        (pa.int32(), [1, -2, 3]),
        (pa.string(), ["", "a", "abcdefgh", "abcdefghi", "x" * 50]),
        (pa.binary(), [b"\x00", b"\x00\x00", b"a"]),
        (pa.date32(), [1, 2, 30000]),
        (pa.decimal128(20, 2), [1, 2, 3]),
        (pa.bool_(), [True, False]),
        (pa.timestamp("us"), [1, 2, 3]),
    ],
)
def test_keys_of_every_kind(client: Client, data_type: pa.DataType, keys: list[Any]) -> None:
    schema = pa.schema([("id", data_type), ("n", pa.int64())])
    table = client.create_table("kinds", schema, primary_key=["id"])
    for round_ in range(3):
        table.upsert(pa.table({"id": pa.array(keys, data_type), "n": [round_] * len(keys)}))
    assert set(values(table).values()) == {2}
    assert table.count_rows() == len(keys)
    table.delete_keys(pa.table({"id": pa.array(keys[:1], data_type)}))
    assert table.count_rows() == len(keys) - 1


def test_composite_keys_are_told_apart(client: Client) -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.string()), ("n", pa.int64())])
    table = client.create_table("pairs", schema, primary_key=["a", "b"])
    table.upsert({"a": ["a", "ab", "A"], "b": ["bc", "c", "bc"], "n": [1, 2, 3]})
    assert table.upsert({"a": ["ab"], "b": ["c"], "n": [4]}).rows_updated == 1
    assert sorted(table.scan().to_table()["n"].to_pylist()) == [1, 3, 4]


@pytest.mark.parametrize("data_type", [pa.float64(), pa.list_(pa.int64()), pa.float32()])
def test_unfit_keys_are_refused(client: Client, data_type: pa.DataType) -> None:
    with pytest.raises(InvalidArgumentError, match="id"):
        client.create_table("unfit", pa.schema([("id", data_type)]), primary_key=["id"])


def test_a_null_key_is_refused(keyed: Table) -> None:
    with pytest.raises((InvalidArgumentError, UsageError), match="id"):
        keyed.append(pa.table({"id": [4, None], "v": ["a", "b"], "n": [1, 2]}))
    assert values(keyed) == {1: 0, 2: 0, 3: 0}


@pytest.mark.parametrize("text_key", [False, True])
def test_many_upserts_deletes_and_compactions_are_a_dict(client: Client, text_key: bool) -> None:
    chance = random.Random(3)
    kind = pa.string() if text_key else pa.int64()
    schema = pa.schema([("id", kind), ("n", pa.int64())])
    table = client.create_table("model", schema, primary_key=["id"])
    model: dict[Any, int] = {}
    for round_ in range(25):
        numbers = [chance.randrange(60) for _ in range(chance.randrange(1, 25))]
        keys = [f"key {number}" * (number % 4 + 1) if text_key else number for number in numbers]
        match chance.randrange(8):
            case 0:
                table.delete_keys(pa.table({"id": pa.array(keys, kind)}))
                for key in keys:
                    model.pop(key, None)
            case 1:
                table.compact(purge=chance.random() < 0.5)
            case 2:
                table.update({"n": "n + 100"}, where="n % 2 = 0")
                model = {key: n + 100 * (n % 2 == 0) for key, n in model.items()}
            case 3:
                table.merge(
                    pa.table(
                        {
                            "id": pa.array(list(dict.fromkeys(keys)), kind),
                            "n": [round_] * len(set(keys)),
                        }
                    ),
                    on=["id"],
                    when_not_matched=None,
                )
                model |= {key: round_ for key in keys if key in model}
            case _:
                with table.write_session() as session:
                    for half in (slice(0, 9), slice(9, None)):
                        with session.writer() as writer:
                            writer.write(
                                pa.table(
                                    {"id": pa.array(keys[half], kind), "n": range(len(keys[half]))},
                                    schema,
                                )
                            )
                    # Streams come in the order of their ids.
                for half in (slice(0, 9), slice(9, None)):
                    model |= {key: n for n, key in enumerate(keys[half])}
        assert values(table) == model
        assert table.count_rows() == len(model)
    assert len(model) > 10


def test_streamed_upserts_are_visible_at_once(keyed: Table) -> None:
    with keyed.stream_writer("one") as writer:
        for n in range(1, 4):
            writer.write(rows(2, n=n))
            writer.flush()
            assert values(keyed)[2] == n
    assert keyed.count_rows() == 3
