from __future__ import annotations

import base64
import io
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fletching.client.blobs.blob_values import (
    CHUNK_BYTES,
    Blob,
    BlobSource,
    content_type_of,
    reference_text,
)
from fletching.errors import UsageError
from fletching.protocol.types.blob_type import blob


def contents(source: BlobSource) -> bytes:
    return b"".join(source.chunks())


class TestSource:
    @pytest.mark.parametrize("data", [b"abc", bytearray(b"abc"), memoryview(b"abc")])
    def test_bytes(self, data: Any) -> None:
        source = BlobSource(data)
        assert (source.length, source.rewindable) == (3, True)
        assert contents(source) == contents(source) == b"abc"

    def test_large_bytes_come_in_views(self) -> None:
        data = bytes(2 * CHUNK_BYTES + 1)
        chunks = list(BlobSource(data).chunks())
        assert [len(chunk) for chunk in chunks] == [CHUNK_BYTES, CHUNK_BYTES, 1]
        assert all(chunk.obj is data for chunk in chunks)

    @pytest.mark.parametrize("as_path", [str, Path])
    def test_paths(self, tmp_path: Path, as_path: Any) -> None:
        path = tmp_path / "photo.png"
        path.write_bytes(b"abc")
        source = BlobSource(as_path(path))
        assert (source.length, source.rewindable) == (3, True)
        assert (source.header.file_name, source.header.content_type) == ("photo.png", "image/png")
        assert contents(source) == contents(source) == b"abc"

    def test_open_files_begin_where_they_stand(self, tmp_path: Path) -> None:
        path = tmp_path / "photo.jpg"
        path.write_bytes(b"0123456789")
        with path.open("rb") as file:
            file.seek(4)
            source = BlobSource(file)
            assert source.length == 6
            assert contents(source) == contents(source) == b"456789"
            assert source.header.content_type == "image/jpeg"

    def test_pipes(self) -> None:
        receive, send = os.pipe()

        def write() -> None:
            with os.fdopen(send, "wb") as file:
                file.write(b"abc" * 1000)

        thread = threading.Thread(target=write)
        thread.start()
        with os.fdopen(receive, "rb") as file:
            source = BlobSource(file)
            assert (source.length, source.rewindable) == (None, False)
            assert contents(source) == b"abc" * 1000
        thread.join()

    def test_what_is_given_wins_over_what_is_guessed(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(b"")
        header = BlobSource(Blob(path, "image/webp"), file_name="b.gif").header
        assert (header.content_type, header.file_name) == ("image/webp", "b.gif")

    @pytest.mark.parametrize("bad", [1, None, [b"x"], io.StringIO("x"), "/no/such/file"])
    def test_what_is_no_blob(self, bad: Any) -> None:
        with pytest.raises(UsageError):
            BlobSource(bad)

    @pytest.mark.parametrize("now", [b"", b"longer than before"])
    def test_a_file_that_changes_its_length(self, tmp_path: Path, now: bytes) -> None:
        path = tmp_path / "x"
        path.write_bytes(b"before")
        source = BlobSource(path)
        path.write_bytes(now)
        with pytest.raises(UsageError, match="changed its length"):
            contents(source)


class TestBlob:
    def test_a_value(self) -> None:
        value = Blob(b"abc", "image/png", "a.png")
        assert (value.size, bytes(value)) == (3, b"abc")
        assert Blob(b"")
        assert value == pickle.loads(pickle.dumps(value))
        assert repr(value) == "<Blob 3 bytes, image/png, a.png>"
        assert "abc" not in repr(value)
        assert repr(Blob(Path("x"))) == "<Blob …>"


TOKEN = bytes([1, 0]) + bytes(range(100, 158))
TEXT = base64.b64encode(TOKEN).decode()


@pytest.mark.parametrize(
    "given",
    [
        TEXT,
        f" {TEXT}\n",
        TEXT.encode(),
        TOKEN,
        memoryview(TOKEN),
        bytearray(TEXT.encode()),
        pa.scalar(TEXT),
        pa.scalar(TOKEN),
        pa.ExtensionArray.from_storage(blob(), pa.array([TEXT.encode()], pa.binary()))[0],
        Blob(b"", reference=TEXT),
    ],
)
def test_references_in_every_spelling(given: Any) -> None:
    assert reference_text(given) == TEXT


@pytest.mark.parametrize(
    "given", [None, "", "  ", b"", 5, Blob(b"x"), pa.scalar(None, pa.string())]
)
def test_what_is_no_reference(given: Any) -> None:
    with pytest.raises(UsageError):
        reference_text(given)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x.csv", "text/csv"),
        ("x.csv.gz", "application/gzip"),
        ("x.json.xz", "application/x-xz"),
        ("x.txt.bz2", "application/x-bzip2"),
        ("folder/x.csv.zst", "application/zstd"),
        ("x.tar.gz", "application/gzip"),
        ("x.svg.gz", "application/gzip"),
        ("a.PARQUET", "application/vnd.apache.parquet"),
        ("a.arrow", "application/vnd.apache.arrow.file"),
        ("a.jsonl", "application/x-ndjson"),
        ("a.png", "image/png"),
        ("noname", None),
    ],
)
def test_a_name_says_what_the_bytes_are_and_not_what_is_in_them(name: str, kind: str) -> None:
    assert content_type_of(name) == kind
