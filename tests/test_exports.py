"""The public names: what the packages export is what the documentation lists, and all of it exists."""

from __future__ import annotations

import importlib
import runpy
from pathlib import Path

import pytest

GENERATOR = runpy.run_path(str(Path(__file__).parent.parent / "docs" / "generate_api.py"))

# Names that programs are told to rely on; removing one is a breaking change.
PROMISED = {
    "fletching": ["Blob", "FletchingError", "blob", "connect", "serve"],
    "fletching.ipc": [
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
    ],
    "fletching.lz4stream": [
        "LZ4StreamCompressor",
        "LZ4StreamDecompressor",
        "LZ4StreamError",
        "LZ4_MAX_INPUT_SIZE",
        "compress",
        "decompress",
        "open",
    ],
    "fletching.wire": ["blob_frames", "content_coding", "crc32c_blocks"],
    "fletching.wire.blob_frames": ["Decoder", "Encoder"],
    "fletching.wire.content_coding": ["Decoder", "Encoder"],
    "fletching.wire.crc32c_blocks": ["Decoder", "Encoder"],
    "fletching.client": [
        "ArrowReader",
        "ArrowWriter",
        "BlobDataIterator",
        "BlobStreamReader",
        "BlobStreamWriter",
        "StreamReader",
        "StreamWriter",
    ],
}


@pytest.mark.parametrize("module", PROMISED)
def test_promised_names_are_exported(module: str) -> None:
    exported = set(importlib.import_module(module).__all__)
    assert set(PROMISED[module]) <= exported


@pytest.mark.parametrize("module", GENERATOR["MODULES"])
def test_every_exported_name_exists(module: str) -> None:
    home = importlib.import_module(module)
    for name in GENERATOR["public_names"](module):
        assert getattr(home, name) is not None


def test_the_api_page_lists_what_is_exported() -> None:
    assert GENERATOR["PAGE"].read_text() == GENERATOR["page"](), "make docs writes it anew"


def test_the_page_of_ipc_names_all_of_it() -> None:
    page = (GENERATOR["PAGE"].parent / "ipc.md").read_text()
    names = importlib.import_module("fletching.ipc").__all__
    assert [name for name in names if f"`{name}`" not in page] == []
