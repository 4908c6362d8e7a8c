"""The rooms may import each other only along the arrows of docs/architecture.md."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.folding import folded

SOURCE = Path(__file__).parent.parent / "src" / "fletching"

GROUND = {"caller", "errors", "human_figures", "range_joining", "types", "_version"}
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
    "human_figures": set(),
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
    "aio": GROUND | PURE | {"client"},
    "testing": GROUND | PURE | {"catalog", "objects", "engine", "server", "client"},
    "__main__": {"cli"},
    "cli": GROUND
    | SETTINGS
    | PURE
    | {"catalog", "objects", "engine", "server", "client", "connectors"},
    # the package's front: its public names, imported when they are used
    "": GROUND | PURE | {"server", "client"},
}
# The one module that may reach from the client into the engine.
EXCEPTIONS = {("client/transports/embedded/embedded_transport.py", "engine")}
# Inside sql: texts become trees, trees of filters and functions serve queries, and statements name all of them.
SQL_ROOMS: dict[str, set[str]] = {
    "parsing": set(),
    "predicates": {"parsing"},
    "functions": {"parsing"},
    "queries": {"parsing", "predicates", "functions"},
    "statements": {"parsing", "functions", "queries"},
}
FORBIDDEN_IN_PURE_ROOMS = {"asyncio", "socket", "threading", "time", "os", "logging"}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> Iterator[str]:
    package = ["fletching", *path.relative_to(SOURCE).parts[:-1]]
    result = import_statements(path)
    for node in result.run + result.types + result.inside:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
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


@folded("path", modules())
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


@folded("path", [p for p in modules() if room_of(p) in PURE])
def test_pure_rooms_touch_no_clock_thread_socket_or_system(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & FORBIDDEN_IN_PURE_ROOMS


# What the host's own clock is asked for where everything else goes by the catalog's.
HOST_CLOCK = {
    "catalog/database": "the catalog's clock, where it is a file of this host",
    "engine/start_checks": "the difference between both",
    "engine/query/sealed_connections": "the age of a folder of this host",
}


def test_the_catalog_and_the_engine_ask_no_clock_of_the_host() -> None:
    asking = {
        path.relative_to(SOURCE).with_suffix("").as_posix()
        for room in ("catalog", "engine")
        for path in (SOURCE / room).rglob("*.py")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute)
        and ast.unparse(node) in {"time.time", "time.time_ns", "dt.datetime.now", "dt.date.today"}
    }
    assert asking == HOST_CLOCK.keys()


def test_rooms_of_sql_import_only_along_their_arrows() -> None:
    for path in modules():
        if path.parent.parent == SOURCE / "sql":
            named = {
                name.split(".")[2] for name in imports(path) if name.startswith("fletching.sql.")
            }
            assert named <= SQL_ROOMS[path.parent.name] | {path.parent.name}, path


def test_base_names_are_unique() -> None:
    names = [path.stem for path in modules() if path.stem != "__init__"]
    assert not sorted({name for name in names if names.count(name) > 1})


def test_no_module_is_called_as_a_package_that_it_imports() -> None:
    """Those of engines are public names: `fletching.connectors.duckdb`."""
    for path in modules():
        if room_of(path) != "connectors":
            assert path.stem not in {name.split(".")[0] for name in imports(path)}, path


def test_the_page_of_decisions_names_every_module_of_reading() -> None:
    """It says why there are so many: one that is in no row of its table has no reason yet."""
    page = (SOURCE.parent.parent / "docs" / "decisions.md").read_text()
    names = {path.stem for path in (SOURCE / "engine" / "reading").glob("*.py")} - {"__init__"}
    assert not sorted(name for name in names if f"`{name}`" not in page)


def test_no_module_needs_itself_to_be_imported() -> None:
    """Imports form no circle, those inside functions and those for type checkers alone included."""
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
    """The modules of ours that this one imports anywhere; of a package, while it is imported itself."""
    result = import_statements(path)
    # A package shows names to type checkers that it imports when they are first used.
    return named_in(
        result.run if path.stem == "__init__" else result.run + result.types + result.inside
    )


def named_in(statements: Iterable[Import]) -> set[str]:
    """The modules of ours that statements import."""
    needed = set()
    for node in statements:
        if isinstance(node, ast.Import):
            needed |= {alias.name for alias in node.names}
        elif node.module is not None:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                needed.add(inner if inner in NAMES else node.module)
    return needed & NAMES


Import = ast.Import | ast.ImportFrom


class Imports(NamedTuple):
    """The imports of a module: those that run with it, those for type checkers, those inside functions."""

    run: list[Import]
    types: list[Import]
    inside: list[Import]


@functools.cache
def import_statements(path: Path) -> Imports:
    result = Imports([], [], [])

    def look(statements: Iterable[ast.AST], kind: list[Import]) -> None:
        for node in statements:
            if isinstance(node, Import):
                kind.append(node)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                look(node.body, result.inside)
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                look(ast.iter_child_nodes(node), result.types)
            elif not isinstance(node, ast.expr):
                look(ast.iter_child_nodes(node), kind)

    look(parsed(path).body, result.run)
    return result


SPARED_TIME = {
    ("fletching.cli.command_group", "fletching.server.server_settings"): "10 ms of each command",
}


def test_functions_import_modules_of_ours_to_spare_a_library() -> None:
    """Without that an import stands at the top, where it is seen. Packages give names on demand."""
    for path in modules():
        if path.stem == "__init__":
            continue
        importer = name_of(path)
        for name in sorted(named_in(import_statements(path).inside)):
            if (importer, name) not in SPARED_TIME:
                spared = libraries_of(name) - libraries_of(importer)
                assert spared, f"{importer} imports {name} inside a function, which spares nothing"


PATHS = {name_of(path): path for path in modules()}


def with_packages(name: str) -> set[str]:
    """A module, and the packages that are imported before it."""
    parts = name.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts) + 1)}


@functools.cache
def libraries_of(name: str) -> frozenset[str]:
    """The libraries of others that are imported with a module of ours."""
    seen: set[str] = set()
    result: set[str] = set()
    ahead = with_packages(name)
    while ahead:
        module = ahead.pop()
        seen.add(module)
        statements = import_statements(PATHS[module]).run
        for needed in named_in(statements):
            ahead |= with_packages(needed) - seen
        for node in statements:
            if isinstance(node, ast.Import):
                result |= {alias.name.partition(".")[0] for alias in node.names}
            elif node.module is not None:
                result.add(node.module.partition(".")[0])
    return frozenset(result - sys.stdlib_module_names - {"fletching"})


HOUSE_WORDS = {
    *("cycle", "facts", "found", "gate", "luck", "one", "place", "places", "said", "some"),
    *("told", "way", "ways"),
}
"""Names that tell a reader of Arrow or HTTP nothing: a row, a match, a message or an index has its own."""

NAMED_SO = {
    ("errors.py", "facts"): "public: what an error knows besides its message",
    ("protocol/http/error_codec.py", "facts"): "the same on the wire",
    (
        "protocol/codec/codec_requests.py",
        "place",
    ): "query, header or JSON, as the table of fields says",
    ("protocol/codec/request_tables.py", "Place"): "likewise",
    ("protocol/codec/request_tables.py", "places"): "likewise",
    ("catalog/upkeep_rows.py", "place"): "a column of the catalog",
    ("engine/upkeep/operations.py", "place"): "the same in a public answer",
}
"""Where such a word is the thing's name."""


