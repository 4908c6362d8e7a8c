"""Least and greatest values per zone: which rows of one large segment a predicate can choose.

A zone is up to `ZONE_ROWS` neighbouring rows of one record batch, so that a small batch is one zone and a
large one several. Of a segment of one zone nothing is kept, as the segment's own statistics say the same.

Kept in the catalog beside the batch index, as MessagePack: ``[zone rows, zones per entry, columns]``, where
columns maps a column's key (`statistics.column_key`) to ``[flags, form, lower, upper]``: a byte of `Known`
for each entry, and the bounds, by form: ``"<i8"`` and ``"<f8"`` in one run of bytes, ``"text"`` as a list,
``""`` none. Values are in the physical form of `statistics`. Where zones are so many that their bounds pass
`MAX_BYTES`, an entry is of several neighbouring zones.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from fletching.engine.cache import remembered
from fletching.sql.predicates.bounds import ColumnBounds, Physical

__all__ = ["ZONE_ROWS", "Known", "ZoneBounds", "ZoneColumns", "choose", "read_zones", "zones_of"]

ZONE_ROWS: Final = 65_536
"""Rows of a zone. Finding the bounds of so many costs a call for each column and zone, some ten
microseconds beside the hundreds that the rows take."""

MAX_BYTES: Final = 1 << 18
"""Above this, neighbouring zones share an entry: catalogs and snapshots hold the bounds of every segment."""

_MOST_ENTRIES: Final = MAX_BYTES // 17
"""Of all columns together; a number's bounds take 17 bytes."""

_FAN_OUT: Final = 8
"""Into how many parts a range of zones is divided that may hold a chosen row."""


class Known(enum.IntEnum):
    """What is known of a column in a zone."""

    NULLS = 1
    VALUES = 2
    UNORDERED = 4
    LOWER = 8
    UPPER = 16


