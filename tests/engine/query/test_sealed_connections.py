from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fletching.engine.query.query_limits import QueryLimits
from fletching.engine.query.sealed_connections import PREFIX, Connections, Deadlines
from fletching.engine.query.sealed_duckdb import SealedDuckDB
from fletching.errors import InvalidArgumentError, OperationCancelledError

LIMITS = QueryLimits()


def folders(parent: Path) -> list[Path]:
    return sorted(parent.glob(f"{PREFIX}*"))


def count(statement: SealedDuckDB, sql: str) -> int:
    """How many rows there are, having read all of them."""
    return sum(batch.num_rows for batch in statement.batches(statement.query(sql), 10)[1])


def test_deadlines_call_in_order_those_that_did_not_end() -> None:
    called: list[int] = []
    done = threading.Event()
    deadlines = Deadlines(0.05)
    keys = [deadlines.begin(functools.partial(called.append, number)) for number in range(4)]
    deadlines.begin(done.set)
    deadlines.end(keys[1])
    assert done.wait(600)
    assert called == [0, 2, 3]
    deadlines.end(keys[0])
    deadlines.close()
    deadlines.close()
    again = threading.Event()
    deadlines.begin(again.set)  # also after it was closed
    assert again.wait(600)
    deadlines.close()


def test_a_connection_is_used_again_only_after_a_good_end(tmp_path: Path) -> None:
    connections = Connections(LIMITS, tmp_path)
    first = connections.take()
    connections.give_back(first)

    def raw(statement: SealedDuckDB) -> object:
        return statement._connection

    with SealedDuckDB(LIMITS, connections) as good:
        assert raw(good) is first
        assert count(good, "SELECT 1 AS x") == 1
    with SealedDuckDB(LIMITS, connections) as again:
        assert raw(again) is first
        with pytest.raises(InvalidArgumentError):
            again.query("SELECT nothing")
    with SealedDuckDB(LIMITS, connections) as half_read:
        assert raw(half_read) is first
        next(half_read.batches(half_read.query("SELECT * FROM range(100000)"), 10)[1])
    with SealedDuckDB(LIMITS, connections) as cancelled:
        assert raw(cancelled) is not first
        cancelled.interrupt()
        with pytest.raises(OperationCancelledError):
            list(
                cancelled.batches(cancelled.query("SELECT count(*) FROM range(10000000000)"), 1)[1]
            )
    kept = raw(cancelled)
    with SealedDuckDB(LIMITS, connections) as last:
        assert raw(last) is not kept
    connections.close()
    assert folders(tmp_path) == []


def test_what_one_statement_registered_is_gone_for_the_next(tmp_path: Path) -> None:
    import pyarrow as pa

    class Rows:
        def open(self) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
            return pa.schema([("n", pa.int64())]), iter([pa.record_batch({"n": [1]})])

    connections = Connections(LIMITS, tmp_path)
    with SealedDuckDB(LIMITS, connections) as duck:
        duck.register("r", Rows())
        assert count(duck, "SELECT * FROM r") == 1
    with SealedDuckDB(LIMITS, connections) as other, pytest.raises(InvalidArgumentError):
        other.query("SELECT * FROM r")
    connections.close()


def test_an_interrupt_that_comes_late_ends_nobody_else(tmp_path: Path) -> None:
    connections = Connections(LIMITS, tmp_path)
    with SealedDuckDB(LIMITS, connections) as duck:
        pass
    with SealedDuckDB(LIMITS, connections) as other:
        late = threading.Thread(target=duck.interrupt)
        late.start()
        late.join()
        assert duck.progress == 0.0
        assert count(other, "SELECT 1 AS x") == 1
    connections.close()


def test_folders_of_processes_that_are_gone_are_removed(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path\n"
        "from fletching.engine.query.sealed_connections import Connections\n"
        "from fletching.engine.query.query_limits import QueryLimits\n"
        "Connections(QueryLimits(), Path(sys.argv[1])).take()\n"
        "print('made', flush=True); sys.stdin.read()\n"
        "os._exit(1)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ},
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "made\n"
    (left,) = folders(tmp_path)
    mine = Connections(LIMITS, tmp_path)
    mine.give_back(mine.take())
    assert left in folders(tmp_path)  # its process lives
    mine.close()
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    (tmp_path / f"{PREFIX}young").mkdir()  # another process may be about to lock it
    mine = Connections(LIMITS, tmp_path)
    mine.give_back(mine.take())
    assert left not in folders(tmp_path)
    assert tmp_path / f"{PREFIX}young" in folders(tmp_path)
    mine.close()
