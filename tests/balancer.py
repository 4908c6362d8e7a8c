"""What stands before several servers in tests: nginx with the configuration of ``deploy/``.

Where nginx is not installed, ``deploy/`` cannot be tried, and a small balancer of our own stands in for
tests that only need servers behind one address.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parent.parent
CONFIGURATION = ROOT / "deploy" / "nginx.conf"
START_SECONDS = 60.0


def nginx_program() -> str | None:
    """Where nginx is, if it is installed."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def configuration(port: int, servers: Sequence[int], folder: Path) -> str:
    """The configuration of ``deploy/`` for servers on ports of this machine."""
    text = CONFIGURATION.read_text()
    lines = "".join(f"        server 127.0.0.1:{server} max_fails=0;\n" for server in servers)
    text, count = re.subn(r"(?: *server fletching-\d:8787 max_fails=0;\n)+", lines, text)
    assert count == 1
    text, count = re.subn(r"listen 8080;", f"listen 127.0.0.1:{port};", text)
    assert count == 1
    return text.replace("/tmp/", f"{folder}/").replace(
        "worker_processes auto", "worker_processes 1"
    )


class Balancer:
    """One address for several servers, some of which may be away; closed by its own process id.

    Attributes:
        port: where it listens.
    """

    def __init__(self, servers: Sequence[int], *, own: bool = False) -> None:
        """Starts nginx, or where it is not installed, or with ``own``, ours."""
        self._folder = Path(tempfile.mkdtemp(prefix="fletching-balancer-"))
        self._folder.chmod(0o755)
        self._nginx = None if own else nginx_program()
        self.port = free_port()
        if self._nginx is None:
            command = [sys.executable, "-m", "tests.balancer", str(self.port), *map(str, servers)]
        else:
            (self._folder / "nginx.conf").write_text(
                configuration(self.port, servers, self._folder)
            )
            command = [self._nginx, *self._options, "-g", "daemon off; user root;"]
            if not _is_root():
                command[-1] = "daemon off;"
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=600).close()
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                message = self.check() if self._nginx else ""
                self.close()
                raise RuntimeError(f"the balancer did not start: {message}")
            time.sleep(0.02)

    @property
    def _options(self) -> list[str]:
        return ["-p", str(self._folder), "-c", str(self._folder / "nginx.conf"), "-e", "stderr"]

    def check(self) -> str:
        """What nginx says of its configuration; empty if all is well."""
        assert self._nginx is not None
        done = subprocess.run(
            [self._nginx, *self._options, "-t", "-q"], capture_output=True, text=True, check=False
        )
        return done.stderr if done.returncode or "warn" in done.stderr else ""

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def close(self) -> None:
        """Ends it at once; idempotent."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _is_root() -> bool:
    import os

    return os.geteuid() == 0


# --- ours, as a process ---


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


async def _balance(port: int, servers: Sequence[int]) -> None:
    turn = 0

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        nonlocal turn
        for _ in servers:
            turn += 1
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", servers[turn % len(servers)])
        return None

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await connect()
        if there is not None:
            await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))
            there[1].close()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_balance(int(sys.argv[1]), [int(each) for each in sys.argv[2:]]))
