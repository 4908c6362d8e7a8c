"""Servers that a whole run of tests shares: each held by a process of its own, its guard.

Whichever test process first needs such a server starts its guard, and the others find it by its
address file. The guard lives as long as the process that began the run (pytest, or the controller of
its workers), however that ends, and takes the server and its data with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

ROOT = Path(__file__).parent.parent


def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the processes of this run share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


def shared_address(folder: Path, name: str) -> str:
    """The address that the guard ``tests.<name>`` told, which is started if need be.

    Args:
        folder: shared by the run's processes.
        name: of the guard's module.

    Raises:
        RuntimeError: the server did not start; with its log.
    """
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        address = folder / f"{name}.address"
        if not address.exists():
            # Workers are children of the process that began the run.
            owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
            with (folder / f"{name}.log").open("w") as log:
                guard = subprocess.Popen(
                    [sys.executable, "-m", f"tests.{name}", str(owner)],
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                    text=True, start_new_session=True, cwd=ROOT,
                )  # fmt: skip
            assert guard.stdout is not None
            report = guard.stdout.readline().strip()
            guard.stdout.close()
            if not report:
                raise RuntimeError((folder / f"{name}.log").read_text()[-4000:])
            # Its guard is for the operating system to reap.
            guard.returncode = 0
            address.write_text(report)
        return address.read_text()


class Holdable(Protocol):
    """A server that runs from when it is made until it is closed."""

    @property
    def url(self) -> str:
        """Where it is."""

    def close(self) -> None:
        """Ends it and removes its data."""


def hold(kind: Callable[[], Holdable]) -> None:
    """What a guard does: makes the server, tells its address, and closes it when the owner is gone."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    server = kind()
    try:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        sys.stdout.close()
        with contextlib.suppress(ProcessLookupError):
            select.select([os.pidfd_open(int(sys.argv[1]))], [], [])
    finally:
        server.close()
