"""Blob references: what a BLOB cell holds, made, read and checked.

A reference's token ``T`` is 60 bytes, all integers little-endian:

======  =====  ===========================================================================
offset  bytes  meaning
======  =====  ===========================================================================
0       1      version, 1
1       1      reserved, 0
2       2      length of the blob's metadata (content type and file name) in the pack
4       4      CRC32C of the blob's data
8       8      the table it belongs to
16      12     the pack: 6 bytes of the store's writer, 6 random ones
28      8      where the blob's record starts in the pack: metadata, then data
36      8      length of the data
44      16     MAC of all before, with a key derived from the server's
======  =====  ===========================================================================

Its text ``R`` is the base64 of ``T``: 80 characters, never padded, one spelling. (An upload's reply
has the base64 of ``R``, which clients decode; that is read, too.) A reference is
complete in itself: resolving it needs no catalog row, and nobody without the key can make one or
bend one to other bytes, another pack or another table.

A cell may be written as ``T`` or as ``R``; it is stored as ``R``. `ReferenceChecker` checks a
column in vector operations, half a microsecond to one per cell.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import struct
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fletching.engine.blobs import siphash
from fletching.errors import InvalidArgumentError, NotFoundError, StorageError
from fletching.protocol.types.blob_locations import REFERENCE_VERSION, TEXT_BYTES
from fletching.protocol.types.blob_type import contains_blob, is_blob, storage_type

__all__ = [
    "TOKEN_BYTES",
    "BlobReference",
    "ReferenceChecker",
    "ReferenceKey",
    "pack_key",
    "record_locations",
]

TOKEN_BYTES = 60
_SIGNED_BYTES = TOKEN_BYTES - siphash.MAC_BYTES
# The base64 of a text, as an upload's reply has it, without its padding.
_WRITTEN_CHARACTERS = 107
_LAYOUT = struct.Struct("<BBHI8s12sQQ")
_TABLE_COLUMNS = slice(8, 16)
_PACK_COLUMNS = slice(16, 28)
_LOCATION_COLUMNS = slice(16, 36)
_TABLE_ID = re.compile(r"t([0-9a-f]{16})")
# Cells checked at once: the vectors of one step stay in the processor's cache.
_CHECKED_CELLS = 16_384

_Rows: TypeAlias = npt.NDArray[np.uint8]


class BlobReference(NamedTuple):
    """What a reference says.

    Attributes:
        table_id: the table the blob belongs to.
        pack: the pack's id, 24 hexadecimal digits.
        offset: where the blob's record starts in the pack, in bytes.
        metadata_length: bytes of metadata at the start of the record; the data follows.
        length: bytes of data.
        crc32c: of the data.
    """

    table_id: str
    pack: str
    offset: int
    metadata_length: int
    length: int
    crc32c: int

    @property
    def data_start(self) -> int:
        """Where the data starts in the pack."""
        return self.offset + self.metadata_length

    @property
    def end(self) -> int:
        """Where the data, and the record, ends."""
        return self.offset + self.metadata_length + self.length


def pack_key(table_id: str, pack: str) -> str:
    """The object key of a pack."""
    return f"tables/{table_id}/{pack[:12]}-{pack[12:]}.pack"


def _table_bytes(table_id: str) -> bytes:
    match = _TABLE_ID.fullmatch(table_id)
    if match is None:
        raise StorageError(f"table id {table_id!r} does not fit a blob reference")
    return bytes.fromhex(match[1])


class ReferenceKey:
    """Makes and reads references with one server's key. Thread-safe."""

    def __init__(self, server_key: bytes) -> None:
        # A key of its own, so that no other use of the server's key meets this one.
        self._key = hashlib.blake2b(
            b"blob references", key=server_key, digest_size=siphash.KEY_BYTES
        ).digest()

    def text(self, reference: BlobReference) -> str:
        """The text ``R`` of a reference."""
        return base64.b64encode(self.token(reference)).decode()

    def token(self, reference: BlobReference) -> bytes:
        """The token ``T`` of a reference."""
        signed = _signed(reference)
        return signed + siphash.mac(self._key, signed)

    def texts(self, references: list[BlobReference]) -> list[str]:
        """The texts of many references, at a fraction of the cost."""
        if not references:
            return []
        signed = np.frombuffer(b"".join(map(_signed, references)), np.uint8)
        signed = signed.reshape(len(references), _SIGNED_BYTES)
        tokens = np.concatenate([signed, self.macs(signed)], axis=1)
        text = base64.b64encode(tokens.tobytes()).decode()
        return [text[i : i + TEXT_BYTES] for i in range(0, len(text), TEXT_BYTES)]

    def macs(self, signed: _Rows) -> _Rows:
        """The MACs of the signed parts of tokens."""
        return siphash.macs(self._key, signed)

    def parse(self, reference: str) -> BlobReference:
        """Reads the text of a reference, in the standard or the URL-safe alphabet, or its base64.

        Raises:
            NotFoundError: not a reference, or not one that this server made.
        """
        return self.parse_many([reference])[0]

    def parse_many(self, references: list[str]) -> list[BlobReference]:
        """Reads many texts; errors as for `parse`, with the position of the first bad one."""
        tokens = _all_decoded(references)
        if tokens is None:
            tokens = bytearray()
            for position, reference in enumerate(references):
                token = _decoded(reference)
                if token is None:
                    raise _unknown(position, len(references))
                tokens += token
        rows = np.frombuffer(tokens, np.uint8).reshape(len(references), TOKEN_BYTES)
        bad = self._first_bad(rows)
        if bad is not None:
            raise _unknown(bad, len(references))
        return [
            _reference(fields) for fields in _LAYOUT.iter_unpack(rows[:, :_SIGNED_BYTES].tobytes())
        ]

    def _first_bad(self, rows: _Rows) -> int | None:
        """The first row whose MAC or version is wrong."""
        if len(rows) < 20:
            # Below this many rows the vectors cost more than a loop.
            for position, row in enumerate(rows):
                token = row.tobytes()
                mac = siphash.mac(self._key, token[:_SIGNED_BYTES])
                if token[0] != REFERENCE_VERSION or not hmac.compare_digest(
                    mac, token[_SIGNED_BYTES:]
                ):
                    return position
            return None
        for start in range(0, len(rows), _CHECKED_CELLS):
            good = self.verified(rows[start : start + _CHECKED_CELLS])
            if not good.all():
                return start + int(np.argmin(good))
        return None

    def verified(self, tokens: _Rows) -> npt.NDArray[np.bool_]:
        """Which rows are tokens that this server made; compares every byte of every row."""
        macs = self.macs(tokens[:, :_SIGNED_BYTES])
        good: npt.NDArray[np.bool_] = (macs == tokens[:, _SIGNED_BYTES:]).all(axis=1)
        return good & (tokens[:, 0] == REFERENCE_VERSION)


