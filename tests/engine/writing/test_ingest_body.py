"""One body's batches: stored as they are where they can be, else moved, converted or encoded again."""

from __future__ import annotations

import dataclasses
from typing import Any

import pyarrow as pa
import pytest

from fletching import ipc
from fletching.engine.writing.ingest_body import Body
from fletching.engine.writing.states import SessionEvent
from fletching.engine.writing.write_targets import find_session
from fletching.errors import InvalidArgumentError, LimitExceededError, SchemaModifiedError
from fletching.ipc import lowlevel
from fletching.protocol.messages.requests import WriteTable
from fletching.protocol.messages.vocabulary import WriteMode
from fletching.protocol.types.arrow_types import arrow_field
from fletching.protocol.types.odps_types import parse_type

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])
WORDS = pa.schema([("w", pa.dictionary(pa.int8(), pa.string()))])


def batch(**columns: Any) -> Any:
    return pa.record_batch(list(columns.values()), names=list(columns))


ROWS = batch(id=pa.array([1, 2]), text=pa.array(["a", "b"]))


@dataclasses.dataclass
class Taken:
    """A body and the messages it was given."""

    body: Body
    messages: list[ipc.Message]

    def segments(self) -> list[Any]:
        return self.body.writer.finish()


class Desk:
    """Makes bodies for a house's table and looks at what they store."""

    def __init__(self, house: Any) -> None:
        self.house = house
        self.store = house.engine.context.store

    def take(
        self,
        *batches: Any,
        partition: str = "",
        request: Any = None,
        checker: Any = None,
        **options: Any,
    ) -> Taken:
        house = self.house
        session = house.session(partition)
        context = house.engine.context
        with context.database.read() as connection:
            target = find_session(
                connection, context, house.table, session, WriteMode.BATCH,
                event=SessionEvent.WRITE, lock=False,
            )  # fmt: skip
        encoder = lowlevel.BatchEncoder(batches[0].schema, **options)
        data = encoder.schema_message + b"".join(
            bytes(piece) for batch in batches for frame in encoder.encode(batch) for piece in frame
        )
        schema_message, *messages = ipc.messages(data)
        request = request or WriteTable(table=house.table, session_id=session, stream_id="s")
        body = Body(context, request, target, schema_message, checker)
        for message in messages:
            body.accept(message)
        return Taken(body, messages)

    def stored(self, segment: Any) -> tuple[list[bytes], list[dict[str, Any]]]:
        """Bodies of the stored batches, and their rows."""
        with self.store.open(segment.key) as item:
            data = bytes(item.read(0, segment.length))
        file = ipc.open_file(data)
        bodies = [
            bytes(message.body)
            for message in ipc.messages(data)
            if message.type is lowlevel.MessageType.RECORD_BATCH
        ]
        rows = [row for i in range(len(file)) for row in file[i].to_pylist()]
        return bodies, rows


@pytest.fixture
def desk(house: Any) -> Desk:
    return Desk(house)


@pytest.mark.parametrize("codec", [None, "lz4", "zstd"])
def test_batches_of_the_tables_schema_are_stored_as_they_are(desk: Desk, codec: Any) -> None:
    desk.house.create(SCHEMA)
    taken = desk.take(ROWS, ROWS, compression=codec)
    (segment,) = taken.segments()
    bodies, rows = desk.stored(segment)
    assert bodies == [bytes(message.body) for message in taken.messages]
    assert rows == ROWS.to_pylist() * 2
    assert segment.codecs == (codec or "")


def test_columns_are_moved_without_decoding_them(desk: Desk) -> None:
    desk.house.create(SCHEMA)
    moved = ROWS.select(["text", "id"])
    (segment,) = desk.take(moved, compression="lz4").segments()
    assert desk.stored(segment)[1] == ROWS.to_pylist()
    assert segment.codecs == "lz4"


