"""What quickstart moves: the standard library's source as two tables, or the user's own files."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import re
import sysconfig
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fletching.cli.tabular import BATCH_ROWS, SUFFIXES, open_batches
from fletching.errors import UsageError

__all__ = ["Load", "Source", "standard_library", "user_files"]

PARTITION_OF_FILES = "file"
"""Partition column that keeps the user's files apart inside one table."""

FILES_PER_BATCH = 256
"""Rows per batch of ``stdlib_files``: a row holds a whole file's text, 20 kB on average."""


@dataclasses.dataclass(frozen=True)
class Load:
    """Rows for one write session; ``batches()`` starts from the beginning each time it is called."""

    name: str
    partition: str | None
    """A static partition, or None when the partition columns come in the data."""
    batches: Callable[[], Generator[pa.RecordBatch, None, None]]


@dataclasses.dataclass(frozen=True)
class Source:
    """One table to create and fill."""

    table: str
    schema: pa.Schema
    partition_by: tuple[str, ...]
    loads: tuple[Load, ...]
    sample_partition: str
    """A partition to read alone."""
    origin: str
    """Where the rows come from, for the report."""


# --- the standard library --------------------------------------------------------------------

FILES_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("package", pa.string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("lines", pa.int32(), nullable=False),
        pa.field("modified", pa.timestamp("ms"), nullable=False),
        pa.field("sha256", pa.binary(), nullable=False),
        pa.field("text", pa.string()),  # null where a file is not UTF-8
    ]
)
LINES_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string(), nullable=False),
        pa.field("number", pa.int32(), nullable=False),
        pa.field("indent", pa.int32(), nullable=False),
        pa.field("length", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)


def standard_library(root: Path | None = None) -> list[Source]:
    """The running Python's standard library as ``stdlib_files`` and ``stdlib_lines``.

    Raises:
        UsageError: the library has no source files (a Python without its sources).
    """
    folder = root or Path(sysconfig.get_paths()["stdlib"])
    paths = sorted(
        path
        for path in folder.rglob("*.py")
        if not {"site-packages", "dist-packages", "__pycache__"} & set(path.parts)
    )
    if not paths:
        raise UsageError(f"{folder} has no Python sources: give your own file with --input")
    files, texts = _files(folder, paths)
    # Made before the clock runs: splitting text into lines is no part of what is measured.
    lines = list(_lines(texts))
    letters = sorted({str(letter) for letter in files["letter"].to_pylist()})
    origin = f"the source of Python's standard library, {folder}"
    return [
        Source(
            table="stdlib_files",
            schema=FILES_SCHEMA,
            partition_by=("letter",),
            loads=(
                Load("files", None, lambda: (batch for batch in files.to_batches(FILES_PER_BATCH))),
            ),
            sample_partition=f"letter={letters[len(letters) // 2]}",
            origin=origin,
        ),
        Source(
            table="stdlib_lines",
            schema=LINES_SCHEMA,
            partition_by=(),
            loads=(Load("lines", None, lambda: (batch for batch in lines)),),
            sample_partition="",
            origin=origin,
        ),
    ]


def _files(folder: Path, paths: list[Path]) -> tuple[pa.Table, dict[str, str]]:
    texts: dict[str, str] = {}
    columns: dict[str, list[object]] = {name: [] for name in [*FILES_SCHEMA.names, "letter"]}
    for path in paths:
        name = path.relative_to(folder).as_posix()
        raw = path.read_bytes()
        try:
            text = raw.decode()
            texts[name] = text
        except UnicodeDecodeError:
            text = None  # a few test files are written in other encodings on purpose
        package = name.split("/")[0].removesuffix(".py")
        modified = dt.datetime.fromtimestamp(int(path.stat().st_mtime), dt.UTC)
        values = (
            name,
            package,
            len(raw),
            raw.count(b"\n"),
            modified.replace(tzinfo=None),
            hashlib.sha256(raw).digest(),
            text,
            package[0].lower(),
        )
        for column, value in zip(columns.values(), values, strict=True):
            column.append(value)
    schema = FILES_SCHEMA.append(pa.field("letter", pa.string(), nullable=False))
    return pa.table(columns, schema=schema), texts


def _lines(texts: dict[str, str]) -> Generator[pa.RecordBatch, None, None]:
    """One row per line, in batches of BATCH_ROWS; columns are computed whole, not row by row."""
    pending: list[pa.RecordBatch] = []
    rows = 0
    for name, content in texts.items():
        text = pa.array(content.splitlines(), pa.string())
        if not len(text):
            continue
        length = pc.utf8_length(text)
        stripped = pc.utf8_length(pc.utf8_ltrim_whitespace(text))
        batch = pa.record_batch(
            [
                pa.repeat(pa.scalar(name), len(text)),
                pa.array(np.arange(1, len(text) + 1, dtype=np.int32)),
                pc.subtract(length, stripped),
                length,
                text,
            ],
            schema=LINES_SCHEMA,
        )
        pending.append(batch)
        rows += batch.num_rows
        if rows >= BATCH_ROWS:
            yield pa.concat_batches(pending)
            pending, rows = [], 0
    if pending:
        yield pa.concat_batches(pending)


# --- the user's files ------------------------------------------------------------------------


def user_files(path: Path) -> list[Source]:
    """A file, or the readable files of a folder: one table per schema, one partition per file.

    Raises:
        UsageError: nothing there can be read.
    """
    if not path.exists():
        raise UsageError(f"there is no file or folder {path}")
    if path.is_dir():
        paths = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not paths:
            raise UsageError(
                f"{path} holds no Parquet, CSV or Arrow IPC file ({', '.join(sorted(SUFFIXES))})"
            )
    else:
        paths = [path]
    base = path if path.is_dir() else path.parent
    groups: dict[pa.Schema, list[Path]] = {}
    for file in paths:
        groups.setdefault(_schema(file), []).append(file)
    names: set[str] = set()
    return [_source(base, schema, files, names) for schema, files in groups.items()]


def _schema(path: Path) -> pa.Schema:
    with open_batches(str(path)) as (schema, _):
        # The file's own key-value metadata (pandas, Spark) is not part of the table.
        return schema.remove_metadata()


def _batches(path: Path, schema: pa.Schema) -> Generator[pa.RecordBatch, None, None]:
    with open_batches(str(path)) as (_, batches):
        for batch in batches:
            yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)


def _source(base: Path, schema: pa.Schema, files: list[Path], names: set[str]) -> Source:
    stem = base.name if len(files) > 1 else files[0].stem
    table = _identifier(stem)
    while table in names:
        table += "_2"
    names.add(table)
    column = PARTITION_OF_FILES
    while column in {name.lower() for name in schema.names}:
        column += "_"
    loads = []
    for file in files:
        value = file.relative_to(base).as_posix().replace("'", "_")
        loads.append(
            Load(
                name=value,
                partition=f"{column}='{value}'",
                batches=lambda file=file: _batches(file, schema),  # type: ignore[misc]  # mypy cannot infer a lambda's default
            )
        )
    return Source(
        table=table,
        schema=schema,
        partition_by=(column,),
        loads=tuple(loads),
        sample_partition=loads[0].partition or "",
        origin=str(files[0] if len(files) == 1 else base),
    )


def _identifier(text: str) -> str:
    """A table name made from a file name: letters, digits and underscores."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_").lower() or "input"
    return name if name[0].isalpha() else f"t_{name}"
