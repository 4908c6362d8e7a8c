"""Bytes of a batch's rows, also where pyarrow cannot tell them."""

from __future__ import annotations

from typing import cast

import pyarrow as pa
import pytest

from fletching.ipc.batch_sizes import bytes_of


class _Old:
    """A batch or an array of a pyarrow that does not know how long views are."""

    def __init__(self, inner: pa.RecordBatch | pa.Array) -> None:
        self._inner = inner

    @property
    def nbytes(self) -> int:
        kinds = [self.type] if hasattr(self._inner, "type") else self._inner.schema.types
        if any(
            kind in {pa.string_view(), pa.binary_view(), pa.list_(pa.string_view())}
            for kind in kinds
        ):
            raise pa.ArrowTypeError("Extracting byte ranges not supported")
        return int(self._inner.nbytes)

    @property
    def columns(self) -> list[_Old]:
        return [_Old(column) for column in self._inner.columns]

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


BATCH = pa.record_batch(
    {
        "number": pa.array(range(1000)),
        "text": pa.array([f"a text of some length, {n}" for n in range(1000)], pa.string_view()),
    }
)


@pytest.fixture
def old_release(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets pyarrow say how long the message of an `_Old` batch is, which all releases can."""
    known = pa.ipc.get_record_batch_size
    monkeypatch.setattr(pa.ipc, "get_record_batch_size", lambda batch: known(batch._inner))


def test_it_is_what_pyarrow_says() -> None:
    plain = BATCH.select(["number"])
    assert bytes_of(plain) == plain.nbytes


@pytest.mark.parametrize("start", [0, 7])
@pytest.mark.parametrize(
    "column",
    [
        pa.array(range(1000)),
        pa.array([None, 1, 2, 3] * 250),
        pa.array([f"text {n}" for n in range(1000)]),
        pa.array([f"text {n % 7}" for n in range(1000)]).dictionary_encode(),
        pa.array([True, False] * 500),
        pa.array([[n, n] for n in range(1000)]),
    ],
    ids=["numbers", "nulls", "text", "dictionary", "booleans", "lists"],
)
def test_rows_that_were_cut_off_do_not_count(column: pa.Array, start: int) -> None:
    batch = pa.record_batch({"column": column})
    for rows in (1000 - start, 10, 1, 0):
        part = batch.slice(start, rows)
        message = pa.ipc.get_record_batch_size(part)
        assert part.nbytes <= bytes_of(part) <= max(part.nbytes, message), rows


def test_whole_batches_are_not_looked_at_column_by_column() -> None:
    class Whole:
        """A batch that does not tell the bytes of its columns."""

        def get_total_buffer_size(self) -> int:
            return 0

        def __getattr__(self, name: str) -> object:
            raise AssertionError(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pa.ipc, "get_record_batch_size", lambda _: 100)
        assert bytes_of(cast("pa.RecordBatch", Whole())) == 0


@pytest.mark.usefixtures("old_release")
@pytest.mark.parametrize("rows", [500, 10, 0])
def test_views_in_old_releases(rows: int) -> None:
    batch = BATCH.slice(0, rows)
    text = batch.column(1).cast(pa.large_string())
    assert bytes_of(_Old(batch)) == 8 * rows + text.nbytes


@pytest.mark.usefixtures("old_release")
def test_nested_views_in_old_releases() -> None:
    lists = pa.array([["a" * 20], ["b" * 30]], pa.list_(pa.string_view()))
    batch = pa.record_batch({"lists": lists}).slice(1)
    assert bytes_of(_Old(batch)) > 0
