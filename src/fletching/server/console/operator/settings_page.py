"""Every setting in force, where it came from, and what it would be otherwise."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from fletching.human_figures import human_bytes
from fletching.server.console.code_snippets import twin_code
from fletching.server.console.visit import Visit
from fletching.settings import without_secrets

__all__ = ["settings_page"]


async def settings_page(visit: Visit) -> None:
    """Answers with the settings of the service and of its engine; secrets are left out."""
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
            value, default = getattr(values, field.name), _default(field)
            origin = "default"
            if value != default:
                # The engine's names for where things are end in what they are.
                names = (field.name, field.name.removesuffix("_url"))
                known = [f"FLETCHING_{name.upper()}" for name in names]
                variable = next((each for each in known if each in os.environ), "")
                origin = f"environment ({variable})" if variable else "option or file"
            if not field.repr:
                # A secret: that there is one is all that is said.
                value = None if value is None else "***"
            elif field.name.endswith("_url") and value is not None:
                value = without_secrets(str(value))
            settings.append(
                {
                    "group": group,
                    "name": field.name,
                    "value": _shown(value),
                    "default": _shown(default),
                    "origin": origin,
                    "unit": field.metadata.get("unit", ""),
                    "shown": _for_people(value, field.metadata.get("unit", "")),
                    "shown_default": _for_people(default, field.metadata.get("unit", "")),
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
    code = twin_code(visit, "/settings")
    await visit.pages.show("settings", "Settings", data, at="settings", here="/settings", code=code)


def _default(field: dataclasses.Field[Any]) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _shown(value: object) -> str:
    return "none" if value is None else str(value)


def _for_people(value: object, unit: str) -> str:
    """A value with what it counts, where it counts something."""
    if value is None or isinstance(value, str):
        return _shown(value)
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (int, float)):
        if unit in {"", "port"}:
            return f"{value:.10g}" if isinstance(value, float) else str(value)
        number = f"{value:,.10g}" if isinstance(value, float) else f"{value:,}"
        if unit == "bytes" and value >= 10_000:
            return f"{number} bytes ({human_bytes(value)})"
        item = "process" if unit == "processes" else unit.removesuffix("s")
        return f"{number} {item if value == 1 else unit}"
    return str(value)