def bound_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """What a module gives names to: variables, parameters, attributes, functions and classes."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name, node.lineno
            case ast.arg():
                yield node.arg, node.lineno
            case ast.Name(ctx=ast.Store()):
                yield node.id, node.lineno
            case ast.Attribute(ctx=ast.Store()):
                yield node.attr, node.lineno


@pytest.mark.parametrize("root", ["src/fletching", "tests"])
def test_names_are_the_field_s_and_not_the_house_s(root: str) -> None:
    folder = SOURCE.parent.parent / root
    wrong = [
        f"{path.relative_to(folder)}:{line} {name}"
        for path in sorted(folder.rglob("*.py"))
        for name, line in bound_names(parsed(path))
        if not name.isupper()
        and name.strip("_").lower() in HOUSE_WORDS
        and (path.relative_to(folder).as_posix(), name.strip("_")) not in NAMED_SO
    ]
    assert wrong == []


def test_a_cache_that_is_bounded_by_a_number_says_why() -> None:
    """Beside it, or in the line above: a number of large things is no bound of memory."""
    for path in modules():
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if "functools.lru_cache(" in line:
                assert "#" in line or "#" in lines[number - 1], f"{path.name}:{number + 1}"


LONG = 500


def test_a_long_module_says_why_it_is_long() -> None:
    """Above 500 lines a module has a sentence for it at its top; above 800 there is none."""
    for path in modules():
        lines = path.read_text().count("\n")
        if lines > LONG:
            docstring = ast.get_docstring(parsed(path)) or ""
            assert "long because" in " ".join(docstring.split()), f"{path} has {lines} lines"
            assert lines <= 800, f"{path} has {lines} lines"


FRONT_DOORS = (
    "__init__.py",
    "client/client.py",
    "client/stored_table.py",
    "client/changing_table.py",
    "client/call_options.py",
    "client/reading/scan.py",
    "server/server.py",
    "server/serving.py",
)
"""Where programs come in: `connect`, `serve`, `with_options`, and the classes that they give."""

MOST_LINES_OF_ANY = 150
"""Lines of src with the type Any: less than a third of the 483 that there were when it began to be taken out.

