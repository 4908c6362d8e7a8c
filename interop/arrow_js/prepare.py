"""Installs apache-arrow for Node from the npm registry into .interop/arrow-js. Run by `make interop-js`.

Without Node and npm nothing is installed, that is said, and the tests skip.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parents[2] / ".interop" / "arrow-js"
VERSION = "21.1.0"


def main() -> int:
    """Installs it unless it is there; 0 also where it cannot be."""
    if not shutil.which("node") or not shutil.which("npm"):
        print("interop-js: skipped, needs Node 18 or newer with npm", file=sys.stderr)
        return 0
    stamp = HOME / "installed.txt"
    if stamp.exists() and stamp.read_text() == VERSION:
        return 0
    print(f"interop-js: installing apache-arrow {VERSION} into {HOME}", file=sys.stderr)
    HOME.mkdir(parents=True, exist_ok=True)
    (HOME / "package.json").write_text('{"private": true, "type": "module"}\n')
    quiet = ("--no-audit", "--no-fund", "--loglevel=error")
    subprocess.run(
        ["npm", "install", *quiet, "--save-exact", f"apache-arrow@{VERSION}"], cwd=HOME, check=True
    )
    stamp.write_text(VERSION)
    return 0


if __name__ == "__main__":
    sys.exit(main())
