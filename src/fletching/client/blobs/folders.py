"""A folder of files as a table with one row per file, and back.

A row has the file's path inside the folder (``path``, with ``/``), its ``size`` in bytes, when it was
``modified``, its ``content_type`` and its contents, in a BLOB column. A table of other columns works
as far as it has these; files of a table without ``path`` are named by what was kept with the blob.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import mimetypes
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

import pyarrow as pa

from fletching.client.blobs.blob_streams import open_events
from fletching.client.blobs.blob_values import Blob, content_type_of, reference_text
from fletching.client.client import Client
from fletching.client.retry import RetrySequence
from fletching.client.table import Table
from fletching.errors import ServiceError, TransportError, TruncatedStreamError, UsageError
from fletching.protocol.types.blob_columns import blob_column_id, blob_column_ids
from fletching.protocol.types.blob_type import blob
from fletching.types import PartitionLike
from fletching.wire.blob_frames import BlobData, BlobDataStart, BlobHeader

__all__ = ["FILE_SCHEMA", "FileEntry", "files_of", "get_files", "list_files", "put_files"]

FILE_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("size", pa.int64()),
        pa.field("modified", pa.timestamp("us")),
        pa.field("content_type", pa.string()),
        pa.field("data", blob()),
    ]
)
"""The columns of a table made for a folder."""

BATCH_FILES = 1000
BATCH_BYTES = 64 << 20
"""Files whose rows are written together; one larger file alone."""


class FileEntry(NamedTuple):
    """A file to put, or a row of a table of files."""

    path: str
    """Inside the folder, with ``/``."""
    size: int | None
    modified: dt.datetime | None
    """In UTC."""
    content_type: str | None
    reference: str | None = None
    """Of its contents, once they are stored."""
    source: Path | None = None
    """Where it is on this machine."""


def files_of(sources: Iterable[str | os.PathLike[str]]) -> Iterator[FileEntry]:
    """The files of folders, in the order of their paths, and single files under their names.

    Links to folders are not followed; whatever is neither a file nor a folder is left out.

    Raises:
        UsageError: a source that is not there, or two files of one path.
    """
    seen: set[str] = set()
    for source in map(Path, sources):
        if source.is_dir():
            result = sorted(_walk(source))
        elif source.is_file():
            result = [source]
        else:
            raise UsageError(f"there is no file or folder {source}")
        for path in result:
            name = path.relative_to(source).as_posix() if source.is_dir() else path.name
            if name in seen:
                raise UsageError(f"two files have the path {name}; give their common folder")
            seen.add(name)
            status = path.stat()
            yield FileEntry(
                name,
                status.st_size,
                dt.datetime.fromtimestamp(status.st_mtime, dt.UTC),
                content_type_of(name),
                source=path,
            )


def _walk(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.is_file():
                yield path


def put_files(
    table: Table,
    files: Iterable[FileEntry],
    *,
    column: str | None = None,
    partition: PartitionLike | None = None,
    overwrite: bool = False,
    on_file: Callable[[FileEntry], None] = lambda _: None,
) -> tuple[int, int]:
    """Puts files into a table, one row each, all in one commit; returns their number and bytes.

    Args:
        table: with a BLOB column and any of the columns of `FILE_SCHEMA`.
        files: as `files_of` finds them.
        column: the BLOB column; None for the only one.
        partition: of all rows.
        overwrite: replace what is there.
        on_file: called after each file is stored.

    Raises:
        UsageError: the table has no such BLOB column, or a file cannot be read.
        ServiceError, TransportError: nothing of it is visible.
    """
    column = _column_of(table, column)
    count = size = 0
    with table.write_session(partition, overwrite=overwrite) as session, session.writer() as writer:
        for batch in _batched(files):
            references = session.put_blobs(
                [
                    Blob(each.source, each.content_type, PurePosixPath(each.path).name)
                    for each in batch
                ],
                column,
                partition=partition,
            )
            writer.write(_rows(batch, references, table.data_schema, column))
            for entry in batch:
                count += 1
                size += entry.size or 0
                on_file(entry)
    return count, size


def _column_of(table: Table, column: str | None) -> str:
    """The path of a BLOB column that is not inside another.

    Raises:
        UsageError: there is no such column.
    """
    schema = table.info.schema
    path = blob_column_ids(schema)[blob_column_id(schema, column)]
    if path not in table.data_schema.names:
        raise UsageError(f"{path} is inside another column; files need a BLOB column of their own")
    return path


def _batched(files: Iterable[FileEntry]) -> Iterator[list[FileEntry]]:
    batch: list[FileEntry] = []
    size = 0
    for entry in files:
        length = entry.size or 0
        if batch and (len(batch) >= BATCH_FILES or size + length > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += length
    if batch:
        yield batch


def _rows(
    batch: Sequence[FileEntry], references: Sequence[str], schema: pa.Schema, column: str
) -> dict[str, object]:
    values: dict[str, list[object]] = {
        "path": [entry.path for entry in batch],
        "size": [entry.size for entry in batch],
        "modified": [_plain_time(entry.modified) for entry in batch],
        "content_type": [entry.content_type for entry in batch],
    }
    wanted = {name.casefold() for name in schema.names}
    rows: dict[str, object] = {name: column for name, column in values.items() if name in wanted}
    cells = pa.array([reference.encode() for reference in references], pa.binary())
    rows[column] = pa.ExtensionArray.from_storage(blob(), cells)
    return rows


def _plain_time(moment: dt.datetime | None) -> dt.datetime | None:
    """UTC without saying so: the column's type has no time zone."""
    return None if moment is None else moment.astimezone(dt.UTC).replace(tzinfo=None)


