from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import fletching
from fletching import Blob
from fletching.client.blobs import blob_cells
from fletching.client.blobs.blob_cells import with_references
from fletching.client.blobs.blob_values import BlobSource
from fletching.client.tabular.alignment import aligned
from fletching.client.tabular.tabular_data import batches_of
from fletching.errors import UsageError
from fletching.protocol.types.blob_type import blob

TOKEN = b"\x01\x00" + bytes(range(58))
TEXT = base64.b64encode(TOKEN)
SCHEMA = pa.schema([("id", pa.int64()), ("image", blob()), ("more", pa.list_(blob()))])


class Shelf:
    """Stores contents under references that say what they are."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def __call__(self, column: str, contents: Sequence[Any]) -> list[str]:
        self.calls.append((column, len(contents)))
        return [f"{column}:{b''.join(BlobSource(c).chunks()).decode()}" for c in contents]


def rows_of(data: Any, schema: pa.Schema = SCHEMA, shelf: Shelf | None = None) -> list[Any]:
    batches = list(batches_of(with_references(data, schema, shelf or Shelf()), schema))
    return pa.Table.from_batches(batches).to_pylist() if batches else []


class TestCells:
    def test_each_kind(self, tmp_path: Path) -> None:
        path = tmp_path / "f"
        path.write_bytes(b"file")
        cells: list[tuple[Any, bytes | None]] = [
            (None, None),
            ("text", b"text"),
            (TEXT, TEXT),
            (TOKEN, TOKEN),
            (b"raw", b"image:raw"),
            (bytearray(b"raw"), b"image:raw"),
            (memoryview(b"raw"), b"image:raw"),
            (b"", b"image:"),
            (Blob(b"blob"), b"image:blob"),
            (Blob(b"", reference="kept"), b"kept"),
            (Blob(b"a" * 80), b"image:" + b"a" * 80),
            (b"a" * 80, b"image:" + b"a" * 80),
            (b"b" * 60, b"image:" + b"b" * 60),
            (b"*" * 80, b"image:" + b"*" * 80),
            (path, b"image:file"),
            (io.BytesIO(b"open"), b"image:open"),
        ]
        result = rows_of({"image": [given for given, _ in cells]})
        assert [row["image"] for row in result] == [expected for _, expected in cells]

    @pytest.mark.parametrize("bad", [5, 1.5, object(), ["x"]])
    def test_what_no_cell_holds(self, bad: Any) -> None:
        with pytest.raises(UsageError, match="image"):
            rows_of({"image": [bad]})

    @pytest.mark.parametrize("missing", [pd.NA, pd.NaT, pa.scalar(None, pa.binary())], ids=repr)
    def test_what_says_that_there_is_none(self, missing: Any) -> None:
        rows = [{"image": missing, "more": [missing, b"a"]}, {"image": pa.scalar(b"b")}]
        assert [(row["image"], row["more"]) for row in rows_of(rows)] == [
            (None, [None, b"more.element:a"]), (b"image:b", None),
        ]  # fmt: skip

    def test_nested(self) -> None:
        schema = pa.schema(
            [
                ("more", pa.list_(blob())),
                ("by_name", pa.map_(pa.string(), blob())),
                ("pair", pa.struct([("n", pa.int64()), ("b", blob())])),
            ]
        )
        shelf = Shelf()
        (row, empty) = rows_of(
            [
                {
                    "more": [b"1", None, "ref"],
                    "by_name": {"a": b"2"},
                    "pair": {"n": 1, "b": b"3"},
                },
                {"more": None, "by_name": None, "pair": None},
            ],
            schema,
            shelf,
        )
        assert row["more"] == [b"more.element:1", None, b"ref"]
        assert row["by_name"] == [("a", b"by_name.value:2")]
        assert row["pair"] == {"n": 1, "b": b"pair.b:3"}
        assert empty == {"more": None, "by_name": None, "pair": None}
        assert [call[0] for call in shelf.calls] == ["more.element", "by_name.value", "pair.b"]


class TestKindsOfData:
    @pytest.mark.parametrize(
        "data",
        [
            lambda: {"id": [1, 2], "image": [b"a", None]},
            lambda: [{"id": 1, "image": b"a"}, {"id": 2}],
            lambda: ({"id": n, "image": b"a" if n == 1 else None} for n in (1, 2)),
            lambda: ({"id": [n], "image": [b"a" if n == 1 else None]} for n in (1, 2)),
            lambda: pa.table({"id": [1, 2], "image": pa.array([b"a", None])}),
            lambda: pa.table({"id": [1, 2], "IMAGE": pa.array([b"a", None], pa.large_binary())}),
            lambda: [
                pa.record_batch({"id": [n], "image": pa.array([v], pa.binary())})
                for n, v in ((1, b"a"), (2, None))
            ],
            lambda: pd.DataFrame({"id": [1, 2], "image": [b"a", None]}),
            lambda: pl.DataFrame({"id": [1, 2], "image": [b"a", None]}),
        ],
        ids=[
            "columns",
            "rows",
            "row iterator",
            "column iterator",
            "table",
            "case",
            "batches",
            "pandas",
            "polars",
        ],
    )
    def test_rows(self, client: fletching.Client, data: Any) -> None:
        table = client.create_table("pics", SCHEMA)
        assert table.append(data()) == 2
        cells = table.scan(columns=["id", "image"]).to_table()
        assert cells["id"].to_pylist() == [1, 2]
        received = list(client.get_blobs(cells["image"]))
        assert [b and b.data for b in received] == [b"a", None]

    @pytest.mark.parametrize(
        "data",
        [
            [None, {"id": 1}],
            [{"id": 1}, None],
            [{"id": 1, "image": 5}],
            {1: [1]},
            [{1: 1}],
            [{"id": [1], "image": [b"a"]}, 5],
            pd.DataFrame([[1, 2]], columns=["id", "id"]),
        ],
        ids=str,
    )
    def test_what_is_no_table_is_refused(self, data: Any) -> None:
        for given in (data, iter([data])):
            with pytest.raises(UsageError):
                rows_of(given)

    def test_nothing_is_dropped(self) -> None:
        nothing = {"id": None, "image": None, "more": None}
        data: Any
        for data in ([{}, {}], iter([{}, {}]), pd.DataFrame(index=[0, 1])):
            stream = aligned(batches_of(with_references(data, SCHEMA, Shelf()), SCHEMA), SCHEMA)
            assert pa.Table.from_batches(list(stream), SCHEMA).to_pylist() == [nothing] * 2
        mixed = [
            {"id": [1], "image": [b"a"]},
            pa.record_batch({"id": [2], "image": pa.array([b"b"])}),
            pd.DataFrame({"id": [3], "image": [b"c"]}),
        ]
        for order in (mixed[1:], mixed):
            result = rows_of(iter(order))
            assert [(row["id"], row["image"]) for row in result][-2:] == [
                (2, b"image:b"), (3, b"image:c"),
            ]  # fmt: skip
        assert len(result) == 3
        result = rows_of({"id": iter([1]), "image": iter([b"a"])})
        assert [(row["id"], row["image"]) for row in result] == [(1, b"image:a")]
        with pytest.raises(UsageError, match="not a list"):
            rows_of({"id": 1, "image": b"a"})

    def test_rows_whose_first_column_is_a_list(self) -> None:
        schema = pa.schema([("tags", pa.list_(pa.string())), ("image", blob())])
        rows: list[dict[str, Any]] = [
            {"tags": ["x", "y"], "image": b"a"},
            {"tags": [], "image": None},
        ]
        for data in (rows, iter(rows), (dict(reversed(row.items())) for row in rows)):
            shelf = Shelf()
            result = rows_of(data, schema, shelf)
            assert [row["tags"] for row in result] == [["x", "y"], []]
            assert len(shelf.calls) == 1
        columns = {"tags": [["x", "y"], []], "image": [b"a", None]}
        result = rows_of(iter([columns]), schema, Shelf())
        assert [row["tags"] for row in result] == [["x", "y"], []]

    @pytest.mark.parametrize(
        ("pair", "expected"),
        [
            ({"N": 1, "B": b"3"}, {"n": 1, "b": b"pair.b:3"}),
            ({"n": 1, "b": b"3", "z": 2}, None),
            ({"nn": 1}, None),
            ({"b": b"3", "B": b"4"}, None),
            ([1, b"3"], None),
            ({"n": 1.5}, None),
        ],
        ids=str,
    )
    def test_fields_beside_a_blob_are_matched_as_any_other(self, pair: Any, expected: Any) -> None:
        schema = pa.schema([("pair", pa.struct([("n", pa.int64()), ("b", blob())]))])
        if expected is None:
            with pytest.raises(UsageError, match="'pair"):
                rows_of([{"pair": pair}], schema, Shelf())
        else:
            assert rows_of([{"pair": pair}], schema, Shelf())[0]["pair"] == expected

    def test_columns_of_references_are_passed_on(self) -> None:
        shelf = Shelf()
        cells = pa.ExtensionArray.from_storage(blob(), pa.array([b"anything"], pa.binary()))
        table = pa.table({"image": cells})
        assert batches_of(with_references(table, SCHEMA, shelf)).batches
        (row,) = rows_of(table, SCHEMA, shelf)
        assert row["image"] == b"anything"
        assert rows_of({"image": cells}, SCHEMA, shelf)[0]["image"] == b"anything"
        assert shelf.calls == []

    def test_tables_without_blobs_are_left_alone(self) -> None:
        data = {"id": [1]}
        assert with_references(data, pa.schema([("id", pa.int64())]), Shelf()) is data

    def test_no_rows(self, client: fletching.Client) -> None:
        table = client.create_table("pics", SCHEMA)
        assert table.append({"id": [], "image": []}) == 0
        assert table.append(iter(())) == 0
        assert table.append(pa.table({"image": pa.array([], pa.binary())})) == 0

    def test_columns_of_different_lengths(self) -> None:
        with pytest.raises(UsageError, match="different lengths"):
            rows_of({"id": [1, 2], "image": [b"a"]})


class TestBatches:
    def test_contents_are_uploaded_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(blob_cells, "GATHERED_ROWS", 10)
        shelf = Shelf()
        assert len(rows_of({"image": [b"x"] * 25}, SCHEMA, shelf)) == 25
        assert shelf.calls == [("image", 10), ("image", 10), ("image", 5)]

    def test_large_contents_are_not_gathered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(blob_cells, "GATHERED_BYTES", 100)
        shelf = Shelf()
        rows_of({"image": [b"x" * 60, b"y" * 50, b"z" * 200, b""]}, SCHEMA, shelf)
        assert shelf.calls == [("image", 1)] * 4

    def test_large_arrow_batches_are_looked_at_by_parts(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(blob_cells, "GATHERED_BYTES", 1000)
        shelf = Shelf()
        table = pa.table({"image": pa.array([b"x" * 300] * 10, pa.binary())})
        stream = iter(batches_of(with_references(table, SCHEMA, shelf)))
        next(stream)
        assert sum(count for _, count in shelf.calls) <= 4
        assert 1 + sum(1 for _ in stream) >= 3
        assert sum(count for _, count in shelf.calls) == 10

    def test_rows_that_are_only_uploaded_as_they_are_written(self) -> None:
        shelf = Shelf()
        stream = with_references(({"image": b"x"} for _ in range(10_000)), SCHEMA, shelf)
        assert isinstance(stream, Iterable)
        next(iter(stream))
        assert shelf.calls == [("image", blob_cells.GATHERED_ROWS)]


def test_overwriting_uploads_too(client: fletching.Client) -> None:
    table = client.create_table("pics", SCHEMA)
    table.append([{"id": 1, "image": b"old"}])
    table.overwrite([{"id": 2, "image": b"new", "more": [b"1", b"2"]}])
    rows = table.scan().to_table()
    assert [b and b.data for b in client.get_blobs(rows["image"])] == [b"new"]
    (more,) = rows["more"].to_pylist()
    assert [b and b.data for b in client.get_blobs(more)] == [b"1", b"2"]


def test_several_streams(client: fletching.Client) -> None:
    table = client.create_table("pics", SCHEMA)
    table.append(({"id": n, "image": b"%d" % n} for n in range(50)), streams=3)
    rows = table.scan().to_table().sort_by("id")
    assert [b and b.data for b in client.get_blobs(rows["image"])] == [b"%d" % n for n in range(50)]


def test_references_of_another_table_are_refused(client: fletching.Client) -> None:
    first = client.create_table("first", SCHEMA)
    second = client.create_table("second", SCHEMA)
    with first.write_session() as session:
        reference = session.put_blob(b"x", "image")
    with pytest.raises(fletching.FletchingError, match="another table"):
        second.append([{"id": 1, "image": reference}])
    assert second.count_rows() == 0
