"""Blobs: block framing beside PyODPS's reader, uploads beside MD5, many in one call beside one by one."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import fletching
from benchmarks import reading, tables
from benchmarks.processes import server
from benchmarks.rounds import Contender, Outcome
from fletching.wire import crc32c_blocks

__all__ = ["block_contenders", "many_contenders", "open_blobs", "upload_contenders"]

CHUNK_BYTES = 512 << 10


def noise(length: int) -> bytes:
    """Bytes that do not compress, the same every time."""
    return np.random.default_rng(7).integers(0, 256, length, dtype=np.uint8).tobytes()


# --- CRC32C blocks ---------------------------------------------------------------------------


def block_contenders(length: int, *, rival: bool) -> list[Contender]:
    """Verifying and stripping the checksums of a BlobRead reply, by chunks as a socket gives them."""
    payload = noise(length)
    framed = b"".join([*(encoder := crc32c_blocks.Encoder()).encode(payload), *encoder.finish()])
    target = bytearray(length)

    def ours(_started: float) -> Outcome:
        decoder = crc32c_blocks.Decoder()
        view, total = memoryview(framed), 0
        for start in range(0, len(view), CHUNK_BYTES):
            decoder.feed(view[start : start + CHUNK_BYTES])
            for event in decoder.events():
                total += len(event)
        decoder.finish()
        total += sum(map(len, decoder.events()))
        assert total == length
        return Outcome(length, 1)

    def encode(_started: float) -> Outcome:
        encoder = crc32c_blocks.Encoder()
        total = 0
        for start in range(0, length, CHUNK_BYTES):
            total += sum(map(len, encoder.encode(memoryview(payload)[start : start + CHUNK_BYTES])))
        total += sum(map(len, encoder.finish()))
        assert total == len(framed)
        return Outcome(length, 1)

    def memcpy(_started: float) -> Outcome:
        target[:] = payload
        return Outcome(length, 1)

    contenders = [
        Contender("fletching, verify and strip", ours),
        Contender("fletching, add", encode),
        Contender("memcpy", memcpy),
    ]
    if rival:
        # A 16th of the data, for it takes its time; the rate is what is compared.
        part = length // 16 // 4096 * 4096
        cut = framed[: part // 4096 * 4100]

        def pyodps(_started: float) -> Outcome:
            from odps.maxstorage.io.crc import CrcStrippedInputStream

            stream = CrcStrippedInputStream(io.BytesIO(cut))
            total = 0
            while piece := stream.read(64 << 10):
                total += len(piece)
            assert total == part
            return Outcome(part, 1)

        contenders.append(Contender("PyODPS, verify and strip", pyodps))
    return contenders


# --- a service -------------------------------------------------------------------------------


@contextlib.contextmanager
def open_blobs(folder: Path) -> Iterator[tuple[Any, fletching.Client, fletching.Table]]:
    """A server of a table with a BLOB column, and a client of it."""
    with fletching.connect(str(folder / "data"), project=tables.PROJECT, create=True) as client:
        client.create_table("blobs", "id BIGINT, image BLOB")
    with (
        server("fletching", folder=str(folder / "data")) as ours,
        reading.connect(ours) as client,
    ):
        yield ours, client, client.table("blobs")


def upload_contenders(ours: Any, table: fletching.Table, length: int) -> list[Contender]:
    """One blob up, hashed on both sides, beside hashing it: by one process, and by two at a time."""
    data = noise(length)
    names = itertools.count()
    sessions: list[Any] = []

    def prepare() -> None:
        # What is measured is the upload until it is durable, not the session around it.
        for session in sessions:
            session.abort()
        sessions[:] = [table.write_session()]

    def put(_started: float) -> Outcome:
        sessions[0].put_blob(data, "image", file_name=str(next(names)))
        return Outcome(length, 1)

    def stream(_started: float) -> Outcome:
        view = memoryview(data)
        with sessions[0].blob_writer("image") as writer:
            for start in range(0, length, 1 << 20):
                writer.write(view[start : start + (1 << 20)])
        return Outcome(length, 1)

    def md5(_started: float) -> Outcome:
        hashlib.md5(data, usedforsecurity=False).hexdigest()
        return Outcome(length, 1)

    def md5_twice(_started: float) -> Outcome:
        # What an upload cannot do without: the sender and the receiver each hash it.
        child = os.fork()
        if child == 0:
            try:
                hashlib.md5(data, usedforsecurity=False).hexdigest()
            finally:
                os._exit(0)
        md5(0.0)
        os.waitpid(child, 0)
        return Outcome(length, 1)

    return [
        Contender("fletching, put_blob", put, ours.pid, prepare),
        Contender("fletching, BlobStreamWriter", stream, ours.pid, prepare),
        Contender("MD5 alone", md5),
        Contender("MD5 in two processes", md5_twice),
    ]


def many_contenders(
    ours: Any,
    client: fletching.Client,
    table: fletching.Table,
    count: int,
    length: int,
    singles: int,
) -> list[Contender]:
    """Many blobs in one call, beside one call for each of some of them."""
    data = noise(length)
    with table.write_session() as session:
        references = session.put_blobs((data for _ in range(count)), "image")

    def together(_started: float) -> Outcome:
        total = 0
        for blob in client.get_blobs(references):
            assert blob is not None
            total += blob.size
        assert total == count * length
        return Outcome(total, count)

    def one_by_one(_started: float) -> Outcome:
        total = sum(client.get_blob(reference).size for reference in references[:singles])
        return Outcome(total, singles)

    return [
        Contender("fletching, one call", together, ours.pid),
        Contender("fletching, single calls", one_by_one, ours.pid),
    ]
