"""Writes docs/conversions.md: which Arrow types become which, on the way into a table.

``make docs`` runs it. tests/protocol/types/test_conversion_table.py fails when the page is stale, and
proves every cell with values.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from fletching.protocol.types.conversion import Relation, relation

PAGE = Path(__file__).parent / "conversions.md"

STRUCT = pa.struct([("a", pa.int64()), ("b", pa.string())])
GROUPS: dict[str, list[tuple[str, pa.DataType]]] = {
    "numbers and truth": [
        *(
            (str(kind), kind)
            for kind in (pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64())
        ),
        *((str(kind), kind) for kind in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())),
        *((str(kind), kind) for kind in (pa.float16(), pa.float32(), pa.float64())),
        *((str(kind), kind) for kind in (pa.decimal32(7, 2), pa.decimal64(18, 6))),
        *((str(kind), kind) for kind in (pa.decimal128(38, 10), pa.decimal256(76, 0))),
    ],
    "texts and bytes": [
        *((str(kind), kind) for kind in (pa.string(), pa.large_string(), pa.string_view())),
        *((str(kind), kind) for kind in (pa.binary(), pa.large_binary(), pa.binary_view())),
        *((str(kind), kind) for kind in (pa.binary(3), pa.binary(4))),
        ("dictionary of string", pa.dictionary(pa.int32(), pa.string())),
        ("run-end encoded string", pa.run_end_encoded(pa.int32(), pa.string())),
        ("arrow.json", pa.json_()),
    ],
    "dates and times": [
        *((str(kind), kind) for kind in (pa.date32(), pa.date64())),
        *((str(kind), kind) for kind in map(pa.timestamp, ("s", "ms", "us", "ns"))),
        *((str(kind), kind) for kind in (pa.timestamp("ms", "UTC"), pa.timestamp("ns", "UTC"))),
        ("timestamp[ms, tz=Asia/Tokyo]", pa.timestamp("ms", "Asia/Tokyo")),
        *((str(kind), kind) for kind in (pa.time32("s"), pa.time32("ms"))),
        *((str(kind), kind) for kind in (pa.time64("us"), pa.time64("ns"))),
        *((str(kind), kind) for kind in map(pa.duration, ("s", "ms", "us", "ns"))),
    ],
    "nested": [
        ("null", pa.null()),
        ("list of int64", pa.list_(pa.int64())),
        ("list of int8", pa.list_(pa.int8())),
        ("large list of int64", pa.large_list(pa.int64())),
        ("list of int64, 2 each", pa.list_(pa.int64(), 2)),
        ("list view of int64", pa.list_view(pa.int64())),
        ("list of string", pa.list_(pa.string())),
        ("struct of a, b", STRUCT),
        ("struct of B, A", pa.struct([("B", pa.string()), ("A", pa.int64())])),
        ("struct of a", pa.struct([("a", pa.int64())])),
        ("struct of a, c", pa.struct([("a", pa.int64()), ("c", pa.string())])),
        ("map of string to int64", pa.map_(pa.string(), pa.int64())),
        ("map of string to int8", pa.map_(pa.string(), pa.int8())),
    ],
}
MARKS = {Relation.AS_IS: "=", Relation.EXACT: "✓", Relation.REFUSED: "·"}

FRONT = """# Values on their way into a table

Made by `make docs`; do not edit by hand. A test proves every cell with values.

One rule holds wherever values are of another type than their column: in the client, in the service,
for Arrow data, Python values, pandas and files, at every depth of nesting. **A value goes into a type
that has exactly this value, or it is refused.** Nothing is rounded, cut, wrapped around, parsed or
dropped. The error names the column, both types and the first row that does not fit; nothing of the
data is stored then.

- Numbers are equal as numbers: `1`, `1.0` and `1.00` go into each other's types. `0.1` as a 64-bit
  float has no equal among 32-bit ones: round it yourself (`numpy.float32(x)`), or make the column
  DOUBLE. Floats and decimals do not mix, as hardly any value is both. NaN and infinities stay
  themselves among floats and are nothing else.
- Moments are equal as moments: `10:00:00.000` goes into a column of seconds, `10:00:00.001` does not.
  A day goes into a timestamp without zone as its midnight, and midnight into a day. A zone is never
  made up or dropped; another zone's name is the same moment.
- Texts are their UTF-8 bytes, and bytes are text if they are UTF-8.
- Dictionaries, run-end encoding, views, offset widths and kinds of lists are not values: they change
  freely. An extension type is its storage.
- Struct fields are found by name in any case and order, at every depth. One that is missing is null
  if it may be; one that the table lacks, a misspelt or a repeated one is refused. A null in a struct
  field, list element or map value declared without is refused like one in a column.
- Python values have these types: `bool`, `int` (of any size), `float`, `Decimal`, `str`, `bytes`, `date`,
  `datetime` (with a zone or without), `time` (without), `timedelta`, `UUID`, numpy's scalars and
  pandas' moments with all their nanoseconds. Lists, tuples and arrays are lists, dicts are structs,
  dicts and lists of pairs are maps. None, `pandas.NA` and `NaT` are null.
- A pandas column of floats has NaN where a value is missing, so NaN is null there, as in pandas.
- Types that ODPS has no name for cannot be columns: unions, calendar intervals, negative decimal
  scales, structs without fields, struct fields that are unnamed or share a name in any case, nesting
  beyond 32 levels.

Rows are what the data has, columns what the table has. `=`: stored as it is, not a byte is touched.
`✓`: each value that has its equal is converted, and one that has none is refused. `·`: refused
whatever the value.
"""


def table(rows: list[tuple[str, pa.DataType]], columns: list[tuple[str, pa.DataType]]) -> str:
    """A Markdown table of relations."""
    lines = [
        "| | " + " | ".join(f"`{name}`" for name, _ in columns) + " |",
        "|---|" + ":-:|" * len(columns),
    ]
    for name, source in rows:
        marks = (MARKS[relation(source, target)] for _, target in columns)
        lines.append(f"| `{name}` | " + " | ".join(marks) + " |")
    return "\n".join(lines)


def page() -> str:
    """The text of the page."""
    parts = [FRONT]
    for name, group in GROUPS.items():
        parts.append(f"## Among {name}\n\n{table(group, group)}\n")
    parts.append("## Between these groups\n")
    related = []
    for name, group in GROUPS.items():
        for other, columns in GROUPS.items():
            if name == other:
                continue
            for source_name, source in group:
                for target_name, target in columns:
                    if relation(source, target) is not Relation.REFUSED:
                        related.append((source_name, target_name))
    nulls = [pair for pair in related if pair[0] == "null"]
    others = [pair for pair in related if pair[0] != "null"]
    parts.append(
        f"`null` becomes null in all {len(nulls)} of the other groups' types"
        + (
            "; every other pair is refused.\n"
            if not others
            else ". Also: " + ", ".join(f"`{a}` to `{b}`" for a, b in others) + ".\n"
        )
    )
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
