"""CSV that ends inside a quoted field is told from CSV that does not."""

from __future__ import annotations

import codecs
import io
import random

import pytest
from pyarrow import csv

from fletching.errors import UsageError
from fletching.protocol.types.quoted_fields import QuotesWatched, has_plain_quotes


def read(text: bytes, size: int = 1 << 20, delimiter: str = ",") -> None:
    watched = QuotesWatched(io.BytesIO(text), "t.csv", delimiter)
    parts = []
    while part := watched.read(size):
        parts.append(part)
    assert b"".join(parts) == text


CUT = [
    (b'a,b\n5,"e', 2, '"e'),
    (b'a,b\n5,"e\n', 2, '"e'),
    (b'a,b\n5,"', 2, '"'),
    (b'a,b\n5,"e""', 2, '"e""'),
    (b'a,b\n5,"e""\n\n\n', 2, '"e""'),
    (b'a,b\n"x ""y"" z",1\n"e ""f"" g', 3, '"e ""f"" g'),
    (b'a,b\n1,"two\nlines"\n2,"e\nf\ng,', 4, '"e'),
    (b'a,b\n1,5" pipe\n2,"e', 3, '"e'),  # as many quotes as there are in a whole file
    (b'a,b\n1,"x"y"z\n2,"k\n', 3, '"k'),
    (b'\xef\xbb\xbf"a,b\n', 1, '"a,b'),
    (b'a,b\r\n5,"e\r\n6,f\r\n', 2, '"e'),
]

WHOLE = [
    b"",
    b"a,b\n1,2",
    b'a,b\n5,"e"',
    b'a,b\n5,"e"\n\n\n',
    b'a,b\n5,"e""f"\n',
    b'a,b\n5,"""e"""\r\n',
    b'a,b\n5,""\n6,""""\n',
    b'a,b\n1,5" pipe\n2,x\n',
    b'a,b\n1, "x\n2,z\n',  # a blank begins the field
    b'a,b\n1,"x"y"\n2,z\n',  # the second quote ended the field; the third is a character
    b'a,b\n1,x""y"\n2,z\n',
    b'a,b\n1,"two\nlines, ""or"" three\n"\n',
    b'\xef\xbb\xbf"a",b\n1,2\n',
]


@pytest.mark.parametrize("size", [1 << 20, 1, 3])
def test_a_text_that_ends_inside_a_quoted_field_is_refused_with_its_place(size: int) -> None:
    for text, line, begins in CUT:
        with pytest.raises(UsageError) as caught:
            read(text if size > 3 else text.removeprefix(codecs.BOM_UTF8), size)
        answered = caught.value.message
        assert f"t.csv ends inside the quoted field that begins on line {line} with " in answered, (
            text
        )
        assert "a closing quote is expected" in answered
        if size > 100:
            assert f"with {begins}:" in answered, text


@pytest.mark.parametrize("size", [1 << 20, 1, 3])
def test_quotes_of_whole_texts_are_no_matter_where_they_stand(size: int) -> None:
    for text in WHOLE:
        read(text if size > 3 else text.removeprefix(codecs.BOM_UTF8), size)
    read(b'a;b\n1,"x;2\n', size, ";")  # not behind a delimiter of this file
    with pytest.raises(UsageError):
        read(b'a;b\n1;"x,2\n', size, ";")


def test_it_agrees_with_the_reader_of_texts_at_random() -> None:
    choice = random.Random(7)
    reported = 0
    for _ in range(1500):
        row = "".join(choice.choices(['"', '""', "x", "\n", '"x"'], k=choice.randint(1, 12)))
        made = csv.read_csv(
            io.BytesIO(f"{row}\nmark".encode()),
            read_options=csv.ReadOptions(column_names=["a"]),
            parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(column_types={"a": "string"}),
        )
        cut = made["a"][-1].as_py() != "mark"  # it is in the field that was open
        try:
            read(row.encode(), choice.choice([1, 2, 5, 100]))
        except UsageError:
            assert cut, row
            reported += 1
        else:
            assert not cut, row
    assert 200 < reported < 1200


def test_only_encodings_whose_quotes_are_bytes_of_ascii_are_watched() -> None:
    for name in ("utf8", "latin-1", "cp1252", "iso8859-15", "koi8-r"):
        assert has_plain_quotes(name), name
    for name in ("utf-16", "utf-16-le", "utf-32", "gbk", "shift_jis", "cp037", "utf-7", "nothere"):
        assert not has_plain_quotes(name), name