def _signed(reference: BlobReference) -> bytes:
    return _LAYOUT.pack(
        REFERENCE_VERSION,
        0,
        reference.metadata_length,
        reference.crc32c,
        _table_bytes(reference.table_id),
        bytes.fromhex(reference.pack),
        reference.offset,
        reference.length,
    )


def _reference(fields: tuple[int, int, int, int, bytes, bytes, int, int]) -> BlobReference:
    _, _, metadata_length, crc32c, table, pack, offset, length = fields
    return BlobReference(f"t{table.hex()}", pack.hex(), offset, metadata_length, length, crc32c)


def _decoded(reference: str) -> bytes | None:
    text = reference.strip().rstrip("=").replace("-", "+").replace("_", "/")
    try:
        if len(text) == _WRITTEN_CHARACTERS:
            text = base64.b64decode(text + "=", validate=True).decode("ascii")
        return base64.b64decode(text, validate=True) if len(text) == TEXT_BYTES else None
    except ValueError:
        return None


def _all_decoded(references: list[str]) -> bytes | bytearray | None:
    """The tokens of texts that are all as cells have them, decoded at once; None of any others."""
    if any(len(each) != TEXT_BYTES for each in references):
        return None
    try:
        # A text is a whole number of base64's groups: joined ones decode as each by itself.
        tokens = base64.b64decode("".join(references), validate=True)
    except ValueError:
        return None
    return tokens if len(tokens) == TOKEN_BYTES * len(references) else None


