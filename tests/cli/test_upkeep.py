"""``fletching verify | gc | compact`` over a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

import fletching
from fletching.cli.main import app
from fletching.engine.engine import Engine
from fletching.engine.upkeep.compaction_report import CompactionReport
from fletching.errors import IdentityError, NoSuchTableError, UsageError
from fletching.types import TableName


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with fletching.connect(str(tmp_path / "data"), project="demo", create=True) as client:
        table = client.create_table("t", pa.schema([("id", pa.int64())]))
        for number in range(3):
            table.append(pa.table({"id": pa.array([number], pa.int64())}))
    return tmp_path / "data"


def run(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def objects(folder: Path) -> list[Path]:
    return sorted((folder / "objects").rglob("*.arrow"))


def test_a_sound_folder_verifies(folder: Path) -> None:
    assert json.loads(run("verify", folder, "--last", "--json").stdout) is None
    result = run("verify", folder)
    assert result.exit_code == 0
    assert "3 objects" in result.stderr
    assert "nothing is wrong: 3 objects" in run("verify", folder, "--last").stderr
    assert isinstance(run("verify", folder, "--last", "--recount").exception, UsageError)
    document = json.loads(run("verify", folder, "--json").stdout)
    assert (document["objects"], document["damaged"]) == (3, [])
    assert document["bytes"] == sum(path.stat().st_size for path in objects(folder))


def test_damage_is_named_and_is_an_exit_code(folder: Path) -> None:
    path = objects(folder)[1]
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    result = run("verify", folder, "--json")
    assert result.exit_code == 3
    (damaged,) = json.loads(result.stdout)["damaged"]
    assert damaged["name"].endswith(path.name)
    people = run("verify", folder)
    assert people.exit_code == 3
    last = run("verify", folder, "--last", "--json")
    assert last.exit_code == 3
    assert path.name in json.loads(last.stdout)["problems"][0]
    assert "2 problems" in run("verify", folder, "--last").stderr
    assert "1 damaged" in people.stderr
    assert "CRC32C" in people.stdout.replace("\n", "")


def test_small_segments_are_merged(folder: Path) -> None:
    document = json.loads(run("compact", "--folder", folder, "--json").stdout)
    assert [(item["merged"], item["made"]) for item in document] == [(3, 1)]
    assert "nothing to merge" in run("compact", "t", "--folder", folder).stderr
    with fletching.connect(str(folder), project="demo", create=True) as client:
        assert client.table("t").scan().to_table()["id"].to_pylist() == [0, 1, 2]
    with pytest.raises(NoSuchTableError):
        CliRunner().invoke(
            app, ["compact", "none", "--folder", str(folder)], catch_exceptions=False
        )


def test_what_was_deleted_is_written_away(folder: Path) -> None:
    run("compact", "--folder", folder)
    with fletching.connect(str(folder), project="demo") as client:
        # One row of one of ten batches: too little for upkeep to do it by itself.
        parts = [pa.record_batch({"id": list(range(n, n + 10))}) for n in range(100, 200, 10)]
        client.table("t").append(pa.Table.from_batches(parts))
        client.table("t").delete("id = 150")
    before = set(objects(folder))
    assert "nothing to merge" in run("compact", "--folder", folder, "--min-segments", 9).stderr
    assert objects(folder) == sorted(before)
    document = json.loads(
        run("compact", "--folder", folder, "--min-segments", 9, "--purge", "--json").stdout
    )
    assert [(item["merged"], item["made"]) for item in document] == [(1, 1)]
    with fletching.connect(str(folder), project="demo") as client:
        assert client.table("t").count_rows() == 102


def test_a_purge_that_leaves_deleted_rows_is_an_exit_code(folder: Path) -> None:
    with fletching.connect(str(folder), project="demo") as client:
        table = client.table("t")
        table.append(pa.table({"id": pa.array([7, 8, 9], pa.int64())}))
        before = set(objects(folder))
        table.append(pa.table({"id": pa.array([17, 18, 19], pa.int64())}))
        (path,) = set(objects(folder)) - before
        table.delete("id IN (8, 18)")
    data = bytearray(path.read_bytes())
    data[-300] ^= 1
    path.write_bytes(data)
    result = run("compact", "--folder", folder, "--purge", "--json")
    assert result.exit_code == 3
    (report,) = json.loads(result.stdout)
    assert [Path(key).name for key in report["unpurged"]] == [path.name]
    people = run("compact", "t", "--folder", folder, "--purge")
    assert people.exit_code == 3
    assert f"{path.name} still has rows that were deleted" in " ".join(people.stderr.split())


def test_orphans_are_told_and_then_collected(folder: Path) -> None:
    import os

    table = objects(folder)[0].parent
    orphan = table / "0123456789ab-x-0.arrow"
    orphan.write_bytes(b"x" * 1000)
    os.utime(orphan, (0, 0))
    report = run("gc", folder, "--dry-run")
    assert "would go" in report.stderr
    assert orphan.exists()
    document = json.loads(run("gc", folder, "--json").stdout)
    assert [(item["kind"], item["bytes"]) for item in document["collected"]] == [("orphan", 1000)]
    assert not orphan.exists()
    assert "0 things" in run("gc", folder).stderr


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    for command in (
        ["verify", str(tmp_path)],
        ["gc", str(tmp_path)],
        ["compact", "--folder", str(tmp_path)],
    ):
        with pytest.raises(UsageError, match="no data folder"):
            CliRunner().invoke(app, command, catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []


def test_a_lost_catalog_is_said_and_adopted_only_by_a_person_who_says_so(folder: Path) -> None:
    for path in folder.glob("catalog.sqlite*"):
        path.unlink()
    before = sorted(path.name for path in folder.iterdir())
    for command in (["verify"], ["gc"], ["compact", "--folder"], ["keys", "list", "--folder"]):
        result = run(*command, folder)
        assert isinstance(result.exception, IdentityError), command
    assert sorted(path.name for path in folder.iterdir()) == before
    refused = CliRunner().invoke(app, ["adopt", str(folder)], input="n\n")
    assert refused.exit_code == 1
    assert not (folder / "catalog.sqlite").exists()
    assert run("adopt", folder, "--yes").exit_code == 0
    assert run("verify", folder).exit_code == 0
    assert run("gc", folder).exit_code == 0
    assert len(objects(folder)) == 3  # garbage now, but not yet for long


def test_reading_a_folder_of_something_else_makes_nothing_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").touch()
    for command in (["verify"], ["gc"], ["compact", "--folder"], ["keys", "list", "--folder"]):
        assert isinstance(run(*command, folder).exception, UsageError)
        assert isinstance(run(*command, tmp_path / "absent").exception, UsageError)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    assert not (tmp_path / "absent").exists()


def test_a_folder_whose_catalog_is_in_a_database(
    tmp_path: Path, postgresql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgresql.create(migrated=False)
    folder = tmp_path / "data"
    with (
        fletching.serve(folder, catalog=url, access_keys={"i": "s"}, access_log=False) as server,
        fletching.connect(server.url, project="demo", access_id="i", access_key="s") as client,
    ):
        table = client.create_table("t", "id BIGINT")
        table.append([{"id": 1}])
    before = sorted(path.name for path in folder.iterdir())
    for command in (["verify"], ["ls", "--at"], ["keys", "list", "--folder"]):
        assert "FLETCHING_CATALOG" in str(run(*command, folder).exception)
    monkeypatch.setenv("FLETCHING_CATALOG", url)
    assert "1 object" in run("verify", folder).stderr
    assert "t" in run("ls", "--at", folder).stdout
    assert run("keys", "list", "--folder", folder).exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == before


def test_an_unlikely_share_is_an_exit_code(folder: Path) -> None:
    table = next((folder / "objects" / "tables").iterdir())
    for number in range(20):
        (table / f"somebody-{number}.arrow").write_bytes(b"x")
        os.utime(table / f"somebody-{number}.arrow", (0, 0))
    result = run("gc", folder)
    assert result.exit_code == 1
    assert "unlikely share" in result.stderr
    assert json.loads(run("gc", folder, "--json").stdout)["refused"]
    assert run("gc", folder, "--force").exit_code == 0


def test_merged_key_runs_are_counted_for_people(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = CompactionReport(TableName("demo", "t"), key_runs=1200)
    monkeypatch.setattr(Engine, "compact", lambda _self, *_args, **_words: [report])
    result = run("compact", "--folder", folder)
    assert "demo.default.t: merged the key runs of 1,200 segments" in result.stderr
    assert "nothing to merge" not in result.stderr
