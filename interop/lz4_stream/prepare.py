"""Builds what the lz4stream interop suite meets: lz4.stream itself, and a C program on liblz4.

Run by `make interop-lz4`. Everything goes into .interop/, apart from the project's environment.
On Debian or Ubuntu as root, a missing compiler or liblz4 header is installed with apt-get, and
said so; anywhere else its absence is said, and what to install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".interop" / "lz4stream"
PROGRAM = ROOT / ".interop" / "chained_blocks"
SOURCE = Path(__file__).with_name("chained_blocks.c")
LZ4_VERSION = "4.4.5"


def say(text: str) -> None:
    print(f"interop-lz4: {text}", file=sys.stderr)


def apt_install(*packages: str) -> bool:
    """Installs Debian packages where that is this machine's way and ours to do."""
    if os.geteuid() != 0 or not shutil.which("apt-get") or not Path("/etc/debian_version").exists():
        return False
    say(f"installing {' '.join(packages)} with apt-get")
    quiet = {
        "stdout": subprocess.DEVNULL,
        "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    }
    subprocess.run(
        ["apt-get", "update", "-qq", "-o", "DPkg::Lock::Timeout=120"], check=False, **quiet
    )
    return (
        subprocess.run(
            [
                "apt-get",
                "install",
                "-y",
                "-qq",
                "-o",
                "DPkg::Lock::Timeout=120",
                "--no-install-recommends",
                *packages,
            ],
            check=False,
            **quiet,
        ).returncode
        == 0
    )


def compiler() -> str:
    result = shutil.which("gcc") or shutil.which("cc")
    if result is None and apt_install("gcc", "libc6-dev"):
        result = shutil.which("gcc")
    if result is None:
        sys.exit(
            "interop-lz4: no C compiler found, and lz4.stream is only available as source. "
            "Install gcc (Debian: gcc libc6-dev; Fedora: gcc; macOS: the command line tools)."
        )
    return result


def build_lz4_stream() -> None:
    """Installs python-lz4 from its source distribution, with the sub-package its wheels lack."""
    if list(WORK.glob("lib/python*/site-packages/lz4/stream/_stream*")):
        return
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        sys.exit(
            f"interop-lz4: no Python.h for {sys.executable}: install Python's headers "
            "(Debian: python3-dev)."
        )
    say(f"building lz4.stream from the source of lz4 {LZ4_VERSION}")
    venv.create(WORK, with_pip=True, clear=True)
    subprocess.run(
        [
            WORK / "bin" / "python", "-m", "pip", "install", "--quiet",
            "--disable-pip-version-check", "--no-binary", "lz4", f"lz4=={LZ4_VERSION}",
        ],
        check=True,
        env={**os.environ, "PYLZ4_EXPERIMENTAL": "TRUE"},
    )  # fmt: skip


def build_program(cc: str) -> None:
    """Compiles the C peer; without liblz4's headers it is left out, and its tests say so."""
    if PROGRAM.exists() and PROGRAM.stat().st_mtime >= SOURCE.stat().st_mtime:
        return
    command = [cc, "-O2", "-Wall", "-Wextra", "-Werror", "-o", PROGRAM, SOURCE, "-llz4"]
    probe = [cc, "-E", "-x", "c", "-"]
    has_header = (
        subprocess.run(
            probe, input=b"#include <lz4.h>\n", capture_output=True, check=False
        ).returncode
        == 0
    )
    if not has_header and not apt_install("liblz4-dev"):
        say("liblz4's headers are missing (Debian: liblz4-dev): the C program's tests are skipped")
        return
    say("compiling the C peer")
    subprocess.run(command, check=True)


if __name__ == "__main__":
    cc = compiler()
    WORK.parent.mkdir(exist_ok=True)
    build_lz4_stream()
    build_program(cc)
