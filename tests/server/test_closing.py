"""A server that is closed while a write is being finished: acknowledged or not, nothing is torn."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.server.conftest import RawClient, Start, stream_of

from fletching.engine.engine import Engine
from fletching.engine.identity import SEGMENT_PREFIX
from fletching.objects.local import LocalSink
from fletching.protocol.messages.requests import CreateReadSession
from fletching.protocol.types.blob_type import blob
from fletching.types import TableName

TABLE = pa.table({"id": pa.array(np.arange(1003), pa.int64())})


def problems(folder: Path) -> list[str]:
    with Engine.open(folder) as engine:
        return [problem for checked in engine.verify() for problem in checked.problems]


@pytest.mark.parametrize("kind", ["rows", "blob"])
def test_a_request_that_is_cut_in_its_commit(start: Start, tmp_path: Path, kind: str) -> None:
    """The drain is over, another process holds the catalog's lock, and the request is cancelled."""
    server = start(drain_seconds=0.0, linger_seconds=0.1)
    client = RawClient(server.url)
    if kind == "rows":
        client.create_table("t", TABLE.schema)
        where: Any = {"SessionId": "default", "StreamId": "s", "StreamVersion": 1}
        where["WriteMode"] = "Streaming"
        body = stream_of(TABLE)
        client.storage("TableCreateWriteStream", query={"SessionId": "default"}, body=where)
    else:
        schema = pa.schema([("id", pa.int64()), ("image", blob())])
        client.create_table("t", schema)
        where = {"SessionId": client.open_session(), "StreamId": "s", "ColumnIndex": 2}
        body = bytes(1_000_000)
    action = "TableWrite" if kind == "rows" else "TableWriteBlob"
    statuses: list[int] = []

    def send() -> None:
        with contextlib.suppress(Exception):
            statuses.append(client.storage(action, query=where, body=body).status)

    folder = tmp_path / "data"
    catalog = sqlite3.connect(folder / "catalog.sqlite", isolation_level=None, timeout=600)
    with contextlib.closing(catalog):
        sender = threading.Thread(target=send)
        # The lock is taken when all has been received, so that it is the upload's end that waits for it.
        # Before, the first write of a process puts an object of its own into the store.
        ending, locked, finishing = (threading.Event() for _ in range(3))
        commit = LocalSink.commit

        def held(sink: LocalSink) -> None:
            commit(sink)
            if sink.key.startswith(SEGMENT_PREFIX):
                ending.set()
                assert locked.wait(600)
                finishing.set()

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(LocalSink, "commit", held)
            sender.start()
            assert ending.wait(600)
            catalog.execute("BEGIN IMMEDIATE")
            locked.set()
            assert finishing.wait(600)
        closer = threading.Thread(target=server.close)
        closer.start()
        time.sleep(0.2)  # the request is cancelled by now, or soon
        assert closer.is_alive(), "the server did not wait for a call that runs"
        catalog.execute("ROLLBACK")
        closer.join(600)
        sender.join(600)
        assert not closer.is_alive()
    assert problems(folder) == []
    if kind == "rows":
        with Engine.open(folder) as engine:
            session: Any = engine.call(CreateReadSession(table=TableName("demo", "t")))
            assert session.record_count in ({1003} if statuses == [200] else {0, 1003})
