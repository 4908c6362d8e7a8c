"""Arrow IPC building blocks: walk, embed, project and open at random, zero-copy and safe on hostile bytes.

Usable without the rest of the package and without a server. Pure: nothing here opens a socket,
starts a thread or looks at a clock. See docs/ipc.md. What these functions are made of lies in
`fletching.ipc.lowlevel`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fletching.ipc.decoder import MessageDecoder
from fletching.ipc.embedding import (
    read_single,
    read_single_at,
    read_stream,
    read_stream_at,
    write_stream,
)
from fletching.ipc.file import ArrowFile, open_file
from fletching.ipc.file_writer import FileWriter
from fletching.ipc.inspection import inspect_bytes
from fletching.ipc.limits import Limits
from fletching.ipc.message import Message
from fletching.ipc.metadata import RecordBatchHeader
from fletching.ipc.projection import project
from fletching.ipc.recovery import recover
from fletching.ipc.sections import read_prefixed, read_prefixed_at, write_prefixed
from fletching.ipc.validation import validate
from fletching.ipc.walking import messages, read_message

__all__ = [
    "ArrowFile",
    "FileWriter",
    "Limits",
    "Message",
    "MessageDecoder",
    "RecordBatchHeader",
    "inspect_bytes",
    "messages",
    "open_file",
    "project",
    "read_message",
    "read_prefixed",
    "read_prefixed_at",
    "read_single",
    "read_single_at",
    "read_stream",
    "read_stream_at",
    "recover",
    "validate",
    "write_prefixed",
    "write_stream",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Names that stood here before they moved to `lowlevel`; type checkers refuse them."""
        if not name.startswith("_") and name != "lowlevel":
            from fletching.ipc import lowlevel

            if name in lowlevel.__all__:
                return getattr(lowlevel, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
