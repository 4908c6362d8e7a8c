from __future__ import annotations

import io
import struct
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from tests.ipc.conftest import EVERYTHING, file_of, messages_of, numbers
from tests.ipc.file_shapes import SHAPES, shaped

from fletching import ipc
from fletching.errors import (
    InvalidDataError,
    LimitExceededError,
    MalformedFrameError,
    TruncatedStreamError,
)
from fletching.ipc import lowlevel
from fletching.ipc.file_writer import Block, encode_footer
from fletching.ipc.listed_messages import ListedMessages, find_footer
from fletching.ipc.message import END_OF_STREAM, MAGIC
from fletching.ipc.metadata import MessageType
from fletching.ipc.source import FileSource, MappedSource

TAGGED = pa.record_batch(
    {"n": [1, 2, 3], "t": pa.array(["x", None, "x"]).dictionary_encode(), "s": ["a", "b", "c"]}
)
FILE = file_of([numbers(5), numbers(3, 5)], numbers(0).schema)


@pytest.mark.parametrize("shape", SHAPES)
def test_files_of_every_writer_are_whole(shape: str) -> None:
    batches = [TAGGED, TAGGED.slice(1), TAGGED.slice(0, 0)]
    data = shaped(shape, batches, metadata={b"k": b"v"})
    opened = ipc.open_file(data)
    assert list(opened) == batches
    assert opened.custom_metadata == {b"k": b"v"}
    schema, *rest = messages_of(data)
    decoder = lowlevel.BatchDecoder(schema)
    assert [b for b in map(decoder.decode, rest) if b is not None] == batches
    # What was walked makes a stream.
    frames = b"".join(bytes(chunk) for m in (schema, *rest) for chunk in m.frame())
    if shape != "old":
        assert list(ipc.read_stream(frames)) == batches
        assert list(pa.ipc.open_stream(frames)) == batches
    report = ipc.inspect_bytes(data, verify=True)
    assert report.ok
    assert report.problems == ()
    (part,) = report.parts
    assert (part.kind, part.batches, part.rows, part.end) == ("file", 3, 5, len(data))
    assert report.other == ()
    for source in (data, io.BytesIO(data)):
        recovery = ipc.recover(source)
        assert recovery.intact
        assert (recovery.rows, recovery.lost_bytes, recovery.tail) == (5, 0, b"")


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "arrow-js"])
def test_files_of_every_writer_are_recovered_without_their_footer(shape: str) -> None:
    data = shaped(shape, [TAGGED, TAGGED])
    cut = data[: ipc.open_file(data).footer.start - 4]
    for source in (cut, io.BytesIO(cut)):
        sink = io.BytesIO()
        recovery = ipc.recover(source, sink)
        assert not recovery.intact
        # The nanoarrow shape has no marker, so the cut takes the last batch.
        expected = [TAGGED] if shape == "nanoarrow" else [TAGGED, TAGGED]
        assert list(ipc.open_file(sink.getvalue())) == expected
    assert [m.type.label for m in ipc.messages(data)] == [
        "schema", "dictionary batch", "record batch", "record batch",
    ]  # fmt: skip
    walked = ipc.inspect_bytes(cut).parts[0]
    assert walked.batches == len(expected)


