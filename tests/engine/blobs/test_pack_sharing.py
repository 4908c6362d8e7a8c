"""A pack is shared when every blob in it is one that the caller can have anyway, and else not."""

from __future__ import annotations

from typing import Any

import pytest
from tests.engine.blobs.conftest import TABLE, Shop

from fletching.engine.blobs import pack_sharing
from fletching.errors import NoPermissionError, NotFoundError
from fletching.protocol.messages.changes import DeleteRows
from fletching.protocol.messages.mapped_blobs import NOT_SHARED
from fletching.protocol.messages.requests import CreateReadSession
from fletching.types import TableName

BLOBS = [b"a" * 100, b"b" * 200, b"c" * 300]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_sharing, "LEAST_BYTES", 0)


def shared(shop: Shop, references: list[str], **more: Any) -> list[bool] | None:
    """Of each blob whether it is in a pack that is shared; what is, is where it is said to be."""
    asked: list[TableName] = []
    packs = shop.engine.blobs.share(references, check=asked.append, **more)
    assert asked == [TABLE]
    if packs is None:
        return None
    try:
        entries = packs.message.entries().tolist()
        assert len(packs.descriptors) == len(packs.message.lengths)
        return [pack != NOT_SHARED for pack, *_ in entries]
    finally:
        packs.close()
        packs.close()
        assert packs.descriptors == []


def written(shop: Shop, blobs: list[bytes] = BLOBS, rows: list[int] | None = None) -> list[str]:
    """References of one upload, some of them in rows."""
    session = shop.session()
    references = shop.upload_many(session, blobs)
    chosen = range(len(blobs)) if rows is None else rows
    shop.write_rows(session, [references[each] for each in chosen])
    shop.commit(session)
    return references


def test_the_one_blob_of_a_pack_is_what_its_reference_gives(shop: Shop) -> None:
    (reference,) = shop.upload(shop.session(), b"x" * 100, file_name="x.png").references
    assert shared(shop, [reference]) == [True]
    packs = shop.engine.blobs.share([reference], check=lambda _: None)
    assert packs is not None
    ((pack, start, metadata, length, _),) = packs.message.entries().tolist()
    (file,) = shop.packs()
    data = (shop.folder / "objects" / file).read_bytes()
    assert (pack, packs.message.lengths) == (0, (len(data),))
    assert data[start + metadata : start + metadata + length] == b"x" * 100
    packs.close()


def test_who_shows_all_references_of_a_pack_may_have_it(shop: Shop) -> None:
    references = shop.upload_many(shop.session(), BLOBS)  # in no row
    assert shared(shop, [*references, references[0]]) == [True] * 4
    assert shared(shop, references[:2]) is None
    assert shared(shop, [references[0]] * 3) is None


def test_rows_that_are_shown_refer_to_all_of_a_pack(shop: Shop) -> None:
    references = written(shop)
    assert shared(shop, references[:1]) == [True]
    assert shared(shop, [references[2], references[2]]) == [True, True]
    # In two segments.
    session = shop.session()
    several = shop.upload_many(session, BLOBS)
    shop.write_rows(session, several[:2])
    shop.write_rows(session, several[1:], stream="other")
    assert shared(shop, several[:1]) is None
    shop.commit(session)
    assert shared(shop, several[:1]) == [True]


def test_a_blob_that_no_row_came_to_refer_to_keeps_its_pack(shop: Shop) -> None:
    references = written(shop, rows=[0, 2])
    assert shared(shop, references[:1]) is None


def test_a_deleted_row_keeps_its_pack_and_a_mixed_reply_says_which(shop: Shop) -> None:
    kept = written(shop, [b"k" * 1000, b"k" * 999])
    deleted = written(shop)
    assert shared(shop, [kept[0], deleted[0]]) == [True, True]
    # Row 2 of the upload of three; the other has none.
    shop.engine.call(DeleteRows(table=TABLE, where="id = 2"))
    assert shared(shop, [kept[0], deleted[0]]) == [True, False]
    assert shared(shop, deleted[:1]) is None


def test_a_session_is_shown_the_blobs_of_its_rows_and_columns(shop: Shop) -> None:
    references = written(shop)

    def session(**more: Any) -> str:
        reply: Any = shop.engine.call(CreateReadSession(table=TABLE, **more))
        return str(reply.session_id)

    assert shared(shop, references[:1], session_id=session()) == [True]
    filtered = session(filter_predicate="id > 0")
    assert shared(shop, references[:1], session_id=filtered) is None
    assert shared(shop, references, session_id=filtered) == [True] * 3
    elsewhere = session(required_data_columns=("id", "more"))
    assert shared(shop, references[:1], session_id=elsewhere) is None
    pinned = session()
    shop.engine.call(DeleteRows(table=TABLE, where="id = 2"))
    assert shared(shop, references[:1], session_id=pinned) == [True]
    assert shared(shop, references[:1]) is None
    with pytest.raises(NotFoundError):
        shared(shop, references[:1], session_id="nobody's")


def test_nothing_is_looked_at_for_who_may_not_read(shop: Shop) -> None:
    references = written(shop)
    for name in shop.packs():
        (shop.folder / "objects" / name).unlink()

    def refuse(_: TableName) -> None:
        raise NoPermissionError("no")

    with pytest.raises(NoPermissionError):
        shop.engine.blobs.share(references, check=refuse, session_id="another table's")


def test_what_is_few_or_would_take_long_to_prove_is_sent(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = written(shop)
    monkeypatch.setattr(pack_sharing, "LEAST_BYTES", 301)
    assert shared(shop, references[:2]) is None
    monkeypatch.setattr(pack_sharing, "LEAST_BYTES", 300)
    monkeypatch.setattr(pack_sharing, "PROVEN_ROWS", 2)
    assert shared(shop, references[:2]) is None
    assert shared(shop, references) == [True] * 3


def test_packs_that_are_gone_cut_or_too_many_are_sent(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = list(shop.upload(shop.session(), b"x" * 100).references)
    second = list(shop.upload(shop.session(), b"y" * 1000).references)
    monkeypatch.setattr(pack_sharing, "MAX_PACKS", 1)
    assert shared(shop, second + first) == [True, False]
    assert shared(shop, first + second) is None
    for name in shop.packs():
        path = shop.folder / "objects" / name
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:40])
    assert shared(shop, first) is None
    for name in shop.packs():
        (shop.folder / "objects" / name).unlink()
    assert shared(shop, first) is None


def test_damaged_rows_prove_nothing_and_their_blobs_are_sent(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = written(shop)
    blobs = shop.engine.blobs
    (segment,) = (shop.folder / "objects").rglob("*.arrow")
    intact = segment.read_bytes()
    segment.chmod(0o600)
    offsets = range(0, len(intact), 67)
    shares = []
    for damage in (
        *(intact[:offset] + b"\xff" * 16 + intact[offset + 16 :] for offset in offsets),
        intact[:-100],
        b"",
        None,
    ):
        # One that has proven nothing yet.
        sharing = pack_sharing.PackSharing(shop.engine.context, blobs._sharing._reading)
        monkeypatch.setattr(blobs, "_sharing", sharing)
        if damage is None:
            segment.unlink()
        else:
            segment.write_bytes(damage)
        shares.append(shared(shop, references[:1]))
        assert shared(shop, references) == [True] * 3
    assert shares[-3:] == [None] * 3
    assert shares.count(None) > 6
