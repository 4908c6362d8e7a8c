"""Long lists gone over at once: the same places, and the same refusals, as one element after the other."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.wire.test_tunnel_records import layout

from fletching.errors import MalformedFrameError
from fletching.wire import tunnel_scalars
from fletching.wire.tunnel_layouts import MOMENT_TYPE, Kind, RecordLayout
from fletching.wire.tunnel_long_lists import skip_many
from fletching.wire.tunnel_scalars import IncompleteRowError, skip_elements
from fletching.wire.tunnel_value_bytes import sent_elements

I64, BIN, F64 = pa.int64(), pa.binary(), pa.float64()
COUNT = 3000


def random_value(kind: pa.DataType, chance: random.Random, nulls: bool) -> Any:
    if nulls and chance.random() < 0.1:
        return None
    if kind == I64:
        return chance.choice([0, -1, 100, 2**40, -(2**63)])
    if kind == F64:
        return chance.random()
    if kind == pa.bool_():
        return chance.random() < 0.5
    if kind == BIN:
        return chance.choice(
            [b"", b"\x00\x01", b"\x80\xc0\xff\x7f" * 3, b"x" * chance.choice([5, 5, 5, 200])]
        )
    if kind == MOMENT_TYPE:
        return {"sec": chance.choice([0, -1, 2**40]), "nano": chance.choice([0, 999_999_999])}
    if pa.types.is_struct(kind):
        return {field.name: random_value(field.type, chance, nulls) for field in kind}
    if pa.types.is_map(kind):
        keys = range(chance.choice([0, 1, 3]))
        return [(key, random_value(kind.item_type, chance, nulls)) for key in keys]
    return [
        random_value(kind.value_type, chance, nulls) for _ in range(chance.choice([0, 0, 1, 3]))
    ]


KINDS = {
    "numbers": layout(I64),
    "doubles": layout(F64),
    "floats": layout(pa.float32()),
    "flags": layout(pa.bool_()),
    "texts": layout(BIN),
    "moments": layout(MOMENT_TYPE),
    "structs": layout(pa.struct([("a", BIN), ("b", I64), ("c", F64)])),
    "empty structs": layout(pa.struct([])),
    "lists": layout(pa.list_(I64)),
    "lists of lists of texts": layout(pa.list_(pa.list_(BIN))),
    "maps": layout(pa.map_(I64, pa.list_(pa.bool_()))),
    "vectors": layout(pa.list_(F64), vector=True),
}


def sent(kind: RecordLayout, *, nulls: bool) -> bytes:
    chance = random.Random(str(kind))
    values = [
        random_value(kind.type if kind.type != pa.float32() else F64, chance, nulls)
        for _ in range(COUNT)
    ]
    if kind is KINDS["vectors"]:
        values = [None if nulls and chance.random() < 0.1 else [1.5, 2.0] for _ in values]
    lists = pa.ListArray.from_arrays([0, COUNT], pa.array(values, kind.type))
    return bytes(sent_elements(layout_of(kind), lists)[0][0].as_py())


def layout_of(child: RecordLayout) -> RecordLayout:
    return RecordLayout(Kind.LIST, pa.list_(child.type), (child,))


def gone_over(kind: RecordLayout, data: bytes, **options: Any) -> Any:
    """What is noted of the elements, and where they end; or how they are refused."""
    at, here = np.zeros(COUNT, np.int64), np.zeros(COUNT, np.bool_)
    try:
        end = skip_elements(kind, data, 3, len(data) - 5, at, here, **options)
    except (IncompleteRowError, MalformedFrameError) as error:
        return type(error), str(error)
    assert skip_elements(kind, data, 3, len(data) - 5, COUNT, **options) == end
    return end, at.tolist(), here.tolist()


def one_by_one(monkeypatch: pytest.MonkeyPatch, kind: RecordLayout, data: bytes) -> Any:
    with monkeypatch.context() as patched:
        patched.setattr(tunnel_scalars, "MANY", 1 << 62)
        return gone_over(kind, data)


@pytest.mark.parametrize("nulls", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_they_are_where_one_finds_them_one_by_one(
    name: str, nulls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = KINDS[name]
    data = b"???" + sent(kind, nulls=nulls) + b"?????"
    assert (result := gone_over(kind, data)) == one_by_one(monkeypatch, kind, data)
    assert result[0] == len(data) - 5
    done, _ = skip_many(kind, data, 3, len(data) - 5, COUNT, None, nullable=True)
    assert done > COUNT // 2


@pytest.mark.parametrize("name", KINDS)
def test_what_is_damaged_is_refused_as_one_by_one(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = KINDS[name]
    chance = random.Random(name)
    whole = b"???" + sent(kind, nulls=True) + b"?????"
    for _ in range(8):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 5])):
            data[chance.randrange(3, len(data))] = chance.choice([0, 1, 2, 0x7F, 0x80, 0xFF])
        cut = bytes(data[: chance.randrange(8, len(data))] if chance.random() < 0.3 else data)
        assert gone_over(kind, cut) == one_by_one(monkeypatch, kind, cut)


def test_a_null_key_is_refused_wherever_it_is() -> None:
    data = b"???" + b"\x00\x02" * 2000 + b"\x01" + b"\x00\x02" * 999 + b"?????"
    with pytest.raises(MalformedFrameError, match="key of a map is null"):
        skip_elements(layout(I64), data, 3, len(data) - 5, COUNT, nullable=False)


def test_long_texts_are_not_looked_at_byte_by_byte() -> None:
    data = (b"\x00\xe8\x07" + b"x" * 1000) * 300
    done, _ = skip_many(layout(BIN), data, 0, len(data), 300, None, nullable=True)
    assert done < 100
    assert skip_elements(layout(BIN), data, 0, len(data), 300) == len(data)
