"""What a newcomer gets wrong, each answered by one sentence that names the cure, and no traceback."""

from __future__ import annotations

import io
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fletching
from fletching.cli.main import main
from fletching.server.logs import LOGGERS

FILES = {
    "events.csv": b"id,kind,amount\n1,view,\n2,sale,9.5\n",
    "more.csv": b"id,kind,amount,extra\n1,view,1,2\n",
    "semicolons.csv": b"id;kind;amount\n1;view;2,5\n",
    "text.csv": b"id,kind,amount\nx,view,2\n",
    "utf16.csv": "id,kind,amount\n1,view,2\n".encode("utf-16"),
    "bare16.csv": "id;kind\n1;view\n".encode("utf-16-le"),
    "bare16.jsonl": '{"id": 1}\n'.encode("utf-16-be"),
    "latin1.csv": "id,kind,amount\n1,caf\xe9,2\n".encode("latin-1"),
    "latin1.jsonl": '{"id": 1}\n{"id": 2, "kind": "caf\xe9"}\n'.encode("latin-1"),
    "empty.csv": b"",
    "x.parquet": b"not parquet",
    "taken.csv": b"",
}


@pytest.fixture(scope="module")
def location(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("mistakes")
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}"
    with fletching.serve(folder / "data", port=0, access_log=False) as server:
        key = ":".join(server.access_key)
        with fletching.connect(
            server.url, access_id=server.access_key[0], access_key=server.access_key[1]
        ) as client:
            client.create_table("events", "id BIGINT, kind STRING, amount DOUBLE").append(
                {"id": [1, 2], "kind": ["view", "sale"], "amount": [None, 9.5]}
            )
        yield {
            "folder": str(folder),
            "URL": server.url,
            "HOST": server.url.partition("://")[2],
            "NOBODY": nobody,
            "KEY": key,
            "SECURE": server.url.replace("http", "https"),
        }


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    """``serve`` logs to this test's stderr, which later tests must not be left with."""
    kept = [
        (logger, logger.handlers, logger.level, logger.propagate)
        for logger in map(logging.getLogger, LOGGERS)
    ]
    yield
    for logger, handlers, level, propagate in kept:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


