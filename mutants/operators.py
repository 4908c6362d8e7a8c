"""The changes that a campaign makes: each turns one place of a module into what a slip would write.

A mutation is named by where it stands (``module:function:operator:text``), not by its line, so that
its name outlives edits elsewhere in the module.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
# What says something to a person and decides nothing, and the points at which only tests stop or kill:
# changing it changes no behaviour worth a test.
SILENT_CALLS = {"debug", "info", "warning", "error", "exception", "log", "append_note", "add_note"}
SILENT_CALLS |= {"reach"}


@dataclasses.dataclass(frozen=True, slots=True)
class Mutation:
    """One changed place: its name, the line it stands on, what stands there and what would."""

    name: str
    line: int
    lines: range
    before: str
    after: str
    module_source: str
    path: Path
    change: Change

    @property
    def source(self) -> str:
        """The module's source with the change made."""
        tree = ast.parse(self.module_source)
        _put(tree, self.path, self.change(_at(tree, self.path)))
        return ast.unparse(ast.fix_missing_locations(tree))


def mutations(module: str, source: str) -> Iterator[Mutation]:
    """Yields every mutation of a module's source, in the order of its lines.

    Docstrings, annotations, type aliases and ``if TYPE_CHECKING`` blocks are left alone.
    """
    tree = ast.parse(source)
    taken: dict[str, int] = {}
    for path, node, operator, change in _sites(tree):
        before = ast.unparse(node)
        replacement = change(copy.deepcopy(node))
        after = "nothing" if isinstance(replacement, ast.Pass) else ast.unparse(replacement)
        name = f"{module}:{_function_of(tree, path)}:{operator}:{before[:60]}"
        taken[name] = taken.get(name, 0) + 1
        if taken[name] > 1:
            name += f"#{taken[name]}"
        first = getattr(node, "lineno", 0)
        lines = range(first, (_test_end(node) or first) + 1)
        yield Mutation(name, first, lines, before, after, source, path, change)


Path = tuple[tuple[str, int | None], ...]
Change = Callable[[ast.AST], ast.AST]


def _sites(tree: ast.Module) -> Iterator[tuple[Path, ast.AST, str, Change]]:
    for path, node in _walk(tree, ()):
        if _is_size(tree, path):
            continue
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            other = COMPARISONS[type(node.ops[0])]
            yield path, node, "compare", functools.partial(_compared, other=other)
        elif isinstance(node, ast.Compare):
            for place, operator in enumerate(node.ops):
                other = COMPARISONS[type(operator)]
                yield (
                    path,
                    node,
                    f"compare{place}",
                    functools.partial(_compared, other=other, place=place),
                )
        elif isinstance(node, ast.BoolOp):
            yield path, node, "and-or", _other_junction
            for place in range(len(node.values)):
                yield path, node, f"drop{place}", functools.partial(_without, place=place)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield path, node, "not", lambda n: n.operand  # type: ignore[attr-defined]
        elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
            if not _is_text(node):
                yield path, node, "arithmetic", _other_arithmetic
        elif isinstance(node, ast.If):
            yield path, node, "never", functools.partial(_test, value=False)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            if _called(node.value) not in SILENT_CALLS:
                yield path, node, "skip", lambda _: ast.Pass()
        elif isinstance(node, ast.AugAssign) or (
            isinstance(node, ast.Raise) and node.exc is not None
        ):
            yield path, node, "skip", lambda _: ast.Pass()
        elif isinstance(node, ast.Constant) and type(node.value) is int and node.value > 1:
            yield path, node, "constant", lambda n: ast.Constant(n.value + 1)  # type: ignore[attr-defined]


def _is_size(tree: ast.AST, path: Path) -> bool:
    """How much a module takes at a time (``SIZE = 8 << 20``): half or twice as much is a cost."""
    if [field for field, _ in path[:2]] != ["body", "value"]:
        return False
    value = _at(tree, path[:2])
    return isinstance(value, ast.BinOp) and isinstance(value.op, ast.LShift)


def _walk(node: ast.AST, path: Path) -> Iterator[tuple[Path, ast.AST]]:
    for field, value in ast.iter_fields(node):
        if field in {"annotation", "returns", "type_params", "decorator_list"}:
            continue
        children = value if isinstance(value, list) else [value]
        for place, child in enumerate(children):
            if not isinstance(child, ast.AST):
                continue
            here = (*path, (field, place if isinstance(value, list) else None))
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.JoinedStr):
                continue
            yield here, child
            yield from _walk(child, here)


def _at(tree: ast.AST, path: Path) -> ast.AST:
    node = tree
    for field, place in path:
        value = getattr(node, field)
        node = value if place is None else value[place]
    return node


def _put(tree: ast.AST, path: Path, new: ast.AST) -> None:
    field, place = path[-1]
    parent = _at(tree, path[:-1])
    if place is None:
        setattr(parent, field, new)
    else:
        getattr(parent, field)[place] = new


def _test_end(node: ast.AST) -> int | None:
    """The last line of what is changed: an `if` is changed in its condition alone."""
    return getattr(node.test if isinstance(node, ast.If) else node, "end_lineno", None)


def _function_of(tree: ast.AST, path: Path) -> str:
    names = []
    node = tree
    for field, place in path:
        value = getattr(node, field)
        node = value if place is None else value[place]
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
    return ".".join(names) or "<module>"


def _compared(node: ast.AST, other: type[ast.cmpop], place: int = 0) -> ast.AST:
    assert isinstance(node, ast.Compare)
    node.ops[place] = other()
    return node


def _other_junction(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.BoolOp)
    node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    return node


def _without(node: ast.AST, place: int) -> ast.AST:
    assert isinstance(node, ast.BoolOp)
    del node.values[place]
    return node.values[0] if len(node.values) == 1 else node


def _other_arithmetic(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.BinOp)
    node.op = ARITHMETIC[type(node.op)]()
    return node


def _test(node: ast.AST, *, value: bool) -> ast.AST:
    assert isinstance(node, ast.If)
    node.test = ast.Constant(value)
    return node


def _is_text(node: ast.BinOp) -> bool:
    return any(
        isinstance(side, ast.JoinedStr)
        or (isinstance(side, ast.Constant) and isinstance(side.value, str | bytes))
        for side in (node.left, node.right)
    )


def _called(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
