"""Where the project lives, which only whoever releases it knows: see docs/decisions.md."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from hatchling.metadata.plugin.interface import MetadataHookInterface

VARIABLE = "FLETCHING_REPOSITORY"


class Urls(MetadataHookInterface):
    """The project's addresses from that of its repository; none of them if it is not told."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Puts them into the metadata."""
        metadata["urls"] = addresses(os.environ.get(VARIABLE, ""))


def addresses(repository: str) -> dict[str, str]:
    """Those of a repository whose pages are laid out as most are."""
    if not repository:
        return {}
    parts = urlsplit(repository)
    if parts.scheme != "https" or not parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"{VARIABLE} is an https:// address, not {repository!r}")
    base = repository.rstrip("/")
    return {
        "Repository": base,
        "Issues": f"{base}/issues",
        "Documentation": f"{base}/tree/main/docs",
        "Changelog": f"{base}/blob/main/CHANGELOG.md",
    }
