from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

COMMAND = [sys.executable, "-c", "from fletching.cli.main import main; main()", "serve"]


@contextlib.contextmanager
def serving(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [*COMMAND, *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def stopped(process: subprocess.Popen[str]) -> str:
    """Drains the server; what it printed on stderr."""
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 0
    return err


def health(url: str) -> bytes:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=600)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().read()
    finally:
        connection.close()


def test_the_first_start_tells_a_new_key_and_the_second_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with serving(folder, "--port", 0, "--json") as process:
        assert process.stdout is not None
        message = json.loads(process.stdout.readline())
        assert health(message["url"]) == b'{"status":"ok"}'
        stopped(process)
    assert message["project"] == "demo"
    kept = folder / "access-key"
    assert kept.read_text() == f"{message['access_id']}:{message['access_key']}\n"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with serving(folder, "--port", 0, "--json") as process:
        assert process.stdout is not None
        again = json.loads(process.stdout.readline())
        stopped(process)
    assert again["access_id"] == message["access_id"]
    assert "access_key" not in again


def test_people_are_told_how_to_connect(tmp_path: Path) -> None:
    arguments = (tmp_path, "--port", 0, "--access-key", "me:sesame", "--project", "zoo")
    with serving(*arguments) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        url = first.split()[3].rstrip(",")
        assert health(url) == b'{"status":"ok"}'
        out = first
        while "Ctrl-C" not in out:
            out += process.stdout.readline()
        err = stopped(process)
    assert first == f"serving {tmp_path} on {url}, project zoo\n"
    assert f'odps.ODPS("me", "SECRET", project="zoo", endpoint="{url}/api")' in out
    assert f"{url}/healthz" in out
    assert "sesame" not in out + err
    assert "GET /readyz" in err
    assert "stopped" in err


@pytest.mark.parametrize("case", ["port", "folder", "key", "certificate", "setting"])
def test_what_cannot_be_served_is_one_sentence(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments: dict[str, tuple[list[object], int, str]] = {
            "port": ([folder, "--port", taken.getsockname()[1]], 1, "another process listens"),
            "folder": ([tmp_path / "file", "--port", 0], 1, "is a file, and no data folder"),
            "key": ([folder, "--port", 0, "--access-key", "nonsense"], 2, "id:secret"),
            "certificate": (
                [folder, "--port", 0, "--tls-certificate", tmp_path / "none.pem"],
                2,
                "certificate",
            ),
            "setting": ([folder], 2, "FLETCHING_MAX_BODIES"),
        }
        (tmp_path / "file").write_text("")
        if case == "setting":
            monkeypatch.setenv("FLETCHING_MAX_BODIES", "many")
        given, status, sentence = arguments[case]
        done = subprocess.run(
            [*COMMAND, *map(str, given)], capture_output=True, text=True, timeout=600, check=False
        )
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith("error: ")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
