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

from fletching.cli.input_files import InputFile, input_files
from fletching.cli.tabular import BATCH_ROWS, open_batches
from fletching.errors import UsageError
from fletching.types import PartitionSpec

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


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A file that is not moved, and why."""

    path: str
    reason: str


def user_files(path: Path) -> tuple[list[Source], list[LeftOut]]:
    """A file, or the readable files of a folder: one table per schema, one partition per file.

    The keys of Hive folders are partition columns, too. What cannot be read is left out and named.

    Raises:
        UsageError: nothing there can be read.
    """
    if not path.exists():
        raise UsageError(f"there is no file or folder {path}")
    files = input_files([str(path)], same_keys=False)
    base = path if path.is_dir() else path.parent
    groups: dict[tuple[pa.Schema, tuple[str, ...]], list[InputFile]] = {}
    left_out = []
    for file in files:
        try:
            schema = _schema(file)
        except UsageError as exc:
            left_out.append(LeftOut(file.path, str(exc)))
            continue
        groups.setdefault((schema, file.key_names), []).append(file)
    if not groups:
        raise UsageError("; ".join(each.reason for each in left_out))
    names: set[str] = set()
    sources = [_source(base, schema, members, names) for (schema, _), members in groups.items()]
    return sources, left_out


def _schema(file: InputFile) -> pa.Schema:
    with open_batches(file.path) as opened:
        # The file's own key-value metadata (pandas, Spark) is not part of the table.
        schema = opened.schema.remove_metadata()
    if not len(schema):
        raise UsageError(f"{file.path} has no columns")
    return schema


def _batches(path: str, schema: pa.Schema) -> Generator[pa.RecordBatch, None, None]:
    with open_batches(path) as opened:
        for batch in opened.batches:
            yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)


def _source(base: Path, schema: pa.Schema, files: list[InputFile], names: set[str]) -> Source:
    stem = base.resolve().name if len(files) > 1 else _stem(files[0].path)
    table = _identifier(stem)
    while table in names:
        table += "_2"
    names.add(table)
    present = {name.casefold() for name in schema.names}
    # A file that has a column of its folder's key says itself what is in it.
    keys = [name for name in files[0].key_names if name.casefold() not in present]
    column = PARTITION_OF_FILES
    while column in present | {name.casefold() for name in keys}:
        column += "_"
    loads = []
    for file in files:
        name = Path(file.path).relative_to(base).as_posix()
        values = dict(file.keys)
        partition = [(key, _value(values[key])) for key in keys] + [(column, _value(name))]
        loads.append(
            Load(
                name=name,
                partition=str(PartitionSpec(tuple(partition))),
                batches=lambda path=file.path: _batches(path, schema),  # type: ignore[misc]  # mypy cannot infer a lambda's default
            )
        )
    return Source(
        table=table,
        schema=schema,
        partition_by=(*keys, column),
        loads=tuple(loads),
        sample_partition=loads[0].partition or "",
        origin=files[0].path if len(files) == 1 else str(base),
    )


def _value(text: str) -> str:
    """A partition value made from a name: a specification can quote one kind of quotes, not both."""
    return text.replace('"', "_") if "'" in text and '"' in text else text


def _stem(path: str) -> str:
    name = Path(path).name
    return name.split(".", 1)[0] or name


def _identifier(text: str) -> str:
    """A table name made from a file name: letters, digits and underscores."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_").lower() or "input"
    return name if name[0].isalpha() else f"t_{name}"