AT = ("--at", "data")
SERVER = ("--at", "{URL}", "--access-key", "{KEY}")
MISTAKES: list[tuple[tuple[str, ...], str]] = [
    # where
    (("ls", "--at", "{NOBODY}", "--access-key", "a:b", "--wait", "0"), "--wait 60 waits for it"),
    (("ls", "--at", "{SECURE}", "--access-key", "{KEY}"), "is it http:// there?"),
    (("ls", "--at", "{HOST}"), "give http://{HOST} for a server"),
    (("login", "{HOST}"), "give http://{HOST} for a server"),
    (("ls", "--at", "ftp://x"), "give http://HOST:PORT"),
    (("ls", "--at", "http://[::1", "--access-key", "a:b"), "is no address: Invalid IPv6 URL"),
    (("ls", "--at", "http://x:99999", "--access-key", "a:b"), "is no address: Port out of range"),
    (("ls", "--at", "http://x..y", "--access-key", "a:b"), "is no address"),
    (("ls", "--at", "{URL}/console", "--access-key", "{KEY}"), "give {URL};"),
    (("ls", "--at", "./typo"), "--at names another"),
    (("ls", "--at", "events.csv"), "events.csv is a file"),
    (("serve", "events.csv"), "events.csv is a file, and no data folder"),
    (("serve", "data", "--port", "99999"), "it is 0 to 65535"),
    (("verify", "{URL}"), "does not exist"),
    (("keys", "list", *SERVER), "give the folder that it serves"),
    # as whom
    (("ls", "--at", "{URL}"), "give --access-key ID:SECRET"),
    (("ls", "--at", "{URL}", "--access-key", "secret"), "not of the form ID:SECRET"),
    (("ls", "--at", "{URL}", "--access-key", "a:b"), "check access id, secret"),
    (("ls", "--at", "data", "--access-key", "{KEY}"), "access keys are for a server's URL"),
    (("ls", "--at", "{URL}", "--access-key-file", "absent"), "cannot be read"),
    (("login", "{URL}"), "--access-key-file FILE, or - for stdin"),
    (("keys", "create", "--grant", "red:demo", *AT), "there are read, write, admin"),
    # what
    (("heda", "events"), "did you mean head?"),
    (("head", "events", "--colums", "id", *AT), "--columns"),
    (("head", "events", "--\u202ecolums", *AT), r"No such option: --\u202ecolums"),
    (("head", "events", "a\x1b[2J\u2066", *AT), r"extra argument(s) (a\x1b[2J\u2066)"),
    (("keys", "\u202esil"), r"No such command '\u202esil'"),
    (("--\u202e",), r"No such option: --\u202e"),
    (("head", "evnts", *AT), "did you mean events?"),
    (("head", "evnts", *SERVER), "did you mean events?"),
    (("head", "events", "--columns", "idd", *AT), "did you mean id?"),
    (("head", "events", "--as-of", "99", *AT), "the newest is 1"),
    (("head", "events", "--project", "nope", *AT), "--project names another"),
    (("drop", "events", *AT), "--yes drops table events"),
    (("sql", *AT), "give a statement, or --file FILE"),
    (("sql", "select knd from events", *AT), "did you mean kind?"),
    # files in
    (("put", "events", "absent.csv", *AT), "there is no file absent.csv"),
    (("put", "events.csv", "events", *AT), "the table comes first"),
    (("put", "other", "events.csv", *AT), "--create makes the table"),
    (("put", "my-table", "events.csv", "--create", *AT), "such as my_table"),
    (("put", "events", "more.csv", *AT), "has no column 'extra'"),
    (("put", "events", "semicolons.csv", *AT), "--delimiter"),
    (("put", "events", "text.csv", *AT), "--types 'COLUMN STRING' reads a column as text"),
    (("put", "events", "utf16.csv", *AT), "(--encoding utf-16)"),
    (("put", "events", "bare16.csv", *AT), "give its encoding (--encoding utf-16-le)"),
    (("put", "events", "bare16.jsonl", *AT), "looks like UTF-16 text, and JSON lines are UTF-8"),
    (("put", "events", "latin1.csv", *AT), "--encoding names another"),
    (
        ("put", "events", "latin1.jsonl", *AT),
        "latin1.jsonl is not readable as jsonl: line 2 is no UTF-8",
    ),
    (("put", "events", "empty.csv", *AT), "Empty CSV file"),
    (("put", "events", "x.parquet", *AT), "not a parquet file"),
    # files out
    (("get", "events", "out.xlsx", *AT), "give --format (parquet, csv"),
    (("get", "events", "taken.csv", *AT), "--replace replaces it"),
    # What nothing can be read by is told before what stands in the way of a file.
    (("get", "events", "taken.csv", "--filter", "knd = 1", *AT), "did you mean kind?"),
    (("get", "events", "taken.csv", "--partition", "pt=1", *AT), "partition"),
    (("sql", "select 1 as x", "--output", "taken.csv", *AT), "--replace replaces it"),
    (("sql", "select knd from events;", "--output", "taken.csv", *AT), "did you mean kind?"),
    (("sql", "with x as (select 1", "--output", "taken.csv", *AT), "cannot be parsed"),
    (("get", "events", "no/out.csv", *AT), "there is no folder no"),
    (("get", "events", "o.csv", "--filter", "kind = sale", *AT), "a text stands in single quotes"),
    (("get", "events", "o.csv", "--filter", "amont > 3", *AT), "did you mean amount?"),
    (("get", "events", "o.csv", "--filter", "id >", *AT), "something is missing"),
]


@pytest.mark.parametrize(
    ("words", "cure"), MISTAKES, ids=[" ".join(words)[:60] for words, _ in MISTAKES]
)
def test_a_mistake_is_answered_with_its_cure(
    location: dict[str, str],
    words: tuple[str, ...],
    cure: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    monkeypatch.chdir(location["folder"])
    for name in [name for name in os.environ if name.startswith("FLETCHING_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FLETCHING_CONFIG_DIR", str(Path(location["folder"], "config")))
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    monkeypatch.setattr(sys, "argv", ["fletching", *(each.format(**location) for each in words)])
    before = sorted(path.name for path in Path(location["folder"]).iterdir())
    with pytest.raises(SystemExit) as ended:
        main()
    message = capsys.readouterr().err
    assert ended.value.code in {1, 2, 3, 4}, message
    assert cure.format(**location) in message
    assert "Traceback" not in message
    assert len([line for line in message.splitlines() if line.lower().startswith("error")]) == 1
    # A mistake makes nothing.
    assert sorted(path.name for path in Path(location["folder"]).iterdir()) == before
