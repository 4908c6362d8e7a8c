"""Blobs by their references: whole, by ranges, and what no reference leads to any more."""

from __future__ import annotations

import pytest
from tests.engine.blobs.conftest import TABLE, Shop

from fletching.errors import InvalidArgumentError, NotFoundError, RangeNotSatisfiableError
from fletching.protocol.messages.admin import DropTable
from fletching.protocol.messages.requests import ReadBlobs
from fletching.types import ByteRange

DATA = bytes(range(100))


@pytest.fixture
def reference(shop: Shop) -> str:
    (result,) = shop.upload(
        shop.session(), DATA, content_type="image/png", file_name="a.png"
    ).references
    return str(result)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (None, None, (0, 100)),
        (0, 10, (0, 10)),
        (10, None, (10, 100)),
        (90, 1000, (90, 100)),
        (None, 7, (93, 100)),
        (None, 1000, (0, 100)),
        (99, 100, (99, 100)),
    ],
)
def test_ranges_are_half_open_and_cut_at_the_end(
    shop: Shop, reference: str, start: int | None, end: int | None, expected: tuple[int, int]
) -> None:
    piece = shop.engine.blobs.slice(reference, start, end)
    assert (piece.range, piece.total) == (ByteRange(*expected), 100)
    data = b"".join(bytes(each.object.view(each.start, each.end)) for each in piece.pieces)
    assert data == DATA[expected[0] : expected[1]]
    assert (piece.header.content_type, piece.header.file_name) == ("image/png", "a.png")
    assert piece.table == TABLE


@pytest.mark.parametrize(("start", "end"), [(100, None), (100, 200), (50, 50), (50, 40), (-1, 5)])
def test_a_range_that_holds_no_byte_is_refused_with_the_length(
    shop: Shop, reference: str, start: int, end: int | None
) -> None:
    with pytest.raises(RangeNotSatisfiableError, match="of a blob of 100 bytes"):
        shop.engine.blobs.slice(reference, start, end)


def test_an_empty_blob_is_whole_and_has_no_piece(shop: Shop) -> None:
    (reference,) = shop.upload(shop.session(), b"").references
    piece = shop.engine.blobs.slice(reference)
    assert (piece.total, piece.pieces) == (0, ())


def test_one_blob_has_one_tag_and_another_another(shop: Shop, reference: str) -> None:
    tags = {shop.engine.blobs.slice(reference, start).etag for start in (0, 5, None)}
    assert len(tags) == 1
    (other,) = shop.upload(shop.session(), DATA).references
    assert shop.engine.blobs.slice(other).etag not in tags


def test_the_tables_of_references_are_told_once_each(shop: Shop, reference: str) -> None:
    blobs = shop.engine.blobs
    assert blobs.tables([reference, reference]) == [TABLE]
    request = ReadBlobs(project="p", references=(reference, reference))
    assert blobs.read(request).tables == (TABLE,)


def test_references_are_bounded_known_and_of_tables_that_are_there(
    shop: Shop, reference: str
) -> None:
    blobs = shop.engine.blobs
    limit = shop.engine.context.settings.max_blobs_per_read
    with pytest.raises(InvalidArgumentError, match="no blob reference"):
        blobs.read(ReadBlobs(project="p", references=()))
    with pytest.raises(InvalidArgumentError, match=f"the limit is {limit}"):
        blobs.tables([reference] * (limit + 1))
    for wrong in ("x", reference[:-2] + ("A" if reference[-2] != "A" else "B") + reference[-1]):
        with pytest.raises(NotFoundError):
            blobs.slice(wrong)
    shop.engine.call(DropTable(table=TABLE))
    for ask in (blobs.slice, lambda each: blobs.tables([each])):
        with pytest.raises(NotFoundError, match="was dropped"):
            ask(reference)