def _unknown(position: int, count: int) -> NotFoundError:
    which = "the blob reference" if count == 1 else f"blob reference {position}"
    return NotFoundError(f"{which} is not known here: it was not made by this server, or altered")


# --- columns ---------------------------------------------------------------------------------

_ALPHABET = np.frombuffer(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8
)
_SIXTETS = np.full(256, 0xFF, np.uint8)
_SIXTETS[_ALPHABET] = np.arange(64, dtype=np.uint8)


def _tokens_of(texts: _Rows) -> tuple[_Rows, npt.NDArray[np.bool_]]:
    """Base64-decodes rows of 80 characters; tells which rows have only characters of the alphabet."""
    sixtets = _SIXTETS[texts]
    good: npt.NDArray[np.bool_] = (sixtets != 0xFF).all(axis=1)
    a, b, c, d = (sixtets[:, i::4] for i in range(4))
    tokens = np.empty((len(texts), TOKEN_BYTES), np.uint8)
    tokens[:, 0::3] = a << 2 | b >> 4
    tokens[:, 1::3] = b << 4 | c >> 2
    tokens[:, 2::3] = c << 6 | d
    return tokens, good


def _texts_of(tokens: _Rows) -> _Rows:
    a, b, c = (tokens[:, i::3] for i in range(3))
    sixtets = np.empty((len(tokens), TEXT_BYTES), np.uint8)
    sixtets[:, 0::4] = a >> 2
    sixtets[:, 1::4] = (a & 0x03) << 4 | b >> 4
    sixtets[:, 2::4] = (b & 0x0F) << 2 | c >> 6
    sixtets[:, 3::4] = c & 0x3F
    return _ALPHABET[sixtets]


def record_locations(array: pa.Array, data_type: pa.DataType) -> npt.NDArray[np.void]:
    """Of the references in stored cells, each once: 12 bytes of the pack, 8 of the record's offset."""
    result = [np.empty(0, "V20")]
    for leaf in _leaves(array.cast(storage_type(array.type)), data_type) if len(array) else ():
        cells = _Cells(leaf)
        tokens, _ = _tokens_of(cells.rows(cells.is_text, TEXT_BYTES))
        result.append(np.ascontiguousarray(tokens[:, _LOCATION_COLUMNS]).view("V20").reshape(-1))
    return np.unique(np.concatenate(result))


