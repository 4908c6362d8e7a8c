"""The server's lives: a process that has everything imported and forks a server when told to.

Reads lines ``start PORT FAULT SKEW`` (``-`` for no fault; by how many seconds its clock is off),
answers ``pid N`` and, once that server is dead, ``exit N``. Forking makes a life cost milliseconds
instead of a second of imports. Whoever started a process here takes it along when it dies.
"""

from __future__ import annotations

import ctypes
import dataclasses
import logging
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from fletching.engine.engine_settings import EngineSettings
from fletching.errors import StorageError
from fletching.server.server import Server
from fletching.server.server_settings import ServerSettings
from fletching.settings import environments_data_set

ACCESS_KEYS = {"torture": "torture-secret"}
SETTINGS = EngineSettings(
    maintenance_seconds=0.05,
    compact_min_segments=4,
    # Short, so that what nobody needs goes while the run lasts, and a mistake in "needs" shows.
    removed_seconds=1.0,
    retain_seconds=1.0,
    orphan_seconds=5.0,
    busy_timeout_seconds=5.0,
)
# A reader of the protocol never says that it is done, so its version stays for a session's life. Of a soak
# everything must have come and gone once within the ten minutes in which it may grow. Write sessions live for
# nearly as long, since on a machine that others use a whole soak may stand still for minutes.
SOAK_SETTINGS = dataclasses.replace(
    SETTINGS, read_session_seconds=60.0, write_session_seconds=480.0, blob_seconds=120.0
)
SOAK = "TORTURE_SOAK"
"""A variable of the environment: set for the processes of a soak."""

NOT_STARTED = 2
PR_SET_PDEATHSIG = 1


def data_set(folder: Path) -> tuple[Path | None, EngineSettings]:
    """What an engine of this run opens: the folder's ``data``, or what the environment says."""
    settings = SOAK_SETTINGS if SOAK in os.environ else SETTINGS
    storage = environments_data_set(os.environ)
    if storage is None:
        return folder / "data", settings
    where = EngineSettings.of(storage)
    return None, dataclasses.replace(
        settings,
        catalog_url=where.catalog_url,
        objects_url=where.objects_url,
        server_key=where.server_key,
    )


def die_with_parent() -> None:
    """Has the system kill this process when the one that started it is gone, however that ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def live(folder: Path, port: int, fault: str, skew: float) -> None:
    die_with_parent()
    true_time = time.time
    time.time = lambda: true_time() + skew  # type: ignore[assignment]  # a clock that is off
    os.environ["FLETCHING_CRASH_AT"] = "" if fault == "-" else fault
    logging.basicConfig(filename=folder / "server.log", level=logging.WARNING)
    settings = ServerSettings(port=port, drain_seconds=2.0, public_metrics=True)
    where, parts = data_set(folder)
    Server(where, ACCESS_KEYS, settings, parts).run()


def main() -> None:
    die_with_parent()
    folder = Path(sys.argv[1])
    for line in sys.stdin:
        _, port, fault, skew = line.split()
        child = os.fork()
        if child == 0:
            code = 0
            try:
                live(folder, int(port), fault, float(skew))
            except StorageError:
                # At the start a part was away, as it will be: whoever runs servers tries again.
                code = NOT_STARTED
            except BaseException:
                with (folder / "server.log").open("a") as log:
                    traceback.print_exc(file=log)
                code = 1
            os._exit(code)
        print("pid", child, flush=True)
        _, status = os.waitpid(child, 0)
        print("exit", os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