# --- back ------------------------------------------------------------------------------------


def list_files(
    table: Table,
    *,
    column: str | None = None,
    partitions: Sequence[str] | None = None,
    where: str | None = None,
    limit: int | None = None,
) -> Iterator[FileEntry]:
    """The rows of a table of files, in the table's order; rows without contents are left out.

    Raises:
        UsageError: the table has no such BLOB column.
        ServiceError, TransportError: from the iterator.
    """
    column = _column_of(table, column)
    names = {name.casefold(): name for name in table.data_schema.names}
    known = [
        names[name] for name in FILE_SCHEMA.names[:-1] if name in names and names[name] != column
    ]
    scan = table.scan(columns=[*known, column], partitions=partitions, filter=where, limit=limit)
    for batch in scan.to_batches():
        columns = {name.casefold(): batch.column(i).to_pylist() for i, name in enumerate(known)}
        for row, cell in enumerate(batch.column(len(known)).to_pylist()):
            if cell is None:
                continue
            values = {name: column[row] for name, column in columns.items()}
            modified = values.get("modified")
            size = values.get("size")
            yield FileEntry(
                str(values.get("path") or ""),
                size if isinstance(size, int) else None,
                modified.replace(tzinfo=dt.UTC) if isinstance(modified, dt.datetime) else None,
                values.get("content_type"),
                reference_text(cell),
            )


def get_files(
    client: Client,
    entries: Iterable[FileEntry],
    folder: str | os.PathLike[str],
    *,
    replace: bool = False,
    on_file: Callable[[Path, int], None] = lambda _path, _size: None,
) -> tuple[int, int]:
    """Writes the contents of rows into a folder; returns the number of files and their bytes.

    A file appears under its name when all of it is there. Memory does not grow with the files.

    Args:
        client: of the tables.
        entries: as `list_files` finds them.
        folder: made if it is absent.
        replace: whether files that are there already may be replaced.
        on_file: called after each file, with its path and length.

    Raises:
        UsageError: a path that leads out of the folder, or a file that is there already.
        ServiceError, TransportError: files before it are whole.
    """
    root = Path(folder)
    root.mkdir(parents=True, exist_ok=True)
    count = size = 0
    namer = _Namer(root, replace=replace)
    for batch in _batched(entries):
        for path, length in _receive(client, batch, namer):
            count += 1
            size += length
            on_file(path, length)
    return count, size


@dataclasses.dataclass(slots=True)
class _Namer:
    """Where each file goes; no two to one place."""

    root: Path
    replace: bool
    used: set[str] = dataclasses.field(default_factory=set)

    def path_of(self, entry: FileEntry, header: BlobHeader) -> Path:
        name = entry.path or header.file_name or ""
        if not name:
            kind = entry.content_type or header.content_type or ""
            name = f"{len(self.used):08d}{mimetypes.guess_extension(kind) or '.bin'}"
        pure = PurePosixPath(name)
        inside = (
            not pure.is_absolute() and ".." not in pure.parts and pure.parts and "\0" not in name
        )
        if not inside or Path(name).is_absolute() or Path(name).drive:
            raise UsageError(
                f"the path {name[:200]!r} leads out of the folder; nothing was written there"
            )
        number = 0
        unique = pure
        while unique.as_posix().casefold() in self.used:
            number += 1
            unique = pure.with_name(f"{pure.stem}-{number}{pure.suffix}")
        self.used.add(unique.as_posix().casefold())
        path = self.root.joinpath(*unique.parts)
        if path.exists() and not self.replace:
            raise UsageError(f"{path} is there already; say that it may be replaced")
        return path


def _receive(
    client: Client, batch: Sequence[FileEntry], namer: _Namer
) -> Iterator[tuple[Path, int]]:
    """Receives files one after the other; a broken reply is begun again at the file it broke in."""
    channel = client.channel
    sequence = channel.sequence()
    done = 0
    while done < len(batch):
        rest = batch[done:]
        try:
            for path, length in _one_reply(client, rest, namer, sequence):
                done += 1
                sequence.progressed()
                yield path, length
        except (ServiceError, TransportError, TruncatedStreamError) as error:
            sequence.wait(error, repeatable=True)


def _one_reply(
    client: Client, batch: Sequence[FileEntry], namer: _Namer, attempt: RetrySequence
) -> Iterator[tuple[Path, int]]:
    references = [entry.reference for entry in batch]
    events = open_events(client.channel, client.project, references, attempt)
    path = namer.root
    length = 0
    part: Path | None = None
    file: BinaryIO | None = None
    try:
        for event in events:
            if isinstance(event, BlobDataStart):
                path = namer.path_of(batch[event.index], event.header)
                path.parent.mkdir(parents=True, exist_ok=True)
                part = path.with_name(f".{path.name}.part")
                file = part.open("wb")
                length = 0
            elif isinstance(event, BlobData):
                assert file is not None
                file.write(event.data)
                length += len(event.data)
            else:
                assert file is not None
                assert part is not None
                file.close()
                _set_time(part, batch[event.index].modified)
                part.replace(path)
                part = None
                yield path, length
    finally:
        events.close()
        if file is not None:
            file.close()
        if part is not None:
            part.unlink(missing_ok=True)
            namer.used.discard(path.relative_to(namer.root).as_posix().casefold())


def _set_time(path: Path, modified: dt.datetime | None) -> None:
    if modified is not None:
        with contextlib.suppress(OSError, OverflowError):
            os.utime(path, (modified.timestamp(), modified.timestamp()))
