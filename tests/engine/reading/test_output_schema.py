"""Which columns a reply has: names whatever their case, the table's order or one's own, types as asked for."""

from __future__ import annotations

import pyarrow as pa
import pytest

from fletching.engine.reading.output_schema import (
    TableColumns,
    output_columns,
    reply_schema,
    select_columns,
    select_session_columns,
)
from fletching.errors import InvalidArgumentError
from fletching.protocol.messages.requests import ArrowOptions
from fletching.protocol.messages.vocabulary import TimeUnit

DATA = pa.schema(
    [("Id", pa.int64()), ("at", pa.timestamp("ns", "UTC")), ("u", pa.month_day_nano_interval())],
    metadata={b"made by": b"a test"},
)
COLUMNS = TableColumns(
    DATA, (("Day", "string"), ("hour", "bigint")), ((1,), (2,), (3,), (4,), (5,))
)
AS_STORED = ArrowOptions(timestamp_unit=None, datetime_unit=None)


def test_places_are_of_data_then_partition_columns() -> None:
    assert COLUMNS.names == ("Id", "at", "u", "Day", "hour")
    assert COLUMNS.indices["day"] == 3
    assert COLUMNS.field(0) == DATA.field(0)
    assert COLUMNS.field(4) == pa.field("hour", pa.int64(), nullable=False)


@pytest.mark.parametrize(
    ("data", "partition", "indices"),
    [
        ([], [], (0, 1, 2, 3, 4)),
        (["u", "ID"], [], (0, 2)),
        ([], ["HOUR", "day"], (3, 4)),
        (["at"], ["`hour`"], (1, 4)),
    ],
)
def test_a_session_s_columns_stand_in_table_order(
    data: list[str], partition: list[str], indices: tuple[int, ...]
) -> None:
    assert select_session_columns(COLUMNS, data, partition) == indices


@pytest.mark.parametrize(
    ("data", "partition", "words"),
    [
        (["none"], [], "no data column 'none'"),
        (["Day"], [], "no data column 'Day'"),
        ([], ["Id"], "no partition column 'Id'"),
        (["id", "ID"], [], "asked for twice"),
        (["id", " `Id` "], [], "asked for twice"),
    ],
)
def test_what_is_no_column_there(data: list[str], partition: list[str], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        select_session_columns(COLUMNS, data, partition)


def test_a_read_takes_some_of_its_session_s() -> None:
    session = (0, 2, 4)
    assert select_columns(COLUMNS, session, [], unordered=True) == session
    assert select_columns(COLUMNS, session, ["hour", "id"], unordered=False) == (0, 4)
    assert select_columns(COLUMNS, session, ["hour", "id"], unordered=True) == (4, 0)
    with pytest.raises(InvalidArgumentError, match="'at' is not among"):
        select_columns(COLUMNS, session, ["id", "AT"], unordered=True)


@pytest.mark.parametrize(
    ("options", "verbatim", "sent", "converts"),
    [
        (AS_STORED, True, pa.timestamp("ns", "UTC"), False),
        (
            ArrowOptions(timestamp_unit=TimeUnit.MILLI, datetime_unit=TimeUnit.SECOND),
            True,
            pa.timestamp("ms", "UTC"),
            True,
        ),
    ],
)
def test_types_are_sent_as_asked_for(
    options: ArrowOptions, verbatim: bool, sent: pa.DataType, converts: bool
) -> None:
    (output,) = output_columns(COLUMNS, [1], options, verbatim_types=verbatim)
    assert (output.index, output.stored.type, output.field.type) == (1, DATA.field(1).type, sent)
    assert output.converts is converts


def test_types_that_odps_lacks_need_a_client_that_takes_them() -> None:
    (output,) = output_columns(COLUMNS, [2], AS_STORED, verbatim_types=True)
    assert (output.field.type, output.converts) == (pa.month_day_nano_interval(), False)
    with pytest.raises(
        InvalidArgumentError, match=r"'u' has the Arrow type month_day_nano_interval"
    ):
        output_columns(COLUMNS, [2], ArrowOptions(), verbatim_types=False)


def test_a_reply_keeps_the_table_s_metadata() -> None:
    outputs = output_columns(COLUMNS, [4, 0], AS_STORED, verbatim_types=True)
    schema = reply_schema(outputs, COLUMNS)
    assert schema.names == ["hour", "Id"]
    assert schema.metadata == DATA.metadata
