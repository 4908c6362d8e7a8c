"""``fletching keys`` over a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fletching.cli.main import app
from fletching.engine.engine import Engine
from fletching.errors import AlreadyExistsError, NotFoundError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Engine.open(tmp_path / "data").close()
    return tmp_path / "data"


def run(folder: Path, *words: str) -> Any:
    return CliRunner().invoke(app, ["keys", *words, "--folder", str(folder)])


def as_json(folder: Path, *words: str) -> Any:
    result = run(folder, *words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_key_is_made_listed_rotated_and_revoked(folder: Path) -> None:
    made = as_json(folder, "create", "ann-1", "--owner", "ann", "--grant", "read:demo.t*")
    assert made["access_id"] == "ann-1"
    listed = run(folder, "list")
    assert "ann-1" in listed.stdout
    assert made["access_key"] not in listed.stdout
    document = as_json(folder, "list")
    assert document["keys"][0]["state"] == "in use"
    assert made["access_key"] not in json.dumps(document)
    assert document["grants"] == [
        {"grantee": "ann-1", "permission": "read", "project": "demo", "table": "t*"}
    ]
    rotated = as_json(folder, "rotate", "ann-1")
    assert rotated["access_key"] != made["access_key"]
    assert run(folder, "revoke", "ann-1").exit_code == 0
    assert as_json(folder, "list")["keys"][0]["state"] == "revoked"


def test_secrets_are_shown_once_to_people_too(folder: Path) -> None:
    result = run(folder, "create", "x", "--sts")
    assert result.exit_code == 0
    assert "x:" in result.stdout
    assert "security token" in result.stdout
    assert "may do nothing yet" in result.stderr


def test_expiry_and_tokens(folder: Path) -> None:
    as_json(folder, "create", "x", "--grant", "admin", "--expires-in", "0s")
    assert as_json(folder, "list")["keys"][0]["state"] == "expired"
    token = as_json(folder, "token", "x", "--expires-in", "30m")
    assert token["access_id"] == "x"
    assert run(folder, "token", "x").stdout.strip() != ""


def test_grants_are_given_and_taken_back(folder: Path) -> None:
    assert run(folder, "grant", "team", "write:demo", "read").exit_code == 0
    grants = as_json(folder, "list")["grants"]
    assert {(g["permission"], g["project"], g["table"]) for g in grants} == {
        ("write", "demo", "*"),
        ("read", "*", "*"),
    }
    again = run(folder, "grant", "team", "read")
    assert "nothing to do" in again.stderr
    assert run(folder, "grant", "team", "read", "--take-back").exit_code == 0
    assert len(as_json(folder, "list")["grants"]) == 1


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("create", "x", "--grant", "rule"), UsageError),
        # A variable of a script that is empty does not stand for everything.
        (("create", "x", "--grant", "read:"), UsageError),
        (("grant", "x", "read:demo."), UsageError),
        (("grant", "x", "read:.t"), UsageError),
        (("create", "x", "--expires-in", "soon"), UsageError),
        (("create", "x", "--expires-in", "999999999d"), UsageError),  # lists could not show it
        (("create", "a:b"), UsageError),
        (("token", "nobody"), UsageError),
        (("revoke", "nobody"), NotFoundError),
        (("rotate", "nobody"), NotFoundError),
    ],
)
def test_what_cannot_be_done_is_said(
    folder: Path, words: tuple[str, ...], error: type[Exception]
) -> None:
    result = run(folder, *words)
    assert result.exit_code != 0
    assert isinstance(result.exception, error)
    assert as_json(folder, "list")["grants"] == []


def test_a_taken_id_and_a_missing_folder(folder: Path, tmp_path: Path) -> None:
    as_json(folder, "create", "x")
    assert isinstance(run(folder, "create", "x").exception, AlreadyExistsError)
    missing = run(tmp_path / "absent", "list")
    assert isinstance(missing.exception, UsageError)
    assert not (tmp_path / "absent").exists()