def zones_of(rows: int) -> int:
    """How many zones a batch of so many rows has."""
    return max(-(-rows // ZONE_ROWS), 1)


class _Column(msgspec.Struct, array_like=True):
    """A column's part of the record."""

    flags: bytes
    form: str
    lower: bytes | list[str]
    upper: bytes | list[str]


_TEXT: Final = "text"


class Entries(NamedTuple):
    """What is known of a column in neighbouring zones, an entry for each."""

    flags: list[int]
    lower: list[Physical | None]
    upper: list[Physical | None]

    def bounds(self) -> ColumnBounds | None:
        """The bounds of all zones together; None unless each has some, and none has a null."""
        kinds = set(self.flags)
        if not kinds or any(flags & _NULLS_OR_BOUNDS != _EVERYWHERE for flags in kinds):
            return None
        # Each is there, as the flags say.
        lower, upper = (
            min(cast("list[Physical]", self.lower)),
            max(cast("list[Physical]", self.upper)),
        )
        unordered = any(flags & Known.UNORDERED for flags in kinds)
        return ColumnBounds(lower, upper, nulls=False, values=True, unordered=unordered)


class ZoneColumn:
    """Collects the bounds of one column."""

    __slots__ = ("_filled", "_zones", "flags", "lower", "upper")

    def __init__(self) -> None:
        self.flags: list[int] = []
        self.lower: list[Physical | None] = []
        self.upper: list[Physical | None] = []
        self._zones = self._filled = 1

    def add(self, known: ColumnBounds) -> None:
        """Takes one more zone."""
        if self._filled < self._zones:
            self._filled += 1
            last = slice(len(self.flags) - 1, None)
            before = _joined(self.flags[last], self.lower[last], self.upper[last])
            known = _either(before, known)
            del self.flags[-1], self.lower[-1], self.upper[-1]
        else:
            self._filled = 1
        self._append(known)

    def extend(self, entries: Entries) -> None:
        """Takes zones of another segment, one for each of its entries."""
        if self._zones > 1:
            for each in map(_bounds, *entries):
                self.add(each)
            return
        self.flags += entries.flags
        self.lower += entries.lower
        self.upper += entries.upper

    def _append(self, known: ColumnBounds) -> None:
        # The bits of `Known`, as numbers: this is done for each column of each batch.
        self.flags.append(
            known.nulls
            | known.values << 1
            | known.unordered << 2
            | (known.lower is not None) << 3
            | (known.upper is not None) << 4
        )
        self.lower.append(known.lower)
        self.upper.append(known.upper)

    def coarsen(self) -> None:
        """Puts two neighbouring entries in the place of each."""
        flags, lower, upper = self.flags, self.lower, self.upper
        if len(flags) % 2 == 0:
            self._filled += self._zones
        self.flags, self.lower, self.upper = [], [], []
        self._zones *= 2
        for start in range(0, len(flags), 2):
            pair = slice(start, start + 2)
            self._append(_joined(flags[pair], lower[pair], upper[pair]))

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        size = 17 * len(self.flags)
        if str in {*map(type, self.lower), *map(type, self.upper)}:
            size += sum(len(each) for each in (*self.lower, *self.upper) if isinstance(each, str))
        return size

    def stored(self) -> _Column | None:
        """What is written; None if it says nothing that could be asked, or has values of no known form."""
        flags = bytes(self.flags)
        present = {*map(type, self.lower), *map(type, self.upper)} - {type(None)}
        if not present:
            # Where the nulls are may be worth keeping alone.
            return _Column(flags, "", b"", b"") if len(set(flags)) > 1 else None
        if present == {str}:
            sides = [
                [each if isinstance(each, str) else "" for each in side]
                for side in (self.lower, self.upper)
            ]
            return _Column(flags, _TEXT, *sides)
        form = "<i8" if present <= {int, bool} else "<f8" if present == {float} else None
        if form is None:
            return None
        runs = [
            np.array([each or 0 for each in side], dtype=form).tobytes()
            for side in (self.lower, self.upper)
        ]
        return _Column(flags, form, *runs)


class ZoneColumns:
    """Collects the bounds of all recorded columns of a segment; entries are as many in each."""

    def __init__(self, keys: Iterable[str]) -> None:
        self.columns = {key: ZoneColumn() for key in keys}
        self._zones = 1

    def keep_bounded(self) -> None:
        """Keeps memory bounded; called when all columns have got their zones of a batch."""
        while self._count * len(self.columns) > _MOST_ENTRIES:
            self._coarsen()

    def _coarsen(self) -> None:
        self._zones *= 2
        for column in self.columns.values():
            column.coarsen()

    @property
    def _count(self) -> int:
        return max((len(column.flags) for column in self.columns.values()), default=0)

    def encode(self) -> bytes | None:
        """The record for the catalog; None where the segment has one zone, or nothing is known."""
        while self._count > 1 and sum(each.size for each in self.columns.values()) > MAX_BYTES:
            self._coarsen()
        if self._count <= 1:
            return None
        stored = {key: column.stored() for key, column in self.columns.items()}
        known = {key: value for key, value in stored.items() if value is not None}
        return msgspec.msgpack.encode((ZONE_ROWS, self._zones, known)) if known else None


class _Record(msgspec.Struct, array_like=True):
    zone_rows: int
    zones: int
    columns: dict[str, msgspec.Raw]


_RECORD = msgspec.msgpack.Decoder(_Record)
_COLUMN = msgspec.msgpack.Decoder(_Column)
_EVERYWHERE: Final = int(Known.VALUES | Known.LOWER | Known.UPPER)
_NULLS_OR_BOUNDS: Final = int(Known.NULLS) | _EVERYWHERE


class _Values:
    """The bounds of one column, entry by entry."""

    def __init__(self, stored: _Column) -> None:
        self.bits = np.frombuffer(stored.flags, np.uint8)
        self.flags = self.bits.tolist()
        # Of numbers that are known everywhere a range is asked of at once.
        self.arrays: tuple[NDArray[np.generic], NDArray[np.generic]] | None = None
        self.lower: list[Physical | None] = [None] * len(self.flags)
        self.upper = self.lower
        lower, upper = stored.lower, stored.upper
        everywhere = bool(((self.bits & _EVERYWHERE) == _EVERYWHERE).all())
        if isinstance(lower, bytes) and isinstance(upper, bytes) and stored.form in {"<i8", "<f8"}:
            arrays = np.frombuffer(lower, stored.form), np.frombuffer(upper, stored.form)
            self.lower, self.upper = arrays[0].tolist(), arrays[1].tolist()
            if everywhere:
                self.arrays = arrays
        elif isinstance(lower, list) and isinstance(upper, list) and stored.form == _TEXT:
            self.lower, self.upper = [*lower], [*upper]
        elif stored.form:
            raise ValueError(f"bounds of form {stored.form!r} are not known")
        if not len(self.lower) == len(self.upper) == len(self.flags):
            raise ValueError("bounds are missing")
        if not everywhere:
            self.lower = self._known(self.lower, Known.LOWER)
            self.upper = self._known(self.upper, Known.UPPER)

    def _known(self, side: list[Physical | None], bit: Known) -> list[Physical | None]:
        return [
            value if flags & bit else None for value, flags in zip(side, self.flags, strict=True)
        ]

    def within(self, first: int, end: int) -> ColumnBounds:
        """What is known of the values of some entries together."""
        if end - first == 1 or self.arrays is None:
            rows = slice(first, end)
            return _joined(self.flags[rows], self.lower[rows], self.upper[rows])
        union = int(np.bitwise_or.reduce(self.bits[first:end]))
        lowest, highest = self.arrays
        return ColumnBounds(
            lowest[first:end].min().item(),
            highest[first:end].max().item(),
            bool(union & Known.NULLS),
            values=True,
            unordered=bool(union & Known.UNORDERED),
        )


def _joined(
    flags: Sequence[int], lower: Sequence[Physical | None], upper: Sequence[Physical | None]
) -> ColumnBounds:
    return functools.reduce(_either, map(_bounds, flags, lower, upper))


def _bounds(flags: int, lower: Physical | None, upper: Physical | None) -> ColumnBounds:
    return ColumnBounds(
        lower if flags & Known.LOWER else None,
        upper if flags & Known.UPPER else None,
        bool(flags & Known.NULLS),
        bool(flags & Known.VALUES),
        bool(flags & Known.UNORDERED),
    )


def _either(left: ColumnBounds, other: ColumnBounds) -> ColumnBounds:
    """What is known of values of which each is of one or of the other."""
    having = [each for each in (left, other) if each.values]
    lower = [each.lower for each in having if each.lower is not None]
    upper = [each.upper for each in having if each.upper is not None]
    return ColumnBounds(
        min(lower) if having and len(lower) == len(having) else None,
        max(upper) if having and len(upper) == len(having) else None,
        left.nulls or other.nulls,
        bool(having),
        left.unordered or other.unordered,
    )


class ZoneBounds:
    """What is known of the columns of one segment, zone by zone. Immutable.

    Attributes:
        zones: how many neighbouring zones share an entry.
    """

    def __init__(self, record: _Record) -> None:
        self.zones = record.zones
        self._raw = record.columns
        self._columns: dict[str, _Values | None] = {}

    def column(self, key: str, first: int, end: int) -> ColumnBounds | None:
        """What is known of a column in the zones from ``first`` to ``end``; None for nothing."""
        known = self._values(key)
        first, end = first // self.zones, -(-end // self.zones)
        return None if known is None or end > len(known.flags) else known.within(first, end)

    def entries(self, key: str, first: int, end: int) -> Entries | None:
        """The same zone by zone; None also where several zones share what is known."""
        known = self._values(key) if self.zones == 1 else None
        if known is None or end > len(known.flags):
            return None
        zones = slice(first, end)
        return Entries(known.flags[zones], known.lower[zones], known.upper[zones])

    def _values(self, key: str) -> _Values | None:
        if key not in self._columns:
            values = None
            raw = self._raw.get(key)
            if raw is not None:
                try:
                    values = _Values(_COLUMN.decode(raw))
                except (msgspec.DecodeError, ValueError, TypeError):
                    values = None  # a newer release's
            self._columns[key] = values
        return self._columns[key]


def read_zones(data: bytes | None) -> ZoneBounds | None:
    """What is kept of a segment's zones; None if nothing is, or if a newer release wrote it."""
    if not data:
        return None
    return _read_once(data)


def _read(data: bytes) -> ZoneBounds | None:
    try:
        record = _RECORD.decode(data)
    except msgspec.DecodeError:
        return None
    if record.zone_rows != ZONE_ROWS or record.zones < 1:
        return None
    return ZoneBounds(record)


_read_once = remembered(_read, growth=6)


_ASKED = ((256, 64), (32, 16))
"""Zones from which on, and of how many of them, it is asked first whether a condition leaves out any."""


def choose(count: int, test: Callable[[int, int], bool]) -> NDArray[np.bool_]:
    """For each of ``count`` zones whether ``test(zone, zone + 1)``.

    Of a range of zones the test must be true as soon as it is of one of them. Of many zones, all are chosen
    if it is true of some that lie evenly among them: asking the others would leave out little more.

    Cost: few tests where those that are chosen lie together, as in a column that is sorted, or are all.
    """
    asked = next((asked for least, asked in _ASKED if count >= least), 0)
    if asked and all(test(zone, zone + 1) for zone in range(0, count, count // asked)):
        return np.ones(count, dtype=bool)
    result = np.zeros(count, dtype=bool)
    pending = [(0, count)] if count else []
    while pending:
        first, end = pending.pop()
        if not test(first, end):
            continue
        if end - first == 1:
            result[first] = True
            continue
        step = -(-(end - first) // _FAN_OUT)
        pending += [(start, min(start + step, end)) for start in range(first, end, step)]
    return result