def test_what_is_of_another_type_is_encoded_again_in_the_writers_codec(desk: Desk) -> None:
    desk.house.create(SCHEMA)
    other = batch(ID=pa.array([1, 2], pa.int8()), text=pa.array(["a", "b"], pa.large_string()))
    (segment,) = desk.take(other, compression="zstd").segments()
    assert desk.stored(segment)[1] == ROWS.to_pylist()
    assert segment.codecs == "zstd"


def test_a_message_that_cannot_stand_in_a_file_is_encoded_again(desk: Desk) -> None:
    """The prefix of the legacy form is four bytes long, so its metadata begins at none of eight."""
    numbers = batch(id=pa.array([1, 2]))
    desk.house.create(numbers.schema)
    taken = desk.take(numbers)
    legacy = desk.house.stream_bytes([numbers], numbers.schema, use_legacy_format=True)
    message = list(ipc.messages(legacy))[1]
    assert message.prefix_length == 4
    taken.body.accept(message)
    (segment,) = taken.segments()
    assert desk.stored(segment)[1] == numbers.to_pylist() * 2


def test_rows_go_to_the_sessions_partition_or_to_their_own(desk: Desk) -> None:
    desk.house.create(SCHEMA, ["pt", "hour"])
    static = desk.take(ROWS, partition="pt=a,hour=1").segments()
    assert len(static) == 1
    dynamic = ROWS.append_column("HOUR", pa.array(["x", "y"]))
    segments = desk.take(dynamic, partition="pt=b").segments()
    assert [desk.stored(segment)[1] for segment in segments] == [[row] for row in ROWS.to_pylist()]
    partitions = {segment.partition for segment in (*static, *segments)}
    assert len(partitions) == 3


def test_empty_batches_are_counted_and_not_stored(desk: Desk, open_house: Any) -> None:
    desk.house.create(SCHEMA)
    assert desk.take(ROWS.slice(0, 0), ROWS.slice(0, 0)).segments() == []


def test_batches_are_bounded(open_house: Any) -> None:
    house = open_house(max_write_batches=3, max_write_empty_batches=2)
    house.create(SCHEMA)
    desk = Desk(house)
    desk.take(ROWS, ROWS, ROWS)
    with pytest.raises(LimitExceededError, match="too many record batches"):
        desk.take(ROWS, ROWS, ROWS, ROWS)
    empty = ROWS.slice(0, 0)
    desk.take(empty, empty, ROWS)
    with pytest.raises(LimitExceededError, match="too many empty record batches"):
        desk.take(empty, empty, empty)


def test_dictionaries_are_bounded(open_house: Any) -> None:
    house = open_house()
    house.create(WORDS)
    desk = Desk(house)
    taken = desk.take(words("x", "y"))
    taken.body._limits = dataclasses.replace(taken.body._limits, max_dictionary_bytes=100)
    (large, _) = desk.take(words("x" * 200)).messages
    with pytest.raises(LimitExceededError, match="the dictionaries are too large"):
        taken.body.accept(large)


def words(*values: str) -> Any:
    array = pa.array(values).dictionary_encode().cast(WORDS.field("w").type)
    return pa.record_batch([array], schema=WORDS)


def test_dictionaries_come_with_the_batches_that_need_them(desk: Desk) -> None:
    desk.house.create(WORDS)
    segments = desk.take(words("x", "y"), words("q")).segments()
    assert [desk.stored(segment)[1] for segment in segments] == [
        [{"w": "x"}, {"w": "y"}],
        [{"w": "q"}],
    ]


def test_a_schema_that_moved_on_says_so(desk: Desk) -> None:
    info = desk.house.create(SCHEMA)
    wrong = batch(id=pa.array([1, 2]), extra=pa.array([1, 2]))
    for version, error in (
        (None, InvalidArgumentError),
        (info.schema_version, InvalidArgumentError),
        (info.schema_version + 1, SchemaModifiedError),
    ):
        request = WriteTable(
            table=desk.house.table, session_id="s", stream_id="s", schema_version=version
        )
        with pytest.raises(error, match="no column 'extra'") as caught:
            desk.take(wrong, request=request)
        if isinstance(caught.value, SchemaModifiedError):
            assert caught.value.latest_schema_version == info.schema_version


