"""The generation of a catalog grows, and knows who made it grow."""

from __future__ import annotations

from sqlalchemy import Connection

from fletching.catalog.generation_rows import Generation, begin_generation, find_generation
from fletching.catalog.leases import release_leases_of


def test_a_generation_has_a_number_and_a_token(rows: Connection) -> None:
    assert find_generation(rows) == Generation(0, "")
    assert begin_generation(rows, "one") == 1
    assert begin_generation(rows, "two") == 2
    assert begin_generation(rows, "nine", above=8) == 9
    assert begin_generation(rows, "generation ten", above=3) == 10
    # It is nobody's lease.
    release_leases_of(rows, ["abc", "0f"])
    assert find_generation(rows) == Generation(10, "generation ten")
