"""Every version shows what it showed when it was made, whatever is committed after it."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pyroaring import BitMap
from sqlalchemy import Connection, update

from fletching.catalog import table_rows as catalog_tables
from fletching.catalog.deletion_rows import deleted_rows, deletions_of, visible_deletions
from fletching.catalog.namespace_rows import ensure_project
from fletching.catalog.opening import open_catalog
from fletching.catalog.proof_rows import wrong_totals
from fletching.catalog.publishing import Publication, publish, replace_segments
from fletching.catalog.schema import deletions
from fletching.catalog.segment_rows import visible_segments
from fletching.catalog.table_rows import TableRow
from fletching.catalog.version_rows import (
    add_tag,
    check_readable,
    list_versions,
    raise_horizon,
    version_at,
)
from fletching.catalog.write_stream_rows import NewSegment
from fletching.errors import (
    AlreadyExistsError,
    CorruptObjectError,
    RowsChangedError,
    VersionNotFoundError,
)
from fletching.types import TableName

NUMBERS = itertools.count()


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    database = open_catalog(tmp_path / "catalog.sqlite")
    with database.trial() as connection:
        ensure_project(connection, "p", 0.0)
        catalog_tables.insert_table(
            connection, table_id="t", name=TableName("p", "T"), partition_columns=[],
            arrow_schema=b"", column_ids=[], next_column_id=1, owner="", comment="", properties={},
            primary_key=[], lifecycle_days=None, now=0.0,
        )  # fmt: skip
        yield connection
    database.close()


def table(connection: Connection) -> TableRow:
    return catalog_tables.lock_table(connection, "t")


def segment(batches: list[int]) -> NewSegment:
    index = np.zeros((len(batches), 4), dtype="<i8")
    index[:, 3] = batches
    return NewSegment(
        key=f"k{next(NUMBERS)}", partition="[]", schema_version=1, rows=sum(batches),
        length=10, crc32c=7, batch_index=index.tobytes(), dictionary_index=b"", codecs="",
    )  # fmt: skip


class Model:
    """What each object's rows are called, and what each version showed."""

    def __init__(self, connection: Connection, seed: int) -> None:
        self.connection = connection
        self.random = random.Random(seed)
        self.names: dict[str, list[int]] = {}
        self.shown: dict[int, list[int]] = {0: []}
        self.rows = itertools.count()

    def shown_in(self, version: int) -> list[int]:
        rows: list[int] = []
        segments = visible_segments(self.connection, "t", version)
        gone = deletions_of(self.connection, [each.id for each in segments], version)
        for each in segments:
            deleted = deleted_rows(self.connection, gone.get(each.id, []))
            names = self.names[each.key]
            assert len(names) == each.rows
            assert len(deleted) < each.rows, "a visible segment without visible rows"
            rows += [name for index, name in enumerate(names) if index not in deleted]
        return rows

    def check(self, newest: int = 4) -> None:
        row = table(self.connection)
        for version, expected in list(self.shown.items())[-newest:]:
            assert self.shown_in(version) == expected, f"version {version} of {row.version}"
        assert row.rows == len(self.shown[row.version])
        assert wrong_totals(self.connection) == []

    def note(self, rows: list[int]) -> None:
        self.shown[table(self.connection).version] = rows
        self.check()

    # --- what may happen ---

    def add(self) -> None:
        made = [
            segment([self.random.randint(1, 4) for _ in range(self.random.randint(1, 3))])
            for _ in range(self.random.randint(1, 2))
        ]
        before = self.shown[table(self.connection).version]
        added: list[int] = []
        absent = {}
        for each in made:
            self.names[each.key] = [next(self.rows) for _ in range(each.rows)]
            dead = BitMap(self.random.sample(range(each.rows), self.random.randint(0, 1)))
            absent[each.key] = dead
            added += [n for index, n in enumerate(self.names[each.key]) if index not in dead]
        publication = Publication(self.connection, table(self.connection), "append", now=1.0)
        publication.add(made, absent=absent)
        publication.commit()
        self.note(before + added)

    def delete(self) -> None:
        """Chosen in an older version, so that others have moved or taken rows since."""
        newest = table(self.connection).version
        read = self.random.choice([each for each in self.shown if each > newest - 4])
        wanted: dict[int, BitMap] = {}
        names = set()
        gone_then = deletions_of(
            self.connection,
            [each.id for each in visible_segments(self.connection, "t", read)],
            read,
        )
        for each in visible_segments(self.connection, "t", read):
            gone = deleted_rows(self.connection, gone_then.get(each.id, []))
            left = [index for index in range(each.rows) if index not in gone]
            chosen = self.random.sample(left, self.random.randint(0, len(left)))
            wanted[each.id] = BitMap(chosen)
            names |= {self.names[each.key][index] for index in chosen}
        before = self.shown[newest]
        strict = self.random.random() < 0.5
        publication = Publication(
            self.connection, table(self.connection), "delete", now=1.0, read_version=read
        )
        nested = self.connection.begin_nested()
        try:
            count = publication.delete_rows(wanted, strict=strict)
        except RowsChangedError:
            nested.rollback()
            assert strict
            return
        if strict:
            assert count == len(names)
        else:
            # Rows of segments that an overwrite or a restore took are nowhere; the others go.
            assert count <= len(names & set(before))
        publication.commit()
        after = self.shown_in(table(self.connection).version)
        assert len(after) == len(before) - count
        assert set(after) <= set(before)
        assert set(before) - set(after) <= names
        if strict:
            assert set(before) - set(after) == names
        if table(self.connection).version != newest:
            self.note([name for name in before if name in set(after)])

    def compact(self) -> None:
        newest = table(self.connection).version
        read = self.random.choice([each for each in self.shown if each > newest - 3])
        rows = visible_segments(self.connection, "t", read)
        if len(rows) < 2:
            return
        first = self.random.randrange(len(rows) - 1)
        run = rows[first : first + self.random.randint(1, 3)]
        gone = deletions_of(self.connection, [each.id for each in run], read)
        names, kept = [], []
        for each in run:
            deleted = deleted_rows(self.connection, gone.get(each.id, []))
            left = [n for index, n in enumerate(self.names[each.key]) if index not in deleted]
            names += left
            kept.append(len(left))
        merged = segment([len(names)])
        self.names[merged.key] = names
        before = self.shown[newest]
        done = replace_segments(
            self.connection, table(self.connection), [each.id for each in run], merged,
            kept=kept, read_version=read, now=1.0,
        )  # fmt: skip
        if done:
            self.note(before)

    def fold(self) -> None:
        newest = table(self.connection).version
        rows = visible_segments(self.connection, "t", newest)
        gone = deletions_of(self.connection, [each.id for each in rows])
        for each in rows:
            if len(gone.get(each.id, [])) > 1:
                publication = Publication(
                    self.connection, table(self.connection), "fold", now=1.0, data_change=False
                )
                publication.fold(gone[each.id], each.batch_index)
                publication.commit()
                self.note(self.shown[newest])
                return

    def restore(self) -> None:
        version = self.random.choice(list(self.shown))
        newest = table(self.connection).version
        publication = Publication(self.connection, table(self.connection), "restore", now=1.0)
        publication.restore(version)
        publication.commit()
        if table(self.connection).version != newest:
            self.note(self.shown[version])
        else:
            assert self.shown[version] == self.shown[newest]

    def clear(self) -> None:
        newest = table(self.connection).version
        publish(self.connection, table(self.connection), [], cleared_partitions=None, now=1.0)
        if table(self.connection).version != newest:
            self.note([])


