"""Words that are made of numbers."""

from __future__ import annotations

import pytest

from fletching.errors import InvalidArgumentError
from fletching.protocol.messages.vocabulary import block_stream_id


def test_blocks_and_their_attempts_count_from_zero() -> None:
    assert block_stream_id(3, 0) == "block-3-attempt-0"
    for numbers in ((-1, 0), (0, -1)):
        with pytest.raises(InvalidArgumentError):
            block_stream_id(*numbers)
