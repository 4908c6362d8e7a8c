"""Makes a data folder of an earlier catalog revision, to be kept: ``python make_folders.py 0001``.

The folder is written through the catalog's own tables of that revision by plain SQL and by hand-made
segments, so that it stays what that release wrote whatever the code becomes. Folders in ``folders``
are never made again: they are what users have.
"""

from __future__ import annotations

import json
import struct
import sys
import tempfile
import zipfile
from pathlib import Path

import pyarrow as pa
from crc32c import crc32c
from sqlalchemy import text

from fletching import ipc
from fletching.catalog.database import Database
from fletching.catalog.migrations import upgrade
from fletching.ipc import lowlevel

FOLDERS = Path(__file__).with_name("folders")
SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string())])
NOW = 1_800_000_000.0


def segment(first: int, count: int) -> tuple[bytes, bytes]:
    """An Arrow file with message checksums in its footer, and its batch index."""
    values = range(first, first + count)
    batch = pa.record_batch(
        [pa.array(values, pa.int64()), pa.array([f"row {n}" for n in values])], schema=SCHEMA
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_batch(batch)
    stream = sink.getvalue().to_pybytes()
    marks = []
    for message in ipc.messages(stream):
        value = 0
        for piece in message.frame():
            value = crc32c(piece, value)
        marks.append(value)

    class Sink:
        data = b""

        def write(self, data: object) -> None:
            self.data += bytes(data)  # type: ignore[call-overload]  # any buffer

    file = Sink()
    writer = ipc.FileWriter(file, SCHEMA)
    message = list(ipc.messages(stream))[1]
    block = writer.write_message(message)
    writer.close({b"fletching.crc32c": "".join(f"{mark:08x}" for mark in marks).encode()})
    return file.data, struct.pack("<qqqq", *block, count)


def make(revision: str, folder: Path) -> None:
    """Writes the folder."""
    database = Database.open(folder / "catalog.sqlite")
    upgrade(database, revision)
    schema_message = lowlevel.encode_schema(SCHEMA)
    objects = folder / "objects" / "tables" / "t0123456789abcdef"
    objects.mkdir(parents=True)
    with database.write() as connection:

        def put(table: str, **values: object) -> None:
            names = ", ".join(values)
            placeholders = ", ".join(f":{name}" for name in values)
            connection.execute(
                text(f"INSERT INTO {table} ({names}) VALUES ({placeholders})"), values
            )

        put("projects", name_key="demo", name="demo", created_at=NOW)
        put("schemas", project_key="demo", name_key="default", name="default", created_at=NOW)
        put(
            "tables",
            id="t0123456789abcdef", project_key="demo", schema_key="default", name_key="kept",
            project="demo", schema="default", name="Kept",
            partition_columns=json.dumps([["pt", "string"]]), schema_version=1,
            arrow_schema=schema_message, column_ids=json.dumps([[1], [2], [3]]), next_column_id=4,
            version=2, rows=5, bytes=0, segments=2, owner="", comment="kept", properties="{}",
            primary_key="[]", created_at=NOW, modified_at=NOW,
        )  # fmt: skip
        put(
            "table_schemas",
            table_id="t0123456789abcdef", schema_version=1, arrow_schema=schema_message,
            column_ids=json.dumps([[1], [2], [3]]), created_at=NOW,
        )  # fmt: skip
        total = 0
        for version, (partition, first, count) in enumerate([("a", 0, 3), ("b", 3, 2)], 1):
            data, index = segment(first, count)
            key = f"tables/t0123456789abcdef/0123456789ab-{version}.arrow"
            (folder / "objects" / key).write_bytes(data)
            total += len(data)
            spelled = json.dumps([partition])
            put(
                "partitions",
                table_id="t0123456789abcdef", partition=spelled, rows=count, bytes=len(data),
                created_at=NOW, modified_at=NOW,
            )  # fmt: skip
            put(
                "segments",
                key=key, table_id="t0123456789abcdef", partition=spelled, position=version << 24,
                schema_version=1, rows=count, bytes=len(data), crc32c=crc32c(data),
                batch_index=index, dictionary_index=b"", codecs="", added_version=version,
            )  # fmt: skip
        put(
            "write_sessions",
            id="ws-open", table_id="t0123456789abcdef", write_mode="Batch", state="NORMAL",
            partition_spec=json.dumps([["pt", "c"]]), overwrite=False, enhance_write_check=False,
            flags="{}", schema_version=1, created_at=NOW, expires_at=4_000_000_000.0,
        )  # fmt: skip
        put(
            "write_streams",
            session_pk=1, stream_id="s", stream_version=1, state="CLOSED", attempt=1,
            exactly_once=False, row_offset=0, rows=4, bytes=0, writes=1, created_at=NOW,
            modified_at=NOW,
        )  # fmt: skip
        data, index = segment(5, 4)
        key = "tables/t0123456789abcdef/0123456789ab-3.arrow"
        (folder / "objects" / key).write_bytes(data)
        put(
            "staged_segments",
            stream_pk=1, key=key, partition=json.dumps(["c"]), write_number=0, schema_version=1,
            rows=4, bytes=len(data), crc32c=crc32c(data), batch_index=index, dictionary_index=b"",
            codecs="", created_at=NOW,
        )  # fmt: skip
        connection.execute(text("UPDATE tables SET bytes = :total"), {"total": total})
    database.close()
    (folder / "server.key").write_bytes(bytes(range(32)))


def keep(revision: str) -> None:
    """Packs the folder for keeping."""
    archive = FOLDERS / f"{revision}.zip"
    if archive.exists():
        sys.exit(f"{archive} exists; what users have is not made again")
    FOLDERS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(revision, folder)
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as kept:
            for path in sorted(folder.rglob("*")):
                if path.is_file():
                    kept.write(path, path.relative_to(folder))


if __name__ == "__main__":
    keep(sys.argv[1])
