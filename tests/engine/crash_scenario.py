"""What `test_crashes.py` has killed: run as ``python crash_scenario.py SCRATCH``.

Imports once, then forks for each line of its input: a target (``POINT[:ARRIVAL]`` or ``nowhere``), a
folder and the URL of a catalog or nothing, with tabs between them. It answers with how the child ended.
The child works through every kind of write and tells, in ``FOLDER/log``, what it is about to do and
what was acknowledged.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from fletching.engine.engine import Engine
from fletching.engine.engine_settings import EngineSettings
from fletching.ipc import lowlevel
from fletching.protocol.messages.admin import CreateTable
from fletching.protocol.messages.requests import (
    AbortWriteSession,
    AppendRows,
    CloseWriteStream,
    CommitWriteSession,
    CreateWriteSession,
    CreateWriteStream,
    WriteTable,
)
from fletching.types import TableName

T = TableName("demo", "t")
SCHEMA = pa.schema([("id", pa.int64()), ("pt", pa.string())])


def body(start: int, count: int) -> bytes:
    sink = pa.BufferOutputStream()
    values = range(start, start + count)
    with pa.ipc.new_stream(sink, SCHEMA) as writer:
        writer.write_table(
            pa.table({"id": pa.array(values, pa.int64()), "pt": [f"p{v % 2}" for v in values]})
        )
    return sink.getvalue().to_pybytes()


def objects_of(target: str) -> str | None:
    """Where objects are, if not in the folder: a place for each point, below one that the test made."""
    base = os.environ.get("FLETCHING_TEST_OBJECTS")
    return None if base is None else f"{base}/{target.replace(':', '-')}"


class Scenario:
    def __init__(self, folder: Path, target: str, catalog_url: str | None) -> None:
        self.log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.time = 1_800_000_000.0
        self.engine = Engine.open(
            folder / "data",
            settings=EngineSettings(
                catalog_url=catalog_url,
                # What only imports (`import_as_in`) has a folder of its own for all.
                objects_url=None if catalog_url is None else objects_of(target),
                write_session_seconds=1000.0,
                removed_seconds=10.0,
                retain_seconds=10.0,
            ),
            clock=lambda: self.time,
        )

    def say(self, *words: object) -> None:
        line = " ".join(map(str, (self.time, *words)))
        os.write(self.log, (line + "\n").encode())

    def write(self, session: str, stream: str, start: int, count: int, **options: Any) -> Any:
        ingest = self.engine.open_ingest(
            WriteTable(table=T, session_id=session, stream_id=stream, **options)
        )
        ingest.decoder.feed(body(start, count))
        ingest.accept(list(ingest.decoder))
        return ingest.finish()

    def session(
        self, name: str, starts: list[int], *, overwrite: bool = False, end: str = "commit"
    ) -> None:
        call: Any = self.engine.call
        session = call(CreateWriteSession(table=T, overwrite=overwrite)).session_id
        for number, start in enumerate(starts):
            call(CreateWriteStream(table=T, session_id=session, stream_id=f"s{number}"))
            self.write(session, f"s{number}", start, 10)
            call(CloseWriteStream(table=T, session_id=session, stream_id=f"s{number}"))
        self.say("begin", end, name, session, *starts)
        kind: Any = {"commit": CommitWriteSession, "abort": AbortWriteSession}[end]
        call(kind(table=T, session_id=session))
        self.say("done", end, name, session, *starts)

    def direct(self, start: int) -> None:
        """A whole append in one request."""
        ingest = self.engine.open_ingest(AppendRows(table=T, retry_trace_id=f"direct-{start}"))
        ingest.decoder.feed(body(start, 10))
        ingest.accept(list(ingest.decoder))
        ingest.finish()

    def run(self) -> None:
        call: Any = self.engine.call
        self.say("begin", "create")
        call(
            CreateTable(
                table=T,
                arrow_schema=lowlevel.encode_schema(pa.schema([SCHEMA.field(0)])),
                partition_columns=(("pt", "string"),),
            )
        )
        self.say("done", "create")
        self.session("first", [0, 100])
        self.session("second", [200], end="abort")
        token = call(
            CreateWriteStream(table=T, session_id="default", stream_id="eo", exactly_once=True)
        ).access_token
        for number in range(4):
            start = 1000 + 10 * number
            self.say("begin", "append", start)
            self.write("default", "eo", start, 10, row_offset=10 * number, access_token=token)
            self.say("done", "append", start)
        self.engine.compact(T, min_segments=2)
        self.session("third", [300, 400])
        self.time += 100
        self.engine.collect()
        self.session("fourth", [500], overwrite=True)
        self.time += 2000
        self.engine.collect()
        self.session("fifth", [600])
        for start in (2000, 2010):
            self.say("begin", "direct", start)
            self.direct(start)
            self.say("done", "direct", start)
        self.say("done", "all")
        self.engine.close()


def killed(target: str, folder: Path, url: str | None) -> int:
    """How a child ends that works through the scenario and dies at the target."""
    child = os.fork()
    if child == 0:
        os.environ["FLETCHING_CRASH_AT"] = "" if target == "nowhere" else target
        try:
            Scenario(folder, target, url).run()
            (folder / "modules").write_text("\n".join(sys.modules))
        except BaseException as error:  # noqa: BLE001 - the parent must hear of anything
            (folder / "failed").write_text(repr(error))
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def import_as_in(scratch: Path) -> None:
    """Imports once what every child would import when its engine first needs it."""
    assert killed("nowhere", scratch, None) == 0, (scratch / "failed").read_text()
    of_postgresql = ["psycopg", "sqlalchemy.dialects.postgresql.psycopg"]
    for name in [*(scratch / "modules").read_text().splitlines(), *of_postgresql]:
        if name not in sys.modules:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)


def main() -> None:
    import_as_in(Path(sys.argv[1]))
    for line in sys.stdin:
        target, folder, url = line.rstrip("\n").split("\t")
        print(killed(target, Path(folder), url or None), flush=True)


if __name__ == "__main__":
    main()
