"""Scans and appends of an earlier release beside ours: each in a process of its own, turn about.

``python -m benchmarks.releases FOLDER ROWS`` is such a process: it makes a table, and does what its standard
input says, a word a line, answering with seconds. It uses nothing but calls that releases have in common.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT
from benchmarks.rounds import Contender, Outcome, Result, compare

__all__ = ["compared", "earlier_release"]

WORDS = ("scan", "read", "append", "session")
APPENDED = 20


@contextlib.contextmanager
def earlier_release(revision: str | None) -> Iterator[Path | None]:
    """The source tree of a revision of this repository, for a while; None for none."""
    if revision is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="release-") as folder:
        packed = Path(folder) / "tree.tar"
        command = ["git", "archive", "-o", str(packed), revision, "src"]
        subprocess.run(command, cwd=ROOT, check=True)
        with tarfile.open(packed) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder) / "src"


def compared(folder: Path, before: Path, *, rounds: int, rows: int) -> list[Result]:
    """Both releases, each with a table of its own that nothing was deleted from."""
    results: list[Result] = []
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(_process(folder / "now", ROOT / "src", rows))
        theirs = stack.enter_context(_process(folder / "before", before, rows))
        for word in WORDS:
            contenders = [_contender("before", theirs, word), _contender("now", ours, word)]
            results += compare(f"changes: {word}", "a release before and now", contenders, rounds)
    return results


def _contender(name: str, child: subprocess.Popen[str], word: str) -> Contender:
    def run(_started: float) -> Outcome:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(word + "\n")
        child.stdin.flush()
        found = json.loads(child.stdout.readline())
        return Outcome(found["bytes"], found["rows"])

    return Contender(name, run, child.pid)


@contextlib.contextmanager
def _process(folder: Path, source: Path, rows: int) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.releases", str(folder), str(rows)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(source)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "ready\n", "the release did not start"
        yield child
    finally:
        child.stdin.close()
        child.wait()
        child.stdout.close()


def main() -> None:
    """Serves one release until standard input ends."""
    import pyarrow as pa

    import fletching
    from benchmarks.change_tables import ROW_BYTES, SCHEMA, batches, made

    folder, rows = Path(sys.argv[1]), int(sys.argv[2])
    keys = {"bench": "bench-secret"}
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(fletching.connect(folder, project="bench", create=True))
        table: Any = made(client, "scanned", rows)
        plain: Any = client.create_table("appended", SCHEMA)
        some = pa.Table.from_batches(batches(max(rows // 100, 1)))
        server = stack.enter_context(fletching.serve(folder, port=0, access_keys=keys))
        far = stack.enter_context(
            fletching.connect(
                server.url, project="bench", access_id="bench", access_key="bench-secret"
            )
        )
        sent: Any = far.table("scanned")

        def appended() -> int:
            for _ in range(APPENDED):
                plain.append(some)
            return some.num_rows * APPENDED

        def opened() -> int:
            table.scan().session().release()
            return 1

        work = {
            "scan": lambda: sum(batch.num_rows for batch in table.scan()),
            "read": lambda: sum(batch.num_rows for batch in sent.scan()),
            "append": appended,
            "session": opened,
        }
        print("ready", flush=True)
        for line in sys.stdin:
            count = work[line.strip()]()
            print(json.dumps({"rows": count, "bytes": count * ROW_BYTES}), flush=True)


if __name__ == "__main__":
    main()
