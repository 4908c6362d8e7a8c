"""Turns contents in BLOB cells into references, on the way into a table.

What a cell may hold, also inside lists, maps and structs:

- ``None``
- a reference: text, its UTF-8 bytes, or its decoded bytes (60 bytes that begin 01 00, as our service
  makes them)
- contents: any other bytes, a `fletching.Blob`, a ``pathlib.Path``, an open binary file, a PIL image, a
  numpy array (see `fletching.client.blobs.blob_conversions`)

Bytes that look like a reference but are contents must be given as ``Blob(data)``. Columns of the
Arrow type ``fletching.blob`` hold references only and are passed on as they are.

Contents are uploaded in batches while rows stream through: at most `GATHERED_BYTES` of them, or one
larger blob, are held.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fletching.client.blobs.blob_conversions import encoded, is_encodable
from fletching.client.blobs.blob_values import Blob, BlobSource
from fletching.client.tabular.alignment import resized
from fletching.client.tabular.python_values import (
    is_null,
    map_pairs,
    matched_items,
    python_array,
    struct_items,
)
from fletching.client.tabular.tabular_data import (
    BatchStream,
    are_columns,
    batches_of,
    is_pandas,
    rows_as_columns,
    with_text_names,
    without_columns,
)
from fletching.errors import UsageError
from fletching.ipc.relabelling import relabelled
from fletching.protocol.types.blob_type import contains_blob, is_blob, storage_type

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["with_references"]

GATHERED_BYTES = 64 << 20
"""Contents uploaded at once."""
GATHERED_ROWS = 4096
"""Rows looked at at once."""

Upload = Callable[[str, Sequence[object]], Sequence[str]]
"""Stores the contents of one BLOB column, by its path; returns their references."""

_TEXT_BYTES, _TOKEN_BYTES = 80, 60


def with_references(data: object, schema: pa.Schema, upload: Upload) -> object:
    """The same rows with references in place of contents; ``data`` itself if there is no BLOB.

    Args:
        data: anything tabular (see `fletching.client.tabular.tabular_data`), with contents in BLOB columns.
        schema: the table's data columns.
        upload: stores contents.

    Raises:
        UsageError: a cell that is neither, at once or from the iterator.
    """
    blobs = {field.name.casefold(): field for field in schema if contains_blob(field.type)}
    if not blobs:
        return data
    if is_pandas(data):
        return _stream(_sliced_frame(data), blobs, schema, upload)
    if isinstance(data, Mapping):
        return _stream(_sliced_columns(data), blobs, schema, upload)
    if isinstance(data, Sequence) and data and isinstance(data[0], Mapping):
        return _stream(_sliced_rows(iter(data)), blobs, schema, upload)
    if isinstance(data, Iterable) and not isinstance(data, str | bytes) and not _is_arrow(data):
        return _from_iterable(data, blobs, schema, upload)
    return _arrow(batches_of(data, schema), blobs, schema, upload)


def _is_arrow(data: object) -> bool:
    return isinstance(data, pa.RecordBatch | pa.Table | pa.RecordBatchReader) or any(
        hasattr(data, name) for name in ("__arrow_c_stream__", "__arrow_c_array__")
    )


def _from_iterable(
    items: Iterable[object], blobs: Mapping[str, pa.Field], schema: pa.Schema, upload: Upload
) -> Iterable[pa.RecordBatch]:
    iterator = iter(items)
    ahead = list(itertools.islice(iterator, 1))
    if not ahead:
        return BatchStream(schema, iter(()))
    first, chained = ahead[0], itertools.chain(ahead, iterator)
    if isinstance(first, Mapping) and not are_columns(first, schema):
        # Items of another kind are refused when their turn comes.
        return _stream(_sliced_rows(chained), blobs, schema, upload)
    return (
        batch
        for item in chained
        for batch in batches_of(with_references(item, schema, upload), schema).batches
    )


# --- python values ---------------------------------------------------------------------------


_Columns = Mapping[str, Iterable[object]]


def _sliced_columns(columns: Mapping[str, object]) -> Iterator[_Columns]:
    whole: dict[str, Any] = {}
    for name, values in columns.items():
        if not isinstance(name, str):
            raise UsageError(f"the name of a column is a text, not a {type(name).__name__}")
        if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
            raise UsageError(f"column {name!r} is a {type(values).__name__}, not a list of values")
        sliceable = hasattr(values, "__len__") and hasattr(values, "__getitem__")
        whole[name] = values if sliceable else list(values)
    lengths = {len(values) for values in whole.values()}
    if len(lengths) > 1:
        raise UsageError(f"the columns have different lengths: {sorted(lengths)}")
    for start in range(0, max(lengths, default=0), GATHERED_ROWS):
        yield {name: values[start : start + GATHERED_ROWS] for name, values in whole.items()}


def _sliced_frame(frame: pd.DataFrame) -> Iterator[_Columns | int]:
    frame = with_text_names(frame)
    if len(set(frame.columns)) < len(frame.columns):
        raise UsageError("the data has two columns of one name")
    for start in range(0, len(frame), GATHERED_ROWS):
        part = frame.iloc[start : start + GATHERED_ROWS]
        yield {name: part[name] for name in part.columns} or len(part)


def _sliced_rows(rows: Iterator[Any]) -> Iterator[_Columns | int]:
    """Rows as slices of columns; a key that a row lacks is null."""
    while held := list(itertools.islice(rows, GATHERED_ROWS)):
        yield rows_as_columns(held) or len(held)


def _stream(
    slices: Iterator[_Columns | int] | Iterator[_Columns],
    blobs: Mapping[str, pa.Field],
    schema: pa.Schema,
    upload: Upload,
) -> Iterator[pa.RecordBatch]:
    """The rows of slices with references; a slice without any column is a number of rows."""
    for columns in slices:
        if isinstance(columns, int):
            yield from without_columns(columns)
            continue
        done = {
            name: _uploaded(values, blobs[name.casefold()], upload)
            if name.casefold() in blobs
            else values
            for name, values in columns.items()
        }
        yield from batches_of(done, schema)


def _arrow(
    stream: BatchStream, blobs: Mapping[str, pa.Field], schema: pa.Schema, upload: Upload
) -> BatchStream:
    """Arrow data: only columns whose type is not that of references are looked into."""
    del schema
    wanted = [
        index
        for index, field in enumerate(stream.schema)
        if field.name.casefold() in blobs and not contains_blob(field.type)
    ]
    if not wanted:
        return stream
    fields = [
        pa.field(field.name, blobs[field.name.casefold()].type) if index in wanted else field
        for index, field in enumerate(stream.schema)
    ]

    def converted() -> Iterator[pa.RecordBatch]:
        for part in resized(stream.batches, GATHERED_BYTES):
            for start in range(0, part.num_rows, GATHERED_ROWS):
                rows = part.slice(start, GATHERED_ROWS)
                columns = list(rows.columns)
                for index in wanted:
                    field = blobs[stream.schema.field(index).name.casefold()]
                    # The copy into Python values is of contents that are sent one by one anyway.
                    columns[index] = _uploaded(columns[index].to_pylist(), field, upload)
                yield pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))

    return BatchStream(pa.schema(fields), converted())


# --- cells -----------------------------------------------------------------------------------


class _Pending:
    """Stands for a reference that is not known yet."""

    __slots__ = ("reference",)

    def __init__(self) -> None:
        self.reference: bytes | None = None


class _Gatherer:
    """Collects the contents of one column and uploads them by batches."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._waiting: dict[str, list[tuple[_Pending, object]]] = {}
        self._bytes = 0

    def add(self, path: str, contents: object) -> _Pending:
        pending = _Pending()
        made = encoded(contents)
        if made is not None:
            # Once, here: its length is asked for before it is sent.
            contents = Blob(*made)
        source = BlobSource(contents)
        length = source.length or 0
        if self._bytes and self._bytes + length > GATHERED_BYTES:
            self.flush()
        self._waiting.setdefault(path, []).append((pending, contents))
        self._bytes += length
        return pending

    def flush(self) -> None:
        for path, waiting in self._waiting.items():
            references = self._upload(path, [contents for _, contents in waiting])
            for (pending, _), reference in zip(waiting, references, strict=True):
                pending.reference = reference.encode()
        self._waiting, self._bytes = {}, 0


