"""Files that become rows: looked at first, and stored once that was confirmed."""

from __future__ import annotations

import pyarrow as pa
import pytest
from tests.server.console.conftest import ORDERS, Pages

from fletching.errors import InvalidArgumentError
from fletching.server.console.data import upload_page
from fletching.server.console.data.upload_page import _read_schema


def test_the_page_says_what_it_takes(pages: Pages) -> None:
    for path in ("/upload", f"{ORDERS}/upload"):
        reply = pages(path)
        if reply.status == 404:
            continue
        assert reply.status == 200
        assert 'type="file"' in reply.text
        assert "csrf" in reply.text


def test_nothing_is_taken_without_the_session_s_value(pages: Pages) -> None:
    for path in ("/upload", f"{ORDERS}/upload"):
        assert pages(path, {"table": "x"}).status in {400, 403, 404, 405}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a,A\n1,2\n", "several columns named 'a'"),
        (b"a,\n1,2\n", "without a name"),
        (b"\xff\n", "not readable as csv"),
        (b"\xff\xfe\n", "looks like UTF-16"),
    ],
)
def test_files_that_no_table_can_hold_are_refused(text: bytes, words: str) -> None:
    assert _read_schema("csv", b"a,b\n1,\n") == pa.schema([("a", pa.int64()), ("b", pa.string())])
    with pytest.raises(InvalidArgumentError, match=words):
        _read_schema("csv", text)


def test_the_head_of_a_file_may_end_inside_a_quoted_field(monkeypatch: pytest.MonkeyPatch) -> None:
    piece = b'a,b\n1,"two\nli'
    with pytest.raises(InvalidArgumentError, match="begins on line 2"):
        _read_schema("csv", piece)  # it is all of the file
    monkeypatch.setattr(upload_page, "HEAD_BYTES", len(piece))
    assert _read_schema("csv", piece).names == ["a", "b"]
