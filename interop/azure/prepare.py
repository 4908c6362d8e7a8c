"""Installs Azurite from the npm registry into .interop/azurite. Run by `make test-cluster`.

Without Node and npm nothing is installed, that is said, and the tests that want it skip.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[2] / ".interop" / "azurite"
VERSION = "3.37.0"


def main() -> int:
    """Installs it unless it is there; 0 also where it cannot be."""
    if not shutil.which("node") or not shutil.which("npm"):
        print("azure: skipped, needs Node 20 or newer with npm", file=sys.stderr)
        return 0
    stamp = HOME / "installed.txt"
    if stamp.exists() and stamp.read_text() == VERSION:
        return 0
    print(f"azure: installing Azurite {VERSION} into {HOME}", file=sys.stderr)
    HOME.mkdir(parents=True, exist_ok=True)
    (HOME / "package.json").write_text('{"private": true}\n')
    # Its packages need not run anything to be installed.
    quiet = ("--no-audit", "--no-fund", "--loglevel=error", "--ignore-scripts")
    subprocess.run(
        ["npm", "install", *quiet, "--save-exact", f"azurite@{VERSION}"], cwd=HOME, check=True
    )
    stamp.write_text(VERSION)
    return 0


if __name__ == "__main__":
    sys.exit(main())