@pytest.mark.parametrize("seed", range(8))
def test_every_version_stays_what_it_was(connection: Connection, seed: int) -> None:
    model = Model(connection, seed)
    steps = [model.add] * 5 + [model.delete] * 6 + [model.compact] * 3
    steps += [model.fold] * 2 + [model.restore] * 2 + [model.clear]
    for _ in range(40):
        model.random.choice(steps)()
    model.check(newest=1000)


def test_a_change_without_effect_makes_no_version(connection: Connection) -> None:
    publication = Publication(connection, table(connection), "delete", now=1.0)
    assert publication.delete_rows({}) == 0
    assert publication.commit() == 0
    assert publish(connection, table(connection), [], cleared_partitions=None, now=1.0) == 0


def test_versions_are_in_order_of_time_when_the_clock_goes_back(connection: Connection) -> None:
    for now in (5.0, 3.0, 4.0, 7.0):
        publish(connection, table(connection), [segment([1])], now=now)
    times = [row.committed_us for row in list_versions(connection, "t", before=None, limit=9)]
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == len(times)
    assert version_at(connection, table(connection), 5_000_000) == 1
    assert version_at(connection, table(connection), 4_999_999) == 0
    assert version_at(connection, table(connection), 99_000_000) == 4
    with pytest.raises(VersionNotFoundError):
        version_at(connection, table(connection), -1)


