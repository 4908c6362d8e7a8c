from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import fletching
from fletching.cli.main import app
from fletching.errors import NotFoundError, UsageError

FILES = {"a.png": b"picture", "docs/b.txt": b"text" * 1000, "docs/empty": b""}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["blob", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


@pytest.fixture
def at(tmp_path: Path) -> tuple[str, Path]:
    return "--at", tmp_path / "data"


def contents(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_a_folder_there_and_back(folder: Path, tmp_path: Path, at: Any) -> None:
    done = run("put", "pics", folder, "--create", *at)
    assert done.exit_code == 0, done.output
    assert "3 files" in done.stderr
    listed = run("ls", "pics", *at)
    assert "docs/b.txt" in listed.stdout
    assert "image/png" in listed.stdout
    assert "3 files" in listed.stderr
    done = run("get", "pics", tmp_path / "out", *at)
    assert done.exit_code == 0, done.output
    assert contents(tmp_path / "out") == FILES


def test_over_http(folder: Path, tmp_path: Path) -> None:
    with fletching.serve(tmp_path / "srv", port=0, access_keys={"k": "s"}) as server:
        at = ("--at", server.url, "--access-key", "k:s")
        assert run("put", "pics", folder, "--create", *at).exit_code == 0
        assert run("get", "pics", tmp_path / "out", *at).exit_code == 0
    assert contents(tmp_path / "out") == FILES


def test_for_machines(folder: Path, tmp_path: Path, at: Any) -> None:
    put = json.loads(run("put", "pics", folder, "--create", "--json", *at).stdout)
    size = sum(map(len, FILES.values()))
    assert (put["table"], put["files"], put["bytes"]) == ("pics", 3, size)
    rows = json.loads(run("ls", "pics", "--json", *at).stdout)
    assert [row["path"] for row in rows] == sorted(FILES)
    with fletching.connect(at[1], project="demo") as client:
        assert client.get_blob(rows[0]["reference"]).data == b"picture"
    received = json.loads(run("get", "pics", tmp_path / "out", "--json", *at).stdout)
    assert (received["files"], received["bytes"]) == (3, size)


def test_parts(folder: Path, tmp_path: Path, at: Any) -> None:
    run("put", "pics", folder, "--create", *at)
    run("put", "pics", folder / "a.png", "--overwrite", *at)
    assert json.loads(run("ls", "pics", "--json", *at).stdout)[0]["path"] == "a.png"
    run("put", "pics", folder, "--overwrite", *at)
    assert run("get", "pics", tmp_path / "out", "--filter", "size > 10", *at).exit_code == 0
    assert list(contents(tmp_path / "out")) == ["docs/b.txt"]
    again = run("get", "pics", tmp_path / "out", "--limit", 2, "--replace", *at)
    assert again.exit_code == 0


def test_refusals(folder: Path, tmp_path: Path, at: Any) -> None:
    assert isinstance(run("put", "pics", folder, *at).exception, UsageError)  # no folder yet
    with fletching.connect(at[1], create=True) as client:
        client.create_table("other", "id BIGINT")
    assert isinstance(run("put", "pics", folder, *at).exception, NotFoundError)
    assert isinstance(run("put", "pics", tmp_path / "none", "--create", *at).exception, UsageError)
    run("put", "pics", folder, "--create", *at)
    run("get", "pics", tmp_path / "out", *at)
    assert isinstance(run("get", "pics", tmp_path / "out", *at).exception, UsageError)
    assert isinstance(run("ls", "pics", "--column", "nope", *at).exception, UsageError)
