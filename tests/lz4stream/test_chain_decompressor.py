from __future__ import annotations

import random

import lz4.block
import pytest

from fletching.lz4stream.chain_compressor import ChainCompressor
from fletching.lz4stream.chain_decompressor import BlockError, ChainDecompressor

FOUR_MIB = 4 * 1024 * 1024


def chained(chunks: list[bytes], page: int = 0, dictionary: bytes = b"") -> list[bytes]:
    chain = ChainCompressor(page or max(map(len, chunks)), dictionary=dictionary)
    return [chain.compress(memoryview(chunk)) for chunk in chunks]


def run_of(decompressor: ChainDecompressor, run: bytes, received: bytearray | None = None) -> bytes:
    """The run's contents; ``got`` has those before an error."""
    received = bytearray() if received is None else received
    decompressor.start_run(memoryview(run))
    while chunk := decompressor.next_chunk():
        received += chunk
    return bytes(received)


def pages_of(data: bytes, page: int) -> list[bytes]:
    return [data[start : start + page] for start in range(0, len(data), page)]


@pytest.mark.parametrize("page", [50, 1000, 30_000, 65_000, 70_000, 300_000, 2_000_000, 5_000_000])
def test_runs_and_single_blocks_give_the_same(samples: dict[str, bytes], page: int) -> None:
    for name, sample in samples.items():
        data = (sample * (1 + 2 * page // max(len(sample), 1)))[: 40 * page + 10][:12_000_000]
        chunks = pages_of(data, page)
        blocks = chained(chunks, page)
        singly = ChainDecompressor(max(page, FOUR_MIB))
        assert [singly.decompress_block(memoryview(b)[4:]) for b in blocks] == chunks, name
        in_runs = ChainDecompressor(max(page, FOUR_MIB))
        received = b""
        run = b""
        for block in blocks:
            if len(block) - 4 > in_runs.run_block_bytes:
                received += run_of(in_runs, run) + in_runs.decompress_block(memoryview(block)[4:])
                run = b""
            else:
                run += block
        assert received + run_of(in_runs, run) == data, name


def test_a_run_expands_in_pieces() -> None:
    chunks = [bytes(1_000_000)] * 20
    decompressor = ChainDecompressor(FOUR_MIB)
    decompressor.start_run(memoryview(b"".join(chained(chunks))))
    sizes = []
    while chunk := decompressor.next_chunk():
        assert not chunk.strip(b"\0")
        sizes.append(len(chunk))
    assert sum(sizes) == 20_000_000
    assert max(sizes) <= 2_100_000


def test_blocks_without_contents() -> None:
    decompressor = ChainDecompressor(FOUR_MIB)
    assert run_of(decompressor, b"\x01\x00\x00\x00\x00" * 3) == b""
    assert decompressor.decompress_block(b"\x00") == b""
    assert run_of(decompressor, b"\x01\x00\x00\x00\x00\x02\x00\x00\x00\x10x") == b"x"


@pytest.mark.parametrize("single", [False, True])
def test_frames_of_larger_classes_take_over(single: bool) -> None:
    decompressor = ChainDecompressor(8 * FOUR_MIB)
    unit = random.Random(1).randbytes(3000)
    seen = []
    data = []
    for size in (60_000, 200_000, 900_000, 3_000_000, 6_000_000, 60_000):
        data += [unit * (size // 3000)] * 2
    for chunk, block in zip(data, chained(data), strict=True):
        if single:
            assert decompressor.decompress_block(block[4:]) == chunk
        else:
            assert run_of(decompressor, block) == chunk
        seen.append(decompressor._class_bytes)
    assert sorted(set(seen)) == [65_536, 262_144, 1_048_576, 4_194_304]
    assert not decompressor._linked


@pytest.mark.parametrize("limit", [10, 999, 8191, 65_535, 65_537, 300_000, 5_000_000])
def test_the_limit_is_exact(limit: int) -> None:
    for chunk in (bytes(limit), random.Random(limit).randbytes(limit)):
        blocks = chained([chunk + b"x", chunk])
        for block in blocks:
            too_small = ChainDecompressor(limit)
            history = lz4.block.decompress(blocks[0][4:], uncompressed_size=limit + 1)
            decompressor = ChainDecompressor(limit, history if block is blocks[1] else b"")
            if block is blocks[1]:
                assert decompressor.decompress_block(memoryview(block)[4:]) == chunk
            else:
                with pytest.raises(BlockError) as caught:
                    too_small.decompress_block(memoryview(block)[4:])
                assert caught.value.too_large
                assert caught.value.code == 0
        if limit >= 65_536 and len(blocks[0]) <= 65_536:
            in_run = ChainDecompressor(limit)
            assert in_run.checks_runs
            with pytest.raises(BlockError) as caught:
                run_of(in_run, blocks[0])
            assert caught.value.too_large


def test_runs_are_not_for_limits_below_the_smallest_class() -> None:
    assert not ChainDecompressor(65_535).checks_runs
    assert ChainDecompressor(65_536).checks_runs


def test_the_error_names_the_block_and_those_before_it_come_out() -> None:
    chunks = [random.Random(index).randbytes(3000) for index in range(6)]
    blocks = chained(chunks)
    for damaged in range(6):
        broken = list(blocks)
        broken[damaged] = b"\x05\x00\x00\x00\x1fA\x09\x00\x50"
        decompressor = ChainDecompressor(FOUR_MIB)
        received = bytearray()
        with pytest.raises(BlockError) as caught:
            run_of(decompressor, b"".join(broken), received)
        assert received == b"".join(chunks[:damaged])
        assert caught.value.index == damaged
        assert caught.value.code > 0
        assert not caught.value.too_large
        # The history is that of the last good block: the right block in its place goes on.
        assert run_of(decompressor, b"".join(blocks[damaged:])) == b"".join(chunks[damaged:])


def test_an_error_after_pieces_were_handed_out_repeats_none_of_them() -> None:
    # Every block refers to the one before, and a wrong history would show: 50,000 divides no page.
    data = (random.Random(1).randbytes(50_000) * 250)[:12_000_000]
    chunks = pages_of(data, 1_500_000)
    blocks = chained(chunks)
    blocks[6] = b"\x01\x00\x00\x00\x50"
    decompressor = ChainDecompressor(FOUR_MIB)
    assert run_of(decompressor, blocks[0]) == chunks[0]
    received = bytearray()
    with pytest.raises(BlockError) as caught:
        run_of(decompressor, b"".join(blocks[1:]), received)
    assert caught.value.index == 5
    assert bytes(received) == b"".join(chunks[1:6])


def test_single_blocks_recover_too() -> None:
    chunks = [random.Random(index).randbytes(500) * 2 for index in range(4)]
    decompressor = ChainDecompressor(1000)
    for chunk, block in zip(chunks, chained(chunks), strict=True):
        for wrong in (b"", b"\x1fA\x09\x00\x50", block[4:-3], block[4:] + b"\x00"):
            with pytest.raises(BlockError):
                decompressor.decompress_block(wrong)
        assert decompressor.decompress_block(block[4:]) == chunk


def test_the_dictionary_precedes_the_first_block() -> None:
    dictionary = random.Random(1).randbytes(65_536)
    chunks = [dictionary[100:30_000], dictionary[-30_000:], b"x" * 100]
    blocks = chained(chunks, dictionary=dictionary)
    assert len(blocks[0]) < 300
    decompressor = ChainDecompressor(FOUR_MIB, dictionary)
    assert run_of(decompressor, b"".join(blocks)) == b"".join(chunks)
    # By the fast way: the frame knew the dictionary, and did not have to give up its class.
    assert decompressor._frame is not None
    assert decompressor._class_bytes == 65_536
    with pytest.raises(BlockError):
        run_of(ChainDecompressor(FOUR_MIB), b"".join(blocks))


def test_a_distance_of_exactly_64_kib_less_one() -> None:
    start = random.Random(1).randbytes(65_535)
    match = (
        b"\x00\x0f"[:0] + b"\x0f\xff\xff\x1e" + b"\x50" + start[-5:]
    )  # 4+15+30 bytes from 65,535 back
    for chunks in ([start], pages_of(start, 1000)):
        for in_run in (False, True):
            decompressor = ChainDecompressor(FOUR_MIB)
            for block in chained(chunks):
                if in_run:
                    run_of(decompressor, block)
                else:
                    decompressor.decompress_block(memoryview(block)[4:])
            expected = start[: 4 + 15 + 30] + start[-5:]
            assert decompressor.decompress_block(match) == expected


def of_two_kinds(first: int, second: int, third: int) -> list[bytes]:
    """Compressible, incompressible, and again bytes of the second, which it then refers to."""
    chance = random.Random(5)
    text = (b"a line of text that repeats itself; " * (1 + first // 36))[:first]
    noise = chance.randbytes(second)
    return [text, noise, noise[-third:] + text[:500]]


@pytest.mark.parametrize("second", [60_000, 65_535, 65_536, 66_000, 200_000, 300_000])
@pytest.mark.parametrize("third", [64, 5000, 60_000])
@pytest.mark.parametrize("limit", [FOUR_MIB, 8 * FOUR_MIB])
def test_history_passes_between_the_ways_of_decoding(second: int, third: int, limit: int) -> None:
    """A block decoded by itself is history to the frame that decodes the next one, and the reverse."""
    chunks = of_two_kinds(65_000, second, third) + of_two_kinds(3000, second, third)
    blocks = chained(chunks, max(map(len, chunks)))
    one_by_one = ChainDecompressor(limit)
    assert [one_by_one.decompress_block(block[4:]) for block in blocks] == chunks
    # Whatever stands in one run, and what alone.
    for alone in range(2 ** len(blocks)):
        mixed = ChainDecompressor(limit)
        received, run = [], b""
        for index, block in enumerate(blocks):
            if alone >> index & 1 or len(block) - 4 > mixed.run_block_bytes:
                received += [run_of(mixed, run), mixed.decompress_block(block[4:])]
                run = b""
            else:
                run += block
        assert b"".join([*received, run_of(mixed, run)]) == b"".join(chunks)


def test_after_a_damaged_block_another_may_take_its_place() -> None:
    chunks = of_two_kinds(65_000, 66_000, 5000)
    blocks = chained(chunks)
    for damaged in range(3):
        decompressor = ChainDecompressor(FOUR_MIB)
        for index, block in enumerate(blocks):
            if index == damaged:
                with pytest.raises(BlockError):
                    decompressor.decompress_block(b"\xf0" + block[5:60])
            assert decompressor.decompress_block(block[4:]) == chunks[index]
