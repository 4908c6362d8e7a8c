"""Several processes behind one port, so that Python's lock is no ceiling where there are cores.

Each process is a whole server over the same data set, as several servers of one folder are; the kernel
deals connections out among them (``SO_REUSEPORT``). This process serves nothing: it keeps the port, starts
the others, replaces one that dies, and ends them together. They live no longer than it does: each watches
a pipe that ends with this process, and drains then.

Requests of one client may come to any of them, so everything that they must agree about is in the catalog,
read sessions included. What bounds load and memory is divided; each counts its own metrics.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Self

from fletching import errors
from fletching.engine.engine_settings import EngineSettings
from fletching.errors import FletchingError, TransportError, UsageError
from fletching.server.logs import log_to
from fletching.server.server import Server, bind
from fletching.server.server_settings import ServerSettings
from fletching.server.signals import stopping_signals

__all__ = ["WorkerServer", "serve_as_worker", "share_of"]

START_SECONDS = 120.0
"""How long a process may take until it answers."""

QUICK_DEATH_SECONDS = 5.0
"""A process that ends sooner is not replaced at once, and not for ever."""

MOST_QUICK_DEATHS = 5

GRACE_SECONDS = 30.0
"""Beyond the time for draining, until a process that does not end is killed."""

_LOOK_SECONDS = 0.1

DIVIDED = (
    "max_connections",
    "max_bodies",
    "max_reads",
    "max_calls",
    "auth_failures",
    "sql_workers",
    "ingest_memory_bytes",
    "mapped_bytes",
    "call_threads",
    "bulk_threads",
)
"""Settings that bound the whole server."""

logger = logging.getLogger("fletching.server")


def share_of(settings: ServerSettings, number: int) -> ServerSettings:
    """The settings of process ``number``, counted from 0: its part of every limit, rounded up.

    The first one alone does the upkeep.
    """
    count = settings.workers
    parts = {name: -(-getattr(settings, name) // count) for name in DIVIDED}
    upkeep = settings.maintenance and number == 0
    return dataclasses.replace(settings, workers=1, maintenance=upkeep, **parts)


@dataclasses.dataclass(frozen=True)
class _Task:
    """What a process is told to serve."""

    path: str | Path | None
    access_keys: Mapping[str, str] | None
    settings: ServerSettings
    engine_settings: EngineSettings | None


class _Worker:
    """One process."""

    def __init__(self, task: _Task) -> None:
        self.started_at = time.monotonic()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from fletching.server import worker_processes as w; w.main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert self.process.stdin is not None
        # Over the pipe, so that no secret is in the list of processes.
        data = pickle.dumps(task)
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(len(data).to_bytes(8, "little") + data)
            self.process.stdin.flush()

    def wait_until_ready(self) -> dict[str, Any]:
        """What the process says once it answers.

        Raises:
            FletchingError: why it cannot serve.
            TransportError: it ended, or was not ready in time.
        """
        assert self.process.stdout is not None
        overdue = threading.Timer(START_SECONDS, self.process.kill)
        overdue.start()
        try:
            line = self.process.stdout.readline()
        finally:
            overdue.cancel()
        if not line:
            raise TransportError("a worker process ended before it answered")
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            kind = getattr(errors, message["error"], FletchingError)
            raise (
                kind(message["message"])
                if issubclass(kind, FletchingError)
                else FletchingError(message["message"])
            )
        return message

    def stop(self) -> None:
        """Lets it drain; returns at once."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def end(self, seconds: float) -> int:
        """Waits for its end, and ends it if that takes longer; its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
            logger.warning("worker process %d did not end in time: killed", self.process.pid)
            return code
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()


class WorkerServer(Server):
    """A server of several processes; used like a `Server`, but that its ``service`` is elsewhere.

    Attributes:
        pids: of the processes.
    """

    def __init__(
        self,
        path: str | Path | None,
        access_keys: Mapping[str, str] | None,
        settings: ServerSettings,
        engine_settings: EngineSettings | None = None,
    ) -> None:
        """Takes the port and starts the processes; they answer before ``start`` or ``run`` is called.

        Raises:
            UsageError: this system does not deal connections out.
            TransportError: the address cannot be listened on.
            FletchingError: why a process cannot serve.
        """
        if not sys.platform.startswith("linux"):
            raise UsageError("setting workers above 1 needs Linux, which deals connections out")
        # Alone at first: a port that others share would take a stranger's connections.
        with bind(settings) as alone:
            settings = dataclasses.replace(settings, port=alone.getsockname()[1])
        self._kept = bind(settings, shares=True, listens=False)
        self.port = settings.port
        self.settings = settings
        self._task = _Task(path, access_keys, settings, engine_settings)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: BaseException | None = None
        self._quick_deaths = 0
        self._workers: list[_Worker] = []
        try:
            # The first one makes what is not there: the folder, its key.
            self._workers.append(_Worker(self._task_of(0)))
            message = self._workers[0].wait_until_ready()
            self.access_keys: dict[str, str] = message["access_keys"]
            self.new_key = bool(message["new_key"])
            rest = [_Worker(self._task_of(number)) for number in range(1, settings.workers)]
            self._workers += rest
            for worker in rest:
                worker.wait_until_ready()
        except BaseException:
            self._end_workers()
            raise

    def _task_of(self, number: int) -> _Task:
        return dataclasses.replace(self._task, settings=share_of(self.settings, number))

    @property
    def pids(self) -> list[int]:
        """Of the processes that serve."""
        return [worker.process.pid for worker in self._workers]

    def run(self, announce: Callable[[], None] | None = None) -> None:
        """Watches the processes in this thread until SIGTERM or SIGINT, then lets them drain.

        Raises:
            TransportError: they die faster than they can be replaced.
        """
        try:
            with stopping_signals(self._stopping.set):
                if announce is not None:
                    announce()
                while not self._stopping.wait(_LOOK_SECONDS):
                    self._look()
        finally:
            self._end_workers()

    def _look(self) -> None:
        """Replaces a process that has died.

        Raises:
            TransportError: that has happened too often at once.
        """
        for number, worker in enumerate(self._workers):
            code = worker.process.poll()
            if code is None:
                continue
            worker.end(0)
            worker.stop()
            lived = time.monotonic() - worker.started_at
            logger.error("worker process %d ended (%d): it is replaced", worker.process.pid, code)
            if lived < QUICK_DEATH_SECONDS:
                self._quick_deaths += 1
                if self._quick_deaths > MOST_QUICK_DEATHS:
                    raise TransportError("the worker processes die as soon as they are started")
                if self._stopping.wait(QUICK_DEATH_SECONDS - lived):
                    return
            else:
                self._quick_deaths = 0
            self._workers[number] = _Worker(self._task_of(number))
            with contextlib.suppress(FletchingError):  # it is looked at again, and counted
                self._workers[number].wait_until_ready()

    def _end_workers(self) -> None:
        for worker in self._workers:
            worker.stop()
        until = time.monotonic() + self.settings.drain_seconds + GRACE_SECONDS
        for worker in self._workers:
            worker.end(max(until - time.monotonic(), 0.0))
        self._kept.close()

    def start(self) -> Self:
        """Watches the processes in a background thread."""
        self._thread = threading.Thread(
            target=self._run_aside, name="fletching-workers", daemon=True
        )
        self._thread.start()
        return self

    def close(self) -> None:
        """Drains and stops all processes; idempotent."""
        self._stopping.set()
        if self._thread is None:
            self._end_workers()
        else:
            self._thread.join()
            self._thread = None


def main() -> None:
    """What a worker process runs."""
    serve_as_worker(sys.stdin.buffer, sys.stdout)


def serve_as_worker(orders: IO[bytes], replies: IO[str]) -> None:
    """Serves what the orders say, and drains when they end.

    Args:
        orders: a length and a pickled task, from the process that started this one; then nothing.
        replies: told one line of JSON when requests are answered, or why they cannot be.
    """

    def tell(**message: object) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    length = int.from_bytes(orders.read(8), "little")
    task = pickle.loads(orders.read(length))  # noqa: S301  what our own parent sent
    log_to(None, task.settings.log_format)
    try:
        server = Server(
            task.path, task.access_keys, task.settings, task.engine_settings, shares_port=True
        )
    except FletchingError as error:
        tell(error=type(error).__name__, message=error.message)
        sys.exit(1)

    def watch() -> None:
        orders.read()
        server.close()

    threading.Thread(target=watch, name="fletching-parent", daemon=True).start()
    server.run(lambda: tell(access_keys=server.access_keys, new_key=server.new_key))