class Checker:
    """Looks at cells, and replaces them if it is told to."""

    def __init__(self, replacement: Any = None) -> None:
        self.seen: list[Any] = []
        self.packs = frozenset({"p1"})
        self._replacement = replacement

    def check_batch(self, data: Any, schema: Any) -> Any:
        assert data.schema == schema
        self.seen.append(data)
        return data if self._replacement is None else self._replacement


def test_checked_cells_are_stored_as_they_are_unless_they_change(desk: Desk) -> None:
    desk.house.create(SCHEMA)
    checker = Checker()
    taken = desk.take(ROWS, checker=lambda _table, _schema: checker)
    (segment,) = taken.segments()
    assert desk.stored(segment)[0] == [bytes(message.body) for message in taken.messages]
    assert taken.body.packs == {"p1"}
    assert [batch.to_pylist() for batch in checker.seen] == [ROWS.to_pylist()]
    other = pa.record_batch([pa.array([7]), pa.array(["z"])], schema=SCHEMA)
    changing = desk.take(ROWS, checker=lambda _table, _schema: Checker(other))
    assert desk.stored(changing.segments()[0])[1] == [{"id": 7, "text": "z"}]
    assert desk.take(ROWS, checker=lambda _table, _schema: None).body.packs == frozenset()


def test_nulls_that_may_not_be_are_found_before_anything_is_stored(desk: Desk) -> None:
    desk.house.create(
        pa.schema([pa.field("id", pa.int64(), nullable=False), ("text", pa.string())])
    )
    with pytest.raises(InvalidArgumentError, match="'id' has null"):
        desk.take(batch(id=pa.array([1, None]), text=pa.array(["a", "b"])))
    assert desk.house.object_keys() == set()


@pytest.mark.parametrize("kind", [pa.string(), pa.binary(), pa.dictionary(pa.int8(), pa.string())])
def test_values_that_a_declared_type_lacks_are_found_in_whatever_comes(
    desk: Desk, kind: Any
) -> None:
    desk.house.create(
        pa.schema([arrow_field("j", parse_type("json")), arrow_field("v", parse_type("char(2)"))])
    )
    for j, v, message in (
        ("{", "a", "'j' takes JSON"),
        ("{}", "abc", "'v' takes texts of up to 2"),
    ):
        columns = {name: pa.array([text, text]).cast(kind) for name, text in (("j", j), ("v", v))}
        with pytest.raises(InvalidArgumentError, match=message):
            desk.take(batch(**columns))
    assert desk.house.object_keys() == set()


KEYED = pa.schema(
    [pa.field("k", pa.int64(), nullable=False), pa.field("v", pa.string(), nullable=False)]
)


def keyed(keys: list[Any], values: list[Any], operations: str = "", **columns: Any) -> Any:
    made = batch(k=pa.array(keys, pa.int64()), v=pa.array(values, pa.string()), **columns)
    if operations:
        made = made.append_column("__operation", pa.array(list(operations.encode()), pa.int8()))
    return made


def written(desk: Desk, taken: Taken) -> dict[tuple[str, bool], list[Any]]:
    """The stored rows by partition, and apart the keys whose rows are to go."""
    return {
        (each.segment.partition, each.deletes): desk.stored(each.segment)[1]
        for each in taken.body.finish().staged
    }


