"""Batches find their partition's segment; small pieces wait for company; dictionaries decide about files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fletching import ipc
from fletching.catalog.write_stream_rows import NewSegment
from fletching.engine.writing import partition_writer
from fletching.engine.writing.partition_writer import PartitionWriter
from fletching.errors import LimitExceededError
from fletching.ipc import lowlevel
from fletching.objects.local import LocalStore

SCHEMA = pa.schema([("id", pa.int64())])
WORDS = pa.schema([("w", pa.dictionary(pa.int8(), pa.string()))])


def ids(*values: int) -> Any:
    return pa.record_batch([pa.array(values, pa.int64())], schema=SCHEMA)


def words(*values: str) -> Any:
    array = pa.array(values).dictionary_encode().cast(WORDS.field("w").type)
    return pa.record_batch([array], schema=WORDS)


class Shelf:
    """A partition writer over a store of its own."""

    def __init__(self, folder: Path, schema: Any = SCHEMA, **options: Any) -> None:
        self.store = LocalStore(folder)
        self.schema = schema
        self.writer = PartitionWriter(
            self.store.create,
            key_prefix="tables/t/body",
            schema=schema,
            schema_message=lowlevel.encode_schema(schema),
            schema_version=3,
            max_partitions=options.get("max_partitions", 10),
        )

    def segments(self) -> dict[str, list[NewSegment]]:
        by_partition: dict[str, list[NewSegment]] = {}
        for segment in self.writer.finish():
            by_partition.setdefault(segment.partition, []).append(segment)
        return by_partition

    def batches(self, segment: NewSegment) -> list[Any]:
        with self.store.open(segment.key) as item:
            file = ipc.open_file(bytes(item.read(0, segment.length)))
            return [file[i] for i in range(len(file))]

    def keys(self) -> list[str]:
        return [info.key for info in self.store.list("tables")]

    def message(self, batch: Any, **options: Any) -> ipc.Message:
        encoder = lowlevel.BatchEncoder(self.schema, **options)
        data = encoder.schema_message + b"".join(
            bytes(piece) for frame in encoder.encode(batch) for piece in frame
        )
        return list(ipc.messages(data))[-1]

    def write_message(self, partition: str, batch: Any, codec: str | None = None) -> None:
        message = self.message(batch, compression=codec)
        self.writer.write_message(
            partition,
            message.frame(),
            metadata_length=message.metadata_length,
            body_length=message.body_length,
            rows=batch.num_rows,
            codec=codec,
            columns=batch.columns,
        )


def test_each_partition_has_a_segment_of_its_own(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.write_message("a", ids(1, 2))
    shelf.write_message("b", ids(3))
    shelf.writer.write_batch("a", ids(4), None)
    segments = shelf.segments()
    assert {name: [s.rows for s in parts] for name, parts in segments.items()} == {
        "a": [3],
        "b": [1],
    }
    (first,) = segments["a"]
    assert [batch["id"].to_pylist() for batch in shelf.batches(first)] == [[1, 2], [4]]
    assert first.schema_version == 3
    assert first.statistics is not None
    assert sorted(shelf.keys()) == sorted(s.key for parts in segments.values() for s in parts)


def test_too_many_partitions_are_refused(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, max_partitions=2)
    shelf.write_message("a", ids(1))
    shelf.writer.write_part("b", ids(1), None)
    shelf.write_message("a", ids(2))
    with pytest.raises(LimitExceededError, match="too many partitions"):
        shelf.writer.write_batch("c", ids(1), None)


def test_small_pieces_are_put_together_in_their_order(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for number in range(5):
        shelf.writer.write_part("a", ids(number), None)
        shelf.writer.write_part("b", ids(-number), None)
    segments = shelf.segments()
    assert [b["id"].to_pylist() for b in shelf.batches(segments["a"][0])] == [[0, 1, 2, 3, 4]]
    assert [b["id"].to_pylist() for b in shelf.batches(segments["b"][0])] == [[0, -1, -2, -3, -4]]


def test_pieces_of_other_codecs_are_other_batches(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for codec in (None, None, "lz4", None):
        shelf.writer.write_part("a", ids(1), codec)
    (segment,) = shelf.segments()["a"]
    assert [batch.num_rows for batch in shelf.batches(segment)] == [2, 1, 1]
    assert segment.codecs == "lz4,none"


@pytest.mark.parametrize(
    ("codecs", "recorded"),
    [
        ((None, None), ""),
        (("lz4",), "lz4"),
        ((None, "lz4"), "lz4,none"),
        (("lz4", None), "lz4,none"),
        (("zstd", "lz4", None), "lz4,none,zstd"),
    ],
)
def test_a_segment_says_every_codec_that_it_has(
    tmp_path: Path, codecs: tuple[str | None, ...], recorded: str
) -> None:
    shelf = Shelf(tmp_path)
    for codec in codecs:
        shelf.write_message("a", ids(*range(2000)), codec)
    (segment,) = shelf.segments()["a"]
    assert segment.codecs == recorded


def test_waiting_pieces_come_before_what_follows_them(tmp_path: Path) -> None:
    for follow in ("message", "batch"):
        shelf = Shelf(tmp_path / follow)
        shelf.writer.write_part("a", ids(1), None)
        if follow == "message":
            shelf.write_message("a", ids(2))
        else:
            shelf.writer.write_batch("a", ids(2), None)
        shelf.writer.write_part("a", ids(3), None)
        (segment,) = shelf.segments()["a"]
        assert [b["id"].to_pylist() for b in shelf.batches(segment)] == [[1], [2], [3]]


@pytest.mark.parametrize("limit", ["_PENDING_ROWS", "_PENDING_BYTES", "_TOTAL_PENDING_BYTES"])
def test_waiting_pieces_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(partition_writer, limit, {"_PENDING_ROWS": 3}.get(limit, 24))
    shelf = Shelf(tmp_path)
    for number in range(7):
        shelf.writer.write_part("a", ids(number), None)
    (segment,) = shelf.segments()["a"]
    assert [batch.num_rows for batch in shelf.batches(segment)] == [3, 3, 1]


def test_pieces_of_all_partitions_count_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partition_writer, "_TOTAL_PENDING_BYTES", 32)
    shelf = Shelf(tmp_path)
    for number in range(4):
        for partition in "ab":
            shelf.writer.write_part(partition, ids(number), None)
    for parts in shelf.segments().values():
        assert [batch.num_rows for batch in shelf.batches(parts[0])] == [2, 2]


def test_a_replaced_dictionary_begins_a_segment(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, WORDS)
    for batch in (words("x", "y"), words("x", "y"), words("q")):
        shelf.writer.write_batch("a", batch, None)
    segments = shelf.segments()["a"]
    rows = [b["w"].to_pylist() for s in segments for b in shelf.batches(s)]
    assert rows == [["x", "y"], ["x", "y"], ["q"]]
    assert [segment.rows for segment in segments] == [4, 1]


def test_pieces_with_dictionaries_are_not_joined(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, WORDS)
    for batch in (words("x"), words("y"), words("x")):
        shelf.writer.write_part("a", batch, None)
    rows = [b["w"].to_pylist() for s in shelf.segments()["a"] for b in shelf.batches(s)]
    assert rows == [["x"], ["y"], ["x"]]


def test_another_codec_with_dictionaries_begins_a_segment(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, WORDS)
    for codec in (None, "lz4"):
        shelf.writer.write_batch("a", words("x", "y"), codec)
    segments = shelf.segments()["a"]
    assert [s.codecs for s in segments] == ["", "lz4"]
    assert [b["w"].to_pylist() for s in segments for b in shelf.batches(s)] == [["x", "y"]] * 2


def test_abort_drops_everything_and_says_what_was_there(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    for partition in "abc":
        shelf.write_message(partition, ids(1))
    shelf.writer.write_part("a", ids(2), None)
    dropped = shelf.writer.abort()
    assert len(dropped) == len(set(dropped)) == 3
    assert shelf.keys() == []
    assert shelf.writer.abort() == []


def test_abort_after_finish_names_the_objects_to_delete(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.write_message("a", ids(1))
    (segment,) = shelf.segments()["a"]
    assert shelf.writer.abort() == [segment.key]


def test_released_segments_are_left_alone(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.write_message("a", ids(1))
    shelf.segments()
    shelf.writer.release()
    assert shelf.writer.abort() == []
    assert len(shelf.keys()) == 1


def test_rows_without_batches_make_no_segment(tmp_path: Path) -> None:
    assert Shelf(tmp_path).segments() == {}