def test_polars_itself(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    frame = pl.DataFrame({"a": [1, 2, 3], "s": ["x", "y", "z"]})
    frame.write_ipc(path, compat_level=pl.CompatLevel.oldest())
    data = path.read_bytes()
    assert ipc.recover(data).summary == "the file is whole: 1 record batches, 3 rows"
    report = ipc.inspect_bytes(data, verify=True)
    assert report.ok
    assert report.parts[0].rows == 3
    schema, batch = ipc.messages(data)
    assert lowlevel.BatchDecoder(schema).decode(batch).to_pydict() == frame.to_dict(as_series=False)  # type: ignore[union-attr]  # it is a batch


@pytest.mark.parametrize("shape", SHAPES)
def test_what_the_footer_leaves_out_stays_out(shape: str) -> None:
    batches = [numbers(1, start) for start in range(3)]
    data = shaped(shape, batches, left_out=[1])
    kept = [batches[0], batches[2]]
    assert list(ipc.open_file(data)) == kept
    assert len(messages_of(data)) == 3
    recovery = ipc.recover(data)
    assert (recovery.intact, recovery.rows) == (True, 2)
    report = ipc.inspect_bytes(data, verify=True)
    assert report.ok
    assert report.parts[0].batches == 2
    assert [p.text for p in report.problems] == ["a message that the footer does not list"]


def test_a_walk_ends_where_the_marker_does() -> None:
    walk = ipc.messages(FILE)
    last = list(walk)[-1]
    assert (walk.marker_length, walk.position) == (8, last.end + 8)
    assert list(walk) == []


# --- footers that disagree ---------------------------------------------------------------------------


def with_footer(
    dictionaries: list[Block], batches: list[Block], data: bytes = FILE, schema: bytes | None = None
) -> bytes:
    """The file with a footer that lists something else."""
    start = ipc.open_file(data).footer.start
    footer = encode_footer(schema or messages_of(data)[0].metadata, dictionaries, batches)
    return data[:start] + footer + struct.pack("<i", len(footer)) + MAGIC


BLOCKS = ipc.open_file(FILE).footer.batches
START = ipc.open_file(FILE).footer.start


@pytest.mark.parametrize("what", ["batch", "dictionary"])
@pytest.mark.parametrize(
    "block",
    [
        BLOCKS[1]._replace(body_length=START - BLOCKS[1].offset - BLOCKS[1].metadata_length + 1),
        BLOCKS[1]._replace(offset=START),
        BLOCKS[1]._replace(offset=7),
        BLOCKS[1]._replace(metadata_length=7),
        BLOCKS[1]._replace(metadata_length=-8),
        BLOCKS[1]._replace(body_length=-1),
        BLOCKS[1]._replace(offset=-8),
    ],
)
def test_a_block_outside_the_messages_is_refused(what: str, block: Block) -> None:
    lists: tuple[list[Block], list[Block]] = ([], [BLOCKS[0]])
    lists[what == "batch"].append(block)
    with pytest.raises(MalformedFrameError, match="lies outside the file's messages"):
        ipc.open_file(with_footer(*lists))


def test_a_block_may_reach_the_footer() -> None:
    block = BLOCKS[1]
    block = block._replace(body_length=START - block.offset - block.metadata_length)
    assert len(ipc.open_file(with_footer([], [block]))) == 1


@pytest.mark.parametrize("change", [8, -8])
def test_footer_and_message_must_agree_about_lengths(change: int) -> None:
    for field, what in (("metadata_length", "metadata's length"), ("body_length", "body's length")):
        block = BLOCKS[0]._replace(**{field: getattr(BLOCKS[0], field) + change})
        data = with_footer([], [block, BLOCKS[1]])
        for source in (data, io.BytesIO(data)):
            for columns in (None, ["id"]):
                opened = ipc.open_file(source, columns=columns)
                with pytest.raises((MalformedFrameError, TruncatedStreamError)) as caught:
                    opened[0]
                if change > 0:
                    assert f"disagree about the {what}" in str(caught.value)
                assert caught.value.offset is not None
                assert opened[1].num_rows == 3


def test_a_listed_message_must_be_of_the_listed_type() -> None:
    schema = messages_of(FILE)[0]
    where_at = Block(schema.offset, schema.metadata_length, 0)
    with pytest.raises(MalformedFrameError, match="another message as a record batch"):
        ipc.open_file(with_footer([], [where_at]))[0]
    tagged = file_of([TAGGED], TAGGED.schema)
    footer = ipc.open_file(tagged).footer
    with pytest.raises(MalformedFrameError, match="another message as a dictionary batch"):
        ipc.open_file(with_footer([footer.batches[0]], list(footer.batches), tagged))[0]
    with pytest.raises(MalformedFrameError, match="another message as a record batch"):
        list(ipc.messages(with_footer([], list(footer.dictionaries), tagged)))


@pytest.mark.parametrize(
    "other",
    [
        pa.schema([pa.field("id", pa.int64()), pa.field("label", pa.string())]),
        pa.schema([pa.field("id", pa.int64()), pa.field("name", pa.binary())]),
        pa.schema([pa.field("id", pa.uint64()), pa.field("name", pa.string())]),
        pa.schema([pa.field("id", pa.int64(), False), pa.field("name", pa.string())]),
        pa.schema([pa.field("id", pa.timestamp("us")), pa.field("name", pa.string())]),
        numbers(0).schema.with_metadata({"k": "v"}),
    ],
)
def test_the_footers_schema_is_used_where_the_message_says_another(other: pa.Schema) -> None:
    message = next(ipc.messages(bytes(other.serialize())))
    data = with_footer([], list(BLOCKS), schema=bytes(message.metadata))
    assert ipc.open_file(data).schema.equals(other, check_metadata=True)
    walked = next(ipc.messages(data))
    assert lowlevel.read_schema(walked).equals(other, check_metadata=True)
    assert ipc.recover(data).schema.equals(other, check_metadata=True)
    report = ipc.inspect_bytes(data)
    assert "different schemas" in report.problems[0].text
    assert report.parts[0].schema == tuple((f.name, str(f.type)) for f in other)


def test_messages_that_overlap_make_no_footer() -> None:
    source = MappedSource(FILE)
    assert find_footer(source, 0, len(FILE), ipc.Limits()) is not None
    twice = with_footer([], [BLOCKS[0], BLOCKS[0]])
    assert find_footer(MappedSource(twice), 0, len(twice), ipc.Limits()) is None
    # The stream is walked instead.
    assert [m.offset for m in messages_of(twice)[1:]] == [block.offset for block in BLOCKS]
    assert len(ipc.recover(twice).batches) == 2


def test_limits_hold_for_listed_messages() -> None:
    big = Block(BLOCKS[0].offset, BLOCKS[0].metadata_length, BLOCKS[0].body_length)
    tight = ipc.Limits(max_metadata_bytes=BLOCKS[0].metadata_length - 1)
    footer = ipc.open_file(FILE).footer
    with pytest.raises(LimitExceededError, match="metadata is too long"):
        ListedMessages(MappedSource(FILE), 0, footer, tight).message(big)
    exact = ipc.Limits(max_body_bytes=big.body_length)
    read = FileSource(io.BytesIO(FILE))
    assert ListedMessages(read, 0, footer, exact).message(big).body_length == big.body_length
    tight = ipc.Limits(max_body_bytes=big.body_length - 1)
    with pytest.raises(LimitExceededError, match="too long to be read"):
        ListedMessages(read, 0, footer, tight).message(big)
    assert ListedMessages(MappedSource(FILE), 0, footer, tight).message(big).type is (
        MessageType.RECORD_BATCH
    )


# --- dictionaries --------------------------------------------------------------------------------------


def tagged(values: list[str]) -> pa.RecordBatch:
    return pa.record_batch({"x": pa.DictionaryArray.from_arrays(pa.array([0, 1]), values)})


def replaced_file(replacement: list[str]) -> bytes:
    """A file whose dictionary is replaced behind its first batch, which no library writes."""
    schema, dictionary, first, *_ = messages_of(_stream(tagged(["a", "b"])))
    _, other, second, *_ = messages_of(_stream(tagged(replacement)))
    data = bytearray(MAGIC + b"\0\0")
    blocks = []
    for message in (schema, dictionary, first, other, second):
        blocks.append(Block(len(data), message.metadata_length, message.body_length))
        data += b"".join(bytes(chunk) for chunk in message.frame())
    data += END_OF_STREAM
    footer = encode_footer(schema.metadata, [blocks[1], blocks[3]], [blocks[2], blocks[4]])
    return bytes(data) + footer + struct.pack("<i", len(footer)) + MAGIC


def _stream(batch: pa.RecordBatch) -> bytes:
    sink = io.BytesIO()
    ipc.write_stream(batch, sink)
    return sink.getvalue()


@pytest.mark.parametrize("cut", [False, True], ids=["with footer", "without footer"])
@pytest.mark.parametrize("replacement", [["c", "d"], ["a", "b"]])
def test_a_replaced_dictionary_in_a_file_is_refused(cut: bool, replacement: list[str]) -> None:
    data = replaced_file(replacement)
    if cut:
        data = data[: ipc.open_file(data).footer.start]
    else:
        with pytest.raises(InvalidDataError, match="dictionary 0 is replaced"):
            ipc.open_file(data)[0]
        with pytest.raises(pa.ArrowInvalid):
            pa.ipc.open_file(data).get_batch(0)
    report = ipc.inspect_bytes(data)
    assert not report.ok
    assert any("replaced" in problem.text for problem in report.problems)
    sink = io.BytesIO()
    recovery = ipc.recover(data, sink)
    assert not recovery.intact
    assert "replaced" in recovery.reason
    # The batch behind the replacement might mean either, so it is not kept.
    (batch,) = ipc.open_file(sink.getvalue())
    assert batch["x"].to_pylist() == ["a", "b"]


def test_a_column_without_that_dictionary_reads() -> None:
    data = replaced_file(["c", "d"])
    opened = ipc.open_file(data, columns=[])
    assert [b.num_rows for b in opened] == [2, 2]


def test_every_type_in_every_shape() -> None:
    for shape in SHAPES:
        if shape == "old":
            continue  # its unions have the older layout, which the golden files prove
        data = shaped(shape, [EVERYTHING, EVERYTHING])
        assert list(ipc.open_file(data)) == [EVERYTHING, EVERYTHING]
        assert ipc.inspect_bytes(data, verify=True).ok
