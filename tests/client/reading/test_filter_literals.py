"""Every form of literal against every type of column, over both transports: the table of docs/filters.md."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest

import fletching
from fletching.errors import InvalidArgumentError

PAGE = Path(__file__).parents[3] / "docs" / "filters.md"
UTC_MOMENT = dt.datetime.fromisoformat("2024-02-29")

COLUMNS = {
    "BOOLEAN": pa.array([True, None]),
    "TINYINT": pa.array([1, None], pa.int8()),
    "SMALLINT": pa.array([1, None], pa.int16()),
    "INT": pa.array([1, None], pa.int32()),
    "BIGINT": pa.array([1, None], pa.int64()),
    "FLOAT": pa.array([1.0, None], pa.float32()),
    "DOUBLE": pa.array([1.0, None], pa.float64()),
    "DECIMAL": pa.array([Decimal("1.00"), None], pa.decimal128(10, 2)),
    "STRING": pa.array(["1", None]),
    "BINARY": pa.array([b"1", None]),
    "DATE": pa.array([UTC_MOMENT.date(), None]),
    "DATETIME": pa.array([UTC_MOMENT, None], pa.timestamp("ms")),
    "TIMESTAMP": pa.array([UTC_MOMENT, None], pa.timestamp("ns")),
}
FORMS = [
    "true",
    "1",
    "1Y",
    "1S",
    "1L",
    "1.0",
    "1.0BD",
    "1.0D",
    "1F",
    "1e0",
    "+1",
    "-(-1)",
    "CAST('1' AS BIGINT)",
    "CAST(1 AS DOUBLE)",
    "CAST('1.00' AS DECIMAL(10,2))",
    "'1'",
    '"1"',
    "CAST(1 AS STRING)",
    "X'31'",
    "CAST('1' AS BINARY)",
    "'2024-02-29'",
    "'2024-2-29 00:00:00'",
    "'2024-02-29T00:00:00Z'",
    "'2024-02-29 08:00:00+08:00'",
    "DATE '2024-02-29'",
    "DATETIME '2024-02-29 00:00:00'",
    "TIMESTAMP '2024-02-29 00:00:00'",
    "TIMESTAMP_NTZ '2024-02-29 00:00:00.000000000'",
    "CAST('2024-02-29' AS TIMESTAMP)",
]


@pytest.fixture
def wide(client: fletching.Client) -> fletching.Table:
    data = pa.table({name.lower(): array for name, array in COLUMNS.items()})
    table = client.create_table("t", data.schema)
    table.append(data)
    return table


def outcome(table: fletching.Table, condition: str) -> str:
    try:
        result = table.scan(columns=["bigint"], filter=condition).to_table()["bigint"].to_pylist()
    except InvalidArgumentError as error:
        return str(error.http_status)
    return {(1,): "yes", (): "no"}[tuple(result)]


def lines(table: fletching.Table, *, every_form: bool = True) -> list[str]:
    made = [f"| | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for form in FORMS:
        cells = []
        for name in COLUMNS:
            result = outcome(table, f"`{name}` = {form}")
            if every_form:
                # The other forms of equality say the same.
                assert outcome(table, f"{form} = `{name}`") == result
                assert outcome(table, f"`{name}` IN ({form})") == result
                assert outcome(table, f"`{name}` BETWEEN {form} AND {form}") == result
            if result == "no" and name in ("STRING", "BINARY") and form[0] == "'":
                result = "text"
            cells.append(result)
        made.append(f"| `{form}` | {' | '.join(cells)} |")
    return made


def test_the_table_of_the_docs_is_true(
    wide: fletching.Table, request: pytest.FixtureRequest
) -> None:
    embedded = request.node.callspec.params["client"] == "embedded"
    made = lines(wide, every_form=embedded)
    assert [line for line in made if "| no |" in line] == []
    assert "\n".join(made) in PAGE.read_text(), "docs/filters.md should say:\n" + "\n".join(made)


@pytest.mark.parametrize("form", ["NULL", "CAST(NULL AS BIGINT)"])
def test_null_equals_nothing(wide: fletching.Table, form: str) -> None:
    for name in COLUMNS:
        assert outcome(wide, f"`{name}` = {form}") == "no"
        assert outcome(wide, f"NOT `{name}` = {form}") == "no"


@pytest.mark.parametrize(
    "form",
    [
        "1_0",
        "'1_0'",
        "'\u0661'",
        "128Y",
        "32768S",
        "9223372036854775808L",
        "1e400000000",
        "'0x1'",
        "CAST('x' AS BIGINT)",
        "CAST('1_0' AS DOUBLE)",
        "CAST('1e399' AS DOUBLE)",
        "CAST('-1e-399' AS DOUBLE)",
        "CAST('1e39' AS FLOAT)",
        "CAST(1.5 AS BIGINT)",
        "CAST('nan' AS BIGINT)",
        "CAST(1e300 AS DECIMAL(10,2))",
        "CAST(1 AS DATE)",
        "CAST('2024-02-30' AS DATE)",
        "DATE '20240229'",
        "TIMESTAMP '2024-02-29 24:00:00'",
        "TIMESTAMP '2024-02-29 00:00:00+25:00'",
        "CAST('1' AS ARRAY<INT>)",
        "CAST(X'31' AS INT)",
        "X'3'",
        "X'zz'",
        "b'1'",
        "1 + 1",
        "~1",
        "INTERVAL 1 DAY",
        "current_timestamp()",
        "CAST(id AS INT)",
        "(SELECT 1)",
        "ARRAY(1)",
        "1 COLLATE x",
        "CASE WHEN true THEN 1 END",
        "'a' 'b'",
        ":x",
        "?",
        "@x",
        "${x}",
        "1.0.0",
        "1 2",
        "'unfinished",
    ],
)
def test_what_is_no_literal_is_refused(wide: fletching.Table, form: str) -> None:
    for name in ("bigint", "double", "decimal", "date", "timestamp"):
        assert outcome(wide, f"{name} = {form}") == "400", name


def test_bigger_lists_and_chains(wide: fletching.Table) -> None:
    assert outcome(wide, f"bigint IN ({','.join(map(str, range(100_000)))})") == "yes"
    assert outcome(wide, " OR ".join(f"bigint = {number}" for number in range(2_000))) == "yes"
