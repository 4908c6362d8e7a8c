"""Writes docs/api.md: every public name with its signature and first sentence.

``make docs`` runs it; tests/test_exports.py fails when the page is stale.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "api.md"
MODULES = [
    "fletching",
    "fletching.errors",
    "fletching.types",
    "fletching.ipc",
    "fletching.ipc.lowlevel",
    "fletching.lz4stream",
    "fletching.wire.crc32c_blocks",
    "fletching.wire.blob_frames",
    "fletching.wire.content_coding",
    "fletching.client",
    "fletching.aio",
    "fletching.testing",
]
FRONT = """# Python API

Every public name; the docstrings in the source say units, ownership of buffers, errors and cost.
Made by `make docs`; do not edit by hand.
"""


def public_names(module: str) -> list[str]:
    """What a module offers: its ``__all__``, or its classes where it has none."""
    home = importlib.import_module(module)
    names = getattr(home, "__all__", None)
    if names is None:
        names = [
            name
            for name, value in vars(home).items()
            if inspect.isclass(value) and value.__module__ == module
        ]
    return sorted(names, key=str.lower)


def summary(value: Any) -> str:
    """The first sentence of a docstring, on one line, safe in a table cell."""
    text = inspect.getdoc(value) if callable(value) or inspect.ismodule(value) else ""
    first = (text or "").split("\n\n")[0].replace("\n", " ")
    return re.sub(r"(?<=[.:;]) .*", "", first).replace("|", "\\|").rstrip(":;") if first else ""


def kind(value: Any) -> str:
    """One word for the table."""
    if inspect.isclass(value):
        return "exception" if issubclass(value, BaseException) else "class"
    return "function" if callable(value) else "value"


def page() -> str:
    """The whole page as Markdown."""
    parts = [FRONT]
    for module in MODULES:
        home = importlib.import_module(module)
        rows = ["| name | | what it is |", "|---|---|---|"]
        for name in public_names(module):
            value = getattr(home, name)
            rows.append(f"| `{name}` | {kind(value)} | {summary(value)} |")
        parts.append(f"## {module}\n\n{summary(home)}\n\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
