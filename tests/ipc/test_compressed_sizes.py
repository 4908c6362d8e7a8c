"""What compressed buffers claim, checked before anything is decompressed."""

from __future__ import annotations

import io
import struct

import pyarrow as pa
import pytest

from fletching import ipc
from fletching.errors import LimitExceededError, MalformedFrameError
from fletching.ipc.compressed_sizes import claimed_sizes
from fletching.ipc.limits import DEFAULT_LIMITS, Limits

TABLE = pa.table({"a": pa.array(range(100_000), pa.int64())})


def message(codec: str) -> ipc.Message:
    sink = io.BytesIO()
    ipc.write_stream(TABLE, sink, compression=codec)
    result = ipc.messages(sink.getvalue())
    return next(each for each in result if each.type.label == "record batch")


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_claims_are_the_sizes_of_what_comes_out(codec: str) -> None:
    batch = message(codec)
    sizes = claimed_sizes(batch.record_batch(DEFAULT_LIMITS), batch.body, DEFAULT_LIMITS)
    assert sizes.tolist() == [0, 800_000]


@pytest.mark.parametrize(
    ("claim", "error"),
    [
        (-2, MalformedFrameError),
        (-(2**63), MalformedFrameError),
        (2**40, LimitExceededError),
        (2**63 - 1, LimitExceededError),
    ],
)
def test_hostile_claims_are_refused(claim: int, error: type[Exception]) -> None:
    batch = message("lz4")
    header = batch.record_batch(DEFAULT_LIMITS)
    body = bytearray(batch.body)
    struct.pack_into("<q", body, int(header.buffers[1][0]), claim)
    with pytest.raises(error, match="compressed"):
        claimed_sizes(header, memoryview(body), DEFAULT_LIMITS)


@pytest.mark.parametrize(("codec", "most"), [("lz4", 256), ("zstd", 32 << 10)])
def test_a_claim_may_be_as_high_as_the_codec_allows(codec: str, most: int) -> None:
    batch = message(codec)
    header = batch.record_batch(DEFAULT_LIMITS)
    start, length = (int(number) for number in header.buffers[1])
    limit = (length - 8) * most + (128 << 10)
    limits = Limits(max_uncompressed_bytes=1 << 40, max_compression_ratio=1 << 30)
    body = bytearray(batch.body)
    struct.pack_into("<q", body, start, limit)
    assert claimed_sizes(header, memoryview(body), limits)[1] == limit
    struct.pack_into("<q", body, start, limit + 1)
    with pytest.raises(LimitExceededError, match="cannot have") as caught:
        claimed_sizes(header, memoryview(body), limits)
    assert (caught.value.actual, caught.value.limit) == (limit + 1, limit)


def test_a_buffer_stored_as_it_is_claims_its_own_length() -> None:
    batch = message("lz4")
    header = batch.record_batch(DEFAULT_LIMITS)
    body = bytearray(batch.body)
    struct.pack_into("<q", body, int(header.buffers[1][0]), -1)
    sizes = claimed_sizes(header, memoryview(body), DEFAULT_LIMITS)
    assert sizes.tolist() == [0, int(header.buffers[1][1]) - 8]


def test_limits_are_the_callers() -> None:
    batch = message("zstd")
    header = batch.record_batch(DEFAULT_LIMITS)
    for limits in (
        Limits(max_uncompressed_bytes=799_999),
        Limits(max_compression_ratio=1, ratio_free_bytes=0),
    ):
        with pytest.raises(LimitExceededError):
            claimed_sizes(header, batch.body, limits)
    claimed_sizes(header, batch.body, Limits(max_uncompressed_bytes=800_000))