class ReferenceChecker:
    """Checks and normalises the BLOB cells written to one table; remembers the packs they are in.

    Belongs to one ingest; not thread-safe.
    """

    def __init__(self, key: ReferenceKey, table_id: str) -> None:
        self._key = key
        self._table = np.frombuffer(_table_bytes(table_id), np.uint8)
        self._packs: set[bytes] = set()

    @property
    def packs(self) -> frozenset[str]:
        """Ids of the packs that checked cells refer to; the catalog links segments to them."""
        return frozenset(pack.hex() for pack in self._packs)

    def check_batch(self, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        """Checks every BLOB column of a record batch.

        Args:
            batch: a ``pa.RecordBatch`` with the columns of ``schema``, in order; BLOB values may be
                of the extension type or plain ``binary``.
            schema: the table's data columns.

        Returns:
            The batch itself if every cell is already a text, else one with the texts.

        Raises:
            InvalidArgumentError: a cell is not a reference of this table.
        """
        changed: dict[int, pa.Array] = {}
        for index, field in enumerate(schema):
            if contains_blob(field.type):
                column = batch.column(index)
                checked = self.check(column, field.type, name=field.name)
                if checked is not column:
                    changed[index] = checked
        if not changed:
            return batch
        columns = [changed.get(i, column) for i, column in enumerate(batch.columns)]
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema)

    def check(self, array: pa.Array, data_type: pa.DataType, *, name: str = "") -> pa.Array:
        """Checks the BLOB values of an array, at any depth.

        Args:
            array: of ``data_type``, or with plain ``binary`` in the place of BLOB.
            data_type: the column's type in the table.
            name: the column's name, for messages.

        Returns:
            ``array`` itself if every reachable value is null or a text, else a copy with texts in
            place of tokens. Values that no row reaches are not looked at, and null in a copy.

        Raises:
            InvalidArgumentError: a value is not a reference of this table.
        """
        if len(array) == 0:
            return array
        # As plain binary, which arrow can flatten at any depth; shares every buffer.
        plain = array.cast(storage_type(array.type))
        tokens_seen = False
        for leaf in _leaves(plain, data_type):
            tokens_seen |= self._check_leaf(leaf, name)
        return _rebuilt(plain, data_type).cast(array.type) if tokens_seen else array

    def _check_leaf(self, values: pa.Array, name: str) -> bool:
        """Checks a flat binary array without unreachable values; tells whether it has tokens."""
        tokens_seen = False
        for start in range(0, len(values), _CHECKED_CELLS):
            tokens_seen |= self._check_cells(values.slice(start, _CHECKED_CELLS), name)
        return tokens_seen

    def _check_cells(self, values: pa.Array, name: str) -> bool:
        cells = _Cells(values)
        bad = ~(cells.is_text | cells.is_token | cells.is_null)
        if bad.any():
            length = int(cells.lengths[np.argmax(bad)])
            raise InvalidArgumentError(
                f"a value of {length} bytes in column {name!r} is not a blob reference:"
                f" upload the blob and write the reference"
            )
        self._verify(*_tokens_of(cells.rows(cells.is_text, TEXT_BYTES)), name)
        tokens = cells.rows(cells.is_token, TOKEN_BYTES)
        self._verify(tokens, np.ones(len(tokens), np.bool_), name)
        return len(tokens) > 0

    def _verify(self, tokens: _Rows, well_formed: npt.NDArray[np.bool_], name: str) -> None:
        if not len(tokens):
            return
        if not (well_formed & self._key.verified(tokens)).all():
            raise InvalidArgumentError(
                f"a blob reference in column {name!r} was not made by this server, or altered"
            )
        if not (tokens[:, _TABLE_COLUMNS] == self._table).all():
            raise InvalidArgumentError(
                f"a blob reference in column {name!r} belongs to another table:"
                f" upload the blob to this one"
            )
        packs = np.ascontiguousarray(tokens[:, _PACK_COLUMNS]).view("V12").reshape(-1)
        # Rows of one batch mostly share a pack: compare neighbours before collecting.
        firsts = np.ones(len(packs), np.bool_)
        firsts[1:] = packs[1:] != packs[:-1]
        self._packs.update(pack.tobytes() for pack in packs[firsts])


class _Cells:
    """A binary array as numpy sees it: lengths, and rows of equally long values."""

    def __init__(self, values: pa.Array) -> None:
        large = pa.types.is_large_binary(values.type) or pa.types.is_large_string(values.type)
        width = np.int64 if large else np.int32
        _, offsets, data = values.buffers()
        count = len(values)
        self._offsets = np.frombuffer(offsets, width, count + 1, values.offset * width().itemsize)
        self._data = np.frombuffer(data if data is not None else b"", np.uint8)
        self.lengths = np.diff(self._offsets)
        if values.null_count:
            self.is_null: npt.NDArray[np.bool_] = values.is_null().to_numpy(zero_copy_only=False)
        else:
            self.is_null = np.zeros(count, np.bool_)
        self.is_text: npt.NDArray[np.bool_] = (self.lengths == TEXT_BYTES) & ~self.is_null
        self.is_token: npt.NDArray[np.bool_] = (self.lengths == TOKEN_BYTES) & ~self.is_null

    def rows(self, which: npt.NDArray[np.bool_], length: int) -> _Rows:
        """The values chosen, all ``length`` long, as rows; a view if they lie side by side."""
        starts = self._offsets[:-1][which]
        if not len(starts):
            return np.empty((0, length), np.uint8)
        first, last = int(starts[0]), int(starts[-1]) + length
        if last - first == length * len(starts):
            return self._data[first:last].reshape(len(starts), length)
        # Other values lie between: gather, which copies only what is looked at.
        return self._data[starts[:, None].astype(np.int64) + np.arange(length)]


