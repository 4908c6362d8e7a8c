"""lz4.stream as built into .interop/, beside the lz4 package that this environment has."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

BUILT = Path(__file__).resolve().parents[2] / ".interop" / "lz4stream"


def load() -> ModuleType | None:
    """The module, or None where `make interop-lz4` has not built it for this Python."""
    if "lz4.stream" in sys.modules:
        return sys.modules["lz4.stream"]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folder = BUILT / "lib" / version / "site-packages" / "lz4" / "stream"
    if not (folder / "__init__.py").exists():
        return None
    spec = importlib.util.spec_from_file_location(
        "lz4.stream", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["lz4.stream"] = module
    spec.loader.exec_module(module)
    return module
