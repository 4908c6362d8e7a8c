"""The console's own files: known by name, addressed by content."""

from __future__ import annotations

import hashlib

import pytest

from fletching.server.console.static_files import _files, static_address, static_file


@pytest.mark.parametrize("name", sorted(_files()))
def test_each_file(name: str) -> None:
    file = static_file(name)
    assert file is not None
    assert file.body
    assert file.digest == hashlib.sha256(file.body).hexdigest()[:16]
    assert static_address(name) == f"/static/{name}?v={file.digest}"
    kind = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}[
        name.rpartition(".")[2]
    ]
    assert file.media_type.startswith(kind)


@pytest.mark.parametrize(
    "name", ["", "../rendering.py", "rendering.py", "nothing.js", "/etc/passwd"]
)
def test_there_are_no_others(name: str) -> None:
    assert static_file(name) is None
