"""Arguments of another type are refused by their names, before anything is asked or written."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.client.argument_checks import mapping_of, names_of, text_of, whole_number
from fletching.errors import UsageError

DATA = pa.table({"id": [1, 2, 3], "s": ["a", "b", "c"]})


def test_whole_numbers() -> None:
    assert whole_number("n", 0) == 0
    assert whole_number("n", 3, least=3) == 3
    for value in (-1, 1.0, "1", None, True):
        with pytest.raises(UsageError, match=r"^n is a whole number from 0 on, not "):
            whole_number("n", value)


def test_texts() -> None:
    assert text_of("n", "") == ""
    for value in (b"x", 1, None):
        with pytest.raises(UsageError, match=r"^n is text, not "):
            text_of("n", value)


def test_lists_of_names() -> None:
    assert names_of("n", None) == ()
    assert names_of("n", "id") == ("id",)
    assert names_of("n", iter(["a", "b"])) == ("a", "b")
    for value in (1, ["a", 1], [None]):
        with pytest.raises(UsageError, match=r"^n is a list of names"):
            names_of("n", value)  # type: ignore[arg-type]


def test_values_by_name() -> None:
    assert mapping_of("n", None) == {}
    given = {"a": 1}
    assert mapping_of("n", given) == given
    assert mapping_of("n", given) is not given
    for value in ("x", [("a", 1)], {1: "a"}):
        with pytest.raises(UsageError, match=r"^n is a dict by name"):
            mapping_of("n", value)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    # As Any: what is tried is what a type checker refuses.
    with fletching.connect(tmp_path_factory.mktemp("arguments") / "data", create=True) as opened:
        opened.create_table("t", DATA)
        yield opened


def session_of(table: Any) -> Any:
    session = table.write_session()
    session.abort()
    return session.__class__(session._channel, table.full_name, session.id)


CALLS: dict[str, Callable[[Any, Any], object]] = {
    "a table's name is text": lambda c, t: c.table(5),
    "prefix is text": lambda c, t: c.list_tables(5),
    "project is text": lambda c, t: c.create_project(5),
    "a statement is text": lambda c, t: c.sql(5),
    "parameters are a list, or a dict": lambda c, t: c.sql("select ?", 5),
    "parameters are a list, or a dict by name, not str": lambda c, t: c.sql("select ?", "x"),
    "a resume token is text": lambda c, t: c.resume(5),
    "buffer_bytes is a whole number from 1": lambda c, t: c.open_blob("x", buffer_bytes=0),
    "properties is a dict": lambda c, t: c.create_table("u", DATA, properties="x"),
    "primary_key is a list of names": lambda c, t: c.create_table("u", DATA, primary_key=[1]),
    "comment is text": lambda c, t: c.create_table("u", DATA, comment=5),
    "if_version is a whole number": lambda c, t: t.append(DATA, if_version="x"),
    "idempotency_key is text": lambda c, t: t.append(DATA, idempotency_key=5),
    "streams is a whole number from 1": lambda c, t: t.append(DATA, streams="2"),
    "rows is a whole number": lambda c, t: t.head("x"),
    "limit is a whole number": lambda c, t: t.versions("x"),
    "limit is a whole number from 0": lambda c, t: t.versions(-1),
    "limit is a whole number from 0 on, not 1.5": lambda c, t: t.scan(limit=1.5),
    "filter takes an SQL predicate": lambda c, t: t.scan(filter=5),
    "where takes an SQL predicate": lambda c, t: t.delete(5),
    "where takes an SQL predicate as text or": lambda c, t: t.overwrite(DATA, where=5),
    "delete needs a predicate": lambda c, t: t.delete(None),
    "expressions is a dict": lambda c, t: t.update("x"),
    "values is a dict": lambda c, t: t.update(values="x"),
    "name is text": lambda c, t: t.create_tag(5),
    "new_name is text": lambda c, t: t.rename(5),
    "a moment is an aware datetime": lambda c, t: t.expire_versions(5),
    "versions cannot be older than": lambda c, t: t.expire_versions(dt.timedelta(days=-1)),
    "properties is a dict by name": lambda c, t: t.set_properties("x"),
    "'x' of properties has a value, and None is none": lambda c, t: t.set_properties({"x": None}),
    "'y' of properties has a value, and b'z' is none": lambda c, t: c.create_table("u", DATA, properties={"y": b"z"}),
    "stream_id is text": lambda c, t: t.stream_writer(5),
    "count of splits is a whole number": lambda c, t: t.scan().splits("x"),
    "row is a whole number": lambda c, t: t.scan().splits()[0].reader("x"),
    "start is a whole number": lambda c, t: t.scan().session().rows("x", 3),
    f"rows is a whole number from 0 on, not {1 << 70}": lambda c, t: t.head(1 << 70),
    "columns is a list of names, and 1": lambda c, t: t.scan().session().splits(columns=[1]),
    "the session reads no column nam;": lambda c, t: t.scan().session().splits(columns="nam"),
    "partition_by is a list of names": lambda c, t: c.create_table("u", DATA, partition_by=[1]),
    "partition_by is a dict by name": lambda c, t: c.create_table("u", DATA, partition_by={1: "x"}),
    "a resume token is no Unicode text": lambda c, t: c.resume("\ud800"),
    "a blob reference is no Unicode text": lambda c, t: c.get_blob("\ud800"),
    "references is a list, not NoneType": lambda c, t: c.blob_reader(None),
    "references is a list, not str": lambda c, t: next(c.get_blobs("x")),
    "blobs is a list, not bytes": lambda c, t: session_of(t).put_blobs(b"x", "s"),
    "cannot read 'a.x00b': embedded null": lambda c, t: session_of(t).put_blob("a\0b"),
    "column is text, not float": lambda c, t: session_of(t).put_blob(b"x", 1.5),
    "content_type is text, not int": lambda c, t: session_of(t).put_blob(b"x", 1, content_type=5),
    "file_name is text, not int": lambda c, t: session_of(t).put_blob(b"x", 1, file_name=5),
    "stream_id is text, not 5": lambda c, t: session_of(t).raw_writer(5),
    "streams is a list, not str": lambda c, t: session_of(t).commit("one"),
    "a stream is a message or an": lambda c, t: session_of(t).commit(["one"]),
}  # fmt: skip


@pytest.mark.parametrize("message", CALLS)
def test_every_verb_refuses_arguments_of_another_type(client: Any, message: str) -> None:
    table = client.table("t")
    before = table.versions()
    with pytest.raises(UsageError, match=message):
        CALLS[message](client, table)
    assert table.reload().versions() == before
    assert [str(each) for each in client.list_tables()] == ["t"]


def test_one_name_stands_for_a_list_of_it(client: Any) -> None:
    table = client.create_table("keyed", DATA, primary_key="id")
    assert table.info.primary_key == ("id",)
    assert table.upsert(DATA, on="id").rows_updated == 3
    client.drop_table("keyed")


def test_filters_are_the_same_wherever_rows_are_chosen(tmp_path: Path) -> None:
    field = pa.compute.field
    with fletching.connect(tmp_path / "data", create=True) as opened:
        table = opened.create_table("t", DATA)
        above = field("id") > 1
        assert table.count_rows(filter=above) == 2
        assert table.scan(filter=above).count() == 2
        assert table.changes(0, filter=above).count() == 2
        assert table.update(values={"s": "x"}, where=above).rows_updated == 2
        assert table.overwrite({"id": [7], "s": ["g"]}, where=field("id") > 2).rows_deleted == 1
        assert table.delete(field("id") == 7).rows_deleted == 1
        assert table.to_table().sort_by("id")["id"].to_pylist() == [1, 2]
