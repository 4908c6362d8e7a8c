"""The command line's reference page, made from the commands themselves.

``python -m fletching.cli.reference > docs/cli.md`` writes it; a test fails when the page is stale.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

__all__ = ["reference"]

COLUMNS = 80

_FRONT = """# Command line

Made by `python -m fletching.cli.reference`; do not edit by hand.

Results go to stdout, progress and diagnostics to stderr; `--json` prints JSON for machines. `--at`
takes a server's URL or a data folder; it, `--project` and `--access-key` can also be given by the
environment variables named beside them.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | the service, the data or the storage refused |
| 2 | the command line cannot mean anything |
| 3 | a comparison or verification found a difference |
| 130 | interrupted |
"""


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from _commands(child, f"{path} {name}")


def reference() -> str:
    """The page as Markdown: each command's help at 80 columns."""
    from fletching.cli.main import app

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
