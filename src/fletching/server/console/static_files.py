"""The console's own files: style sheet, scripts, pictures. Small, few, read once."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
from typing import NamedTuple

__all__ = ["StaticFile", "static_address", "static_file"]

_TYPES = {
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class StaticFile(NamedTuple):
    """A file as it is sent."""

    body: bytes
    media_type: str
    digest: str


@functools.cache
def _files() -> dict[str, StaticFile]:
    result: dict[str, StaticFile] = {}
    for entry in importlib.resources.files("fletching.server.console").joinpath("static").iterdir():
        kind = entry.name.rpartition(".")[2]
        if kind in _TYPES:
            body = entry.read_bytes()
            result[entry.name] = StaticFile(
                body, _TYPES[kind], hashlib.sha256(body).hexdigest()[:16]
            )
    return result


def static_file(name: str) -> StaticFile | None:
    """A file by its name; None if there is none."""
    return _files().get(name)


def static_address(name: str) -> str:
    """The path of a file below ``/console``; it changes with the file, so browsers may keep what they have."""
    return f"/static/{name}?v={_files()[name].digest}"
