from __future__ import annotations

from pathlib import Path

import pytest

import fletching


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("", "partitions: 2 of 2; segments: 4 of 4"),
        ("WHERE day = 'a'", "partitions: 1 of 2; segments: 2 of 4"),
        ("WHERE id < 5", "partitions: 2 of 2; segments: 2 of 4"),
        ("WHERE id < 5 AND day = 'b'", "partitions: 1 of 2; segments: 1 of 4"),
        ("WHERE id > 1000", "partitions: 0 of 2; segments: 0 of 4"),
    ],
)
def test_explain_says_what_is_left_to_read(tmp_path: Path, where: str, kept: str) -> None:
    pytest.importorskip("duckdb")
    with fletching.connect(str(tmp_path / "data"), create=True) as client:
        table = client.create_table("t", "id BIGINT, day STRING", partition_by=["day"])
        for start in (0, 100):
            table.append({"id": list(range(start, start + 10)), "day": ["a", "b"] * 5})
        text = client.sql(f"EXPLAIN SELECT * FROM t {where}").text
        assert kept in text
