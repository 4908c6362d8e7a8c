"""Real files as blobs: installed packages' data files and images, or the user's own files."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from fletching.cli.quickstart.compare import Difference
from fletching.cli.quickstart.job import Meter, Mismatch, Report, Step

if TYPE_CHECKING:
    from fletching.client import Blob, Client

__all__ = ["TABLE", "FileSource", "installed_files", "move_files", "user_blobs"]

TABLE = "quickstart_files"
COLUMNS = "path STRING, size BIGINT, sha256 STRING, content BLOB"

FILES_PER_BATCH = 500
"""Rows per batch, blobs per upload."""

WHOLE_BYTES = 16 << 20
"""Blobs up to this size are read whole, many by one request; larger ones as files."""
PIECE_BYTES = 4 << 20

MAX_FILES = 2_000
MAX_BYTES = 200_000_000
"""How much of the installed packages is taken: enough to measure, quick on any machine."""

# Code is what the other tables are made of.
_CODE = {".py", ".pyc", ".pyi", ".pyx", ".pxd", ".so", ".dylib", ".dll", ".a", ".h", ".hpp"}


@dataclasses.dataclass(frozen=True)
class FileSource:
    """Files to store, and where they are from."""

    paths: tuple[Path, ...]
    base: Path
    origin: str


def installed_files(folder: Path | None = None) -> FileSource | None:
    """Images and data files of the packages installed beside this one; None if there are none."""
    base = folder or Path(sysconfig.get_paths()["purelib"])
    paths: list[Path] = []
    size = 0
    for path in _files_below(base):
        length = path.stat().st_size
        if path.suffix.lower() in _CODE or size + length > MAX_BYTES:
            continue
        paths.append(path)
        size += length
        if len(paths) == MAX_FILES:
            break
    if not paths:
        return None
    return FileSource(tuple(paths), base, f"data files of installed packages, {base}")


def user_blobs(path: Path) -> FileSource:
    """The user's file, or every file of the folder, as it is on disk."""
    if path.is_file():
        return FileSource((path,), path.parent, str(path))
    return FileSource(tuple(_files_below(path)), path, str(path))


def _files_below(folder: Path) -> Iterator[Path]:
    """Regular, readable files in a stable order; links are not followed."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        if Path(parent).name == "__pycache__":
            continue
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink() and os.access(path, os.R_OK):
                yield path


def move_files(client: Client, source: FileSource, report: Report) -> Iterator[Step]:
    """Stores the files as blobs beside their rows, reads them back, compares checksums.

    Raises:
        Mismatch: a blob's bytes, size or name are not those of its file.
    """
    client.drop_table(TABLE, if_exists=True)
    table = client.create_table(TABLE, COLUMNS)

    meter = Meter(TABLE, "store files as blobs", report)
    with table.write_session() as session, session.writer("stream-0") as writer:
        for start in range(0, len(source.paths), FILES_PER_BATCH):
            paths = source.paths[start : start + FILES_PER_BATCH]
            references = session.put_blobs(paths, column="content")
            sizes = [path.stat().st_size for path in paths]
            rows = {
                "path": [path.relative_to(source.base).as_posix() for path in paths],
                "size": sizes,
                "sha256": [_sha256(path) for path in paths],
                "content": [reference.encode() for reference in references],
            }
            writer.write(pa.record_batch(rows))
            meter.add(len(paths), sum(sizes))
    yield meter.step()

    meter = Meter(TABLE, "read blobs, compare", report)
    rows_back = table.scan().to_table()
    if rows_back.num_rows != len(source.paths):
        reason = f"{rows_back.num_rows} rows came back of {len(source.paths)}"
        raise Mismatch(TABLE, "read blobs", Difference(0, "", reason))
    described = rows_back.to_pylist()
    small = client.get_blobs([row["content"] for row in described if row["size"] <= WHOLE_BYTES])
    for number, row in enumerate(described):
        if row["size"] <= WHOLE_BYTES:
            back = _whole(next(small))
        else:
            back = _in_pieces(client, row["content"], meter)
        path = row["path"]
        if back[:2] != (row["size"], row["sha256"]):
            raise Mismatch(TABLE, "read blobs", Difference(number, "content", f"{path} differs"))
        if back[2] != Path(path).name:
            reason = f"{path} came back as {back[2]}"
            raise Mismatch(TABLE, "read blobs", Difference(number, "content", reason))
        meter.add(1, row["size"] if row["size"] <= WHOLE_BYTES else 0)
    yield meter.step()


def _whole(blob: Blob | None) -> tuple[int, str, str | None]:
    """Size, SHA-256 and name of a blob in memory."""
    if blob is None:
        return -1, "", None
    return blob.size, hashlib.sha256(blob.data).hexdigest(), blob.file_name


def _in_pieces(client: Client, reference: str, meter: Meter) -> tuple[int, str, str | None]:
    """The same of one that is read as a file, so that this process does not grow with its size."""
    digest = hashlib.sha256()
    with client.open_blob(reference, buffer_bytes=PIECE_BYTES) as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
            meter.add(0, len(piece))
        return file.tell(), digest.hexdigest(), file.file_name


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
