"""The choice for each batch does not depend on how many are looked at together."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import fletching
from fletching.engine.reading import batch_strategies
from fletching.engine.reading.batch_strategies import BatchStrategy, choose_strategies, windows

SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.float64())])
SIZES = [70_000, 3, 66_000, 140_000, 1, 0, 10]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Three segments of seven batches each, of which some rows are deleted."""
    folder: Path = tmp_path_factory.mktemp("strategies")
    with fletching.connect(folder / "data", create=True) as client:
        made = client.create_table("t", SCHEMA)
        first = 0
        for _ in range(3):
            batches = []
            for size in SIZES:
                numbers = np.arange(first, first + size)
                first += size
                batches.append(pa.record_batch({"a": numbers, "b": numbers * 0.5}))
            made.append(pa.Table.from_batches(batches, SCHEMA))
        made.delete("a >= 600000 AND a < 600010")
        yield client


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 100])
def test_windows_cover_all_batches_once(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(batch_strategies, "WINDOW_BATCHES", size)
    covered = [batch for window in windows(3, 20) for batch in range(window.start, window.stop)]
    assert covered == list(range(3, 20))
    assert list(windows(4, 4)) == []


@pytest.mark.parametrize("size", [1, 3, 5])
def test_filters_choose_the_same_in_windows_of_any_size(
    client: Any, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    table = client.table("t")
    chosen: list[Any] = []

    def spy(*arguments: Any) -> Any:
        result = choose_strategies(*arguments)
        monkeypatch.setattr(batch_strategies, "WINDOW_BATCHES", size)
        again = choose_strategies(*arguments)
        monkeypatch.undo()
        monkeypatch.setattr("fletching.engine.reading.planning.choose_strategies", spy)
        assert again.strategies.tolist() == result.strategies.tolist()
        assert again.hulls == result.hulls
        chosen.append(result)
        return again

    monkeypatch.setattr("fletching.engine.reading.planning.choose_strategies", spy)
    rows = np.setdiff1d(np.arange(3 * sum(SIZES)), np.arange(600_000, 600_010))
    chance = random.Random(size)
    for length in (1, 5, 1_000, 70_000, 300_000, len(rows)):
        first = chance.randrange(max(len(rows) - length, 1))
        wanted = np.count_nonzero((rows >= first) & (rows < first + length))
        where = f"a >= {first} AND a < {first + length}"
        assert table.scan(filter=where).to_table().num_rows == wanted
        assert table.scan(filter=where, limit=7).to_table().num_rows == min(wanted, 7)
        result = client.sql(f"select count(*) c from t where {where} and b >= 0")
        assert result.to_table()["c"].to_pylist() == [wanted]
    kinds = {kind for result in chosen for kind in result.strategies.tolist()}
    assert kinds >= {BatchStrategy.NOT, BatchStrategy.COMPUTE}
    assert any(result.hulls for result in chosen)
