from __future__ import annotations

import datetime as dt
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import fletching
from fletching.client.blobs import folders
from fletching.client.blobs.blob_streams import open_events
from fletching.client.blobs.folders import FILE_SCHEMA, files_of, get_files, list_files, put_files
from fletching.errors import UsageError

FILES = {
    "a.png": b"not really a picture",
    "empty.txt": b"",
    "deep/er/ü ö.bin": bytes(range(256)) * 1000,
    "deep/b": b"b",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "in"
    for name, data in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    os.utime(root / "a.png", (1_700_000_000, 1_700_000_000))
    (root / "link").symlink_to(root / "deep", target_is_directory=True)
    os.mkfifo(root / "pipe")
    return root


@pytest.fixture
def table(client: fletching.Client) -> fletching.Table:
    return client.create_table("files", FILE_SCHEMA)


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_there_and_back(
    client: fletching.Client, table: fletching.Table, folder: Path, tmp_path: Path
) -> None:
    reported: list[str] = []
    files, size = put_files(
        table, files_of([folder]), on_file=lambda entry: reported.append(entry.path)
    )
    assert (files, size) == (4, sum(map(len, FILES.values())))
    assert reported == sorted(FILES)
    entries = list(list_files(table))
    assert {entry.path: entry.size for entry in entries} == {n: len(d) for n, d in FILES.items()}
    by_path = {entry.path: entry for entry in entries}
    assert by_path["a.png"].content_type == "image/png"
    assert by_path["a.png"].modified == dt.datetime.fromtimestamp(1_700_000_000, dt.UTC)
    back = tmp_path / "out"
    written: list[tuple[Path, int]] = []
    received = get_files(client, iter(entries), back, on_file=lambda p, n: written.append((p, n)))
    assert received == (files, size)
    assert contents(back) == FILES
    assert sorted(p.relative_to(back).as_posix() for p, _ in written) == sorted(FILES)
    assert (back / "a.png").stat().st_mtime == 1_700_000_000


def test_in_batches(
    client: fletching.Client,
    table: fletching.Table,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(folders, "BATCH_FILES", 3)
    monkeypatch.setattr(folders, "BATCH_BYTES", 100)
    put_files(table, files_of([folder]))
    get_files(client, list_files(table), tmp_path / "out")
    assert contents(tmp_path / "out") == FILES


def test_parts_of_a_table(client: fletching.Client, table: fletching.Table, folder: Path) -> None:
    put_files(table, files_of([folder]))
    assert [e.path for e in list_files(table, where="size > 1000")] == ["deep/er/ü ö.bin"]
    assert len(list(list_files(table, limit=2))) == 2


def test_overwriting(table: fletching.Table, folder: Path) -> None:
    put_files(table, files_of([folder]))
    put_files(table, files_of([folder / "a.png"]), overwrite=True)
    assert [entry.path for entry in list_files(table)] == ["a.png"]


def test_partitions(client: fletching.Client, folder: Path) -> None:
    table = client.create_table("by_day", FILE_SCHEMA, partition_by=["pt"])
    put_files(table, files_of([folder / "a.png"]), partition="pt=1")
    put_files(table, files_of([folder / "deep"]), partition="pt=2")
    assert [entry.path for entry in list_files(table, partitions=["pt=1"])] == ["a.png"]
    assert len(list(list_files(table))) == 3


def test_tables_of_other_columns(client: fletching.Client, folder: Path, tmp_path: Path) -> None:
    table = client.create_table("pics", "Path STRING, image BLOB, other BLOB")
    with pytest.raises(UsageError, match="image, other"):
        put_files(table, files_of([folder]))
    put_files(table, files_of([folder]), column="image")
    get_files(client, list_files(table, column="image"), tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    assert list(list_files(table, column="other")) == []


def test_names_come_from_the_blob_or_are_made_up(client: fletching.Client, tmp_path: Path) -> None:
    table = client.create_table("pics", "image BLOB")
    table.append(
        [
            {"image": fletching.Blob(b"1", "image/png")},
            {"image": fletching.Blob(b"2", None, "same.txt")},
            {"image": fletching.Blob(b"3", None, "same.txt")},
            {"image": None},
            {"image": fletching.Blob(b"4")},
        ]
    )
    get_files(client, list_files(table), tmp_path / "out")
    assert contents(tmp_path / "out") == {
        "00000000.png": b"1",
        "same.txt": b"2",
        "same-1.txt": b"3",
        "00000003.bin": b"4",
    }


@pytest.mark.parametrize("path", ["../out.txt", "/etc/out.txt", "a/../../b", "nul\0"])
def test_paths_that_lead_out_are_refused(
    client: fletching.Client, table: fletching.Table, tmp_path: Path, path: str
) -> None:
    table.append([{"path": path, "data": b"x"}])
    with pytest.raises(UsageError, match="leads out"):
        get_files(client, list_files(table), tmp_path / "out")
    assert contents(tmp_path) == {} or all(
        "out" not in name.split("/")[0] for name in contents(tmp_path)
    )


def test_files_that_are_there_are_kept(
    client: fletching.Client, table: fletching.Table, folder: Path, tmp_path: Path
) -> None:
    put_files(table, files_of([folder]))
    back = tmp_path / "out"
    get_files(client, list_files(table), back)
    (back / "a.png").write_bytes(b"mine")
    with pytest.raises(UsageError, match="there already"):
        get_files(client, list_files(table), back)
    assert (back / "a.png").read_bytes() == b"mine"
    get_files(client, list_files(table), back, replace=True)
    assert contents(back) == FILES


def test_sources_that_cannot_be(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UsageError, match="no file or folder"):
        list(files_of([tmp_path / "none"]))
    (tmp_path / "a.png").write_bytes(b"another")
    with pytest.raises(UsageError, match="two files"):
        list(files_of([folder, tmp_path / "a.png"]))


def test_a_broken_reply_begins_again_at_the_file_it_broke_in(
    client: fletching.Client,
    table: fletching.Table,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from fletching.errors import ConnectionBrokenError

    put_files(table, files_of([folder]))
    asked: list[int] = []

    def breaking(channel: Any, project: str, references: Sequence[Any], attempt: Any) -> Any:
        events = open_events(channel, project, references, attempt)
        asked.append(len(references))

        class Cut:
            def __iter__(self) -> Any:
                for number, event in enumerate(events):
                    if len(asked) <= 2 and number == 4:
                        raise ConnectionBrokenError("gone")
                    yield event

            def close(self) -> None:
                events.close()

        return Cut()

    monkeypatch.setattr(folders, "open_events", breaking)
    get_files(client, list_files(table), tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    assert asked == [4, 3, 2]
