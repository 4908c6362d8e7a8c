"""What becomes of packs: the catalog's links, retention, compaction, verification, crashes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.engine.blobs.conftest import TABLE, Shop

from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.engine.upkeep.retention import Retention
from fletching.engine.upkeep.verify import Verification
from fletching.errors import InvalidArgumentError, NotFoundError
from fletching.protocol.messages.admin import CreatePartition, DropPartition, DropTable
from fletching.protocol.messages.requests import AbortWriteSession, CreateReadSession, ReadBlobs
from fletching.types import PartitionSpec, TableName

DAY = 86_400.0


def collect(shop: Shop) -> int:
    report = Retention(shop.engine.context).collect()
    return report.counts().get("blob pack", 0)


def readable(shop: Shop, reference: str) -> bool:
    try:
        shop.engine.blobs.read(ReadBlobs(project="p", references=(reference,)))
    except NotFoundError:
        return False
    return True


class TestUnreferenced:
    def test_an_aborted_sessions_go_at_once(self, shop: Shop) -> None:
        session = shop.session()
        (reference,) = shop.upload(session, b"x").references
        assert collect(shop) == 0
        shop.engine.call(AbortWriteSession(table=TABLE, session_id=session))
        assert collect(shop) == 1
        assert shop.packs() == []
        assert not readable(shop, reference)

    def test_an_expired_sessions_go_after_a_while(self, shop: Shop) -> None:
        (reference,) = shop.upload(shop.session(), b"x").references
        shop.clock.now += DAY + 1
        assert collect(shop) == 0
        assert readable(shop, reference)
        shop.clock.now += DAY + 1
        assert collect(shop) == 1

    def test_an_open_sessions_stay(self, shop: Shop) -> None:
        session = shop.session()
        (reference,) = shop.upload(session, b"x").references
        for _ in range(5):
            shop.clock.now += 0.9 * DAY
            shop.upload_frames(session, b"")
            shop.upload(session, b"alive")
            assert collect(shop) == 0
        assert readable(shop, reference)

    def test_a_committed_sessions_that_no_row_has_go_after_a_while(self, shop: Shop) -> None:
        session = shop.session()
        shop.upload(session, b"x")
        shop.commit(session)
        assert collect(shop) == 0
        shop.clock.now += DAY + 1
        assert collect(shop) == 1

    def test_the_implicit_sessions_go_after_a_while(self, shop: Shop) -> None:
        shop.upload("default", b"x")
        shop.clock.now += DAY - 1
        assert collect(shop) == 0
        shop.clock.now += 2
        assert collect(shop) == 1

    def test_a_dry_run_changes_nothing(self, shop: Shop) -> None:
        shop.upload("default", b"x")
        shop.clock.now += 2 * DAY
        report = Retention(shop.engine.context).collect(dry_run=True)
        assert report.counts()["blob pack"] == 1
        assert len(shop.packs()) == 1


class TestReferenced:
    def test_committed_rows_keep_their_blobs(self, shop: Shop) -> None:
        session = shop.session()
        (reference,) = shop.upload(session, b"x").references
        shop.write_rows(session, [reference, None])
        shop.commit(session)
        for _ in range(5):
            shop.clock.now += DAY
            assert collect(shop) == 0
        assert readable(shop, reference)

    def test_rows_of_another_session_keep_them(self, shop: Shop) -> None:
        uploads, rows = shop.session(), shop.session()
        (reference,) = shop.upload(uploads, b"x").references
        shop.write_rows(rows, [reference])
        shop.engine.call(AbortWriteSession(table=TABLE, session_id=uploads))
        assert collect(shop) == 0
        shop.commit(rows)
        shop.clock.now += 5 * DAY
        assert collect(shop) == 0
        assert readable(shop, reference)

    def test_rows_that_come_too_late_are_refused(self, shop: Shop) -> None:
        uploads = shop.session()
        (reference,) = shop.upload(uploads, b"x").references
        shop.engine.call(AbortWriteSession(table=TABLE, session_id=uploads))
        assert collect(shop) == 1
        with pytest.raises(InvalidArgumentError, match="upload the blobs again"):
            shop.write_rows(shop.session(), [reference])

    def test_staged_rows_keep_them_until_their_session_ends(self, shop: Shop) -> None:
        uploads, rows = shop.session(), shop.session()
        (reference,) = shop.upload(uploads, b"x").references
        shop.write_rows(rows, [reference])
        shop.engine.call(AbortWriteSession(table=TABLE, session_id=uploads))
        shop.engine.call(AbortWriteSession(table=TABLE, session_id=rows))
        assert collect(shop) == 1

    def test_overwritten_rows_let_them_go_after_retention(self, shop: Shop) -> None:
        first = shop.session()
        (reference,) = shop.upload(first, b"x").references
        shop.write_rows(first, [reference])
        shop.commit(first)
        shop.clock.now += DAY + 1
        second = shop.session(overwrite=True)
        shop.commit(second)
        assert collect(shop) == 0
        assert readable(shop, reference)
        shop.clock.now += shop.engine.context.settings.retain_seconds + 1
        assert collect(shop) == 1

    def test_a_snapshot_keeps_overwritten_rows_and_their_blobs(self, shop: Shop) -> None:
        first = shop.session()
        (reference,) = shop.upload(first, b"x").references
        shop.write_rows(first, [reference])
        shop.commit(first)
        shop.clock.now += DAY + 1
        shop.engine.call(CreateReadSession(table=TABLE))
        shop.commit(shop.session(overwrite=True))
        shop.clock.now += shop.engine.context.settings.retain_seconds + 1
        assert collect(shop) == 0
        assert readable(shop, reference)
        shop.clock.now += 2 * DAY
        assert collect(shop) == 1

    def test_a_dropped_partition(self, shop: Shop) -> None:
        table = TableName("p", "by_day")
        shop.create_table(table, partitioned=True)
        references = []
        for day in ("1", "2"):
            shop.engine.call(
                CreatePartition(table=table, partition=PartitionSpec.parse(f"pt={day}"))
            )
            session = shop.session(table, f"pt={day}")
            references += shop.upload(
                session, b"x", table=table, partition=PartitionSpec.parse(f"pt={day}")
            ).references
            shop.write_rows(session, [references[-1]], table=table)
            shop.commit(session, table)
        shop.clock.now += DAY + 1
        shop.engine.call(DropPartition(table=table, partition=PartitionSpec.parse("pt=1")))
        assert collect(shop) == 0
        shop.clock.now += shop.engine.context.settings.retain_seconds + 1
        assert collect(shop) == 1
        assert [readable(shop, reference) for reference in references] == [False, True]

    def test_a_dropped_table(self, shop: Shop) -> None:
        session = shop.session()
        (reference,) = shop.upload(session, b"x").references
        shop.write_rows(session, [reference])
        shop.commit(session)
        shop.engine.call(DropTable(table=TABLE))
        assert collect(shop) == 0
        assert len(shop.packs()) == 1
        shop.clock.now += shop.engine.context.settings.retain_seconds + 1
        assert collect(shop) == 1
        assert shop.packs() == []
        # The table's row, which packs refer to, goes with the next pass.
        collect(shop)
        assert not readable(shop, reference)

    def test_compaction_keeps_them(self, shop: Shop) -> None:
        references = []
        for number in range(3):
            session = shop.session()
            references += shop.upload(session, b"%d" % number).references
            shop.write_rows(session, references[-1:])
            shop.commit(session)
        (report,) = shop.engine.compact(TABLE, min_segments=2)
        assert report.merged == 3
        for _ in range(4):
            shop.clock.now += DAY
            assert collect(shop) == 0
        assert all(readable(shop, reference) for reference in references)
        shop.commit(shop.session(overwrite=True))
        shop.clock.now += DAY
        assert collect(shop) == 3


class TestVerification:
    def problems(self, shop: Shop) -> list[str]:
        return [p for checked in Verification(shop.engine.context) for p in checked.problems]

    def test_good_packs(self, shop: Shop) -> None:
        shop.upload_many(shop.session(), [b"a", b"", b"b" * 100_000])
        verification = Verification(shop.engine.context)
        assert verification.total_objects == 1
        (checked,) = verification
        assert checked.problems == ()
        assert checked.bytes == verification.total_bytes > 100_000

    @pytest.mark.parametrize("damage", ["flip", "cut", "remove", "swap"])
    def test_damaged_packs(self, shop: Shop, damage: str) -> None:
        session = shop.session()
        shop.upload_many(session, [b"a", b"b" * 1000])
        (key,) = shop.packs()
        path = shop.folder / "objects" / key
        whole = bytearray(path.read_bytes())
        if damage == "flip":
            whole[500] ^= 1
            path.write_bytes(whole)
        elif damage == "cut":
            path.write_bytes(whole[:-1])
        elif damage == "remove":
            path.unlink()
        else:
            shop.upload_many(session, [b"z"])
            (other,) = (k for k in shop.packs() if k != key)
            path.write_bytes((shop.folder / "objects" / other).read_bytes())
        assert len(self.problems(shop)) == 1


CRASH = """
import sys
from fletching import faultpoints
from fletching.engine.engine import Engine
from fletching.protocol.messages.requests import WriteBlob
from fletching.types import TableName