def _leaves(array: pa.Array, data_type: pa.DataType) -> list[pa.Array]:
    """The flat arrays of BLOB values that rows reach: what lies under nulls is left out or null."""
    if is_blob(data_type):
        kinds = (
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_string,
            pa.types.is_large_string,
        )
        if not any(kind(array.type) for kind in kinds):
            raise InvalidArgumentError(f"blob references are binary values, not {array.type}")
        return [array]
    if not contains_blob(data_type):
        return []
    if isinstance(data_type, pa.BaseExtensionType):
        data_type = data_type.storage_type
    if pa.types.is_struct(data_type):
        children = array.flatten()  # a struct's nulls become its fields'
        return [
            leaf
            for index, child in enumerate(children)
            for leaf in _leaves(child, data_type.field(index).type)
        ]
    if pa.types.is_map(data_type):
        entry_type = pa.struct([array.type.key_field, array.type.item_field])
        entries = array.cast(pa.list_(entry_type)).flatten()
        return _leaves(entries, pa.struct([data_type.key_field, data_type.item_field]))
    return _leaves(array.flatten(), data_type.value_type)


def _rebuilt(array: pa.Array, data_type: pa.DataType) -> pa.Array:
    """A copy of a checked array with texts in place of tokens; cost per cell, for tokens only."""
    if not contains_blob(data_type):
        return array
    if is_blob(data_type):
        return _with_texts(array)
    if isinstance(data_type, pa.BaseExtensionType):
        data_type = data_type.storage_type
    if array.offset:
        # Copied to start at 0, so that its children and buffers line up.
        array = array.take(pa.array(np.arange(len(array))))
    if pa.types.is_struct(data_type):
        children = [
            _rebuilt(array.field(i), data_type.field(i).type) for i in range(data_type.num_fields)
        ]
        buffers = array.buffers()[:1]
    else:
        if pa.types.is_map(data_type):
            entry_type = pa.struct([data_type.key_field, data_type.item_field])
        else:
            entry_type = data_type.value_type
        children = [_rebuilt(array.values, entry_type)]
        buffers = array.buffers()[: 1 if pa.types.is_fixed_size_list(data_type) else 2]
    return pa.Array.from_buffers(
        array.type, len(array), buffers, array.null_count, 0, children=children
    )


def _with_texts(leaf: pa.Array) -> pa.Array:
    cells = _Cells(leaf)
    keep = cells.is_text | cells.is_token
    lengths = np.where(keep, TEXT_BYTES, 0)
    offsets = np.zeros(len(leaf) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    if pa.types.is_large_binary(leaf.type) or pa.types.is_large_string(leaf.type):
        width: type[np.int64 | np.int32] = np.int64
    else:
        width = np.int32
        if offsets[-1] > np.iinfo(np.int32).max:
            raise InvalidArgumentError("a batch has too many blob references; send smaller ones")
    data = np.empty((int(keep.sum()), TEXT_BYTES), np.uint8)
    text_rows = cells.is_text[keep]
    data[text_rows] = cells.rows(cells.is_text, TEXT_BYTES)
    data[~text_rows] = _texts_of(cells.rows(cells.is_token, TOKEN_BYTES))
    validity = None
    if not keep.all():
        validity = pa.array(keep).buffers()[1]
    return pa.Array.from_buffers(
        leaf.type,
        len(leaf),
        [validity, pa.py_buffer(offsets.astype(width)), pa.py_buffer(data)],
        int((~keep).sum()),
    )