def test_upserted_rows_are_stored_as_they_are_and_others_moved_or_parted(desk: Desk) -> None:
    desk.house.create(KEYED, ["pt"], primary_key=("k",))
    rows = keyed([1, 2], ["a", "b"])
    # What a writer pads with shows whether its message was stored or another one made of its rows.
    data = desk.house.stream_bytes([rows], rows.schema).replace(b"ab" + bytes(6), b"ab.pads.")
    message = list(ipc.messages(data))[1]
    assert b"ab.pads." in bytes(message.body)
    plain = desk.take(rows, partition="pt=x")
    plain.body.accept(message)
    (staged,) = plain.body.finish().staged
    bodies, stored = desk.stored(staged.segment)
    assert bodies[1] == bytes(message.body)
    assert stored == rows.to_pylist() * 2
    assert not staged.deletes
    other = batch(k=pa.array([1, 2], pa.int8()), v=pa.array(["a", "b"]))
    assert written(desk, desk.take(other, partition="pt=x")) == {('["x"]', False): rows.to_pylist()}
    two = rows.append_column("pt", pa.array(["x", "y"]))
    assert written(desk, desk.take(two)) == {
        ('["x"]', False): [{"k": 1, "v": "a"}],
        ('["y"]', False): [{"k": 2, "v": "b"}],
    }
    mixed = keyed([1, 2, 3, 4, 5], list("abcde"), "UDUDU", pt=pa.array(list("xxyyx")))
    assert written(desk, desk.take(mixed)) == {
        ('["x"]', False): [{"k": 1, "v": "a"}, {"k": 5, "v": "e"}],
        ('["y"]', False): [{"k": 3, "v": "c"}],
        ('["x"]', True): [{"k": 2, "v": None}],
        ('["y"]', True): [{"k": 4, "v": None}],
    }
    alone = keyed([1, 2], ["a", "b"], "DD")
    assert written(desk, desk.take(alone, partition="pt=x")) == {
        ('["x"]', True): [{"k": 1, "v": None}, {"k": 2, "v": None}]
    }


def test_what_only_deletes_needs_its_key_alone(desk: Desk) -> None:
    desk.house.create(KEYED, primary_key=("k",))
    keys = keyed([1, 2], ["a", "b"], "DD").select(["k", "__operation"])
    assert written(desk, desk.take(keys)) == {
        ("[]", True): [{"k": 1, "v": None}, {"k": 2, "v": None}]
    }
    nulls = keyed([1, 2], ["a", None], "UD")
    assert written(desk, desk.take(nulls))["[]", False] == [{"k": 1, "v": "a"}]
    before = desk.house.object_keys()
    for wrong, message in (
        (keyed([1, 2], ["a", "b"], "DU").select(["k", "__operation"]), "lacks column v"),
        (keyed([1, 2], ["a", None], "DU"), "'v' has null"),
        (keyed([1, 2], ["a", None]), "'v' has null"),
    ):
        with pytest.raises(InvalidArgumentError, match=message):
            desk.take(wrong)
    assert desk.house.object_keys() == before


def test_of_deleted_rows_the_key_alone_is_looked_at(desk: Desk) -> None:
    kind = arrow_field("v", parse_type("json"))
    desk.house.create(
        pa.schema([pa.field("k", pa.int64(), nullable=False), kind]), primary_key=("k",)
    )
    stored = written(desk, desk.take(keyed([1, 2], ["{}", "{"], "UD")))
    assert stored["[]", False] == [{"k": 1, "v": "{}"}]
    with pytest.raises(InvalidArgumentError, match="'v' takes JSON"):
        desk.take(keyed([1, 2], ["{}", "{"], "DU"))


def test_cells_of_upserted_rows_are_checked_and_those_of_deleted_ones_are_not(desk: Desk) -> None:
    desk.house.create(KEYED, primary_key=("k",))
    rows = keyed([1, 2], ["a", "b"])
    other = pa.record_batch([pa.array([7]), pa.array(["z"])], schema=KEYED)
    for given, stays in (
        (rows, rows.to_pylist()),
        (keyed([1, 2], ["a", "b"], "DU"), [{"k": 2, "v": "b"}]),
    ):
        checker = Checker()
        taken = desk.take(given, checker=lambda _table, _schema, cells=checker: cells)
        assert [batch.to_pylist() for batch in checker.seen] == [stays]
        assert written(desk, taken)["[]", False] == stays
        changing = desk.take(given, checker=lambda _table, _schema: Checker(other))
        assert written(desk, changing)["[]", False] == [{"k": 7, "v": "z"}]