engine = Engine.open(sys.argv[1])
faultpoints.arm(sys.argv[2])
upload = engine.blobs.open_upload(
    WriteBlob(table=TableName("p", "pictures"), session_id="default", stream_id="s", column_id=2)
)
upload.accept([b"x" * 10_000])
print(upload.finish().references[0])
"""


@pytest.mark.parametrize(
    ("point", "kept"),
    [
        ("object.written", False),
        ("object.published", False),
        ("blobs.durable", False),
        ("blobs.accepted", True),
    ],
)
def test_a_crash_leaves_a_whole_pack_or_none(tmp_path: Path, point: str, kept: bool) -> None:
    folder = tmp_path / "data"
    with Engine.open(folder, settings=EngineSettings(create_projects=True)) as engine:
        from tests.engine.blobs.conftest import Clock

        Shop(engine, Clock(), folder).create_table()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CRASH), str(folder), point],
        capture_output=True,
        check=False,
        env={**os.environ},
        timeout=600,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    with Engine.open(folder) as engine:
        packs = [info.key for info in engine.context.store.list() if info.key.endswith(".pack")]
        checked = list(Verification(engine.context))
        assert (len(packs), len(checked)) == ((1, 1) if kept else (0, 0))
        assert all(not each.problems for each in checked)


def test_orphans_of_dead_writers_only(shop: Shop) -> None:
    session = shop.session()
    shop.upload(session, b"x")
    # Another process of the same folder looks for orphans: ours are known.
    with Engine.open(shop.folder, clock=lambda: shop.clock.now + 10 * DAY) as other:
        Retention(other.context).orphans()
    assert len(shop.packs()) == 1
