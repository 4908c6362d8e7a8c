from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from fletching.client.tabular.plain_layouts import plain_layouts

INNER = pa.struct([("v", pa.string_view())])
RUNS = pc.run_end_encode(pa.array(["x", "x"]))

ODD = pa.table(
    {
        "a": pa.array(["x", None], pa.string_view()),
        "b": pa.array([b"y", b""], pa.binary_view()),
        "c": pa.array([["x"], None], pa.list_(pa.string_view())),
        "d": pa.array([[("k", {"v": "x"})], None], pa.map_(pa.string_view(), INNER)),
        "e": RUNS,
        "f": pa.array([[b"x"], None], pa.list_(pa.binary_view(), 1)),
        "g": pa.array([["x"], None], pa.large_list(pa.string_view())),
        "h": pa.array([["x"], None], pa.list_view(pa.string_view())),
        "i": pa.array([[[1], []], None], pa.large_list_view(pa.list_view(pa.int8()))),
        "j": pa.StructArray.from_arrays([RUNS], ["v"]),
    },
    metadata={"a": "b"},
)


def test_views_and_run_ends_become_plain() -> None:
    plain = plain_layouts(ODD)
    assert plain.schema.types == [
        pa.string(),
        pa.binary(),
        pa.list_(pa.string()),
        pa.map_(pa.string(), pa.struct([("v", pa.string())])),
        pa.string(),
        pa.list_(pa.binary(), 1),
        pa.large_list(pa.string()),
        pa.list_(pa.string()),
        pa.large_list(pa.list_(pa.int8())),
        pa.struct([("v", pa.string())]),
    ]
    plain.validate(full=True)
    assert plain.to_pylist() == ODD.to_pylist()
    assert plain.schema.metadata == {b"a": b"b"}
    assert plain_layouts(plain) is plain


def test_views_of_texts_may_stay() -> None:
    kept = plain_layouts(ODD, text_views=True)
    assert kept.to_pylist() == ODD.to_pylist()
    assert kept.schema.types[:2] == ODD.schema.types[:2]
    assert kept.schema.types[2:] == plain_layouts(ODD).schema.types[2:]


def test_without_rows_every_column_has_a_chunk() -> None:
    for table in (ODD.slice(0, 0), pa.Table.from_batches([], ODD.schema)):
        assert [column.num_chunks for column in plain_layouts(table).columns] == [1] * 10
