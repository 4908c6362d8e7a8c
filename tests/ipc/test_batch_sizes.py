"""Bytes of a batch's rows, also where pyarrow cannot tell them."""

from __future__ import annotations

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


def test_it_is_what_pyarrow_says() -> None:
    plain = BATCH.select(["number"])
    assert bytes_of(plain) == plain.nbytes


@pytest.mark.parametrize("rows", [1000, 10, 0])
def test_views_in_old_releases(rows: int) -> None:
    batch = BATCH.slice(0, rows)
    text = batch.column(1).cast(pa.large_string())
    assert bytes_of(_Old(batch)) == 8 * rows + text.nbytes


def test_nested_views_in_old_releases() -> None:
    batch = pa.record_batch({"lists": pa.array([["a" * 20]], pa.list_(pa.string_view()))})
    assert bytes_of(_Old(batch)) > 0
