"""``make interop-types``: pyright reads what mypy reads of the front doors, and takes and refuses the same.

pyright comes from the npm registry into .interop/pyright; without Node and npm this is skipped, and says so.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".interop" / "pyright"
VERSION = "1.1.414"
FILES = ("tests/typing/front_doors.py", "tests/test_typing.py")


def main() -> int:
    """Installs pyright unless it is there, and runs it; its status."""
    if not shutil.which("node") or not shutil.which("npm"):
        print("interop-types: skipped, needs Node 14 or newer with npm", file=sys.stderr)
        return 0
    program = HOME / "node_modules" / ".bin" / "pyright"
    stamp = HOME / "installed.txt"
    if not stamp.exists() or stamp.read_text() != VERSION:
        print(f"interop-types: installing pyright {VERSION} into {HOME}", file=sys.stderr)
        HOME.mkdir(parents=True, exist_ok=True)
        quiet = ("--no-audit", "--no-fund", "--loglevel=error")
        subprocess.run(["npm", "install", *quiet, f"pyright@{VERSION}"], cwd=HOME, check=True)
        stamp.write_text(VERSION)
    config = HOME / "pyrightconfig.json"
    config.write_text(
        json.dumps(
            {
                "include": [f"../../{file}" for file in FILES],
                "extraPaths": ["../../src"],
                "pythonVersion": "3.11",
                # A line that must be refused says so by a comment; one that is not needed is an error.
                "reportUnnecessaryTypeIgnoreComment": "error",
            }
        )
    )
    command = [str(program), "--project", str(config), "--pythonpath", sys.executable]
    return subprocess.run(command, check=False, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
