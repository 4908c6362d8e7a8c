"""The environment variables that say something to Fletching. Others of its name are mistakes.

A setting that is misspelt, or that a release does not know, would else be ignored in silence: a server
told where its catalog is by a wrong name would begin a new one.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable

from fletching.errors import UsageError

__all__ = ["VARIABLES", "check_environment", "check_storage_variables"]

PREFIX = "FLETCHING_"
TESTS = "FLETCHING_TEST_"
_STORAGE = ("FLETCHING_CATALOG", "FLETCHING_OBJECT", "FLETCHING_SERVER_KEY")

VARIABLES = frozenset(
    {
        "FLETCHING_ACCESS_KEY",
        "FLETCHING_ACCESS_KEY_FILE",
        "FLETCHING_AT",
        "FLETCHING_CATALOG",
        "FLETCHING_COMMAND",
        "FLETCHING_CONFIG_DIR",
        "FLETCHING_CRASH_AT",
        "FLETCHING_FOLDER",
        "FLETCHING_OBJECTS",
        "FLETCHING_PROFILE",
        "FLETCHING_PROJECT",
        "FLETCHING_SERVER_ACCESS_KEY",
        "FLETCHING_SERVER_ACCESS_KEY_FILE",
        "FLETCHING_SERVER_KEY_FILE",
    }
)
"""All that are known but those of a server's settings, and of tests."""


def check_environment(names: Iterable[str], settings: Collection[str]) -> None:
    """Refuses variables that begin as ours and say nothing to this release.

    Args:
        names: of all variables.
        settings: the variables of a server's settings.

    Raises:
        UsageError: there is one; the message names it, and one that may have been meant.
    """
    known = VARIABLES | set(settings)
    for name in sorted(names):
        if name.startswith(PREFIX) and name not in known and not name.startswith(TESTS):
            raise _unknown(name, known)


def check_storage_variables(names: Iterable[str]) -> None:
    """The same of those alone that look as if they said where data is.

    Raises:
        UsageError: as above.
    """
    for name in sorted(names):
        if name.startswith(_STORAGE) and name not in VARIABLES:
            raise _unknown(name, VARIABLES)


def _unknown(name: str, known: Collection[str]) -> UsageError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return UsageError(f"the environment variable {name} is not known{hint}")
