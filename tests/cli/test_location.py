from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

import fletching
from fletching.cli.location import CONNECT_SECONDS, Location
from fletching.errors import ConnectError, UsageError


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AT", "PROJECT", "ACCESS_KEY", "ACCESS_KEY_FILE", "FOLDER"):
        monkeypatch.delenv(f"FLETCHING_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("at", "message"),
    [
        ("127.0.0.1:8787", "give http://127.0.0.1:8787"),
        ("localhost:8787", "give http://localhost:8787"),
        ("host:1/", "has no scheme"),
        ("http:/h", "give http://h for a server, or ./http:/h for a folder"),
        ("user@host:1", "give http://user@host:1"),
        ("127.0.0.1", "give http://127.0.0.1"),
        ("ftp://x", "ftp is not spoken"),
        ("s3://bucket/x", "s3 is not spoken"),
    ],
)
@pytest.mark.parametrize("create", [False, True])
def test_addresses_that_are_none_make_no_folder(
    tmp_path: Path, at: str, message: str, create: bool
) -> None:
    with pytest.raises(UsageError, match=message):
        Location(at).open(create=create)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_a_colon_in_its_name_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a:1").mkdir()
    assert not Location("./a:1").is_url
    assert not Location("a:1").is_url


def test_the_command_line_counts_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLETCHING_AT", "http://127.0.0.1:1")
    monkeypatch.setenv("FLETCHING_PROJECT", "zoo")
    assert (Location().at, Location().origin, Location().project) == (
        "http://127.0.0.1:1",
        "FLETCHING_AT",
        "zoo",
    )
    assert (Location("./x", "lab").at, Location("./x", "lab").project) == ("./x", "lab")


def test_what_works_on_a_folder_refuses_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLETCHING_AT", "http://127.0.0.1:1")
    with pytest.raises(UsageError, match=r"works on a data folder, and http.*FLETCHING_AT"):
        Location().folder()


def test_a_refused_connection_ends_within_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    started = time.process_time()
    with pytest.raises(ConnectError, match=r"no server at .*--wait"):
        Location(f"http://127.0.0.1:{port}", access_key="a:b", wait=0.3).open()
    assert time.process_time() - started < CONNECT_SECONDS  # it slept, and did not spin
    assert CONNECT_SECONDS < 5
    with pytest.raises(ConnectError, match="no server at"):
        Location("http://no.such.host.invalid:1", access_key="a:b").open()


def test_a_server_that_is_being_started_is_waited_for_and_its_key_read_then(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    key = tmp_path / "srv" / "access-key"
    location = Location(f"http://127.0.0.1:{port}", access_key_file=key, wait=60)
    opened: list[fletching.Client] = []
    waiting = threading.Thread(target=lambda: opened.append(location.open()))
    waiting.start()
    with fletching.serve(tmp_path / "srv", port=port) as server:
        waiting.join()
        with opened[0] as client:
            assert client.list_tables() == []
        assert key.read_text().startswith(server.access_key[0])


def test_keys_that_are_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UsageError, match="needs an access key"):
            Location(url).open()
        with pytest.raises(UsageError, match="--access-key is not of the form"):
            Location(url, access_key="nonsense").open()
        with pytest.raises(UsageError, match="cannot be read"):
            Location(url, access_key_file=Path("absent")).open()
