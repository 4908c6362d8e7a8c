"""The command line's front: turns what ends a command into sentences and exit codes.

Imports nothing beyond the standard library and our errors, so that an installation without the
``[cli]`` extra can still say what is missing.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from fletching.cli.output import printable
from fletching.errors import (
    FletchingError,
    IdentityError,
    NoSuchProjectError,
    SignatureMismatchError,
    UnauthorizedError,
    UsageError,
)

__all__ = ["main", "run"]

OK, FAILED, USAGE, LOGIN, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 4, 130, 141
"""Exit codes; `fletching.cli.output.ExitCode` names them for the commands."""
STOPPED = frozenset({INTERRUPTED, 128 + signal.SIGTERM, 128 + signal.SIGHUP})
"""Those of commands that somebody has stopped."""

_FLUSH_SECONDS = 0.15
"""How long a command that was stopped waits for stdout to take what it has printed."""

_EXTRA_OF = {
    "alembic": "server",
    "duckdb": "sql",
    "cryptography": "server",
    "mako": "server",
    "obstore": "s3",
    "psycopg": "postgres",
    "rich": "cli",
    "sqlalchemy": "server",
    "sqlglot": "server",
    "typer": "cli",
    "uvicorn": "server",
}
"""Which extra brings a package that is not part of the base installation."""


def __getattr__(name: str) -> Any:
    """``app``, the commands as a Typer application; made when it is first asked for."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fletching.cli.command_group import app

    return app


def main() -> None:
    """Runs the command line; an error of ours is one sentence on stderr, never a traceback.

    Nothing counts as done before stdout has taken all that was written to it: a full disk or a
    closed pipe is noticed here at the latest, and is the command's failure.
    """
    _replace_closed_streams()
    if sys.stdout.isatty() and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr has it
    try:
        code = _run()
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code in STOPPED:
        # Whoever reads stdout may have stopped, too: nobody waits for that again.
        flushing = threading.Thread(target=_stdout_takes, daemon=True)
        flushing.start()
        flushing.join(_FLUSH_SECONDS)
        sys.exit(code)
    if not code:
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            code = PIPE_CLOSED
        except OSError as exc:
            _say(f"cannot write standard output: {exc.strerror or exc}")
            code = FAILED
    if code and not _stdout_takes():
        # What a failed flush left in the buffer would fail again when the interpreter ends.
        _drop_output()
    sys.exit(code)


def run() -> None:
    """`main` in a process of its own, which ends with it.

    Where pyarrow reads CSV or JSON, a thread of its may still wait for the next bytes of a pipe when the
    command has failed. If they come while the interpreter ends, that thread aborts the process: there is no
    interpreter then that it could hand them to, and no way to stop it before. So nothing is left to end.

    Nor is anything where somebody has stopped the command: what it had opened is closed by then, and taking
    the interpreter apart, with all that was imported, takes longer than everything before it.

    SIGTERM and SIGHUP stop it as Ctrl-C does: what is unfinished is taken back before it ends.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores one, and that stays
            signal.signal(number, _stop)
    try:
        main()
    except SystemExit as ended:
        reads_text = not {"pyarrow._csv", "pyarrow._json"}.isdisjoint(sys.modules)
        if ended.code in STOPPED or (ended.code and reads_text):
            sys.stderr.flush()
            os._exit(ended.code if isinstance(ended.code, int) else FAILED)
        raise
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)  # once more, while it was ending


def _stop(number: int, _frame: FrameType | None) -> None:
    """Leaves the command where it is, as by an exception of the main thread."""
    raise SystemExit(128 + number)


def _run() -> int:
    """The command's exit code."""
    stdout = sys.stdout
    try:
        from fletching.cli.command_group import app

        app()
    except SystemExit as ended:
        if sys.stdout is not stdout:
            # Typer met a closed pipe: it says so by replacing the stream and leaving with 1.
            sys.stdout = stdout
            return PIPE_CLOSED
        return ended.code if isinstance(ended.code, int) else OK if ended.code is None else FAILED
    except (UsageError, IdentityError) as exc:
        # Catalog, objects and key that do not belong together were named by somebody's settings, too.
        _say(exc)
        return USAGE
    except (SignatureMismatchError, UnauthorizedError) as exc:
        _say(exc)
        return LOGIN
    except FletchingError as exc:
        _say(exc)
        if isinstance(exc, NoSuchProjectError):
            sys.stderr.write(
                "hint: --project names another; a project comes with its first table, by put --create\n"
            )
        return FAILED
    except BrokenPipeError:
        # The reader of stdout went away (`| head`): nothing to say, and not all was written.
        return PIPE_CLOSED
    except ModuleNotFoundError as exc:
        package = (exc.name or "").partition(".")[0].lower()
        if package not in _EXTRA_OF:
            raise
        _say(
            f"this command needs {package}, which is not installed: "
            f"pip install 'fletching[{_EXTRA_OF[package]}]'"
            + (" 'fletching[server]'" if _EXTRA_OF[package] == "cli" else "")
        )
        return USAGE
    except UnicodeEncodeError as exc:
        cure = "" if exc.encoding == "utf-8" else "; PYTHONIOENCODING=utf-8 writes every text"
        _say(f"{exc.object[exc.start : exc.end][:20]!r} cannot be written as {exc.encoding}{cure}")
        return FAILED
    except io.UnsupportedOperation:
        _say("cannot write standard output: it is closed")
        return FAILED
    except OSError as exc:
        if exc.filename is None and exc.errno in _OUTPUT_FULL:
            # Files have names, and stores their own errors: this one is about stdout.
            _say(f"cannot write standard output: {exc.strerror or exc}")
            return FAILED
        where = f"{exc.filename}: " if exc.filename else ""
        _say(f"{where}{exc.strerror or exc}")
        return USAGE if exc.errno in _MISTAKES else FAILED
    return OK


_OUTPUT_FULL = {errno.ENOSPC, errno.EIO, errno.EBADF, errno.EDQUOT, errno.EFBIG}
_MISTAKES = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EEXIST}
"""What an operating system refuses because of the path that it was given."""


def _stdout_takes() -> bool:
    try:
        sys.stdout.flush()
    except OSError:
        return False
    return True


def _say(error: object) -> None:
    text = printable(f"error: {error}", lines=True)
    if sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        text = f"\x1b[31m{text}\x1b[0m"
    sys.stderr.write(text + "\n")


def _replace_closed_streams() -> None:
    """Gives the standard streams that were closed (``>&-``) a place that refuses what is written.

    Python has None in their place; and the next file or socket opened would take their number.
    """
    if sys.stdin is None:
        sys.stdin = _devnull("r")
    if sys.stdout is None:
        sys.stdout = _devnull("r")  # to read: writing is an error
    if sys.stderr is None:
        sys.stderr = _devnull("w")


def _devnull(mode: str) -> Any:
    return Path(os.devnull).open(mode, encoding="utf-8")  # lives as long as the process


def _drop_output() -> None:
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        return  # stdout is no file, as under a test: nothing is left in a buffer of the system


if __name__ == "__main__":
    main()
