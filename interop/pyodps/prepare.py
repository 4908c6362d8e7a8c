"""Installs each PyODPS version into an environment of its own under .interop/, from the registry.

Run by `make interop-pyodps`. Nothing in PyODPS is changed; the environments share nothing with the
project's own, so that the clients meet the service over HTTP only.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ("0.13.2", "0.13.1", "0.12.5.1")
# pyarrow and the compressors at the versions that the project is tested with.
SHARED = ("pyarrow", "numpy", "pandas", "zstandard", "lz4", "pytest", "pytest-timeout")
# What PyODPS itself can work with: its dialect is for SQLAlchemy before 2.1.
OTHERS = ("sqlalchemy<2.1", "ipython<9", "setuptools<81", "python-snappy")


def pinned() -> list[str]:
    """The shared packages as the project pins them."""
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, separator, version = line.partition("==")
        if separator:
            pins[name.strip().lower()] = version.strip()
    return [f"{name}=={pins[name]}" if name in pins else name for name in SHARED] + [*OTHERS]


def prepare(version: str) -> None:
    """Makes one environment, unless it is there."""
    home = ROOT / ".interop" / f"pyodps-{version}"
    wanted = [f"pyodps=={version}", *pinned()]
    stamp = home / "installed.txt"
    if stamp.exists() and stamp.read_text().split() == wanted:
        return
    print(f"interop-pyodps: installing PyODPS {version} into {home}", file=sys.stderr)
    venv.EnvBuilder(with_pip=True, clear=True).create(home)
    subprocess.run(
        [
            home / "bin" / "python",
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            *wanted,
        ],
        check=True,
    )
    stamp.write_text("\n".join(wanted))


if __name__ == "__main__":
    for each in VERSIONS:
        prepare(each)
