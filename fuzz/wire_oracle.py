"""What the wire layers promise about any bytes: payload, or a documented error, in bounded memory.

Shared by the fuzz target and by a test. The verdict must not depend on how the input is cut, and
what is given out never exceeds the limits.
"""

from __future__ import annotations

from fletching.errors import WireError
from fletching.wire import blob_frames, content_coding, crc32c_blocks
from fletching.wire.blob_frames import BlobData, BlobDataEnd, BlobDataStart
from fletching.wire.content_coding import ContentCoding
from fletching.wire.stack import DecoderStack

MAX_BYTES = 1 << 20
CODINGS = list(ContentCoding)


def stack_of(choice: int) -> DecoderStack:
    """One of the nestings: each layer alone, and as a BlobRead reply has them."""
    coding = CODINGS[choice % len(CODINGS)]
    limited = content_coding.Decoder(coding, max_decoded_bytes=MAX_BYTES)
    frames = blob_frames.Decoder(max_header_bytes=4096, max_data_bytes=MAX_BYTES, max_frames=100)
    kind = choice // len(CODINGS) % 4
    if kind == 0:
        return DecoderStack(limited)
    if kind == 1:
        return DecoderStack(frames)
    if kind == 2:
        return DecoderStack(crc32c_blocks.Decoder())
    return DecoderStack(crc32c_blocks.Decoder(), limited, frames)


def outcome(data: bytes, choice: int, chunk: int) -> tuple[str, int, bytes]:
    """(verdict, frames, payload; the last only if all was well)."""
    stack = stack_of(choice)
    payload = bytearray()
    frames = started = 0

    def take() -> None:
        nonlocal frames, started
        for event in stack.events():
            if isinstance(event, BlobDataStart):
                assert event.index == started == frames
                started += 1
            elif isinstance(event, BlobDataEnd):
                frames += 1
                assert frames == started
            else:
                data_ = event.data if isinstance(event, BlobData) else event
                assert len(data_)
                payload.extend(data_)

    failure: WireError | None = None
    try:
        for start in range(0, len(data), chunk):
            stack.feed(data[start : start + chunk])
            take()
        stack.finish()
        take()
    except WireError as error:
        failure = error
    if failure is not None:
        assert failure.layer is not None
        assert failure.offset is not None
        assert failure.offset >= 0
        return type(failure).__name__, frames, b""
    assert frames == started
    assert len(payload) <= max(MAX_BYTES, len(data))
    return "whole", frames, bytes(payload)


def check(data: bytes) -> None:
    """Raises AssertionError if a promise is broken; the first byte chooses the nesting."""
    choice, data = (data[0], data[1:]) if data else (0, b"")
    whole = outcome(data, choice, max(len(data), 1))
    for chunk in (1, 7, 1000):
        if len(data) / chunk > 5000:
            continue
        cut = outcome(data, choice, chunk)
        assert cut == whole, f"cut into {chunk}: {cut[:2]} instead of {whole[:2]}"
