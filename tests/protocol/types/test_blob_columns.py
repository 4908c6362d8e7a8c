from __future__ import annotations

import pytest

from fletching.errors import UsageError
from fletching.protocol.messages.responses import Column, TableSchema
from fletching.protocol.types.blob_columns import blob_column_id, blob_column_ids

SCHEMA = TableSchema(
    data_columns=(
        Column(name="id", type="bigint", column_ids=(1,)),
        Column(name="Image", type="blob", column_ids=(2,)),
        Column(name="pages", type="array<blob>", column_ids=(3, 4)),
        Column(
            name="m",
            type="map<string,struct<a:blob,b:array<blob>>>",
            column_ids=tuple(range(5, 11)),
        ),
        Column(name="odd", type="dense_union<0: int8>", column_ids=(11,)),
        Column(name="unnumbered", type="blob"),
    ),
    partition_columns=(Column(name="pt", type="string", column_ids=(12,)),),
)


def test_every_blob_is_found_with_its_path() -> None:
    assert blob_column_ids(SCHEMA) == {
        2: "Image",
        4: "pages.element",
        8: "m.value.a",
        10: "m.value.b.element",
    }


@pytest.mark.parametrize(
    ("path", "id_"),
    [("image", 2), ("IMAGE", 2), ("pages.element", 4), ("pages", 4), ("m.value.b", 10)],
)
def test_a_column_by_its_path(path: str, id_: int) -> None:
    assert blob_column_id(SCHEMA, path) == id_


@pytest.mark.parametrize("path", ["id", "nope", "m", "m.value", None, ""])
def test_what_is_no_single_blob_column_is_refused(path: str | None) -> None:
    with pytest.raises(UsageError, match=r"pages\.element"):
        blob_column_id(SCHEMA, path)


def test_the_only_one_needs_no_name() -> None:
    assert blob_column_id(TableSchema(data_columns=SCHEMA.data_columns[:2]), None) == 2
    with pytest.raises(UsageError, match="none"):
        blob_column_id(TableSchema(data_columns=SCHEMA.data_columns[:1]), None)
