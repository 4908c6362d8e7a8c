"""Images for training: by our PyTorch dataset, as files of a folder, and as WebDataset's tar files.

Each gives shuffled batches of 64 images, as bytes beside their labels, for to decode them costs all the same;
and, where Pillow is installed, ``decoded`` by it from JPEG to tensors, which is most of such an epoch. An epoch in
this process, and in two workers of a ``DataLoader`` that stay from epoch to epoch. ``cold`` epochs begin with
none of the images' pages in memory, as where a training set is larger than that.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
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
    count = max(2 * BATCH, total_bytes // IMAGE_BYTES)
    with _images(folder, _random(count)) as images:
        for workers in (0,) if small else (0, 2):
            with _contenders(images, workers) as made:
                results += compare("training", f"{workers} workers", made, rounds)
        results += compare("training", "cold, 0 workers", _cold(images), max(1, rounds // 2))
    if small or importlib.util.find_spec("PIL") is None:
        return results
    # To decode takes a hundred times as long as to read: fewer images do.
    with _images(folder, _pictures(max(2 * BATCH, count // 8))) as images:
        for workers in (0, 2):
            with _contenders(images, workers, decode=_decoded) as made:
                results += compare("training", f"decoded, {workers} workers", made, rounds)
    return results


def _random(count: int) -> list[bytes]:
    rng = np.random.default_rng(7)
    lengths = rng.integers(IMAGE_BYTES // 2, IMAGE_BYTES * 3 // 2, count)
    return [rng.bytes(int(length)) for length in lengths]


def _pictures(count: int) -> list[bytes]:
    """JPEGs of 224 by 224, of about `IMAGE_BYTES`; each of them several times."""
    from PIL import Image

    rng = np.random.default_rng(7)
    made = []
    for _ in range(min(count, 64)):
        coarse = Image.fromarray(rng.integers(0, 255, (28, 28, 3), np.uint8)).resize((224, 224))
        fine = np.asarray(coarse).astype(np.int16) + rng.integers(-16, 16, (224, 224, 3))
        file = io.BytesIO()
        Image.fromarray(fine.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=92)
        made.append(file.getvalue())
    return [made[number % len(made)] for number in range(count)]


def _decoded(data: bytes) -> Any:
    import torch
    from PIL import Image

    return torch.from_numpy(np.array(Image.open(io.BytesIO(data)).convert("RGB")))


class _Images:
    """The same images in all forms."""

    def __init__(self, folder: Path, data: Sequence[bytes]) -> None:
        count = len(data)
        self.folder = folder
        self.bytes = sum(map(len, data))
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
def _images(folder: Path, data: Sequence[bytes]) -> Iterator[_Images]:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield _Images(folder, data)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


Decoder = Callable[[bytes], Any]


def _collated(samples: Sequence[tuple[Any, int]], decode: Decoder | None = None) -> dict[str, Any]:
    import torch

    images = [image for image, _ in samples]
    return {
        "image": images if decode is None else torch.utils.data.default_collate(images),
        "label": torch.tensor([int(label) for _, label in samples]),
    }


class _Files:
    """A dataset of files, as ImageFolder is one."""

    def __init__(self, files: list[tuple[str, int]], decode: Decoder | None) -> None:
        self._files = files
        self._decode = decode

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        path, label = self._files[place]
        # As torchvision's loaders open them.
        with open(path, "rb") as file:  # noqa: PTH123  # a Path takes a quarter of the time more
            data = file.read()
        return (data if self._decode is None else self._decode(data)), label


def _epoch(images: _Images, loader: Any, _started: float) -> Outcome:
    samples = sum(len(batch["label"]) for batch in loader)
    return Outcome(images.bytes, samples)


def _loader(dataset: Any, workers: int, **options: Any) -> Any:
    from torch.utils.data import DataLoader

    return DataLoader(dataset, num_workers=workers, persistent_workers=workers > 0, **options)


def _files_loader(images: _Images, workers: int, decode: Decoder | None = None) -> Any:
    collated = functools.partial(_collated, decode=decode)
    options = {"batch_size": BATCH, "shuffle": True, "collate_fn": collated}
    return _loader(_Files(images.files, decode), workers, **options)


def _tar_loader(images: _Images, workers: int, decode: Decoder | None = None) -> Any:
    import webdataset

    dataset = webdataset.WebDataset(images.shards, shardshuffle=SHARDS)
    samples = dataset.shuffle(1000).to_tuple("jpg", "cls")
    if decode is not None:
        samples = samples.map_tuple(decode, int)
    collated = functools.partial(_collated, decode=decode)
    return _loader(samples.batched(BATCH, collation_fn=collated), workers, batch_size=None)


def _our_loader(client: Any, workers: int, decode: Decoder | None = None) -> Any:
    from fletching.connectors.torch import FletchingDataset

    decoders = None if decode is None else {"image": decode}
    dataset = FletchingDataset(client.table("images"), BATCH, shuffle=True, seed=1, decode=decoders)
    return _loader(dataset, workers, batch_size=None, collate_fn=dict)


@contextlib.contextmanager
def _contenders(
    images: _Images, workers: int, decode: Decoder | None = None
) -> Iterator[list[Contender]]:
    with contextlib.ExitStack() as stack:
        near = stack.enter_context(fletching.connect(images.data, project=tables.PROJECT))
        service = stack.enter_context(server("fletching", folder=images.data))
        sent = stack.enter_context(reading.connect(service, direct="auto"))
        loaders = {
            "fletching, a folder": _our_loader(near, workers, decode),
            "fletching, HTTP": _our_loader(sent, workers, decode),
            "files": _files_loader(images, workers, decode),
        }
        if images.shards:
            loaders["WebDataset"] = _tar_loader(images, workers, decode)
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
