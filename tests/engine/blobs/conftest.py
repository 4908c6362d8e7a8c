from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.ipc import lowlevel
from fletching.protocol.messages.admin import CreateTable
from fletching.protocol.messages.requests import (
    CloseWriteStream,
    CommitWriteSession,
    CreateWriteSession,
    CreateWriteStream,
    WriteBlob,
    WriteBlobs,
    WriteTable,
)
from fletching.protocol.messages.responses import BlobReferences
from fletching.protocol.types.blob_type import blob
from fletching.types import PartitionSpec, TableName
from fletching.wire import blob_frames
from fletching.wire.blob_frames import BlobHeader, ChecksumType

SCHEMA = pa.schema([("id", pa.int64()), ("image", blob()), ("more", pa.list_(blob()))])
TABLE = TableName("p", "pictures")
IMAGE = 2


@dataclasses.dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclasses.dataclass
class Shop:
    """An engine with a table of pictures, and short ways to say what tests say often."""

    engine: Engine
    clock: Clock
    folder: Path

    def create_table(self, table: TableName = TABLE, *, partitioned: bool = False) -> None:
        self.engine.call(
            CreateTable(
                table=table,
                arrow_schema=lowlevel.encode_schema(SCHEMA),
                partition_columns=(("pt", "string"),) if partitioned else (),
            )
        )

    def session(self, table: TableName = TABLE, partition: str = "", **more: Any) -> str:
        reply: Any = self.engine.call(
            CreateWriteSession(table=table, partition=PartitionSpec.parse(partition), **more)
        )
        return str(reply.session_id)

    def upload(self, session: str, data: bytes, *, chunk: int = 1 << 20, **more: Any) -> Any:
        more.setdefault("column_id", IMAGE)
        request = WriteBlob(**{"table": TABLE, "session_id": session, "stream_id": "s", **more})
        return self.take(request, data, chunk)

    def upload_frames(self, session: str, body: bytes, *, chunk: int = 1 << 20, **more: Any) -> Any:
        request = WriteBlobs(**{"table": TABLE, "session_id": session, "stream_id": "s", **more})
        return self.take(request, body, chunk)

    def upload_many(self, session: str, blobs: list[bytes], **more: Any) -> list[str]:
        return list(self.upload_frames(session, frames(blobs), **more).references)

    def take(self, request: Any, body: bytes, chunk: int) -> BlobReferences:
        upload = self.engine.blobs.open_upload(request)
        try:
            for start in range(0, len(body), chunk):
                upload.accept([body[start : start + chunk]])
            return upload.finish()
        except BaseException:
            upload.abort()
            raise

    def write_rows(
        self, session: str, references: Sequence[str | None], stream: str = "s", **more: Any
    ) -> None:
        table = more.pop("table", TABLE)
        about = {"table": table, "session_id": session, "stream_id": stream, **more}
        self.engine.call(CreateWriteStream(**about))
        cells = pa.array([None if r is None else r.encode() for r in references], pa.binary())
        batch = pa.record_batch(
            [
                pa.array(range(len(references)), pa.int64()),
                pa.ExtensionArray.from_storage(blob(), cells),
                pa.nulls(len(references), SCHEMA[2].type),
            ],
            schema=SCHEMA,
        )
        ingest = self.engine.open_ingest(WriteTable(**about))
        stream_bytes = bytes(lowlevel.encode_schema(SCHEMA)) + b"".join(
            map(bytes, lowlevel.encode_batch(batch))
        )
        ingest.decoder.feed(stream_bytes + lowlevel.END_OF_STREAM)
        try:
            ingest.accept(list(ingest.decoder))
            ingest.decoder.finish()
            ingest.finish()
        except BaseException:
            ingest.abort()
            raise
        self.engine.call(CloseWriteStream(**about))

    def commit(self, session: str, table: TableName = TABLE) -> None:
        self.engine.call(CommitWriteSession(table=table, session_id=session))

    def packs(self) -> list[str]:
        return sorted(
            info.key for info in self.engine.context.store.list() if info.key.endswith(".pack")
        )


def frames(blobs: list[bytes], checksum: ChecksumType = ChecksumType.NONE, **header: Any) -> bytes:
    encoder = blob_frames.Encoder(checksum=checksum)
    header.setdefault("column_id", IMAGE)
    return b"".join(
        bytes(piece) for data in blobs for piece in encoder.frame(BlobHeader(**header), data)
    )


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    clock = Clock()
    settings = EngineSettings(create_projects=True)
    with Engine.open(tmp_path / "data", settings=settings, clock=clock) as engine:
        shop = Shop(engine, clock, tmp_path / "data")
        shop.create_table()
        yield shop
