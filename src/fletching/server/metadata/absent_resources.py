"""What a project has none of: functions, resources, volumes, workflows, models.

Listings are empty pages and a name is an object that is not there, as clients expect of a project in
which nobody has made any. Making one is a method that is not allowed.
"""

from __future__ import annotations

from urllib.parse import unquote

from fletching.errors import MethodNotAllowedError, NotFoundError
from fletching.server.metadata.documents import element
from fletching.server.metadata.scope import Scope

__all__ = ["ABSENT", "no_models", "none_of_it", "not_there", "refuse"]

ABSENT = {
    "registration/functions": "Functions",
    "functions": "Functions",
    "resources": "Resources",
    "volumes": "Volumes",
    "xflows": "xflows",
    "offlinemodels": "OfflineModels",
    "onlinemodels": "OnlineModels",
    "models": "Models",
}
"""Paths below a project, and the root of an empty page of each."""


async def none_of_it(scope: Scope) -> None:
    """An empty page."""
    await scope.require_project()
    await scope.require_schema()
    root = ABSENT[_kind(scope)]
    await scope.reply(
        element(root, element("Marker", text=""), element("MaxItems", text=str(scope.max_items)))
    )


async def no_models(scope: Scope) -> None:
    """An empty page of the catalog service, which speaks JSON."""
    await scope.require_project()
    await scope.reply_json({"models": [], "nextPageToken": ""})


async def not_there(scope: Scope) -> None:
    """One of them.

    Raises:
        NotFoundError: always.
    """
    await scope.require_project()
    raise NotFoundError(f"project {scope.project} has no {_called(scope)} {scope.name[:100]}")


async def refuse(scope: Scope) -> None:
    """Makes or changes one.

    Raises:
        MethodNotAllowedError: always.
    """
    await scope.require_project()
    raise MethodNotAllowedError(
        f"there are no {_called(scope)} here: docs/conformance.md says why", allowed=["GET"]
    )


def _called(scope: Scope) -> str:
    """The kind, as people call it."""
    return _kind(scope).rpartition("/")[2]


def _kind(scope: Scope) -> str:
    below = unquote(scope.exchange.raw_path.partition("/projects/")[2].partition("/")[2])
    # Models of the catalog service are below a schema.
    result = (kind for kind in ABSENT if below == kind or below.startswith(f"{kind}/"))
    return next(result, "models")
