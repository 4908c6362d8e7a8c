from __future__ import annotations

import os

import pytest
from crc32c import crc32c

from fletching.engine.writing import stored_batches
from fletching.engine.writing.stored_batches import StoredBatches


@pytest.mark.parametrize("derived_bytes", [0, 1 << 30])
def test_a_checksum_goes_on_with_any_run_of_messages(
    derived_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_batches, "_DERIVED_BYTES", derived_bytes)
    data = os.urandom(2000)
    ends = [136, 200, 960, 976, 1800]
    spans = list(zip([72, *ends], ends, strict=False))
    batches = StoredBatches(
        memoryview(data),
        [[start, 8, end - start - 8, 1] for start, end in spans],
        [crc32c(data[start:end]) for start, end in spans],
        [crc32c(data[:start]) for start, _ in spans],
        [crc32c(data[:end]) for _, end in spans],
    )
    for first, (start, _) in enumerate(spans):
        for last in range(first, len(spans)):
            assert batches.end(last) == spans[last][1]
            run = data[start : spans[last][1]]
            assert batches.checksum_behind(12345, first, last) == crc32c(run, 12345)
