"""docs/architecture.md: every hop of its two paths runs, in the order of the page, and its classes are as shown."""

from __future__ import annotations

import ast
import functools
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.client import Table

ROOT = Path(__file__).parent.parent
SOURCE = f"{ROOT / 'src' / 'fletching'}/"
HOP = re.compile(r"^\d+\. .*?`([a-z0-9_/]+\.py): ([\w.]+)`", re.MULTILINE)
SCHEMA = pa.schema([("x", pa.int64()), ("y", pa.string())])
ROWS = pa.table({"x": range(100_000), "y": ["a"] * 100_000}, schema=SCHEMA)

CALLS: dict[str, Callable[[Table], object]] = {
    "A batch, from `append` to the published segment": lambda table: table.append(ROWS),
    "A row group, from the segment to the reader's array": lambda table: list(
        table.scan().to_batches()
    ),
}


def path_of(title: str) -> list[list[tuple[str, str]]]:
    """The hops under a heading: those that follow each other, and beside which others run, in a list each."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = text.split(f"\n### {title}\n")[1].split("\n## ")[0].split("\n### ")[0]
    return [hops for part in section.split("\n\n") if (hops := HOP.findall(part))]


class Calls:
    """Notes which functions of ours run, each at its first call. Threads count that began under it."""

    def __init__(self) -> None:
        self.order: dict[tuple[str, str], int] = {}
        self.counts = False

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if self.counts and event == "call" and frame.f_code.co_filename.startswith(SOURCE):
            location = frame.f_code.co_filename.removeprefix(SOURCE), frame.f_code.co_qualname
            self.order.setdefault(location, len(self.order))


@pytest.fixture
def calls() -> Iterator[Calls]:
    calls, before = Calls(), sys.getprofile()
    threading.setprofile(calls)
    sys.setprofile(calls)
    yield calls
    sys.setprofile(before)
    threading.setprofile(None)


@pytest.mark.parametrize("title", CALLS)
def test_every_hop_runs_in_the_order_of_the_page(calls: Calls, title: str, tmp_path: Path) -> None:
    path = path_of(title)
    assert sum(map(len, path)) > 20
    with fletching.serve(tmp_path / "data", port=0) as server:
        access_id, access_key = server.access_key
        with fletching.connect(
            server.url, "demo", access_id=access_id, access_key=access_key, direct="never"
        ) as client:
            table = client.create_table("t", SCHEMA)
            table.append(ROWS)
            calls.counts = True
            CALLS[title](table)
            calls.counts = False
    missing = [hop for hops in path for hop in hops if hop not in calls.order]
    assert not missing, "these do not run any more"
    for hops in path:
        assert hops == sorted(hops, key=calls.order.__getitem__)


CLASS_BLOCKS = re.compile(r"```(?:text|python)\n(.*?)```", re.DOTALL)


def shown_classes() -> list[ast.ClassDef]:
    """The classes that the page shows in outline."""
    blocks = CLASS_BLOCKS.findall((ROOT / "docs" / "architecture.md").read_text())
    trees = [ast.parse(block) for block in blocks if re.search(r"^class ", block, re.MULTILINE)]
    return [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]


@functools.cache
def real_classes() -> dict[str, list[ast.ClassDef]]:
    """Every class of src by its name."""
    classes: dict[str, list[ast.ClassDef]] = {}
    for path in Path(SOURCE).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, []).append(node)
    return classes


def parameters(method: ast.FunctionDef) -> list[str]:
    return [each.arg for each in method.args.args + method.args.kwonlyargs]


def differences(shown: ast.ClassDef, real: ast.ClassDef) -> list[str]:
    """What of a shown class the real one lacks: methods, parameters, attributes."""
    methods = {node.name: node for node in real.body if isinstance(node, ast.FunctionDef)}
    attributes = {
        node.target.id
        for node in real.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    attributes |= {
        node.attr
        for node in ast.walk(real)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    }
    wrong = []
    for node in shown.body:
        if isinstance(node, ast.FunctionDef):
            if node.name not in methods:
                wrong.append(f"{shown.name}.{node.name} is gone")
                continue
            known = parameters(methods[node.name])
            wrong += [
                f"{shown.name}.{node.name} takes no {name}"
                for name in parameters(node)
                if name not in known
            ]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name = node.target.id
            if name not in attributes | methods.keys():
                wrong.append(f"{shown.name}.{name} is gone")
    return wrong


def test_classes_are_as_the_page_shows_them() -> None:
    """It shows them in outline: what it leaves out may be there, what it shows must be."""
    shown = shown_classes()
    assert len(shown) > 10
    for each in shown:
        found_in = [differences(each, real) for real in real_classes().get(each.name, [])]
        assert found_in, f"there is no class {each.name}"
        assert min(found_in, key=len) == []
