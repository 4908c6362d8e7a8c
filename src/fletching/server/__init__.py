"""The service: HTTP over the engine, and the server that runs it.

``serve`` starts a server in a background thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fletching.errors import MissingExtraError

if TYPE_CHECKING:
    from fletching.server.server import Server
    from fletching.server.server_settings import ServerSettings
    from fletching.server.serving import serve

__all__ = ["Server", "ServerSettings", "serve"]

_HOMES = {
    "Server": "fletching.server.server",
    "ServerSettings": "fletching.server.server_settings",
    "serve": "fletching.server.serving",
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: the package itself stays cheap to import."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(_HOMES[name]), name)
    except ModuleNotFoundError as exc:
        if (exc.name or "").startswith("fletching"):
            raise
        raise MissingExtraError(
            f"the service needs {exc.name}, which is not installed: pip install 'fletching[server]'"
        ) from exc
