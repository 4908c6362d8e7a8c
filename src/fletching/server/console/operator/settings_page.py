"""Every setting in force, where it came from, and what it would be otherwise."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import Any

from fletching.server.console.visit import Visit

__all__ = ["settings_page"]

_PASSWORD = re.compile(r"(?<=://)([^/@:]*):[^/@]*@")
_SECRET = re.compile(r"([?&][^=&]*(?:pass|secret|token|key)[^=&]*=)[^&]*", re.IGNORECASE)


async def settings_page(visit: Visit) -> None:
    """Answers with the settings of the service and of its engine; passwords in URLs are left out."""
    service = visit.service
    groups = (
        ("service", service.settings),
        ("engine", service.engine.context.settings),
    )
    seen: set[str] = set()
    settings: list[dict[str, Any]] = []
    for group, values in groups:
        for field in dataclasses.fields(values):
            if field.name in seen:
                continue  # the service's are handed on to its engine
            seen.add(field.name)
            value = getattr(values, field.name)
            default = None if field.default is dataclasses.MISSING else field.default
            variable = f"FLETCHING_{field.name.upper()}"
            origin = "default"
            if variable in os.environ:
                origin = f"environment ({variable})"
            elif value != default:
                origin = "option or file"
            settings.append(
                {
                    "group": group,
                    "name": field.name,
                    "value": _shown(value),
                    "default": _shown(default),
                    "origin": origin,
                    "unit": field.metadata.get("unit", ""),
                    "meaning": field.metadata.get("meaning", ""),
                }
            )
    wanted = visit.asked.get("q", "").casefold()
    data = {
        "q": visit.asked.get("q", ""),
        "settings": [
            each
            for each in settings
            if wanted in each["name"].casefold() or wanted in each["meaning"].casefold()
        ],
    }
    await visit.pages.show("settings", "Settings", data, at="settings", here="/settings")


def _shown(value: object) -> str:
    return "none" if value is None else _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1:***@", str(value)))
