"""Parameters are bound in pieces: all of them, in order, none too long."""

from __future__ import annotations

import pytest

from fletching.catalog.parameter_chunks import IN_LIMIT, chunks


@pytest.mark.parametrize("count", [0, 1, IN_LIMIT - 1, IN_LIMIT, IN_LIMIT + 1, 3 * IN_LIMIT])
@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_every_value_comes_once_and_in_order(count: int, kind: type) -> None:
    pieces = list(chunks(kind(range(count))))
    assert [value for piece in pieces for value in piece] == list(range(count))
    assert all(0 < len(piece) <= IN_LIMIT for piece in pieces)
    assert len(pieces) == -(-count // IN_LIMIT)
