"""What holds for every test: loopback only, and the same examples again in continuous integration."""

from __future__ import annotations

import gc
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from tests.azurite import _azurite, azure
from tests.postgresql import _databases, postgresql, postgresql_catalog
from tests.seaweedfs import _s3_url, s3

__all__ = ["_azurite", "_databases", "_s3_url", "azure", "postgresql", "postgresql_catalog", "s3"]

# A shell without job control starts what it puts in the background with Ctrl-C ignored, and so does
# `nohup`: the tests of interrupts, and the programs they start, would wait for one that cannot come.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A run that must decide about a change draws the same examples each time; at a desk they vary.
# How long an example takes to draw is the machine's business, and no verdict.
ANY_PACE = [HealthCheck.too_slow]
settings.register_profile(
    "ci", derandomize=True, deadline=None, print_blob=True, suppress_health_check=ANY_PACE
)
settings.register_profile("desk", deadline=None, suppress_health_check=ANY_PACE)
settings.load_profile("ci" if os.environ.get("CI") else "desk")

# Tests start hundreds of interpreters. Where compiled modules are not kept, each of them compiles the
# whole package again, which takes longer than most of what is tested.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuses cases named by an address: two processes that share the tests would name them otherwise."""
    named = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if named:
        raise pytest.UsageError(f"cases that are named by where they lie in memory: {named[:5]}")


def pytest_collection_finish() -> None:
    """Has garbage looked for less often, and past the thousands of tests, which live to the end.

    It took a sixth of the processors' time otherwise, and up to a second each time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def _is_loopback(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket's path
    host = str(address[0])
    if host in {"", "localhost"}:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True, scope="session")
def _loopback_only() -> Any:
    """Refuses connections that would leave this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if not _is_loopback(address):
            raise AssertionError(f"a test tried to connect to {address}")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


# What pytest says of itself, and polars to its allocator when it is first imported.
OF_LIBRARIES = {"PYTEST_CURRENT_TEST", "_RJEM_MALLOC_CONF"}
LOGGERS = ("", "fletching", "uvicorn")
# SIGALRM is not among them: pytest-timeout takes it before a test and gives it back when one fails.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)


def _of_the_process() -> dict[str, Any]:
    """What a test shares with all that run after it in its process."""
    environment = {name: text for name, text in os.environ.items() if name not in OF_LIBRARIES}
    return {
        "the folder": Path.cwd(),
        "the environment": environment,
        "where logs go": [
            (logger.level, logger.propagate, list(logger.handlers))
            for logger in map(logging.getLogger, LOGGERS)
        ],
        "what signals do": [signal.getsignal(number) for number in SIGNALS],
    }


@pytest.fixture(autouse=True)
def _leaves_the_process_as_it_was(request: pytest.FixtureRequest) -> Iterator[None]:
    """Refuses what a test leaves behind: which tests follow it differs from run to run."""
    before = _of_the_process()
    yield
    after = _of_the_process()
    # Engines set handlers and variables for as long as a process lives, the first time that they are
    # used in it, and rely on them. Their tests have processes of their own.
    if after == before or request.node.get_closest_marker("engines"):
        return
    os.chdir(before["the folder"])
    os.environ.clear()
    os.environ.update(before["the environment"])
    for name, was in zip(LOGGERS, before["where logs go"], strict=True):
        logger = logging.getLogger(name)
        level, logger.propagate, logger.handlers = was
        logger.setLevel(level)
    for number, handler in zip(SIGNALS, before["what signals do"], strict=True):
        signal.signal(number, handler)
    changed = [name for name in before if after[name] != before[name]]
    raise AssertionError(f"the test changed {' and '.join(changed)} of its process for good")
