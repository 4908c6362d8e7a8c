"""What is served was proven against the stored checksums, once; damage is an error, not values."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import obstore.store
import pyarrow as pa
import pytest
from crc32c import crc32c
from tests.engine.conftest import T, in_a_folder

import fletching
from fletching.engine.reading import message_checks, segment_reader
from fletching.engine.reading.read_plan import Literal
from fletching.errors import CorruptObjectError, DamagedDataError
from fletching.objects.remote_store import RemoteStore
from fletching.protocol.messages.requests import PreviewTable

SCHEMA = pa.schema([("id", pa.int64()), ("other", pa.int64())])


def rows(count: int, batch: int) -> Any:
    table = pa.table(
        {"id": pa.array(range(count), pa.int64()), "other": pa.array(range(count), pa.int64())},
        schema=SCHEMA,
    )
    return table.to_batches(max_chunksize=batch)


@pytest.fixture
def shelf(open_house: Any) -> Any:
    """Four batches of a thousand rows in one segment."""
    house = open_house()
    house.create(SCHEMA)
    session = house.session()
    house.stream(session)
    house.send(house.stream_bytes(rows(4000, 1000), SCHEMA), session)
    house.close(session)
    house.commit(session)
    return house


def segment(house: Any) -> Path:
    (key,) = house.object_keys()
    return Path(house.engine.context.store.root) / key


def dig(path: Path, start: int, length: int) -> None:
    """A hole, as a torn write or a bad disk leaves it."""
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(length))


@in_a_folder
def test_a_hole_is_an_error_and_not_values(shelf: Any) -> None:
    path = segment(shelf)
    size = path.stat().st_size
    for start in range(4096, size - 4096, 8192):
        kept = path.read_bytes()
        dig(path, start, 512)
        if path.read_bytes() != kept:
            with pytest.raises(CorruptObjectError) as caught:
                shelf.read()
            assert caught.value.key == next(iter(shelf.object_keys()))
            assert "checksum" in str(caught.value) or "footer" in str(caught.value)
        path.write_bytes(kept)
    assert shelf.read()["id"].to_pylist() == list(range(4000))


@in_a_folder
def test_every_flipped_bit_of_a_message_is_found(shelf: Any) -> None:
    path = segment(shelf)
    kept = path.read_bytes()
    generator = np.random.default_rng(7)
    for position in generator.integers(8, len(kept) * 9 // 10, 40).tolist():
        data = bytearray(kept)
        data[position] ^= 1 << int(generator.integers(8))
        path.write_bytes(data)
        with pytest.raises(CorruptObjectError):
            shelf.read()
    path.write_bytes(kept)
    assert shelf.read().num_rows == 4000


@in_a_folder
def test_what_a_query_reads_is_proven_too(shelf: Any) -> None:
    reading = shelf.engine._reading
    (pinned,) = reading.pin([(T, None)])
    dig(segment(shelf), 4096, 64)
    _, batches = pinned.batches(SCHEMA.names, None)
    with pytest.raises(CorruptObjectError):
        list(batches)
    reading.unpin([pinned])


@in_a_folder
def test_other_batches_of_a_damaged_segment_are_served(shelf: Any) -> None:
    dig(segment(shelf), 4096, 64)  # in the first batch
    plan = shelf.plan(offset=2000)
    table = pa.ipc.open_stream(b"".join(bytes(piece) for piece in plan.buffers())).read_all()
    assert table["id"].to_pylist() == list(range(2000, 4000))
    with pytest.raises(CorruptObjectError):
        list(shelf.plan().batches())


@in_a_folder
def test_a_message_is_proven_once_and_again_when_its_file_has_changed(
    shelf: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []

    def counting(data: Any, value: int = 0) -> int:
        counted.append(len(data))
        return int(crc32c(data, value))

    monkeypatch.setattr(message_checks, "crc32c", counting)
    shelf.read()
    assert len(counted) in (4, 5)  # the schema message is made for the reply, not read
    counted.clear()
    for _ in range(3):
        shelf.read()
        list(shelf.plan().batches())
    assert counted == []
    path = segment(shelf)
    os.utime(path, ns=(0, 12345))
    shelf.read()
    assert len(counted) in (4, 5)


@in_a_folder
def test_a_cut_or_longer_segment_says_so_everywhere(shelf: Any) -> None:
    path = segment(shelf)
    kept = path.read_bytes()
    for data in (kept[: len(kept) // 2], kept[:-1], kept + b"x", b""):
        path.write_bytes(data)
        with pytest.raises(CorruptObjectError, match="cut or replaced"):
            shelf.read()
        with pytest.raises(CorruptObjectError, match="cut or replaced"):
            list(shelf.engine.read(PreviewTable(table=shelf.table, limit=5)).buffers())
    path.write_bytes(kept)
    assert shelf.read().num_rows == 4000


@in_a_folder
def test_a_damaged_footer_is_damage(shelf: Any) -> None:
    path = segment(shelf)
    kept = path.read_bytes()
    index = kept.index(b"fletching.crc32c")
    path.write_bytes(kept[:index] + b"F" + kept[index + 1 :])
    with pytest.raises(CorruptObjectError, match="footer"):
        shelf.read()


def test_damage_is_final_for_clients_and_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "data"
    with (
        fletching.serve(folder, access_keys={"i": "s"}) as server,
        fletching.connect(server.url, project="demo", access_id="i", access_key="s") as client,
    ):
        table = client.create_table("t", SCHEMA)
        table.append(pa.Table.from_batches(rows(100_000, 10_000)))
        (path,) = (folder / "objects").rglob("*.arrow")
        kept = path.read_bytes()
        damages = [
            kept[:1_000_000] + bytes(4096) + kept[1_004_096:],  # behind what a first reply brings
            kept[: len(kept) // 2],
        ]
        reads: list[Callable[[], Any]] = [lambda: table.scan().to_table(), lambda: table.head(5)]
        for damaged, read in itertools.product(damages, reads):
            if damaged is damages[0] and read is reads[1]:
                continue  # its first rows are whole
            path.write_bytes(damaged)
            caplog.clear()
            with pytest.raises(DamagedDataError) as caught:
                read()
            assert (caught.value.http_status, caught.value.code) == (500, "DataCorrupted")
            lines = [
                record
                for record in caplog.records
                if record.levelno >= logging.WARNING
                and record.name.startswith("fletching")
                and not record.name.startswith("fletching.client")
            ]
            # One for each request: a reply that had begun is cut, until one begins at the damage.
            requests = {record.getMessage().split(":")[0] for record in lines}
            assert 1 <= len(lines) == len(requests) <= 4, [record.getMessage() for record in lines]
            assert all(record.exc_info is None for record in lines)


def test_rows_that_are_written_again_were_proven(tmp_path: Path) -> None:
    """An update of a damaged segment must not give its bytes a valid checksum."""
    with fletching.connect(tmp_path / "data", project="demo", create=True) as client:
        table = client.create_table("t", SCHEMA)
        table.append(pa.Table.from_batches(rows(100_000, 10_000)))
        (path,) = (tmp_path / "data" / "objects").rglob("*.arrow")
        dig(path, 400_000, 4096)
        with pytest.raises(CorruptObjectError):
            table.update(values={"other": 0}, where="id >= 0")
        assert [item.name for item in (tmp_path / "data" / "objects").rglob("*.arrow")] == [
            path.name
        ]


@pytest.fixture(params=["small", "large"])
def bucket(
    request: pytest.FixtureRequest, open_house: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[Any, Any]:
    """Four batches of a thousand rows in one object of a bucket, fetched whole or by ranges; and the bucket."""
    if request.param == "large":
        monkeypatch.setattr(segment_reader, "WHOLE_BYTES", 0)
    memory = obstore.store.MemoryStore()
    house = open_house(store=RemoteStore(memory))
    house.create(SCHEMA)
    house.append(rows(4000, 1000))
    return house, memory


def flipped(memory: Any, house: Any, position: int) -> Callable[[], object]:
    """Turns a bit of the only segment over; what is returned turns it back."""
    (key,) = house.object_keys()
    kept = bytes(obstore.get(memory, key).bytes())
    data = bytearray(kept)
    data[position] ^= 0x10
    obstore.put(memory, key, bytes(data), use_multipart=False)
    return lambda: obstore.put(memory, key, kept, use_multipart=False)


def sent(house: Any, **settings: Any) -> bytes:
    """What a read sends: where a range is a request, piece by piece."""
    pieces: list[bytes] = []
    for piece in house.plan(**settings).pieces:
        if isinstance(piece, Literal):
            pieces.append(bytes(piece.data))
            continue
        stream = getattr(piece.object, "stream", None)
        views = (
            [piece.object.view(piece.start, piece.end)]
            if stream is None
            else stream(piece.start, piece.end)
        )
        pieces += map(bytes, views)
    return b"".join(pieces)


def test_what_comes_from_a_bucket_is_compared_each_time(bucket: tuple[Any, Any]) -> None:
    house, memory = bucket
    assert pa.ipc.open_stream(sent(house)).read_all()["id"].to_pylist() == list(range(4000))
    for position in (3000, 9000, 20_000, 60_000):
        undo = flipped(memory, house, position)
        for read in (
            lambda: sent(house),
            lambda: list(house.plan().batches()),
            lambda: list(house.plan().buffers()),
        ):
            with pytest.raises(CorruptObjectError, match="fails its checksum"):
                read()
        undo()
    assert house.read()["id"].to_pylist() == list(range(4000))


def test_other_batches_of_a_damaged_object_of_a_bucket_are_served(bucket: tuple[Any, Any]) -> None:
    house, memory = bucket
    flipped(memory, house, 3000)  # in the first batch
    table = pa.ipc.open_stream(sent(house, offset=2000)).read_all()
    assert table["id"].to_pylist() == list(range(2000, 4000))


@pytest.mark.parametrize("size", [1, 7, 64, 1000, 100_000])
def test_messages_are_compared_however_their_bytes_are_cut(size: int) -> None:
    data = bytes(range(256)) * 8
    starts, ends = [8, 24, 40, 512], [24, 40, 512, 2000]
    checks = message_checks._SegmentChecks(
        starts, ends, [crc32c(data[a:b]) for a, b in zip(starts, ends, strict=True)]
    )
    for start, end in ((8, 2000), (24, 512), (30, 2000), (24, 500), (0, 2048), (600, 700)):
        whole = [number for number in range(4) if start <= starts[number] and ends[number] <= end]
        for index in range(start, end, 13 if size > 7 else 211):
            damaged = bytearray(data)
            damaged[index] ^= 1
            comparison = message_checks._Comparison(checks, "key", start)
            view = memoryview(damaged)
            expected = any(starts[number] <= index < ends[number] for number in whole)
            raised = False
            try:
                for at in range(start, end, size):
                    comparison.take(view[at : min(at + size, end)])
            except CorruptObjectError as error:
                raised = error.key == "key"
            assert raised == expected, (start, end, index)
