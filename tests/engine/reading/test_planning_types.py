"""Every Arrow type, through each of the three ways of a read."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fletching.protocol.types.blob_type import blob

ROWS = 96


def _with_nulls(values: list[Any]) -> list[Any]:
    return [None if number % 7 == 3 else value for number, value in enumerate(values)]


def _dates() -> list[Any]:
    return [dt.date(2020, 1, 1) + dt.timedelta(days=i) for i in range(ROWS)]


def zoo() -> dict[str, pa.Array]:
    """One column of each type, most with nulls; lists, strings and views of uneven lengths."""
    numbers = list(range(ROWS))
    texts = ["x" * (number % 29) + str(number) for number in numbers]
    lists = [[number, None, number + 1][: number % 4] for number in numbers]
    structs = [{"a": number, "b": text} for number, text in zip(numbers, texts, strict=True)]
    columns = {
        f"{kind}": pa.array(_with_nulls(numbers), kind)
        for kind in (
            pa.int8(),
            pa.int16(),
            pa.int32(),
            pa.int64(),
            pa.uint8(),
            pa.uint16(),
            pa.uint32(),
            pa.uint64(),
            pa.float32(),
            pa.float64(),
        )
    }
    columns["half"] = pa.array(np.arange(ROWS, dtype=np.float16))
    columns["bool"] = pa.array(_with_nulls([n % 3 == 0 for n in numbers]))
    columns["null"] = pa.nulls(ROWS)
    for name, kind in {
        "string": pa.string(),
        "large_string": pa.large_string(),
        "string_view": pa.string_view(),
        "binary": pa.binary(),
        "large_binary": pa.large_binary(),
        "binary_view": pa.binary_view(),
    }.items():
        columns[name] = pa.array(_with_nulls(texts), pa.string()).cast(kind)
    columns["fixed"] = pa.array([b"%04d" % n for n in numbers], pa.binary(4))
    columns["decimal128"] = pa.array(
        _with_nulls([decimal.Decimal(n) / 4 for n in numbers]), pa.decimal128(10, 2)
    )
    columns["decimal256"] = pa.array([decimal.Decimal(n) for n in numbers], pa.decimal256(60, 5))
    columns["date32"] = pa.array(_with_nulls(_dates()), pa.date32())
    columns["date64"] = pa.array(_dates(), pa.date64())
    for unit in ("s", "ms", "us", "ns"):
        columns[f"ts_{unit}"] = pa.array(_with_nulls(numbers), pa.timestamp(unit))
        columns[f"duration_{unit}"] = pa.array(numbers, pa.duration(unit))
    columns["ts_zoned"] = pa.array(numbers, pa.timestamp("us", "Europe/Berlin"))
    columns["time32"] = pa.array(numbers, pa.time32("ms"))
    columns["time64"] = pa.array(numbers, pa.time64("ns"))
    columns["list"] = pa.array(_with_nulls(lists), pa.list_(pa.int32()))
    columns["large_list"] = pa.array(_with_nulls(lists), pa.large_list(pa.int32()))
    columns["list_view"] = pa.array(lists, pa.list_view(pa.int32()))
    columns["fixed_list"] = pa.array([[n, n + 1] for n in numbers], pa.list_(pa.int16(), 2))
    columns["struct"] = pa.array(_with_nulls(structs))
    columns["map"] = pa.array(
        [[(text, n)] * (n % 3) for n, text in zip(numbers, texts, strict=True)],
        pa.map_(pa.string(), pa.int64()),
    )
    columns["deep"] = pa.array(
        [
            [{"k": item, "v": [text] * (item % 3)} for item in range(number % 5)]
            for number, text in zip(numbers, texts, strict=True)
        ],
        pa.list_(pa.struct([("k", pa.int64()), ("v", pa.list_(pa.string()))])),
    )
    columns["dictionary"] = pa.array(_with_nulls([t[:2] for t in texts])).dictionary_encode()
    columns["dictionary_in_list"] = pa.ListArray.from_arrays(
        pa.array(range(ROWS + 1), pa.int32()), columns["dictionary"]
    )
    columns["run_end"] = pa.RunEndEncodedArray.from_arrays(
        pa.array([10, 50, ROWS], pa.int32()), pa.array(["a", None, "c"])
    )
    columns["sparse_union"] = pa.UnionArray.from_sparse(
        pa.array([n % 2 for n in numbers], pa.int8()),
        [pa.array(numbers, pa.int64()), pa.array(texts)],
    )
    columns["dense_union"] = pa.UnionArray.from_dense(
        pa.array([n % 2 for n in numbers], pa.int8()),
        pa.array([n // 2 for n in numbers], pa.int32()),
        [pa.array(numbers[: ROWS // 2], pa.int64()), pa.array(texts[: ROWS // 2])],
    )
    columns["uuid"] = pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([bytes([n] * 16) for n in numbers], pa.binary(16))
    )
    columns["json"] = pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a":1}'] * ROWS))
    columns["blob"] = pa.ExtensionArray.from_storage(
        blob(), pa.array([text.encode() for text in texts], pa.binary())
    )
    return columns


ZOO = zoo()


@pytest.mark.parametrize("kind", ZOO)
def test_a_column_comes_back_as_it_was_stored(shelf: Any, kind: str) -> None:
    batch = pa.record_batch({"before": range(ROWS), kind: ZOO[kind], "after": range(ROWS)})
    shelf.create(batch.schema)
    shelf.add([batch, batch.slice(5, 40)])
    stored = pa.Table.from_batches([batch, batch.slice(5, 40)])
    session = shelf.session()

    assert values(shelf.read(session)) == values(stored)
    assert values(shelf.read(session, data_columns=(kind,))) == values(stored.select([kind]))
    for request in (
        {"max_batch_rows": 16},
        {"max_batch_rows": 17},
        {"buffer_codec": "zstd"},
        {"buffer_codec": "lz4", "data_columns": (kind, "after")},
    ):
        table = shelf.read(session, **request)
        expected = stored.select(list(request.get("data_columns", stored.column_names)))
        assert values(table) == values(expected), request
    assert values(shelf.read(session, offset=3, count=110)) == values(stored.slice(3, 110))


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("kind", ZOO)
def test_compressed_buffers_are_passed_on_and_can_be_cut(shelf: Any, kind: str, codec: str) -> None:
    batch = pa.record_batch({"before": range(ROWS), kind: ZOO[kind]})
    shelf.create(batch.schema)
    shelf.add([batch], codec=codec)
    stored = pa.Table.from_batches([batch])
    session = shelf.session()
    assert values(shelf.read(session)) == values(stored)
    assert values(shelf.read(session, buffer_codec=codec)) == values(stored)
    assert values(shelf.read(session, data_columns=(kind,))) == values(stored.select([kind]))
    assert values(shelf.read(session, max_batch_rows=40)) == values(stored)


def values(table: pa.Table) -> Any:
    """Schema and rows; unions, views and run ends compare by value."""
    return table.schema.types, table.to_pylist()
