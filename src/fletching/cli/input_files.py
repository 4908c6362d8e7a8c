"""Files to read, from the names on a command line: folders are walked, and Hive keys in them kept.

A folder laid out as ``year=2024/month=01/part.parquet`` holds the values of two columns in its
names. They belong to every row of the file, as text, and are the table's partition columns.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from fletching.cli.tabular import SUFFIXES, is_tabular
from fletching.errors import UsageError

__all__ = ["InputFile", "input_files"]

_KEY = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


class InputFile(NamedTuple):
    """A file, and the columns that the folders around it name."""

    path: str
    keys: tuple[tuple[str, str], ...] = ()

    @property
    def key_names(self) -> tuple[str, ...]:
        """The names of those columns, in order."""
        return tuple(name for name, _ in self.keys)


def input_files(sources: Iterable[str], *, same_keys: bool = True) -> list[InputFile]:
    """The files that are meant, those of a folder in the order of their paths.

    Args:
        sources: names of files and folders; ``-`` is a pipe.
        same_keys: whether the folders of all must name the same keys, as those of one table do.

    In a folder, hidden files, those whose name starts with ``_`` (``_SUCCESS``, ``_metadata``) and
    those that hold no rows by their names are left out.

    Raises:
        UsageError: nothing there, or files whose folders name different keys.
    """
    result: list[InputFile] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            below = [InputFile(str(file), _keys(file)) for file in _walk(path)]
            if not below:
                raise UsageError(
                    f"{source} holds no Parquet, CSV, JSON lines or Arrow file "
                    f"({', '.join(sorted(SUFFIXES))}; text also .gz or .zst)"
                )
            result.extend(below)
        elif source == "-" or path.exists():
            result.append(InputFile(source))
        else:
            raise UsageError(f"there is no file {source}")
    for file in result[1:] if same_keys else ():
        if file.key_names != result[0].key_names:
            raise UsageError(
                f"the folders of {file.path} name {_described(file)}, and those of {result[0].path} "
                f"{_described(result[0])}: put them one after the other"
            )
    return result


def _described(file: InputFile) -> str:
    return ", ".join(file.key_names) or "no keys"


def _walk(folder: Path) -> list[Path]:
    result = []
    for location, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        for name in names:
            path = Path(location, name)
            if not name.startswith((".", "_")) and is_tabular(path) and path.is_file():
                result.append(path)
    return sorted(result)


def _keys(file: Path) -> tuple[tuple[str, str], ...]:
    """The unbroken run of ``key=value`` folders above a file."""
    keys: list[tuple[str, str]] = []
    for part in reversed(file.parts[:-1]):
        match = _KEY.fullmatch(part)
        if match is None:
            break
        value = unquote(match[2])
        if value == HIVE_NULL or not value:
            raise UsageError(
                f"{file} is of a partition without a value, and partition columns are never null: "
                "rename the folder"
            )
        keys.append((match[1], value))
    return tuple(reversed(keys))
