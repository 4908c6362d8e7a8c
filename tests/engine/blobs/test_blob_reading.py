from __future__ import annotations

import base64
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.engine.blobs.conftest import TABLE, Shop

from fletching.engine.blobs import blob_reading as reading
from fletching.engine.blobs.blob_reading import Packs, plan_reply
from fletching.engine.blobs.blob_references import ReferenceKey
from fletching.engine.engine import Engine
from fletching.errors import (
    ChecksumMismatchError,
    CorruptObjectError,
    InvalidArgumentError,
    NotFoundError,
    RangeNotSatisfiableError,
)
from fletching.protocol.http.layers import blob_read_decoder, blob_read_is_framed
from fletching.protocol.messages.admin import DropTable
from fletching.protocol.messages.requests import ReadBlobs
from fletching.types import ByteRange, TableName
from fletching.wire.blob_frames import BlobData, BlobDataEnd, BlobDataStart, BlobHeader
from fletching.wire.content_coding import ContentCoding
from fletching.wire.stored_blobs import header_of, stored_blobs


def plan_of(shop: Shop, references: list[str], *accept: str) -> Any:
    return shop.engine.blobs.read(
        ReadBlobs(project="p", references=tuple(references), accept_encoding=accept)
    )


def reply(shop: Shop, references: list[str], *accept: str) -> list[tuple[BlobHeader | None, bytes]]:
    """Reads a reply as a client does: by its bytes."""
    plan = plan_of(shop, references, *accept)
    wire = b"".join(map(bytes, plan.buffers()))
    assert plan.length in (None, len(wire))
    assert (plan.length is None) == (plan.coding is not ContentCoding.IDENTITY)
    framed = blob_read_is_framed(len(references))
    assert plan.framing == ("frames" if framed else "raw")
    decoder = blob_read_decoder(plan.coding, framed=framed)
    decoder.feed(wire)
    events = list(decoder.events())
    decoder.finish()
    events += list(decoder.events())
    if not framed:
        return [(None, b"".join(map(bytes, events)))]
    blobs: list[tuple[BlobHeader | None, bytes]] = []
    header, data = None, bytearray()
    for event in events:
        match event:
            case BlobDataStart():
                header, data = event.header, bytearray()
            case BlobData():
                data += event.data
            case BlobDataEnd():
                blobs.append((header, bytes(data)))
    return blobs


class TestReplies:
    @pytest.mark.parametrize("coding", list(ContentCoding))
    def test_order_and_duplicates_over_several_packs(
        self, shop: Shop, coding: ContentCoding
    ) -> None:
        session = shop.session()
        blobs = [random.Random(n).randbytes(n * 531 % 20_000) for n in range(30)]
        references = shop.upload_many(session, blobs[:10]) + shop.upload_many(session, blobs[10:])
        order = [random.Random(1).randrange(30) for _ in range(200)]
        got = reply(shop, [references[n] for n in order], coding.value)
        assert [data for _, data in got] == [blobs[n] for n in order]

    @pytest.mark.parametrize("length", [0, 1, 4095, 4096, 4097, 9_000_000])
    @pytest.mark.parametrize("coding", [ContentCoding.IDENTITY, ContentCoding.ZSTD])
    def test_one_is_raw(self, shop: Shop, length: int, coding: ContentCoding) -> None:
        data = random.Random(length).randbytes(length)
        references = list(shop.upload(shop.session(), data).references)
        assert reply(shop, references, coding.value) == [(None, data)]

    def test_large_ones_are_framed_in_pieces(self, shop: Shop) -> None:
        session = shop.session()
        blobs = [bytes(9 << 20), b"small", bytes(1 << 20)]
        references = [shop.upload(session, data).references[0] for data in blobs]
        plan = plan_of(shop, references)
        assert max(memoryview(b).nbytes for b in plan.buffers()) < 2 << 20
        assert [data for _, data in reply(shop, references)] == blobs

    def test_metadata_comes_with_frames(self, shop: Shop) -> None:
        session = shop.session()
        first = shop.upload(session, b"1", content_type="image/png", file_name="ü" * 100)
        second = shop.upload(session, b"2")
        got = reply(shop, [*first.references, *second.references])
        assert got == [
            (BlobHeader(content_type="image/png", file_name="ü" * 100), b"1"),
            (BlobHeader(), b"2"),
        ]

    def test_references_in_other_spellings(self, shop: Shop) -> None:
        (reference,) = shop.upload(shop.session(), b"x").references
        urlsafe = base64.urlsafe_b64encode(base64.b64decode(reference)).decode()
        assert reply(shop, [reference, urlsafe])[1][1] == b"x"

    def test_before_the_session_commits(self, shop: Shop) -> None:
        references = shop.upload_many(shop.session(), [b"a", b"b"])
        assert [data for _, data in reply(shop, references)] == [b"a", b"b"]

    def test_a_reply_can_be_made_again(self, shop: Shop) -> None:
        plan = plan_of(shop, shop.upload_many(shop.session(), [b"a", b"b"]))
        assert list(map(bytes, plan.buffers())) == list(map(bytes, plan.buffers()))

    def test_a_hundred_thousand_references(self, shop: Shop) -> None:
        references = shop.upload_many(shop.session(), [b"%d" % n for n in range(1000)])
        plan = plan_of(shop, references * 100)
        records = iter(plan.records())
        assert bytes(next(next(records).pieces)) == b"0"
        with pytest.raises(InvalidArgumentError, match="100001"):
            plan_of(shop, [*references * 100, references[0]])


