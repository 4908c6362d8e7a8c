"""Where commands write: stdout, or a file that takes its name only when everything is in it."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from fletching.errors import UsageError

__all__ = ["is_free", "may_write", "writing"]


def is_free(target: str) -> bool:
    """Whether nothing is where ``target`` is to be written that would have to be replaced."""
    return target == "-" or not Path(target).is_file()


def may_write(target: str, *, replace: bool) -> bool:
    """Whether ``target`` may be written, asked before any work is done for it.

    A file that is there is replaced only if ``--replace``, or whoever sits at the terminal, says so.

    Returns:
        whether an existing file may be replaced; what `writing` takes.

    Raises:
        UsageError: it may not, or it is a folder, or its folder is not there.
    """
    if target == "-":
        return True
    path = Path(target)
    if path.is_dir():
        raise UsageError(f"cannot write {target}: it is a folder")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {target}: there is no folder {path.parent}")
    if replace or is_free(target):
        return replace
    if sys.stdin.isatty() and sys.stderr.isatty():
        sys.stderr.write(f"{target} exists. Replace it? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() in {"y", "yes"}:
            return True
        raise UsageError(f"{target} is kept as it is")
    raise UsageError(f"{target} exists: --replace replaces it")


@contextlib.contextmanager
def writing(target: str, *, replace: bool) -> Iterator[IO[bytes]]:
    """Opens ``-`` (stdout) or a file for bytes.

    A file is written beside its place and takes its name at the end of the block; when the block
    raises, nothing is left of it and what was there before still is. A device or a named pipe keeps
    its identity and is written as it stands. Stdout is flushed, so that a failure shows here.

    Raises:
        UsageError: the file appeared meanwhile, and ``replace`` was not given.
        OSError: as the operating system says, from the block or at its end.
    """
    if target == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    # What a link points to is replaced, and not the link.
    path = Path(os.path.realpath(target))
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    unfinished = path.with_name(f".{path.name[:200]}.{secrets.token_hex(6)}.part")
    try:
        with unfinished.open("xb") as file:
            yield file
        if replace:
            unfinished.replace(path)
        else:
            _name_unless_taken(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _name_unless_taken(unfinished: Path, path: Path) -> None:
    try:
        os.link(unfinished, path)
    except FileExistsError:
        raise UsageError(f"{path} appeared meanwhile, and is kept") from None
    except OSError:
        # A file system without links: whoever makes the file between these two lines loses it.
        if path.exists():
            raise UsageError(f"{path} appeared meanwhile, and is kept") from None
        unfinished.replace(path)
