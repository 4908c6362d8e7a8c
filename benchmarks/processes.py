"""Server processes of a run, and what they cost: CPU seconds, peak memory."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclasses.dataclass
class ServerProcess:
    """A child that serves until its standard input closes."""

    pid: int
    ready: dict[str, Any]


@contextlib.contextmanager
def server(kind: str, **arguments: Any) -> Iterator[ServerProcess]:
    """Runs ``benchmarks.servers`` for one kind of server."""
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.servers", kind, json.dumps(arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        line = child.stdout.readline()
        if not line:
            raise RuntimeError(f"the {kind} server did not start")
        yield ServerProcess(child.pid, json.loads(line))
    finally:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        child.stdout.close()


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, its threads included, those that ended too."""
    # The clock of another process (clock_getcpuclockid of POSIX, as Linux numbers them): /proc counts in steps
    # of 10 ms, and there are replies that take less.
    return time.clock_gettime((~pid << 3) | 2)


def own_cpu_seconds() -> float:
    """The same for this process, exactly."""
    return time.process_time()


def reset_peak(pid: int) -> None:
    """Starts a new peak of resident memory; does nothing where the kernel refuses."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid: int) -> int:
    """Peak resident memory since `reset_peak`, mapped files included."""
    return _status(pid, "VmHWM")


def anonymous_bytes(pid: int) -> int:
    """Resident memory that is the process's own: without the pages of mapped files."""
    return _status(pid, "RssAnon")


def _status(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    return 0