def as_stored(shop: Shop, references: list[str]) -> list[tuple[BlobHeader, bytes]]:
    """Reads a reply of stored blobs as a client does."""
    plan = shop.engine.blobs.read(ReadBlobs(project="p", references=tuple(references), stored=True))
    assert plan.framing == "stored"
    wire = b"".join(map(bytes, plan.buffers()))
    assert plan.length == len(wire)
    blobs = stored_blobs([memoryview(wire)], len(references))
    return [(header_of(metadata), data) for metadata, data in blobs]


def test_stored_blobs_under_a_coding_are_framed(shop: Shop) -> None:
    (reference,) = shop.upload(shop.session(), b"x").references
    request = ReadBlobs(
        project="p", references=(reference,) * 2, accept_encoding=("zstd",), stored=True
    )
    plan = shop.engine.blobs.read(request)
    assert (plan.framing, plan.coding) == ("frames", ContentCoding.ZSTD)


class TestCoalescing:
    def test_neighbours_are_read_at_once(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        references = shop.upload_many(shop.session(), [bytes(1000)] * 1000)
        ranges: list[tuple[int, int]] = []
        plain = Packs.load

        def load(self: Packs, pack: Any, start: int, end: int) -> memoryview:
            ranges.append((start, end))
            return plain(self, pack, start, end)

        monkeypatch.setattr(Packs, "load", load)
        # Where pages are in memory nothing is read.
        monkeypatch.setattr(reading, "_is_resident", lambda *_: False)
        shuffled = references[:]
        random.Random(4).shuffle(shuffled)
        assert len(list(plan_of(shop, shuffled).records())) == 1000
        assert len(ranges) == 1

    def test_what_is_larger_than_a_window_comes_in_pieces(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blobs = [bytes(range(256)) * 10, b"small", bytes(1000)]
        references = shop.upload_many(shop.session(), blobs)
        monkeypatch.setattr(reading, "WINDOW_BYTES", 1000)
        monkeypatch.setattr(reading, "SLICE_BYTES", 400)
        parts = [
            [bytes(piece) for piece in record.pieces]
            for record in plan_of(shop, references).records()
        ]
        assert [b"".join(pieces) for pieces in parts] == blobs
        assert [len(pieces) for pieces in parts] == [7, 1, 1]

    @settings(
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
        max_examples=25,
        deadline=None,
    )
    @given(data=st.data())
    def test_any_selection_of_any_sizes(self, shop: Shop, data: st.DataObject) -> None:
        lengths = data.draw(
            st.lists(st.sampled_from([0, 1, 90_000, 5_000, 300_000]), min_size=2, max_size=12)
        )
        blobs = [random.Random(i).randbytes(n) for i, n in enumerate(lengths)]
        references = shop.upload_many(shop.session(), blobs)
        order = data.draw(st.lists(st.integers(0, len(blobs) - 1), min_size=2, max_size=30))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                reading, "WINDOW_BYTES", data.draw(st.sampled_from([1, 200_000, 8 << 20]))
            )
            patch.setattr(reading, "WINDOW_BLOBS", data.draw(st.integers(1, 6)))
            patch.setattr(reading, "GAP_BYTES", data.draw(st.sampled_from([0, 6000, 1 << 20])))
            patch.setattr(reading, "SLICE_BYTES", data.draw(st.sampled_from([70_000, 1 << 20])))
            if data.draw(st.booleans()):
                patch.setattr(reading, "_is_resident", lambda *_: False)
            wanted = [references[n] for n in order]
            got = reply(shop, wanted)
            contents = list(plan_of(shop, wanted).contents())
            stored = as_stored(shop, wanted)
        assert [blob for _, blob in got] == [blobs[n] for n in order]
        assert contents == [blobs[n] for n in order]
        assert stored == [(header, blob) for header, blob in got if header is not None]

    def test_many_packs_do_not_hold_many_files(self, shop: Shop) -> None:
        session = shop.session()
        references = [shop.upload(session, b"%d" % n).references[0] for n in range(80)]
        packs = Packs(shop.engine.context.store)
        for parsed in ReferenceKey(shop.engine.context.server_key).parse_many(references):
            packs.get(parsed)
            assert len(packs._open) <= reading.OPEN_PACKS
        packs.close()


class TestRefusals:
    def test_no_references(self, shop: Shop) -> None:
        with pytest.raises(InvalidArgumentError):
            plan_of(shop, [])

    @pytest.mark.parametrize("bad", ["", "x", "A" * 80, "é"])
    def test_unknown_ones_before_anything_is_read(self, shop: Shop, bad: str) -> None:
        (good,) = shop.upload(shop.session(), b"x").references
        with pytest.raises(NotFoundError, match="reference 1"):
            plan_of(shop, [good, bad])

    def test_every_altered_bit(self, shop: Shop) -> None:
        (good,) = shop.upload(shop.session(), b"x").references
        token = base64.b64decode(good)
        for bit in range(8 * len(token)):
            altered = bytearray(token)
            altered[bit // 8] ^= 1 << bit % 8
            with pytest.raises(NotFoundError):
                plan_of(shop, [base64.b64encode(altered).decode()])

    def test_another_servers(self, shop: Shop, tmp_path: Any) -> None:
        (reference,) = shop.upload(shop.session(), b"x").references
        with Engine.open(tmp_path / "other") as other, pytest.raises(NotFoundError):
            other.blobs.read(ReadBlobs(project="p", references=(reference,)))

    def test_a_dropped_tables(self, shop: Shop) -> None:
        (reference,) = shop.upload(shop.session(), b"x").references
        shop.engine.call(DropTable(table=TABLE))
        with pytest.raises(NotFoundError, match="dropped"):
            plan_of(shop, [reference])

    def test_collected_ones(self, shop: Shop) -> None:
        session = shop.session()
        good = shop.upload(session, b"x").references[0]
        gone = shop.upload(session, b"y").references[0]
        newest = shop.engine.blobs._parsed([gone])[0].pack
        (key,) = (key for key in shop.packs() if key.endswith(f"{newest[12:]}.pack"))
        shop.engine.context.store.delete(key)
        with pytest.raises(NotFoundError, match="collected"):
            plan_of(shop, [good, gone])

    def test_which_tables_are_asked_for(self, shop: Shop) -> None:
        other = TableName("p", "others")
        shop.create_table(other)
        first = shop.upload(shop.session(), b"x").references[0]
        second = shop.upload(shop.session(other), b"y", table=other).references[0]
        assert sorted(shop.engine.blobs.tables([first, second, first])) == sorted([TABLE, other])


class TestDamage:
    @pytest.mark.parametrize("length", [100, 9 << 20])
    @pytest.mark.parametrize("where", ["metadata", "data"])
    def test_stored_bytes_that_changed_are_not_sent(
        self, shop: Shop, length: int, where: str
    ) -> None:
        (reference,) = shop.upload(shop.session(), bytes(length)).references
        (key,) = shop.packs()
        path = shop.folder / "objects" / key
        damaged = bytearray(path.read_bytes())
        damaged[8 + (5 if where == "metadata" else 50)] ^= 1
        path.write_bytes(damaged)
        plan = plan_of(shop, [reference])
        with pytest.raises(CorruptObjectError):
            list(plan.buffers())
        if where == "data":
            with pytest.raises(CorruptObjectError):
                list(plan.contents())
        # Sent as it is stored, it is found out by who gets it.
        with pytest.raises(ChecksumMismatchError):
            as_stored(shop, [reference])

    def test_a_pack_that_shrank(self, shop: Shop) -> None:
        (reference,) = shop.upload(shop.session(), bytes(1000)).references
        path = shop.folder / "objects" / shop.packs()[0]
        path.write_bytes(path.read_bytes()[:500])
        with pytest.raises(CorruptObjectError):
            plan_of(shop, [reference])

    def test_without_mapping(self, shop: Shop) -> None:
        from fletching.objects.local import LocalStore

        references = shop.upload_many(shop.session(), [b"a", b"b" * 100_000])
        parsed = shop.engine.blobs._parsed(references)
        store = LocalStore(shop.folder / "objects", mapped=False)
        plan = plan_reply(store, parsed, ContentCoding.IDENTITY)
        assert [b"".join(r.pieces) for r in plan.records()] == [b"a", b"b" * 100_000]


class TestRanges:
    @pytest.mark.parametrize(
        ("start", "end", "expected"),
        [
            (None, None, (0, 10)),
            (0, None, (0, 10)),
            (3, 5, (3, 5)),
            (9, None, (9, 10)),
            (3, 99, (3, 10)),
            (None, 4, (6, 10)),
            (None, 99, (0, 10)),
        ],
    )
    def test_ranges(
        self, shop: Shop, start: int | None, end: int | None, expected: tuple[int, int]
    ) -> None:
        (reference,) = shop.upload(shop.session(), b"0123456789").references
        blob = shop.engine.blobs.slice(reference, start, end)
        assert blob.range == ByteRange(*expected)
        assert blob.total == 10
        (extent,) = blob.pieces
        assert extent.object.view(extent.start, extent.end) == b"0123456789"[slice(*expected)]
        assert blob.length == extent.length

    @pytest.mark.parametrize(("start", "end"), [(10, None), (11, 12), (5, 5), (None, 0)])
    def test_ranges_outside(self, shop: Shop, start: int | None, end: int | None) -> None:
        (reference,) = shop.upload(shop.session(), b"0123456789").references
        with pytest.raises(RangeNotSatisfiableError):
            shop.engine.blobs.slice(reference, start, end)

    def test_an_empty_blob(self, shop: Shop) -> None:
        (reference,) = shop.upload(shop.session(), b"").references
        blob = shop.engine.blobs.slice(reference)
        assert (blob.total, blob.length, blob.pieces) == (0, 0, ())
        with pytest.raises(RangeNotSatisfiableError):
            shop.engine.blobs.slice(reference, 0, None)

    def test_etags_tell_blobs_apart(self, shop: Shop) -> None:
        references = shop.upload_many(shop.session(), [b"a", b"b"])
        tags = {shop.engine.blobs.slice(reference).etag for reference in references}
        assert len(tags) == 2
        assert all(tag.isascii() and '"' not in tag for tag in tags)
