"""Small batches put together: the same rows in their order, the first at once."""

from __future__ import annotations

import pyarrow as pa
import pytest

from fletching.engine.query import kept_rows
from fletching.engine.query.kept_rows import gathered


def test_small_batches_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_rows, "SMALL_ROWS", 4)
    monkeypatch.setattr(kept_rows, "GATHERED_ROWS", 10)

    def sizes(*counts: int) -> list[int]:
        batches = [pa.record_batch({"n": range(count)}) for count in counts]
        results = list(gathered(iter(batches)))
        assert pa.Table.from_batches(results, batches[0].schema) == pa.Table.from_batches(batches)
        return [batch.num_rows for batch in results]

    # The first goes at once, then more and more are put together.
    assert sizes(*[1] * 20) == [1, 8, 10, 1]
    assert sizes(1, 1, 4, 1, 1, 5) == [1, 1, 4, 2, 5]
    assert sizes(0) == [0]
    monkeypatch.setattr(kept_rows, "GATHERED_BYTES", 16)
    assert sizes(*[1] * 5) == [1, 2, 2]
    coded = pa.record_batch({"d": pa.array(["a"]).dictionary_encode()})
    assert len(list(gathered(iter([coded] * 3)))) == 3
