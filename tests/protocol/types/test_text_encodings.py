from __future__ import annotations

import pytest

from fletching.protocol.types.text_encodings import wide_encoding

TABLE = "id;näme\r\n1;\N{GREEK SMALL LETTER ALPHA}\N{EURO SIGN}\r\n22;x\r\n"


@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_texts_are_told_by_their_zeros(name: str) -> None:
    data = TABLE.encode(name)
    assert wide_encoding(data) == name
    assert wide_encoding(data[:7]) == name  # a last character that is cut does not matter


@pytest.mark.parametrize("name", ["utf-16", "utf-32"])
def test_wide_texts_are_told_by_their_mark(name: str) -> None:
    assert wide_encoding("\N{CJK UNIFIED IDEOGRAPH-4E00}".encode(name)) == name


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a",
        b"id,n\n1,2\n",
        b"a,b\0\n" * 9,
        bytes(64),
        TABLE.encode(),
        TABLE.encode("utf-8-sig"),
    ],
)
def test_other_texts_are_not_wide(data: bytes) -> None:
    assert wide_encoding(data) is None
