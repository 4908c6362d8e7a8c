"""Writes docs/reference/errors.md: every error with its code, status, cause and cure.

``make docs`` runs it; tests/test_docs.py fails when the page is stale.
"""

from __future__ import annotations

import inspect
from pathlib import Path

from fletching import errors

PAGE = Path(__file__).parent / "reference" / "errors.md"
FRONT = """# Errors

Every error is a `fletching.FletchingError`. Its text says what failed, where, and what was expected;
facts (offsets, limits, the request id) are attributes. Made by `make docs` from the source; do not edit
by hand. [Troubleshooting](../troubleshooting.md) begins from what you see.
"""
SERVICE = """## Refused by the service

`ServiceError`: the reply has the code, a sentence and a request id. *Repeats* says whether the client
sends the same request again by itself.

| code | HTTP | Python | cause and cure | repeats |
|---|---|---|---|---|
"""
OTHERS = (
    (errors.TransportError, "## The exchange failed", "`TransportError`."),
    (errors.StorageError, "## Storage underneath", "`StorageError`."),
    (
        errors.WireError,
        "## Bytes that are not what they should be",
        "`WireError`: nothing of them was used.",
    ),
    (errors.ProtocolError, "## The order of calls", "`ProtocolError`."),
    (errors.UsageError, "## Calls that cannot mean anything", "`UsageError`, also a `ValueError`."),
)


def every(root: type[errors.FletchingError]) -> list[type[errors.FletchingError]]:
    """The class and all below it that are public here, in the order of the source."""
    found = [root, *root.__subclasses__()]
    for child in root.__subclasses__():
        found += every(child)
    lines = {
        cls: inspect.getsourcelines(cls)[1] for cls in found if cls.__module__ == errors.__name__
    }
    return sorted(lines, key=lambda cls: lines[cls])


def meaning(cls: type[errors.FletchingError]) -> str:
    """The first paragraph of the docstring, in one line."""
    return " ".join((inspect.getdoc(cls) or "").split("\n\n")[0].split()).replace("|", "\\|")


def page() -> str:
    """The whole page as Markdown."""
    parts = [FRONT, SERVICE.rstrip()]
    parts[1] += "\n" + "\n".join(
        f"| `{cls.default_code}` | {cls.default_status} | `{cls.__name__}` | {meaning(cls)} | "
        f"{'yes' if cls.retryable else ''} |"
        for cls in every(errors.ServiceError)
        if cls is not errors.ServiceError
    )
    for root, heading, text in OTHERS:
        rows = "\n".join(f"| `{cls.__name__}` | {meaning(cls)} |" for cls in every(root))
        parts.append(f"{heading}\n\n{text}\n\n| Python | cause and cure |\n|---|---|\n{rows}")
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
