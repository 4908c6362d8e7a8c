from __future__ import annotations

import pytest

from fletching.protocol.http.headers import accepted_codings, lower_case


@pytest.mark.parametrize(
    ("value", "codings"),
    [
        ("", ()),
        ("identity", ()),
        ("zstd", ("zstd",)),
        ("x-lz4-frame,zstd", ("x-lz4-frame", "zstd")),
        (" ZSTD ; q=0.5 , x-lz4-frame", ("x-lz4-frame", "zstd")),
        ("zstd;q=0, *, gzip;q=oops", ()),
        (",,;q=1", ()),
        ("a;q=nan, b;q=1e-1, c;q=0_1, d;q=+1, e;q=1.5, f;q=inf, g;q=0.250", ("g",)),
    ],
)
def test_codings_come_most_wanted_first(value: str, codings: tuple[str, ...]) -> None:
    assert accepted_codings(value) == codings


def test_a_long_list_is_cut() -> None:
    assert len(accepted_codings(",".join(f"c{i}" for i in range(9999)))) == 32


def test_header_names_fold() -> None:
    assert lower_case([("A", "1"), ("a", "2")]) == {"a": "2"}
    assert lower_case({"Content-Type": "x"}) == {"content-type": "x"}
