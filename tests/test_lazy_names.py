"""A lazily imported name must not turn into the module of the same name once that is loaded."""

from __future__ import annotations

import importlib
import types

import pytest

PACKAGES = ["fletching", "fletching.client", "fletching.server"]


@pytest.mark.parametrize("package", PACKAGES)
def test_names_stay_what_they_were(package: str) -> None:
    home = importlib.import_module(package)
    for name in home.__all__:
        first, second = getattr(home, name), getattr(home, name)
        assert first is second
        assert not isinstance(first, types.ModuleType), name
