"""The rooms may import each other only along the arrows of docs/architecture.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "fletching"

GROUND = {"caller", "errors", "range_joining", "types", "_version"}
# Ground that only rooms with I/O may stand on: it can kill the process.
FAULTS = {"faultpoints"}
# What may be set, and where it is said.
SETTINGS = {"settings"}
# Ground with a thread in it, for the shells and the engine.
HASHING = {"hashing"}
PURE = {"ipc", "lz4stream", "wire", "protocol", "sql"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "caller": set(),
    "range_joining": set(),
    "_version": set(),
    "settings": {"errors"},
    "faultpoints": {"errors"},
    "hashing": set(),
    "types": {"errors"},
    "ipc": GROUND,
    "lz4stream": GROUND,
    "wire": GROUND,
    "protocol": GROUND | {"ipc", "lz4stream", "wire"},
    "sql": GROUND | {"ipc", "lz4stream", "wire", "protocol"},
    "catalog": GROUND | FAULTS | {"protocol"},
    "objects": GROUND | FAULTS,
    "engine": GROUND | FAULTS | SETTINGS | HASHING | PURE | {"catalog", "objects"},
    "server": GROUND | SETTINGS | PURE | {"engine"},
    "client": GROUND | HASHING | SETTINGS | PURE,
    "connectors": GROUND | PURE | {"client"},
    "aio": GROUND | {"client"},
    "testing": GROUND | PURE | {"catalog", "objects", "engine", "server", "client"},
    "__main__": {"cli"},
    "cli": GROUND
    | SETTINGS
    | PURE
    | {"catalog", "objects", "engine", "server", "client", "connectors"},
    # the package's front: names of DESIGN section 6, imported when they are used
    "": GROUND | PURE | {"server", "client"},
}
# The one module that may reach from the client into the engine.
EXCEPTIONS = {("client/transports/embedded/embedded_transport.py", "engine")}
FORBIDDEN_IN_PURE_ROOMS = {"asyncio", "socket", "threading", "time", "os", "logging"}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    package = ["fletching", *path.relative_to(SOURCE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            if module == "fletching":
                yield from (f"fletching.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    if len(parts) > 1:
        return parts[0]
    return "" if parts[0] == "__init__.py" else parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_rooms_import_only_along_the_arrows(path: Path) -> None:
    room = room_of(path)
    assert room in ALLOWED, f"{room} is not a room of docs/architecture.md"
    for name in imports(path):
        if not name.startswith("fletching."):
            continue
        target = name.split(".")[1]
        if target == room or target not in ALLOWED:
            continue
        if (path.relative_to(SOURCE).as_posix(), target) in EXCEPTIONS:
            continue
        assert target in ALLOWED[room], f"{path.relative_to(SOURCE)} imports {name}"


@pytest.mark.parametrize(
    "path",
    [p for p in modules() if room_of(p) in PURE],
    ids=lambda p: str(p.relative_to(SOURCE)),
)
def test_pure_rooms_touch_no_clock_thread_socket_or_system(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & FORBIDDEN_IN_PURE_ROOMS


def test_base_names_are_unique() -> None:
    names = [path.stem for path in modules() if path.stem != "__init__"]
    assert not sorted({name for name in names if names.count(name) > 1})


def test_no_module_needs_itself_to_be_imported() -> None:
    """Imports at the top of modules form no circle, not even with those for type checkers alone.

    Imports inside functions may: they delay work, and a module that a function imports need not know it.
    """
    graph = {name_of(path): needed_by(path) for path in modules()}
    finished: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in finished:
            return
        for other in sorted(graph[name] - {name}):
            visit(other, (*path, name))
        finished.add(name)

    for name in graph:
        visit(name, ())


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(("fletching", *(part for part in parts if part != "__init__")))


NAMES = {name_of(path) for path in modules()}


def needed_by(path: Path) -> set[str]:
    """The modules of ours that are imported while this one is."""
    needed = set()
    for node in at_top(ast.parse(path.read_text()), types=path.stem != "__init__"):
        if isinstance(node, ast.Import):
            needed |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                needed.add(inner if inner in NAMES else node.module)
    return needed & NAMES


def at_top(node: ast.AST, *, types: bool) -> Iterator[ast.AST]:
    """What stands outside functions: what runs when a module is imported, and what types need.

    A package shows names of its modules to type checkers that it imports when they are first used.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if not types and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from at_top(child, types=types)
