"""Pictures and arrays as the contents of blobs, without a loss and without importing their libraries."""

from __future__ import annotations

import io
from typing import Any

from fletching.errors import UsageError

__all__ = ["encoded", "is_encodable"]

NPY = "application/x-npy"

_PNG_MODES = frozenset({"1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"})
"""What PNG keeps as it is; other modes (CMYK, floats) go into TIFF."""


def _is_of(value: object, library: str, name: str) -> bool:
    return any(
        cls.__module__.partition(".")[0] == library and cls.__name__ == name
        for cls in type(value).__mro__
    )


def is_encodable(value: object) -> bool:
    """Whether a value is a PIL image or a numpy array."""
    return _is_of(value, "PIL", "Image") or _is_of(value, "numpy", "ndarray")


def encoded(value: Any) -> tuple[Any, str | None] | None:
    """The bytes and the content type of an image or array; None for anything else.

    A PIL image becomes PNG, or TIFF where PNG would change its values. A numpy array of bytes in one
    dimension is contents already; any other becomes the ``.npy`` format, which keeps its shape and
    type (``numpy.load(io.BytesIO(blob.data))``).

    Raises:
        UsageError: an array of Python objects.
    """
    if _is_of(value, "PIL", "Image"):
        kind = "PNG" if value.mode in _PNG_MODES else "TIFF"
        file = io.BytesIO()
        value.save(file, format=kind)
        return file.getbuffer(), f"image/{kind.lower()}"
    if _is_of(value, "numpy", "ndarray"):
        if value.dtype == "uint8" and value.ndim == 1:
            return memoryview(value.tobytes() if not value.flags.c_contiguous else value), None
        import numpy as np

        file = io.BytesIO()
        try:
            np.save(file, value, allow_pickle=False)
        except ValueError as exc:
            raise UsageError("an array of Python objects cannot be the contents of a blob") from exc
        return file.getbuffer(), NPY
    return None
