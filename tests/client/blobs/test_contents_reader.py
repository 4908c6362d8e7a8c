"""Contents that are read again and again: asked for once, the same each time, and verified."""

from __future__ import annotations

import base64
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from crc32c import crc32c

import fletching
from fletching.client.blobs import blob_access, contents_reader
from fletching.client.blobs.contents_reader import ContentsReader
from fletching.client.blobs.open_pack import OpenPack
from fletching.errors import CorruptObjectError, DamagedDataError, FletchingError
from fletching.protocol.types import blob_locations

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="abstract Unix sockets are Linux's"
)

IMAGES = [bytes([n]) * (30_000 + n) for n in range(12)]


@pytest.fixture(params=["http", "embedded"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[fletching.Client]:
    if request.param == "embedded":
        with fletching.connect(tmp_path, "p", create=True) as client:
            yield client
        return
    with (
        fletching.serve(tmp_path, port=0, access_keys={"id": "secret"}) as running,
        fletching.connect(
            running.url, "p", create=True, access_id="id", access_key="secret"
        ) as client,
    ):
        yield client


def appended(client: fletching.Client, images: list[bytes | None]) -> pa.ChunkedArray:
    table = client.create_table("t", "id BIGINT, image BLOB", if_not_exists=True)
    before = table.count_rows()
    table.append({"id": range(before, before + len(images)), "image": images})
    return table.scan(["image"], filter=f"id >= {before}").to_table()["image"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many blobs each request was for."""
    asked_for: list[int] = []
    ahead = blob_access.contents_ahead

    def counted(channel: Any, project: str, column: pa.ChunkedArray, **options: Any) -> Any:
        asked_for.append(len(column))
        return ahead(channel, project, column, **options)

    monkeypatch.setattr(contents_reader, "contents_ahead", counted)
    return asked_for


def test_a_pack_that_is_open_is_read_without_a_request(
    client: fletching.Client, asked: list[int]
) -> None:
    first = appended(client, [*IMAGES])
    reader = ContentsReader(client.channel, "p")
    assert list(reader.ahead(first)) == IMAGES
    for order in ([11, 3, 3, 0], []):
        column = first.take(pa.array(order, pa.int64()))
        assert list(reader.ahead(column)) == [IMAGES[n] for n in order]
    assert asked == [12]
    # Of another pack, what it has alone is asked for; and nulls stay where they are.
    second = appended(client, [None, *IMAGES[:5], None, b""])
    both = pa.chunked_array([*first.chunks, *second.chunks])
    for _ in range(2):
        assert list(reader.ahead(both)) == [*IMAGES, None, *IMAGES[:5], None, b""]
    assert asked == [12, 6]
    assert list(reader.ahead(second.slice(0, 1))) == [None]


def test_what_no_reference_tells_is_asked_for(client: fletching.Client, asked: list[int]) -> None:
    texts = [each.decode() for each in appended(client, [*IMAGES]).to_pylist()]
    reader = ContentsReader(client.channel, "p")
    for _ in range(2):
        assert list(reader.ahead(pa.chunked_array([texts]))) == IMAGES
    assert asked == [12, 12]


def test_no_more_packs_than_a_process_may_have_are_kept(
    client: fletching.Client, asked: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = [appended(client, [*IMAGES]) for _ in range(3)]
    monkeypatch.setattr(contents_reader, "KEPT_PACKS", 2)
    reader = ContentsReader(client.channel, "p")
    for index in (0, 1, 0, 2, 0):
        assert list(reader.ahead(columns[index])) == IMAGES
    assert len(asked) == 3
    assert list(reader.ahead(columns[1])) == IMAGES
    assert len(asked) == 4


def test_a_deleted_pack_is_let_go_of_when_another_is_opened(
    client: fletching.Client, asked: list[int], tmp_path: Path
) -> None:
    first = appended(client, [*IMAGES])
    reader = ContentsReader(client.channel, "p")
    assert list(reader.ahead(first)) == IMAGES
    (pack,) = tmp_path.rglob("*.pack")
    copy = pack.read_bytes()
    pack.unlink()
    assert list(reader.ahead(first)) == IMAGES
    assert list(reader.ahead(appended(client, [*IMAGES]))) == IMAGES
    assert asked == [12, 12]
    pack.write_bytes(copy)
    assert list(reader.ahead(first)) == IMAGES
    assert asked == [12, 12, 12]


@pytest.mark.parametrize("change", ["damage", "cut"])
def test_what_is_damaged_is_asked_for_and_the_service_says_so(
    client: fletching.Client, asked: list[int], tmp_path: Path, change: str
) -> None:
    column = appended(client, [*IMAGES])
    reader = ContentsReader(client.channel, "p")
    assert list(reader.ahead(column)) == IMAGES
    (pack,) = tmp_path.rglob("*.pack")
    pack.chmod(0o600)
    if change == "cut":
        os.truncate(pack, pack.stat().st_size - 40_000)
    else:
        with pack.open("r+b") as file:
            file.seek(pack.stat().st_size - 40_000)
            file.write(b"damage")
    contents = reader.ahead(column)
    assert [next(contents) for _ in IMAGES[:10]] == IMAGES[:10]
    with pytest.raises((DamagedDataError, CorruptObjectError)):
        list(contents)
    assert asked[:2] == [12, 1]


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the blobs that were compared with their checksums."""
    lengths: list[int] = []

    def counted(data: bytes) -> int:
        lengths.append(len(data))
        return crc32c(data)

    monkeypatch.setattr(contents_reader, "crc32c", counted)
    return lengths


def test_what_stays_in_memory_is_compared_with_its_checksum_once(
    client: fletching.Client,
    compared: list[int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    column = appended(client, [*IMAGES])
    reader = ContentsReader(client.channel, "p")
    assert list(reader.ahead(column)) == IMAGES

    def comparisons(epochs: int) -> int:
        compared.clear()
        for _ in range(epochs):
            assert list(reader.ahead(column)) == IMAGES
        return len(compared)

    assert comparisons(epochs=3) == len(IMAGES)
    (pack,) = tmp_path.rglob("*.pack")
    os.utime(pack)
    assert comparisons(epochs=3) == len(IMAGES)  # it may be another's now
    with monkeypatch.context() as patch:
        patch.setattr(OpenPack, "_is_absent", lambda *_: True)
        assert comparisons(epochs=3) == 3 * len(IMAGES)  # each time from the disk
    assert comparisons(epochs=3) == 0
    monkeypatch.setattr(contents_reader, "CHECKED_BLOBS", len(IMAGES) - 1)
    assert comparisons(epochs=3) == 3 * len(IMAGES)  # no more are remembered


@pytest.mark.parametrize("field", ["crc32c", "length", "offset"])
def test_what_was_compared_is_nothing_to_a_reference_that_tells_something_else(
    client: fletching.Client, asked: list[int], field: str
) -> None:
    column = appended(client, [*IMAGES])
    reader = ContentsReader(client.channel, "p")
    for _ in range(3):
        assert list(reader.ahead(column)) == IMAGES
    token = np.frombuffer(base64.b64decode(column[0].as_py()), blob_locations._TOKEN)
    forged = token.copy()
    forged[field] -= 1
    text = base64.b64encode(forged.tobytes())
    cells = pa.ExtensionArray.from_storage(column.type, pa.array([text], pa.binary()))
    with pytest.raises(FletchingError):
        list(reader.ahead(pa.chunked_array([cells])))
    assert asked == [12, 1]


def test_the_page_tables_are_bounded(
    client: fletching.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    column = appended(client, [*IMAGES])
    dropped: list[OpenPack] = []
    unmap: Callable[[OpenPack], None] = OpenPack.unmap

    def noted(pack: OpenPack) -> None:
        dropped.append(pack)
        unmap(pack)

    monkeypatch.setattr(OpenPack, "unmap", noted)
    monkeypatch.setattr(contents_reader, "MAPPED_BYTES", 3 * sum(map(len, IMAGES)))
    reader = ContentsReader(client.channel, "p")
    for _ in range(8):
        assert list(reader.ahead(column)) == IMAGES
    assert len(dropped) == 2


def test_what_a_filtered_session_shows_part_of_is_sent_each_time(
    client: fletching.Client, asked: list[int]
) -> None:
    if not hasattr(client.channel.transport, "endpoint"):
        pytest.skip("who is in the engine's process reads its folder anyhow")
    column = appended(client, [*IMAGES])
    with client.table("t").scan(filter="id >= 0").session() as session:
        carried = pa.table({"image": column})["image"]

        reader = ContentsReader(pickle.loads(pickle.dumps(session)).channel, "p")
        for _ in range(2):
            assert list(reader.ahead(carried)) == IMAGES
    assert asked == [12, 12]
