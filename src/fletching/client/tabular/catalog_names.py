"""Names out of the catalog that carry what it knows of them.

They are text, so that they can be printed, compared and passed on like the names a caller writes by
hand; the figures are those of the moment they were listed.
"""

from __future__ import annotations

from typing import Self

from fletching.protocol.messages.admin import PartitionInfo, TableInfo
from fletching.types import PartitionSpec

__all__ = ["Partition", "TableEntry"]


class Partition(str):
    """A partition as ``"pt=20260101,region=eu"``.

    Attributes:
        info: what the catalog knows of it.
    """

    __slots__ = ("info",)

    info: PartitionInfo

    def __new__(cls, info: PartitionInfo) -> Self:
        """The specification's text."""
        made = super().__new__(cls, str(info.partition))
        made.info = info
        return made

    @property
    def spec(self) -> PartitionSpec:
        """Columns and values."""
        return self.info.partition

    @property
    def values(self) -> tuple[str, ...]:
        """The values in the order of the partition columns."""
        return self.info.partition.values

    @property
    def rows(self) -> int:
        """Visible rows."""
        return self.info.rows

    @property
    def bytes(self) -> int:
        """Stored bytes."""
        return self.info.bytes

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles by what the catalog knows."""
        return Partition, (self.info,)


class TableEntry(str):
    """A table's name, as `Client.list_tables` gives it.

    Attributes:
        info: what the catalog knows of it.
    """

    __slots__ = ("info",)

    info: TableInfo

    def __new__(cls, info: TableInfo) -> Self:
        """The bare name."""
        made = super().__new__(cls, info.table.name)
        made.info = info
        return made

    @property
    def name(self) -> str:
        """The name as plain text."""
        return str(self)

    @property
    def rows(self) -> int:
        """Visible rows."""
        return self.info.rows

    @property
    def bytes(self) -> int:
        """Stored bytes."""
        return self.info.bytes

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles by what the catalog knows."""
        return TableEntry, (self.info,)
