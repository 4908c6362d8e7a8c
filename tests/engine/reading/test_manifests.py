"""Manifests of plans: executed, they are the plain reply byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from crc32c import crc32c
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fletching.engine.reading import manifests
from fletching.objects.store import StoredObject
from fletching.protocol.messages.manifest import (
    Assembled,
    Inline,
    Manifest,
    Rows,
    Source,
    SourceKind,
    Stored,
    decode_manifest,
    encode_manifest,
)

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string()), ("value", pa.float64())])


def batch(start: int, rows: int) -> pa.RecordBatch:
    return pa.record_batch(
        {
            "id": pa.array(range(start, start + rows), pa.int64()),
            "text": [f"row {n}" * (n % 3) for n in range(start, start + rows)],
            "value": [n / 2 if n % 5 else None for n in range(start, start + rows)],
        },
        schema=SCHEMA,
    )


class Recorded:
    """Stands for the footers of segments, which the shelf's own do not have."""

    def recorded(self, stored: Any, row: Any, start: int, end: int) -> Any:
        import numpy as np

        index = np.frombuffer(row.batch_index + row.dictionary_index, "<i8").reshape(-1, 4)
        inside = sorted(
            (int(offset), int(head + body))
            for offset, head, body, _ in index
            if start <= offset < end
        )
        assert sum(length for _, length in inside) == end - start
        sums = [crc32c(stored.view(at, at + length)) for at, length in inside]
        return np.array([length for _, length in inside]), np.array(sums, dtype=np.uint32)


def directions(plan: Any, **changed: Any) -> Manifest | None:
    def names(objects: Sequence[StoredObject]) -> list[Source]:
        return [Source(each.length, each.key) for each in objects]

    builder = plan.pieces._make.__self__
    made = manifests.make_manifest(
        builder,
        Recorded(),  # type: ignore[arg-type]
        **{
            "kind": SourceKind.SIGNED,
            "names": names,
            "least_bytes": 0,
            "valid_seconds": 60.0,
            **changed,
        },
    )
    return None if made is None else decode_manifest(encode_manifest(made.manifest))


def executed(manifest: Manifest, shelf: Any) -> bytes:
    files = [shelf.store.data[source.url] for source in manifest.sources]
    stream = b""
    for piece in manifest.pieces:
        if isinstance(piece, Inline):
            stream += piece.data
        elif isinstance(piece, Stored):
            for start, end, checksum in piece.messages():
                message = files[piece.source][start:end]
                assert crc32c(message) == checksum
                stream += message
        elif isinstance(piece, Assembled):
            for part in piece.parts:
                stream += (
                    part if isinstance(part, bytes) else files[part.source][part.start : part.end]
                )
        else:
            pytest.fail(f"rows {piece} are not stored")
    return stream


