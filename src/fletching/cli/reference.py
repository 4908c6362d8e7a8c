"""The command line's reference page, made from the commands themselves.

``python -m fletching.cli.reference > docs/cli.md`` writes it; a test fails when the page is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

from fletching.cli.command_group import app

__all__ = ["reference"]

COLUMNS = 80

_FRONT = """# Command line

Made by `python -m fletching.cli.reference`; do not edit by hand.

Results go to stdout, progress and diagnostics to stderr. On a terminal results are tables for people;
elsewhere they are tab-separated with a line of names, numbers as they are, `\\N` for null and `\\t`,
`\\n`, `\\\\` inside values, as PostgreSQL's COPY writes them. `--json` prints JSON for machines: rows as
JSON lines, one object each, with values that JSON lacks as text (bytes in base64, `"NaN"`).

`--at` takes a server's URL, a data folder or a profile. What is not said on the command line comes
from the environment, then from the profile, then from the default:

| option | environment | profile | default |
|---|---|---|---|
| `--at` | `FLETCHING_AT`, `FLETCHING_PROFILE` | of the last `fletching login` | `./data` |
| `--project` | `FLETCHING_PROJECT` | its project | `demo` |
| `--access-key`, `--access-key-file` | `FLETCHING_ACCESS_KEY`, `FLETCHING_ACCESS_KEY_FILE` | its key | |
| `--folder` of `keys` | `FLETCHING_FOLDER` | | what `--at` means |

Profiles are in `config.toml` of `FLETCHING_CONFIG_DIR`, else `$XDG_CONFIG_HOME/fletching`, else
`~/.config/fletching`. Nothing but `serve`, `create`, `put --create`, `blob put --create`, `bench` and
`quickstart` makes a data folder. A command gives up on a server that refuses connections after three
seconds; `--wait 60` waits for one that is being started.

| exit code | meaning |
|---|---|
| 0 | done, and all output was taken |
| 1 | the service, the data, the storage or the output refused |
| 2 | the command line cannot mean anything |
| 3 | a comparison or verification found a difference |
| 4 | the access key is not accepted: log in |
| 130 | interrupted |
| 141 | whoever read the output went away before its end |
"""


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, command
    # A group lists its commands without having imported them.
    for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
        yield from _commands(command.get_command(None, name), f"{path} {name}")


def reference() -> str:
    """The page as Markdown: each command's help at 80 columns."""
    root = typer.main.get_command(app)
    parts = [_FRONT]
    for path, command in _commands(root, "fletching"):
        context = command.make_context(
            path, [], resilient_parsing=True, terminal_width=COLUMNS, max_content_width=COLUMNS
        )
        parts.append(f"## {path}\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(reference())
