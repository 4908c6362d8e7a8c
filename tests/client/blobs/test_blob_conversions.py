from __future__ import annotations

import importlib.util
import io
import sys
import types
from typing import Any

import numpy as np
import pytest

import fletching
from fletching.client.blobs.blob_conversions import encoded, is_encodable
from fletching.errors import UsageError


@pytest.fixture
def image_class(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a PIL image looks like from outside; the real one where it is installed."""
    if importlib.util.find_spec("PIL") is not None:
        real = importlib.import_module("PIL.Image")
        return lambda mode: real.new(mode, (2, 3))
    module = types.ModuleType("PIL.Image")

    class Image:
        def __init__(self, mode: str) -> None:
            self.mode = mode

        def save(self, file: Any, format: str) -> None:  # noqa: A002  # its own word
            file.write(
                {"PNG": b"\x89PNG\r\n\x1a\n", "TIFF": b"II*\x00"}[format] + self.mode.encode()
            )

    Image.__module__ = "PIL.Image"
    monkeypatch.setitem(sys.modules, "PIL.Image", module)
    return Image


@pytest.mark.parametrize(
    ("mode", "kind", "magic"),
    [
        ("RGB", "image/png", b"\x89PNG"),
        ("L", "image/png", b"\x89PNG"),
        ("RGBA", "image/png", b"\x89PNG"),
        ("CMYK", "image/tiff", b"II"),
        ("F", "image/tiff", b"II"),
    ],
)
def test_images_keep_their_values(image_class: Any, mode: str, kind: str, magic: bytes) -> None:
    image = image_class(mode)
    assert is_encodable(image)
    made = encoded(image)
    assert made is not None
    assert made[1] == kind
    assert bytes(made[0]).startswith(magic)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 5, 3), np.uint8),
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.array(7),
        np.zeros((0, 3)),
        np.arange(10)[::-2],
    ],
    ids=str,
)
def test_arrays_keep_shape_and_type(array: Any) -> None:
    made = encoded(array)
    assert made is not None
    assert made[1] == "application/x-npy"
    back = np.load(io.BytesIO(made[0]))
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


@pytest.mark.parametrize("array", [np.arange(9, dtype=np.uint8), np.arange(9, dtype=np.uint8)[::2]])
def test_bytes_in_an_array_are_contents(array: Any) -> None:
    made = encoded(array)
    assert made is not None
    assert (bytes(made[0]), made[1]) == (bytes(array.tolist()), None)


def test_what_is_neither_is_left_alone() -> None:
    for value in (b"x", "x", 7, None, io.BytesIO(b"x")):
        assert encoded(value) is None
        assert not is_encodable(value)
    with pytest.raises(UsageError, match="objects"):
        encoded(np.array([object()]))


def test_cells_take_them(client: fletching.Client, image_class: Any) -> None:
    table = client.create_table("t", "id BIGINT, image BLOB, more ARRAY<BLOB>")
    array = np.arange(12, dtype=np.int16).reshape(3, 4)
    table.append(
        [
            {"id": 1, "image": image_class("RGB"), "more": [array, b"plain"]},
            {"id": 2, "image": array, "more": None},
        ]
    )
    rows = table.to_table()
    png, npy = client.get_blobs(rows["image"])
    assert png is not None
    assert npy is not None
    assert (png.content_type, npy.content_type) == ("image/png", "application/x-npy")
    assert np.array_equal(np.load(io.BytesIO(npy.data)), array)
    first, second = client.get_blobs(rows["more"][0].values)
    assert first is not None
    assert second is not None
    assert np.array_equal(np.load(io.BytesIO(first.data)), array)
    assert second.data == b"plain"
    with table.write_session() as session:
        reference = session.put_blob(array, "image", content_type="application/mine")
    assert client.get_blob(reference).content_type == "application/mine"