def plain(plan: Any) -> bytes:
    return b"".join(bytes(memoryview(each).cast("B")) for each in plan.buffers())


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=25,
)
@given(
    columns=st.lists(st.sampled_from(SCHEMA.names), unique=True, max_size=3),
    sizes=st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_executed_it_is_the_reply(
    make_shelf: Any, columns: list[str], sizes: list[list[int]]
) -> None:
    shelf = make_shelf()
    shelf.create(SCHEMA)
    start = 0
    for rows in sizes:
        shelf.add([batch(start := start + 100, count) for count in rows])
    plan = shelf.plan(shelf.session(), data_columns=tuple(columns))
    manifest = directions(plan)
    assert manifest is not None
    assert manifest.complete
    assert manifest.rows == plan.rows
    assert executed(manifest, shelf) == plain(plan)


@pytest.mark.parametrize("names", [("id", "late"), ("late",), ("id", "code"), ("code", "id")])
@pytest.mark.parametrize("offset", [0, 3])
def test_dictionaries_are_those_of_the_reply(
    shelf: Any, names: tuple[str, ...], offset: int
) -> None:
    """Also empty ones: of values that are all null, and of columns that a segment lacks."""
    words = pa.dictionary(pa.int8(), pa.string())
    shelf.create(pa.schema([("id", pa.int64()), ("code", words)]))
    ids = [pa.array(range(start, start + 3), pa.int64()) for start in (0, 3, 6)]
    empty = pa.DictionaryArray.from_arrays(pa.nulls(3, pa.int8()), pa.array([], pa.string()))
    shelf.add(pa.record_batch([ids[0], empty], shelf.schema))
    shelf.add_columns(pa.field("late", words))
    filled = pa.DictionaryArray.from_arrays(pa.array([1, None, 0], pa.int8()), ["x", "y"])
    shelf.add(pa.record_batch([ids[1], filled, empty], shelf.schema))
    shelf.add(pa.record_batch([ids[2], empty, filled], shelf.schema))
    options: dict[str, Any] = {"data_columns": names, "data_columns_unordered": True}
    plan = shelf.plan(
        shelf.session(verbatim_types=True), offset=offset, count=9 - offset, **options
    )
    manifest = directions(plan)
    assert manifest is not None
    assert manifest.rows == 9 - offset
    stream = executed(manifest, shelf)
    assert stream == plain(plan)
    # Strict readers want each dictionary before the first batch.
    rows = pa.ipc.open_stream(stream).read_all().to_pylist()
    late = [None] * 6 + ["y", None, "x"]
    code = [None, None, None, "y", None, "x", None, None, None]
    wanted: dict[str, list[Any]] = {"id": list(range(9)), "late": late, "code": code}
    assert rows == [{name: wanted[name][n] for name in names} for n in range(offset, 9)]


@pytest.mark.parametrize("names", [("id", "text"), ("text",)])
def test_what_is_the_same_in_all_rows_of_a_segment_comes_inline(
    shelf: Any, names: tuple[str, ...]
) -> None:
    """Values of partition columns, and nulls of a column that a segment lacks, stand in no object."""
    shelf.create(SCHEMA, [("day", "STRING")])
    shelf.add(batch(0, 20), ["monday"])
    shelf.add(batch(20, 20), ["tuesday"])
    plan = shelf.plan(shelf.session(), data_columns=(*names, "day"))
    manifest = directions(plan)
    assert manifest is not None
    assert manifest.complete
    assert executed(manifest, shelf) == plain(plan)
    assert b"tuesday" in plain(plan)


def test_limits_end_a_manifest_at_a_batch(shelf: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.create(SCHEMA)
    shelf.add([batch(0, 10), batch(10, 10), batch(20, 10)])
    for limit in ("MOST_MESSAGES", "MOST_BYTES"):
        with monkeypatch.context() as patch:
            patch.setattr(manifests, limit, 2 if limit == "MOST_MESSAGES" else 1)
            manifest = directions(shelf.plan(shelf.session()))
            assert manifest is not None
            assert not manifest.complete
            assert manifest.rows == (20 if limit == "MOST_MESSAGES" else 10)
    monkeypatch.setattr(manifests, "MOST_PROJECTED", 1)
    manifest = directions(shelf.plan(shelf.session(), data_columns=("id",)))
    assert manifest is not None
    assert (manifest.rows, manifest.complete) == (10, False)


def test_cut_batches_are_left_to_the_service(shelf: Any) -> None:
    shelf.create(SCHEMA)
    shelf.add([batch(0, 10), batch(10, 100), batch(110, 10)])
    plan = shelf.plan(shelf.session(), offset=5, count=110)
    manifest = directions(plan)
    assert manifest is not None
    kinds = [type(piece) for piece in manifest.pieces]
    assert kinds == [Inline, Rows, Stored, Rows, Inline]
    assert manifest.pieces[1] == Rows(0, 5)
    assert manifest.pieces[3] == Rows(105, 5)
    assert manifest.rows == 110


def test_little_or_nothing_is_sent_plainly(shelf: Any) -> None:
    shelf.create(SCHEMA)
    assert directions(shelf.plan(shelf.session())) is None
    shelf.add([batch(0, 100)])
    assert directions(shelf.plan(shelf.session()), least_bytes=1 << 20) is None
    assert directions(shelf.plan(shelf.session(), offset=1)) is None
    assert directions(shelf.plan(shelf.session()), names=lambda _: None) is None
    assert shelf.plan(shelf.session(filter_predicate="id > 3")).manifest is None


def test_segments_with_a_dropped_column_are_left_to_the_service(shelf: Any) -> None:
    """Whoever gets one whole could read what was dropped."""
    shelf.create(SCHEMA)
    shelf.add([batch(0, 100)])
    before = shelf.session()
    shelf.drop_last_column()
    assert directions(shelf.plan(shelf.session())) is None
    shelf.add([batch(100, 900).drop_columns(["value"])])
    manifest = directions(shelf.plan(shelf.session()))
    assert manifest is not None
    assert [type(piece) for piece in manifest.pieces] == [Inline, Rows, Stored, Inline]
    assert manifest.pieces[1] == Rows(0, 100)
    earlier = directions(shelf.plan(before))
    assert earlier is not None
    assert earlier.rows == 100
