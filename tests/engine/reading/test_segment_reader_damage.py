"""One segment as a read sees it: opened once, held to what the catalog says, decoded where it lies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fletching.catalog.table_rows import get_table
from fletching.engine.reading.message_checks import MessageChecks
from fletching.engine.reading.segment_reader import SegmentReader
from fletching.errors import CorruptObjectError
from fletching.ipc.validation import relaxed_type
from fletching.objects.local import LocalStore

ROWS = 300
PLAIN = pa.table(
    {
        "n": pa.array(range(ROWS), pa.int64()),
        "s": pa.array([f"row {n}" if n % 7 else None for n in range(ROWS)]),
    }
)
WORDS = PLAIN.append_column("d", pa.array(["abc"[n % 3] for n in range(ROWS)]).dictionary_encode())


class Stored:
    """The one segment of a table, of three batches.

    Attributes:
        reader: of it.
        spans: start and end of each batch.
        store: where it is.
    """

    def __init__(self, house: Any, rows: pa.Table, **options: Any) -> None:
        house.create(rows.schema)
        batches = rows.to_batches(max_chunksize=100)
        session = house.session()
        house.stream(session)
        house.send(house.stream_bytes(batches, rows.schema, **options), session)
        house.close(session)
        house.commit(session)
        context = house.engine.context
        with context.database.read() as connection:
            table = get_table(connection, house.table)
        scan_schema, snapshot = house.engine._reading.whole_table(table)
        self.row = snapshot.segments[0]
        self.stored = scan_schema.projection.stored(self.row.schema_version)
        self.store = context.store
        self.spans = [
            (int(snapshot.offset[n]), int(snapshot.offset[n] + snapshot.message_length[n]))
            for n in range(3)
        ]
        self.reader = self.anew()

    def anew(self, **changes: Any) -> SegmentReader:
        row = self.row._replace(**changes)
        return SegmentReader(self.store, row, self.stored, MessageChecks())

    def spoil(self, offset: int) -> None:
        path = self.store.root / self.row.key
        path.chmod(0o600)
        with path.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 0xFF]))


@pytest.fixture
def stored(open_house: Callable[..., Any], tmp_path: Path) -> Callable[..., Stored]:
    # A folder's files, wherever other tests keep their objects: these are cut and changed.
    def made(rows: pa.Table = PLAIN, **options: Any) -> Stored:
        return Stored(open_house(store=LocalStore(tmp_path / "own")), rows, **options)

    return made


@pytest.mark.parametrize("rows", [PLAIN, WORDS], ids=["plain", "dictionary"])
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_every_batch_in_any_order_and_any_columns(
    stored: Callable[..., Stored], rows: pa.Table, compression: str | None
) -> None:
    result = stored(rows, compression=compression)
    names = rows.schema.names
    for number in (2, 0, 1):
        expected = rows.slice(100 * number, 100)
        for columns in [(0,), (1,), (1, 0), tuple(range(len(names)))]:
            got = result.reader.decode(*result.spans[number], columns)
            wanted = expected.select([names[column] for column in columns])
            assert pa.Table.from_batches([got]).to_pydict() == wanted.to_pydict()


def test_dictionaries_stand_before_their_batches(stored: Callable[..., Stored]) -> None:
    result = stored(WORDS)
    (only,) = result.reader.dictionaries(result.spans[0][0])
    assert only.end <= result.spans[0][0]
    assert result.reader.dictionaries(only.offset) == []


def test_it_is_opened_once(stored: Callable[..., Stored], monkeypatch: pytest.MonkeyPatch) -> None:
    result = stored()
    opened = []
    open_ = type(result.store).open

    def counted(self: Any, key: str, **options: Any) -> Any:
        opened.append(key)
        return open_(self, key, **options)

    monkeypatch.setattr(type(result.store), "open", counted)
    for span in result.spans:
        result.reader.decode(*span, (0, 1))
    assert opened == [result.row.key]


def test_what_the_catalog_lists_and_is_not_there_is_damage(stored: Callable[..., Stored]) -> None:
    result = stored()
    with pytest.raises(CorruptObjectError, match="cut or replaced"):
        result.anew(length=result.row.length + 1).decode(*result.spans[0], (0, 1))
    result.store.delete(result.row.key)
    with pytest.raises(CorruptObjectError, match="missing") as caught:
        result.anew().decode(*result.spans[0], (0, 1))
    assert caught.value.key == result.row.key


def test_damage_is_found_in_the_message_that_has_it(stored: Callable[..., Stored]) -> None:
    result = stored()
    start, end = result.spans[1]
    result.spoil(end - 20)
    reader = result.anew()
    assert reader.decode(*result.spans[0], (0, 1)).num_rows == 100
    with pytest.raises(CorruptObjectError, match="checksum"):
        reader.decode(start, end, (0, 1))


NESTED = pa.table(
    {
        "n": PLAIN["n"],
        "s": PLAIN["s"],
        "v": PLAIN["s"].cast(pa.string_view()),
        "l": pa.array([[f"text {n}"] for n in range(ROWS)]),
    }
)


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_no_damaged_offset_of_chosen_columns_leads_outside(
    stored: Callable[..., Stored], compression: str | None
) -> None:
    """Nobody has compared them with a checksum, and whoever follows such an offset crashes."""
    result = stored(NESTED, compression=compression)
    start, end = result.spans[0]
    chosen = [(1,), (2,), (3,), (0, 2), (0,)]
    refused = dict.fromkeys(chosen, 0)
    for offset in range(start + 3, end, 97):
        result.spoil(offset)
        reader = result.anew()
        for columns in chosen:
            try:
                batch = reader.decode(start, end, columns)
            except CorruptObjectError:
                refused[columns] += 1
            else:
                relaxed = [relaxed_type(kind, text=True) for kind in batch.schema.types]
                for array, kind in zip(batch.columns, relaxed, strict=True):
                    array.view(kind).validate(full=True)
        result.spoil(offset)
    assert all(refused.values())


def test_a_place_where_no_batch_stands_is_damage(stored: Callable[..., Stored]) -> None:
    result = stored()
    start, end = result.spans[0]
    for wrong in ((start + 8, end), (start, start + 16)):
        with pytest.raises(CorruptObjectError):
            result.anew().decode(*wrong, (0,))


def test_a_message_that_was_fetched_is_decoded_as_one_that_is_mapped(
    stored: Callable[..., Stored],
) -> None:
    result = stored()
    start, end = result.spans[2]
    data = result.store.open(result.row.key).read(start, end)
    assert result.reader.decode_message(data).equals(result.reader.decode(start, end, (0, 1)))
    with pytest.raises(CorruptObjectError):
        result.reader.decode_message(data[: len(data) // 2])
