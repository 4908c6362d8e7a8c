from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest
from tests.cli.conftest import run_at as run

import fletching
from fletching.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NoSuchTableError,
    NotFoundError,
    VersionNotFoundError,
)


@pytest.fixture
def at(tmp_path: Path) -> Path:
    with fletching.connect(tmp_path / "data", create=True) as client:
        table = client.create_table("t", "id BIGINT")
        table.append({"id": [1, 2]})
        table.append({"id": [3]})
    return tmp_path / "data"


def tags(at: Path) -> dict[str, int]:
    listed = json.loads(run(at, "tag", "list", "t", "--json").stdout)
    return {each["tag"]: each["version"] for each in listed}


def test_versions_get_names_and_lose_them(at: Path) -> None:
    assert tags(at) == {}
    assert run(at, "tag", "create", "t", "now").stderr == "now is version 2 of t\n"
    run(at, "tag", "create", "t", "first", 1)
    again = json.loads(run(at, "tag", "create", "t", "again", "first", "--json").stdout)
    assert again == {"table": "t", "tag": "again", "version": 1}
    late = dt.datetime.now(dt.UTC).isoformat()
    run(at, "tag", "create", "t", "first", late, "--replace")
    assert tags(at) == {"again": 1, "first": 2, "now": 2}
    assert run(at, "tag", "list", "t").stdout.splitlines() == [
        "tag\tversion",
        "again\t1",
        "first\t2",
        "now\t2",
    ]
    assert run(at, "count", "t", "--as-of", "again").stdout == "2\n"
    assert run(at, "tag", "delete", "t", "again").stderr == "t has no tag again any more\n"
    assert tags(at) == {"first": 2, "now": 2}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["create", "t", "first", 1], AlreadyExistsError),
        (["create", "t", "2026-01-31"], InvalidArgumentError),
        (["create", "t", "12"], InvalidArgumentError),
        (["create", "t", "new", 99], VersionNotFoundError),
        (["create", "t", "new", "nosuchtag"], VersionNotFoundError),
        (["create", "t", "new", "2001-01-01"], VersionNotFoundError),
        (["create", "u", "new"], NoSuchTableError),
        (["delete", "t", "nosuchtag"], NotFoundError),
        (["list", "u"], NoSuchTableError),
    ],
)
def test_what_cannot_be(at: Path, words: list[object], error: type[Exception]) -> None:
    run(at, "tag", "create", "t", "first")
    with pytest.raises(error):
        run(at, "tag", *words)
    assert tags(at) == {"first": 2}


def test_over_http(at: Path) -> None:
    with fletching.serve(at, port=0, access_keys={"k": "s"}) as server:
        key = ("--access-key", "k:s")
        run(server.url, "tag", "create", "t", "first", 1, *key)
        assert run(server.url, "tag", "list", "t", *key).stdout == "tag\tversion\nfirst\t1\n"
        run(server.url, "tag", "delete", "t", "first", *key)
    assert tags(at) == {}
