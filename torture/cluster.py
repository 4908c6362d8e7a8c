"""The same campaign over PostgreSQL and S3: three servers behind a balancer, and parts that fail.

Beside the servers' deaths, and a network that fails: connections to the database are terminated, the
database is restarted or crashes, the object store is frozen for seconds, servers come and go.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

from tests.balancer import Balancer
from tests.postgresql import PostgresServer, admin
from tests.seaweedfs import BUCKET, SeaweedServer, environment

__all__ = ["SERVERS", "Accidents", "Parts", "parts"]

SERVERS = 3


class Parts:
    """A database and an object store of this run, which the environment leads to."""

    def __init__(self) -> None:
        self.database = PostgresServer()
        try:
            self.objects = SeaweedServer()
        except BaseException:
            self.database.close()
            raise

    def variables(self) -> dict[str, str]:
        """The environment of whoever opens the data set."""
        return {
            **environment(self.objects.url),
            "FLETCHING_CATALOG": self.database.url,
            "FLETCHING_OBJECTS": f"s3://{BUCKET}/torture",
            "FLETCHING_SERVER_KEY": secrets.token_hex(32),
        }

    def close(self) -> None:
        self.objects.close()
        self.database.close()


@contextlib.contextmanager
def parts() -> Iterator[Parts]:
    """Starts both, and lets this process's environment, and its children's, lead to them."""
    made = Parts()
    before = dict(os.environ)
    os.environ.update(made.variables())
    try:
        yield made
    finally:
        os.environ.clear()
        os.environ.update(before)
        made.close()


class Accidents:
    """What happens to the parts while servers live and die."""

    def __init__(self, made: Parts, seed: int) -> None:
        self._parts = made
        self._random = random.Random(f"{seed}/accidents")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.counts: Counter[str] = Counter()
        self.strange: list[str] = []
        self._kinds: list[tuple[str, Callable[[], None]]] = [
            ("database connections terminated", self._terminate),
            ("database connections terminated", self._terminate),
            ("database restarted", self._restart),
            ("database crashed", self._crash),
            ("object store frozen", self._freeze),
        ]

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._ended.wait(self._random.uniform(3.0, 9.0)):
                # In a short run, too, each kind comes once.
                done = [name for name, _ in self._kinds if self.counts[name]]
                left = [kind for kind in self._kinds if kind[0] not in done]
                name, happen = self._random.choice(left or self._kinds)
                happen()
                self.counts[name] += 1
        except Exception as error:
            self.strange.append(f"the accidents ended early: {error!r}")

    def _terminate(self) -> None:
        with admin(self._parts.database.url) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
            )

    def _restart(self) -> None:
        self._parts.database.stop()
        time.sleep(self._random.uniform(0, 1))
        self._parts.database.start()

    def _crash(self) -> None:
        self._parts.database.stop(signal.SIGQUIT)
        self._parts.database.start()

    def _freeze(self) -> None:
        self._parts.objects.signal(signal.SIGSTOP)
        try:
            time.sleep(self._random.uniform(0.5, 3.0))
        finally:
            self._parts.objects.signal(signal.SIGCONT)

    @property
    def complete(self) -> bool:
        """Whether every kind has happened."""
        return bool(self.strange) or all(self.counts[name] for name, _ in self._kinds)

    def end(self) -> None:
        """Lets what is under way end well."""
        self._ended.set()
        self._thread.join()

    def describe(self) -> list[str]:
        return [f"{name}: {count}" for name, count in self.counts.most_common()]


def balancer(ports: list[int]) -> Balancer:
    """The one address of all servers, those that are not there included."""
    return Balancer(ports)
