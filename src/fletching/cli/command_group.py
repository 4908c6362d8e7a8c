"""The commands and their summaries; a command's module is imported when that command is used."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, cast

import typer
from typer.core import TyperGroup

from fletching._version import __version__
from fletching.cli.output import printable
from fletching.settings import VARIABLES, check_environment

__all__ = ["COMMANDS", "Command", "app"]


class Command(NamedTuple):
    """Where a command is, and what the list of commands says of it."""

    name: str
    home: str
    """``module:attribute``, a function or a Typer application."""
    summary: str
    """The first sentence of its help, short enough for a line of 80 columns."""


# In the order a newcomer meets them.
COMMANDS = (
    Command(
        "quickstart",
        "quickstart.command:quickstart",
        "Move real tables over HTTP and compare them.",
    ),
    Command("serve", "serve:serve", "Serve a data folder over HTTP until it is stopped."),
    Command("login", "login:login", "Store a server's address and key as a profile."),
    Command("logout", "login:logout", "Delete a profile and its secret."),
    Command("status", "login:status", "Show the server and key in use, and whether it answers."),
    Command("console", "console:console", "Open the console of a server in a browser."),
    Command("create", "create:create", "Create a table."),
    Command("ls", "ls:ls", "List tables, or the partitions of one."),
    Command("show", "show:show", "Show a table's columns and figures."),
    Command("put", "put:put", "Write files into a table, all of them or nothing."),
    Command("get", "get:get", "Read a table into a file or a pipe."),
    Command("head", "head:head", "Print the first rows of a table."),
    Command("sql", "sql:sql", "Run SQL: queries, CREATE, INSERT, MERGE, ..."),
    Command("count", "count:count", "Count a table's rows."),
    Command("describe", "count:describe", "Summarise each column of a table."),
    Command("sample", "count:sample", "Print rows of a table drawn at random."),
    Command("copy", "copy_table:copy", "Copy a table, here or to another server."),
    Command("versions", "versions:versions", "List a table's versions, newest first."),
    Command("restore", "versions:restore", "Restore a table to an older version."),
    Command("tag", "tags:app", "Name versions of a table, so that they stay."),
    Command(
        "enforce-key", "versions:enforce_key", "Keep a declared primary key unique from now on."
    ),
    Command("changes", "versions:changes", "Print inserted and deleted rows."),
    Command("delete", "versions:delete", "Delete the rows for which a predicate is true."),
    Command("rename", "versions:rename", "Rename a table."),
    Command("drop", "drop:drop", "Drop a table, or one partition of it."),
    Command("blob", "blob:app", "Files as blobs: a folder becomes a table, and back."),
    Command("inspect", "inspect:inspect", "Show what is inside an Arrow IPC stream or file."),
    Command("verify", "upkeep:verify", "Prove every checksum of a data folder."),
    Command("gc", "upkeep:gc", "Delete objects that nothing needs any more."),
    Command("compact", "upkeep:compact", "Merge small segments."),
    Command("servers", "upkeep:servers", "List the servers of a data set and their state."),
    Command("maintain", "upkeep:maintain", "Run upkeep for servers that do not."),
    Command("migrate", "upkeep:migrate", "Migrate a catalog to this release."),
    Command("adopt", "upkeep:adopt", "Accept a data folder that lost a part, as it is."),
    Command("bench", "bench:bench", "Measure writing and reading a table."),
    Command("lz4", "lz4:app", "Compress and decompress streams of linked LZ4 blocks."),
    Command("keys", "keys:keys", "Manage the access keys of a data folder."),
)
_BY_NAME = {command.name: command for command in COMMANDS}
# Other names that people try; the list has one word per thing.
_BY_NAME["history"] = _BY_NAME["versions"]


_Context = Any
"""The parser's context, whose type is of the Typer that is installed."""


class _MistakeError(Exception):
    """What is used of the parser's complaints about words that it cannot take; it quotes them."""

    message: str


_MISTAKE = cast("type[_MistakeError]", typer.BadParameter.mro()[1])


