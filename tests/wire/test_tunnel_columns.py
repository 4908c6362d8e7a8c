"""Columns are parsed over many rows at once, with the values that row by row would give."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from fletching.wire.tunnel_layouts import Kind, RecordLayout
from fletching.wire.tunnel_record_decoder import RecordDecoder
from fletching.wire.tunnel_records import RecordEncoder

INTEGER = RecordLayout(Kind.INTEGER, pa.int64())
BYTES = RecordLayout(Kind.BYTES, pa.binary())
SINGLE = RecordLayout(Kind.FLOAT, pa.float32())
DOUBLE = RecordLayout(Kind.DOUBLE, pa.float64())


def listing(child: RecordLayout) -> RecordLayout:
    return RecordLayout(Kind.LIST, pa.list_(child.type), (child,))


def vector(child: RecordLayout) -> RecordLayout:
    return RecordLayout(Kind.VECTOR, pa.list_(child.type), (child,))


def mapping(key: RecordLayout, item: RecordLayout) -> RecordLayout:
    return RecordLayout(Kind.MAP, pa.map_(key.type, item.type), (key, item))


def struct(*children: RecordLayout) -> RecordLayout:
    kind = pa.struct([(f"f{n}", child.type) for n, child in enumerate(children)])
    return RecordLayout(Kind.STRUCT, kind, children)


LAYOUTS = {
    "lists of numbers": listing(INTEGER),
    "lists of bytes": listing(BYTES),
    "lists of lists": listing(listing(INTEGER)),
    "lists of lists of lists": listing(listing(listing(BYTES))),
    "lists of single vectors": listing(vector(SINGLE)),
    "lists of double vectors": listing(vector(DOUBLE)),
    "lists of structs": listing(struct(INTEGER, BYTES, DOUBLE)),
    "lists of maps": listing(mapping(BYTES, listing(INTEGER))),
    "maps": mapping(INTEGER, SINGLE),
    "structs of lists": struct(listing(DOUBLE), INTEGER, vector(SINGLE)),
}


def value(layout: RecordLayout, draw: random.Random, *, nulls: bool = True) -> Any:
    if nulls and draw.random() < 0.2:
        return None
    children = layout.children
    match layout.kind:
        case Kind.INTEGER:
            return draw.choice([0, 1, -1, draw.randint(-(2**62), 2**62)])
        case Kind.BYTES:
            return draw.randbytes(draw.choice([0, 1, 5, 130]))
        case Kind.FLOAT | Kind.DOUBLE:
            return float(draw.randint(-1000, 1000))
        case Kind.VECTOR:
            return [value(children[0], draw, nulls=False) for _ in range(draw.randint(0, 4))]
        case Kind.LIST:
            return [value(children[0], draw) for _ in range(draw.randint(0, 4))]
        case Kind.MAP:
            key, item = children
            count = draw.randint(0, 3)
            return [(value(key, draw, nulls=False), value(item, draw)) for _ in range(count)]
        case _:
            return {f"f{n}": value(child, draw) for n, child in enumerate(children)}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("rows", [1, 63, 300])
def test_every_nesting_of_few_and_many_rows(name: str, rows: int) -> None:
    layout = LAYOUTS[name]
    draw = random.Random(f"{name} {rows}")
    wanted = [value(layout, draw) for _ in range(rows)]
    # A row beside it whose list is far longer than those that are walked together.
    if layout.kind in {Kind.LIST, Kind.VECTOR}:
        wanted[rows // 2] = [value(layout.children[0], draw) for _ in range(700)]
    column = pa.array(wanted, layout.type)
    encoder = RecordEncoder([layout, INTEGER])
    beside = pa.array(range(rows), pa.int64())
    sent = bytes(encoder.encode([column, beside])) + encoder.finish()
    for step in (len(sent), len(sent) // 3 + 1):
        decoder = RecordDecoder([layout, INTEGER])
        for start in range(0, len(sent), step):
            decoder.feed(sent[start : start + step])
        decoder.finish()
        batches = list(decoder.batches())
        assert pa.concat_arrays([first for first, _ in batches]).equals(column)
        assert pa.concat_arrays([second for _, second in batches]).equals(beside)
