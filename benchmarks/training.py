"""Images for training: by our PyTorch dataset, as files of a folder, and as WebDataset's tar files.

Each gives shuffled batches of 64 images, as bytes beside their labels, for to decode them costs all the same.
An epoch in this process, and in two workers of a ``DataLoader`` that stay from epoch to epoch. ``cold``
epochs begin with none of the images' pages in memory, as where a training set is larger than that.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import fletching
from benchmarks import reading, tables
from benchmarks.processes import server
from benchmarks.rounds import Contender, Outcome, Result, compare

__all__ = ["measured"]

BATCH = 64
IMAGE_BYTES = 32_000
"""About what a picture of 224 by 224 is as JPEG; they are from half to one and a half times as long."""
SHARDS = 4


def measured(folder: Path, total_bytes: int, rounds: int, *, small: bool) -> list[Result]:
    """Samples per second; nothing where PyTorch is not installed.

    Args:
        folder: for the images' forms.
        total_bytes: of all images, about.
        rounds: measured rounds per contender.
        small: in this process alone.
    """
    if importlib.util.find_spec("torch") is None:
        print("training is not measured: without torch", file=sys.stderr)
        return []
    results: list[Result] = []
    with _images(folder, max(2 * BATCH, total_bytes // IMAGE_BYTES)) as images:
        for workers in (0,) if small else (0, 2):
            with _contenders(images, workers) as made:
                results += compare("training", f"{workers} workers", made, rounds)
        results += compare("training", "cold, 0 workers", _cold(images), max(1, rounds // 2))
    return results


class _Images:
    """The same images in all forms."""

    def __init__(self, folder: Path, count: int) -> None:
        rng = np.random.default_rng(7)
        lengths = rng.integers(IMAGE_BYTES // 2, IMAGE_BYTES * 3 // 2, count)
        data = [rng.bytes(int(length)) for length in lengths]
        self.folder = folder
        self.count = count
        self.bytes = int(lengths.sum())
        self.files: list[tuple[str, int]] = []
        for number, image in enumerate(data):
            path = folder / "files" / str(number % 10) / f"{number:08}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(image)
            self.files.append((str(path), number % 10))
        self.shards = _shards(folder, data)
        schema = pa.schema([("image", fletching.blob()), ("label", pa.int64())])
        with fletching.connect(self.data, project=tables.PROJECT, create=True) as client:
            table = client.create_table("images", schema)
            table.append({"image": data, "label": [number % 10 for number in range(count)]})

    @property
    def data(self) -> str:
        return str(self.folder / "data")

    def forget(self, *parts: str) -> None:
        """Takes the pages of some folders' files out of memory, as far as nobody maps them."""
        for part in parts:
            for path in (self.folder / part).rglob("*"):
                if path.is_file():
                    with path.open("rb") as file:
                        os.fsync(file.fileno())
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _shards(folder: Path, data: Sequence[bytes]) -> list[str]:
    if importlib.util.find_spec("webdataset") is None:
        return []
    import webdataset

    shards = [str(folder / "tar" / f"{number}.tar") for number in range(SHARDS)]
    (folder / "tar").mkdir()
    for start, shard in enumerate(shards):
        with webdataset.TarWriter(shard) as writer:
            for number in range(start, len(data), SHARDS):
                sample = {"__key__": f"{number:08}", "jpg": data[number], "cls": number % 10}
                writer.write(sample)
    return shards


@contextlib.contextmanager
def _images(folder: Path, count: int) -> Iterator[_Images]:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield _Images(folder, count)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _collated(samples: Sequence[tuple[bytes, int]]) -> dict[str, Any]:
    import torch

    return {
        "image": [image for image, _ in samples],
        "label": torch.tensor([int(label) for _, label in samples]),
    }


class _Files:
    """A dataset of files, as ImageFolder is one; not decoded."""

    def __init__(self, files: list[tuple[str, int]]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, place: int) -> tuple[bytes, int]:
        path, label = self._files[place]
        # As torchvision's loaders open them.
        with open(path, "rb") as file:  # noqa: PTH123  # a Path takes a quarter of the time more
            return file.read(), label


def _epoch(images: _Images, loader: Any, _started: float) -> Outcome:
    samples = sum(len(batch["label"]) for batch in loader)
    return Outcome(images.bytes, samples)


def _loader(dataset: Any, workers: int, **options: Any) -> Any:
    from torch.utils.data import DataLoader

    return DataLoader(dataset, num_workers=workers, persistent_workers=workers > 0, **options)


def _files_loader(images: _Images, workers: int) -> Any:
    options = {"batch_size": BATCH, "shuffle": True, "collate_fn": _collated}
    return _loader(_Files(images.files), workers, **options)


def _tar_loader(images: _Images, workers: int) -> Any:
    import webdataset

    dataset = webdataset.WebDataset(images.shards, shardshuffle=SHARDS)
    samples = dataset.shuffle(1000).to_tuple("jpg", "cls")
    return _loader(samples.batched(BATCH, collation_fn=_collated), workers, batch_size=None)


def _our_loader(client: Any, workers: int) -> Any:
    from fletching.connectors.torch import FletchingDataset

    dataset = FletchingDataset(client.table("images"), BATCH, shuffle=True, seed=1)
    return _loader(dataset, workers, batch_size=None)


@contextlib.contextmanager
def _contenders(images: _Images, workers: int) -> Iterator[list[Contender]]:
    with contextlib.ExitStack() as stack:
        near = stack.enter_context(fletching.connect(images.data, project=tables.PROJECT))
        service = stack.enter_context(server("fletching", folder=images.data))
        sent = stack.enter_context(reading.connect(service, direct="auto"))
        loaders = {
            "fletching, a folder": _our_loader(near, workers),
            "fletching, HTTP": _our_loader(sent, workers),
            "files": _files_loader(images, workers),
        }
        if images.shards:
            loaders["WebDataset"] = _tar_loader(images, workers)
        yield [
            Contender(
                name,
                functools.partial(_epoch, images, loader),
                service.pid if name.endswith("HTTP") else None,
            )
            for name, loader in loaders.items()
        ]


def _cold(images: _Images) -> list[Contender]:
    def contender(name: str, part: str, epoch: Callable[[float], Outcome]) -> Contender:
        return Contender(name, epoch, prepare=functools.partial(images.forget, part))

    def ours(started: float) -> Outcome:
        with fletching.connect(images.data, project=tables.PROJECT) as client:
            return _epoch(images, _our_loader(client, 0), started)

    made = [
        contender("fletching, a folder", "data", ours),
        contender("files", "files", functools.partial(_epoch, images, _files_loader(images, 0))),
    ]
    if images.shards:
        made.append(
            contender(
                "WebDataset", "tar", functools.partial(_epoch, images, _tar_loader(images, 0))
            )
        )
    return made