def test_versions_below_the_horizon_are_gone_unless_tagged(connection: Connection) -> None:
    for _ in range(4):
        publish(connection, table(connection), [segment([1])], now=1.0)
    add_tag(connection, table(connection), "keep", 1, replace=False, now=1.0)
    with pytest.raises(AlreadyExistsError):
        add_tag(connection, table(connection), "keep", 2, replace=False, now=1.0)
    raise_horizon(connection, table(connection), 3)
    assert [row.version for row in list_versions(connection, "t", before=None, limit=9)] == [
        4,
        3,
        1,
    ]
    assert check_readable(connection, table(connection), 1).version == 1
    assert check_readable(connection, table(connection), 3).version == 3
    for gone in (-1, 0, 2, 5):
        with pytest.raises(VersionNotFoundError):
            check_readable(connection, table(connection), gone)


def test_a_damaged_deletion_is_an_error_and_never_none(connection: Connection) -> None:
    publish(connection, table(connection), [segment([5])], now=1.0)
    publication = Publication(connection, table(connection), "delete", now=1.0)
    (row,) = visible_segments(connection, "t", 1)
    publication.delete_rows({row.id: BitMap([1, 3])})
    publication.commit()
    (deletion,) = visible_deletions(connection, "t", 2)
    assert visible_deletions(connection, "t", 1) == []
    assert deleted_rows(connection, [deletion]) == BitMap([1, 3])
    assert deletion.vector is not None
    for broken in (
        deletion._replace(vector=deletion.vector[:-1]),
        deletion._replace(vector=b""),
        deletion._replace(rows=3),
        deletion._replace(crc32c=deletion.crc32c ^ 1),
    ):
        with pytest.raises(CorruptObjectError):
            deleted_rows(connection, [broken])
    with pytest.raises(CorruptObjectError, match="same row"):
        deleted_rows(connection, [deletion, deletion])
    connection.execute(update(deletions).values(segment_id=-1))
    assert wrong_totals(connection) != []


def test_rows_that_another_change_took_are_not_taken_twice(connection: Connection) -> None:
    publish(connection, table(connection), [segment([4])], now=1.0)
    (row,) = visible_segments(connection, "t", 1)
    for rows in ([0, 1], [2]):
        publication = Publication(connection, table(connection), "delete", now=1.0, read_version=1)
        publication.delete_rows({row.id: BitMap(rows)})
        publication.commit()
    publication = Publication(connection, table(connection), "delete", now=1.0, read_version=1)
    with pytest.raises(RowsChangedError):
        publication.delete_rows({row.id: BitMap([1, 3])})
    publication = Publication(connection, table(connection), "upsert", now=1.0, read_version=1)
    assert publication.delete_rows({row.id: BitMap([1, 3])}, strict=False) == 1
    publication.commit()
    assert table(connection).rows == 0
    assert table(connection).segments == 0
    assert dataclasses.replace(table(connection)).bytes == 0
