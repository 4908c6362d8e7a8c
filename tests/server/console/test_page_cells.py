from __future__ import annotations

import pyarrow as pa
import pytest

from fletching.protocol.types.blob_type import blob
from fletching.server.console.page_cells import (
    CELL_CHARACTERS,
    PAGE_CHARACTERS,
    cells_of,
    clean,
    references_of,
)


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (pa.array([None], pa.int64()), "null", "null"),
        (pa.array([""]), "empty", "empty text"),
        (pa.array(["x"]), "text", "x"),
        (pa.array([b"\x00\xff"]), "bytes", "x'00ff'"),
        (pa.array([7]), "number", "7"),
        (pa.array([True]), "", "true"),
        (pa.array([float("nan")]), "text", "NaN"),
        (pa.array([[1, None]]), "nested", "[1, null]"),
        (pa.array([{"a": "<b>"}]), "nested", '{"a": "<b>"}'),
        (pa.array(["a\x1b[2J\u202eb"]), "text", "a\ufffd[2J\ufffdb"),
    ],
)
def test_a_value_is_told_apart_from_others(value: pa.Array, kind: str, text: str) -> None:
    ((cell,),) = cells_of(pa.table({"c": value}))
    assert (cell.kind, cell.text, cell.cut) == (kind, text, False)


def test_long_values_are_cut_and_say_so() -> None:
    ((text, data, short),) = cells_of(pa.table({"t": ["x" * 1000], "b": [b"y" * 1000], "s": ["z"]}))
    assert (len(text.text), text.cut, text.text[-1]) == (CELL_CHARACTERS, True, "…")
    assert "(1,000 bytes)" in data.text
    assert not short.cut


def test_a_value_that_just_fits_is_whole() -> None:
    ((cell,),) = cells_of(pa.table({"t": ["x" * CELL_CHARACTERS]}))
    assert (cell.text, cell.cut) == ("x" * CELL_CHARACTERS, False)


def test_a_page_of_long_values_stays_small() -> None:
    rows = pa.table({f"c{n}": ["w" * 500] * 100 for n in range(15)})
    cells = cells_of(rows)
    assert sum(len(cell.text) for row in cells for cell in row) <= 1.1 * PAGE_CHARACTERS


def test_blobs_are_found_by_their_column() -> None:
    array = pa.ExtensionArray.from_storage(blob(), pa.array([b"AAA=", None], pa.binary()))
    assert references_of(pa.table({"id": [1, 2], "b": array})) == {1: ["AAA=", None]}


def test_what_is_no_character_is_replaced() -> None:
    assert clean("a\ud800b\0c\td") == "a\ufffdb\ufffdc\td"