What is left is one alias or place for each thing that has many types by nature (a cell of a user's
data, a scope of ASGI, attributes of a request by name), what wraps other objects whatever they are
(`aio.pending_calls`), and keyword arguments that are handed on. Lower the number with the lines; it never grows.
"""


def lines_of_any(path: Path) -> set[int]:
    """Lines of code that say Any, imports and texts aside."""
    return {
        node.lineno
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Name) and node.id == "Any"
    }


def test_any_stays_rare() -> None:
    result = {path.relative_to(SOURCE).as_posix(): lines_of_any(path) for path in modules()}
    assert sum(map(len, result.values())) <= MOST_LINES_OF_ANY


@pytest.mark.parametrize("name", FRONT_DOORS)
def test_front_doors_have_no_any(name: str) -> None:
    tree = ast.parse((SOURCE / name).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            signature = [node.returns, *ast.walk(node.args)]
            message = [each for part in signature if part is not None for each in ast.walk(part)]
            assert not any(isinstance(each, ast.Name) and each.id == "Any" for each in message), (
                f"{node.name} of {name}"
            )


# Modules without a test file of their name, and why there can be none of use.
WITHOUT_BEHAVIOUR = {
    "client/transports/transport": "protocols alone: what keeps them is proven with each transport",
    "client/writing/commit_message": "a value of four fields",
    "engine/query/query_limits": "a value of four fields",
    "ipc/lowlevel": "names of other modules",
    "protocol/messages/changes": "values alone: the codec's tests send each of them",
    "protocol/messages/requests": "values alone: the codec's tests send each of them",
    "protocol/messages/responses": "values alone: the codec's tests send each of them",
    "server/auth/principal": "a value, made and looked at in authentication",
    "sql/statements/statement_kinds": "values alone: the tests of statements read each of them",
}


def test_every_module_has_the_test_file_of_its_name() -> None:
    """Each module is proven by a file of its own; the list above only becomes shorter."""
    tests = Path(__file__).parent
    named = {path.stem.removeprefix("test_") for path in tests.rglob("test_*.py")}
    modules_of_ours = {
        path.relative_to(SOURCE).with_suffix("").as_posix()
        for path in modules()
        if not path.stem.startswith("__")
        and path.stem != "_version"
        and "migrations" not in path.parts
    }
    without = {name for name in modules_of_ours if name.rpartition("/")[2].lstrip("_") not in named}
    assert sorted(without - WITHOUT_BEHAVIOUR.keys()) == [], (
        "modules without a test file of their name"
    )
    assert sorted(WITHOUT_BEHAVIOUR.keys() - without) == [], (
        "modules that have one now, or are gone: take them off the list"
    )


def test_classes_are_looked_at_by_one_thread() -> None:
    """msgspec looks at a class when values of it are first read; two threads that do so crash the process."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            called = ast.unparse(node.func)
            typed = any(word.arg == "type" for word in node.keywords)
            assert not (called in {"msgspec.json.decode", "msgspec.msgpack.decode"} and typed), (
                f"{path.name}:{node.lineno}: make a Decoder of the class where the module is imported"
            )
            # Its module makes a Decoder of each class that it converts to.
            assert called != "msgspec.convert" or path.name == "codec_admin.py", path