def _uploaded(values: Iterable[object], field: pa.Field, upload: Upload) -> pa.Array:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        if contains_blob(values.type):
            return values
        values = values.to_pylist()
    if hasattr(values, "isna"):
        # pandas shows what is missing among objects as NaN, its own NA, or None
        missing = values.isna()
        values = [None if gone else v for v, gone in zip(values, missing, strict=True)]
    gatherer = _Gatherer(upload)
    replaced = [_replaced(value, field.type, field.name, gatherer) for value in values]
    gatherer.flush()
    plain = python_array(
        [_resolved(value) for value in replaced], storage_type(field.type), field.name
    )
    return relabelled(plain, field.type)


def _replaced(value: object, data_type: pa.DataType, path: str, gatherer: _Gatherer) -> object:
    """The value with references, or what stands for them, in place of contents."""
    if not contains_blob(data_type):
        return value
    if value is None or is_null(value):
        return None
    if isinstance(value, pa.Scalar):
        value = value.as_py()
    if is_blob(data_type):
        return _replaced_cell(value, path, gatherer)
    if isinstance(data_type, pa.BaseExtensionType):
        data_type = data_type.storage_type
    if pa.types.is_struct(data_type):
        fields = list(data_type)
        names = [field.name for field in fields]
        if isinstance(value, tuple):
            value = struct_items(value, names, path)
        if not isinstance(value, Mapping):
            raise UsageError(f"a value of column {path!r} is a {type(value).__name__}, not a dict")
        items = matched_items([value], names, path)
        return {
            field.name: _replaced(item, field.type, f"{path}.{field.name}", gatherer)
            for field, (item,) in zip(fields, items, strict=True)
        }
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise UsageError(f"a value of column {path!r} is a {type(value).__name__}, no {data_type}")
    if pa.types.is_map(data_type):
        pairs = map_pairs(value, path)
        return [
            (
                _replaced(key, data_type.key_type, f"{path}.key", gatherer),
                _replaced(item, data_type.item_type, f"{path}.value", gatherer),
            )
            for key, item in pairs
        ]
    return [_replaced(item, data_type.value_type, f"{path}.element", gatherer) for item in value]


def _replaced_cell(value: object, path: str, gatherer: _Gatherer) -> object:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value) if len(value) in {_TEXT_BYTES, _TOKEN_BYTES} else b""
        if _looks_like_reference(data):
            return data
        return gatherer.add(path, value)
    if isinstance(value, Blob) and value.reference is not None:
        return value.reference.encode()
    if isinstance(value, Blob | os.PathLike) or hasattr(value, "read") or is_encodable(value):
        return gatherer.add(path, value)
    raise UsageError(
        f"a cell of BLOB column {path!r} is a reference, bytes, a Blob, a path, an open file, a PIL"
        f" image or a numpy array, not {type(value).__name__}"
    )


def _looks_like_reference(data: bytes) -> bool:
    if len(data) == _TEXT_BYTES:
        try:
            data = base64.b64decode(data, validate=True)
        except binascii.Error:
            return False
    return len(data) == _TOKEN_BYTES and data[:2] == b"\x01\x00"


def _resolved(value: object) -> object:
    if isinstance(value, _Pending):
        return value.reference
    if isinstance(value, dict):
        return {name: _resolved(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_resolved(item) for item in value)
    if isinstance(value, list):
        return [_resolved(item) for item in value]
    return value
