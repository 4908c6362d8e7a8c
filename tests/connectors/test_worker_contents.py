"""Contents that workers hand over: the same as in one process, and no memory but a few batches' is shared."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import fletching
from fletching.client import Client, Table

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402  # after the skip

from fletching.connectors import worker_contents  # noqa: E402
from fletching.connectors.torch import FletchingDataset  # noqa: E402
from fletching.connectors.worker_contents import Contents, _Slots  # noqa: E402

pytestmark = [
    pytest.mark.engines,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="without memfd: by the pipe"),
]

SIZES = [0, 1, *range(30_000, 62_000, 2_000), 300_000]
IMAGES: list[bytes | None] = [*(bytes([n]) * size for n, size in enumerate(SIZES)), None]


@pytest.fixture
def table(http_client: Client) -> Table:
    schema = pa.schema([("id", pa.int64()), ("image", fletching.blob())])
    table = http_client.create_table("images", schema)
    table.append({"id": range(len(IMAGES)), "image": IMAGES})
    return table


@pytest.fixture(autouse=True)
def known() -> Iterator[dict[Any, Any]]:
    yield worker_contents._known
    worker_contents._known.clear()


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_hand_over_what_one_process_reads(
    table: Table, known: dict[Any, Any], context: str
) -> None:
    dataset = FletchingDataset(table, batch_size=4, shuffle=True)
    kept = DataLoader(
        dataset,
        batch_size=None,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context=context,
    )
    for epoch in range(4):
        dataset.set_epoch(epoch)
        contents = [(n, i) for b in kept for n, i in zip(b["id"].tolist(), b["image"], strict=True)]
        assert sorted(contents, key=lambda pair: pair[0]) == list(enumerate(IMAGES))
    assert 2 <= len(known) <= 2 * worker_contents.MOST_SLOTS
    del kept
    if context == "fork":
        # What workers shared goes when there are others.
        others = DataLoader(dataset, batch_size=None, num_workers=2)
        for _ in range(2):
            for batch in others:
                assert isinstance(batch["image"], list)
        assert len({worker for worker, _ in known}) <= 4
    dataset.close()


def _pickled(contents: Contents) -> Any:
    return pickle.loads(ForkingPickler.dumps(contents))


def test_it_is_a_list_wherever_it_does_not_come_from_a_worker(known: dict[Any, Any]) -> None:
    contents = Contents(IMAGES)
    for other in (
        pickle.loads(pickle.dumps(contents)),
        copy.copy(contents),
        copy.deepcopy(contents),
        _pickled(contents),
    ):
        assert type(other) is Contents
        assert other == IMAGES
    assert not known


def test_small_batches_and_what_finds_no_room_go_through_the_pipe(
    known: dict[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_contents, "get_worker_info", object)
    monkeypatch.setattr(worker_contents, "_own", None)
    assert _pickled(Contents([b"x" * 1000, None])) == [b"x" * 1000, None]
    assert not known
    assert _pickled(Contents(IMAGES)) == IMAGES
    assert len(known) == 1
    monkeypatch.setattr(worker_contents, "MOST_BYTES", 0)
    longer = Contents([*IMAGES, *IMAGES])
    assert _pickled(longer) == longer
    assert len(known) == 1


def test_a_slot_is_used_again_when_it_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_contents, "MOST_SLOTS", 2)
    slots = _Slots()
    contents = [b"x" * 1000]
    assert [slots.put(contents, 1000) is None for _ in range(3)] == [False, False, True]
    slots._slots[1].memory[0] = worker_contents._FREE
    # It has been passed already; one that is too small makes room for a larger one.
    assert slots.put(contents, 1000) == (1, None)
    slots._slots[0].memory[0] = worker_contents._FREE
    slot = slots.put([b"x" * 9000], 9000)
    assert slot is not None
    assert slot[0] == 2
    assert sorted(slots._slots) == [1, 2]
    monkeypatch.setattr(
        worker_contents, "_Slot", lambda _room: (_ for _ in ()).throw(OSError("no memory"))
    )
    slots._slots[1].memory[0] = worker_contents._FREE
    assert slots.put([b"x" * 90_000], 90_000) is None


def test_decoded_tensors_are_stacked_in_workers_as_in_one_process(table: Table) -> None:
    def decoded(data: bytes) -> Any:
        return torch.from_numpy(np.frombuffer(data[:1].ljust(4, b"\0"), np.uint8).copy())

    dataset = FletchingDataset(
        table, batch_size=6, filter="id < 18", decode={"image": decoded}, shuffle=True
    )
    for workers in (0, 2):
        firsts: list[int] = []
        for batch in DataLoader(dataset, batch_size=None, num_workers=workers):
            assert batch["image"].shape == (len(batch["id"]), 4)
            firsts += batch["image"][:, 0].tolist()
        assert sorted(firsts) == [0, *range(1, 18)]
    dataset.close()
