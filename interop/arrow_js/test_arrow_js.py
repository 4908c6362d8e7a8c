"""apache-arrow in Node: a table's rows out and in over plain HTTP, with nothing of ours on the other side."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import fletching

HERE = Path(__file__).parent
HOME = HERE.parents[1] / ".interop" / "arrow-js"
START = dt.datetime(2026, 1, 1)  # noqa: DTZ001  # the column has no time zone
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("text", pa.string()),
        ("ratio", pa.float64()),
        ("day", pa.date32()),
        ("at", pa.timestamp("ms")),
        ("tags", pa.list_(pa.string())),
        ("inner", pa.struct([("x", pa.int64())])),
        ("ok", pa.bool_()),
    ]
)


def rows() -> pa.Table:
    """A thousand rows whose values the program knows."""
    count = 1000
    return pa.table(
        {
            "id": range(count),
            "text": [None if n == 10 else f"row {n} äß漢" for n in range(count)],
            "ratio": [n / 2 for n in range(count)],
            "day": [START.date()] * count,
            "at": [START + dt.timedelta(seconds=n) for n in range(count)],
            "tags": [["a", "b"]] * count,
            "inner": [{"x": n} for n in range(count)],
            "ok": [n % 2 == 0 for n in range(count)],
        },
        schema=SCHEMA,
    )


def bearer_token(folder: Path, access_id: str) -> str:
    """What `fletching keys token` prints."""
    command = [sys.executable, "-m", "fletching", "keys", "token", access_id, "--at", str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_javascript_reads_and_appends(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not (HOME / "installed.txt").exists():
        pytest.skip("needs Node and apache-arrow: make interop-js installs it where npm is")
    with fletching.serve(tmp_path / "data", port=0) as server:
        access_id, access_key = server.access_key
        with fletching.connect(
            server.url, "demo", access_id=access_id, access_key=access_key
        ) as client:
            table = client.create_table("events", SCHEMA)
            table.append(rows())
            # Node finds apache-arrow beside the program.
            program = HOME / "rows.mjs"
            shutil.copyfile(HERE / "rows.mjs", program)
            url = f"{server.url}/fletching/v1/tables/demo/default/events/rows"
            done = subprocess.run(
                [node, str(program), url, bearer_token(tmp_path / "data", access_id)],
                check=False,
                capture_output=True,
                text=True,
                timeout=300,
            )
            assert done.returncode == 0, done.stderr
            assert table.count_rows() == 2002
            made = table.scan(filter="id >= 2000").to_table()
            assert made["text"].to_pylist() == ["made", "here"]
            assert made["ok"].null_count == 2