@contextlib.contextmanager
def _words_spelt_out() -> Iterator[None]:
    """Spells out what is no text in the words that a mistake quotes, as `printable` does elsewhere."""
    try:
        yield
    except _MISTAKE as mistake:
        mistake.message = printable(mistake.message, lines=True)
        raise


class _Group(TyperGroup):
    """Lists the commands without importing them."""

    def parse_args(self, context: _Context, words: list[str]) -> list[str]:
        with _words_spelt_out():
            return super().parse_args(context, words)

    def invoke(self, context: _Context) -> object:
        with _words_spelt_out():
            return super().invoke(context)

    def list_commands(self, _context: _Context) -> list[str]:
        return [command.name for command in COMMANDS]

    def get_command(self, _context: _Context, name: str) -> Any:
        made = self.commands.get(name)
        if made is None and name in _BY_NAME:
            made = self.commands[name] = _made(_BY_NAME[name])
        return made

    def format_commands(self, _context: _Context, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(command.name, command.summary) for command in COMMANDS])

    def resolve_command(self, context: _Context, words: list[str]) -> Any:
        name = words[0]
        if not name.startswith("-") and name not in _BY_NAME:
            near = difflib.get_close_matches(name, _BY_NAME, n=1)
            hint = f"did you mean {near[0]}?" if near else "fletching --help lists the commands"
            context.fail(f"there is no command {name!r}; {hint}")
        return super().resolve_command(context, words)


def _made(command: Command) -> Any:
    module, _, attribute = command.home.partition(":")
    target = getattr(importlib.import_module(f"fletching.cli.{module}"), attribute)
    if not isinstance(target, typer.Typer):
        function, target = target, typer.Typer(add_completion=False, rich_markup_mode=None)
        target.command(name=command.name)(function)
    made = typer.main.get_command(target)
    made.name = command.name
    _read_numbers_strictly(made)
    return made


_NUMBERS = {
    "int": ("whole number", re.compile(r"[+-]?[0-9]+")),
    "float": ("number", re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")),
}
"""What a number is written as; Python's own ``int`` and ``float`` take ``1_0``, ``nan`` and more."""


class _Parameter(Protocol):
    """What is used of a parameter of Typer's."""

    process_value: Callable[[typer.Context, object], object]


def _read_numbers_strictly(command: object) -> None:
    for each in getattr(command, "commands", {}).values():
        _read_numbers_strictly(each)
    for parameter in getattr(command, "params", ()):
        if _type_name(parameter) in _NUMBERS:
            parameter.process_value = _checked(parameter, *_NUMBERS[_type_name(parameter)])


def _type_name(parameter: object) -> str:
    """Which type a parameter's text is read as, by Typer's own reading; else an empty text."""
    descriptor = getattr(parameter, "type_descriptor", None)
    if descriptor is None:  # Typer before 0.29
        name = getattr(getattr(parameter, "type", None), "name", "").partition(" ")[0]
        return "int" if name == "integer" else str(name)
    return (
        "" if descriptor.parameter_info.parser else getattr(descriptor.annotation, "__name__", "")
    )


def _checked(
    parameter: _Parameter, kind: str, written: re.Pattern[str]
) -> Callable[[typer.Context, object], object]:
    read = parameter.process_value

    def process_value(context: typer.Context, value: object) -> object:
        if isinstance(value, str) and not written.fullmatch(value):
            raise typer.BadParameter(f"{value!r} is not a {kind}.", ctx=context)
        return read(context, value)

    return process_value


app = typer.Typer(
    name="fletching",
    cls=_Group,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Tables and blobs over plain HTTP: verbatim, verified, exactly once.",
    epilog="Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 data differs or is damaged.",
)


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        sys.stdout.write(f"fletching {__version__}\n")
        raise typer.Exit
    _check_environment()


def _check_environment() -> None:
    """Refuses variables of our name that say nothing, before a command goes by others."""
    if not any(name.startswith("FLETCHING_") and name not in VARIABLES for name in os.environ):
        return
    from fletching.server.server_settings import ServerSettings

    check_environment(os.environ, ServerSettings.variables())
