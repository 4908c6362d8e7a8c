"""What a streaming query has left open on this host is known to its next run, and to nobody else."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from fletching.client import Client
from fletching.errors import FletchingError, UsageError

pytest.importorskip("pyspark", minversion="4.0")

from fletching.connectors.spark_sinks import JobSink, OpenEpochs

pytestmark = [pytest.mark.engines, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))


def options(**more: str) -> dict[str, str]:
    return {"at": "http://x", "project": "demo", "path": "t", "checkpointlocation": "/c", **more}


def test_sessions_are_noted_by_query() -> None:
    mine, other = OpenEpochs(options()), OpenEpochs(options(checkpointlocation="/d"))
    mine.add("one")
    mine.add("two")
    other.add("three")
    assert OpenEpochs(options()).sessions() == ["one", "two"]
    mine.remove("one")
    assert mine.sessions() == ["two"]
    mine.remove("two")
    assert (mine.sessions(), other.sessions()) == ([], ["three"])


def test_without_a_checkpoint_nothing_is_noted(tmp_path: Path) -> None:
    nameless = OpenEpochs({"path": "t"})
    nameless.add("one")
    assert nameless.sessions() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "{", "{}", "[1, null]", '"x"', "\x00"])
def test_a_broken_file_is_as_none(tmp_path: Path, text: str) -> None:
    epochs = OpenEpochs(options())
    epochs.add("one")
    (file,) = tmp_path.rglob("*.json")
    file.write_text(text)
    assert epochs.sessions() == []
    epochs.add("two")
    assert json.loads(file.read_text()) == ["two"]


def test_a_folder_of_others_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / f"fletching-spark-{os.getuid()}"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    with pytest.raises(UsageError, match="not this user's alone"):
        OpenEpochs(options())


def test_what_was_left_is_ended_and_what_was_committed_stays(client: Client) -> None:
    table = client.create_table("t", "id BIGINT")
    done, left = table.write_session(), table.write_session()
    with done.writer() as writer:
        writer.write([{"id": 1}])
    done.commit()
    epochs = OpenEpochs(options())
    for each in (done, left):
        epochs.add(each.id)
    epochs.end_all(table)
    assert epochs.sessions() == []
    assert table.count_rows() == 1
    with pytest.raises(FletchingError):
        left.writer()


def test_a_job_that_is_aborted_leaves_no_session(http_client: Client, open_sessions: Any) -> None:
    http_client.create_table("t", "id BIGINT")
    reopen: Any = http_client.channel.reopen
    given = {
        "at": reopen.location, "project": "demo", "accessid": "id", "accesskey": "secret", "path": "t",
    }  # fmt: skip
    sink = JobSink(given, overwrite=True)
    assert [name for name in open_sessions() if name.startswith("write")] != []
    sink.abort([None])
    assert [name for name in open_sessions() if name.startswith("write")] == []
