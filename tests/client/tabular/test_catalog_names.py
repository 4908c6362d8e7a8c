"""Names that carry what the catalog knows: text, and more."""

from __future__ import annotations

import pickle

from fletching.client.tabular.catalog_names import Partition
from fletching.protocol.messages.admin import PartitionInfo
from fletching.types import PartitionSpec


def test_a_partition_is_its_text() -> None:
    spec = PartitionSpec((("pt", "20260101"), ("region", "eu")))
    made = Partition(
        PartitionInfo(partition=spec, rows=3, bytes=40, created_at=1.0, modified_at=2.0)
    )
    assert made == str(spec)
    assert hash(made) == hash(str(spec))
    assert (made.spec, made.values, made.rows, made.bytes) == (spec, ("20260101", "eu"), 3, 40)
    again = pickle.loads(pickle.dumps(made))
    assert (again, again.info) == (made, made.info)
