"""The options that every command about tables shares.

`placed` gives a command ``--at``, ``--project``, ``--access-key`` and ``--wait`` and hands it a
`Location`, so that all commands read them, and the environment, in the same way.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fletching.cli.location import Location
from fletching.errors import UsageError
from fletching.settings import StorageSettings, parse_setting

__all__ = [
    "Columns",
    "Filter",
    "JsonOutput",
    "OnlyPartition",
    "Overwrite",
    "Partitions",
    "Rows",
    "TableArgument",
    "TargetPartition",
    "Yes",
    "placed",
    "storage_options",
    "with_options",
]

JsonOutput = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
TableArgument = Annotated[str, typer.Argument(metavar="TABLE", help="The table's name.")]
Columns = Annotated[str, typer.Option("--columns", metavar="A,B", help="Only these columns.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace what is there instead of appending.")
]
Partitions = Annotated[
    list[str] | None,
    typer.Option("--partition", metavar="K=V", help="Only this partition; may be repeated."),
]
Filter = Annotated[
    str | None, typer.Option("--filter", metavar="SQL", help='A predicate: "id > 10".')
]
TargetPartition = Annotated[
    str | None, typer.Option("--partition", metavar="K=V", help="The partition to write to.")
]
OnlyPartition = Annotated[
    str | None, typer.Option("--partition", metavar="K=V", help="Only of this partition.")
]
Rows = Annotated[int, typer.Option("-n", "--rows", min=1, help="How many rows.")]

_At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="URL|FOLDER|PROFILE",
        help="A server's URL, a data folder to open without a server, or a profile of fletching "
        "login. [env var: FLETCHING_AT; default: the profile of the last login, else ./data]",
        show_default=False,
    ),
]
_Project = Annotated[
    str | None,
    typer.Option(
        "--project",
        metavar="NAME",
        help="The project to work in. [env var: FLETCHING_PROJECT; default: demo]",
        show_default=False,
    ),
]
_AccessKey = Annotated[
    str | None,
    typer.Option(
        "--access-key",
        metavar="ID:SECRET",
        help="The access key for a server; a folder needs none. [env var: FLETCHING_ACCESS_KEY]",
        show_default=False,
    ),
]
_Wait = Annotated[
    float | None,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        min=0,
        help="How long to wait for a server that is not there yet. [default: 3]",
        show_default=False,
    ),
]
_AccessKeyFile = Annotated[
    Path | None,
    typer.Option(
        "--access-key-file",
        metavar="FILE",
        help="A file with it, so that no secret is in the list of processes. "
        "[env var: FLETCHING_ACCESS_KEY_FILE]",
        show_default=False,
    ),
]
_OPTIONS = {
    "at": _At,
    "project": _Project,
    "access_key": _AccessKey,
    "access_key_file": _AccessKeyFile,
    "wait": _Wait,
}


def storage_options(*, hidden: bool) -> dict[str, Any]:
    """The options that say where a data set is, by parameter: a file, and each setting without secrets.

    Args:
        hidden: whether they are left out of a command's help, as where they are not its subject.
    """
    options: dict[str, Any] = {
        "config": Annotated[
            Path | None,
            typer.Option(
                "--config",
                metavar="FILE",
                help="A TOML file of settings. [env var: FLETCHING_CONFIG]",
                show_default=False,
                hidden=hidden,
            ),
        ]
    }
    for field in dataclasses.fields(StorageSettings):
        if field.name == "folder" or field.metadata["secret"]:
            continue
        flag = "--" + field.name.replace("_", "-")
        unit = field.metadata["unit"]
        kind: type = type(field.default) if field.default is not None else str
        options[field.name] = Annotated[
            kind | None,
            typer.Option(
                f"{flag}/--no-{flag[2:]}" if kind is bool else flag,
                metavar=None if kind is bool else "FILE" if unit == "path" else unit.upper(),
                help=f"{field.metadata['meaning']} [env var: FLETCHING_{field.name.upper()}]",
                show_default=False,
                hidden=hidden,
                # As everywhere else: sizes may carry KiB, MiB or GiB.
                parser=functools.partial(_whole_number, flag) if kind is int else None,
            ),
        ]
    return options


def _whole_number(flag: str, text: str) -> int:
    """The value of an option that is a setting.

    Raises:
        typer.BadParameter: it is no whole number.
    """
    try:
        value = parse_setting(flag, text, int)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from None
    assert isinstance(value, int)
    return value


def placed(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the shared options; it takes what they mean as its first argument, a `Location`."""
    signature = inspect.signature(command, eval_str=True)
    own = list(signature.parameters.values())[1:]
    storage = storage_options(hidden=True)

    @functools.wraps(command)
    def run(**words: Any) -> None:
        given_storage = {name: words.pop(name, None) for name in storage}
        command(
            Location(
                **{name: words.pop(name, None) for name in _OPTIONS}, storage_options=given_storage
            ),
            **words,
        )

    return with_options(run, signature, own, {**_OPTIONS, **storage})


def with_options(
    run: Callable[..., None],
    signature: inspect.Signature,
    own: Sequence[inspect.Parameter],
    options: Mapping[str, Any],
) -> Callable[..., None]:
    """Makes Typer see a command's ``own`` parameters, and ``options``, which are None by default."""
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in options.items()
    ]
    run.__signature__ = signature.replace(parameters=[*own, *shared])  # type: ignore[attr-defined]
    # Typer reads annotations from here where it does not take them from the signature.
    run.__annotations__ = {each.name: each.annotation for each in [*own, *shared]}
    return run
