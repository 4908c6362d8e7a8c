"""Bodies of rows that stand for far more than they hold: refused or read in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")

# The server is alone in its process, so that its highest memory is what these bodies took.
SCRIPT = """
import http.client, io, json, sys, time
from pathlib import Path
from urllib.parse import urlsplit
import pyarrow as pa, pyarrow.parquet as pq
import fletching

MIB = 1 << 20
TEXT, ROWS = "x" * (8 * MIB), 20_000

def memory(which):
    status = Path("/proc/self/status").read_text()
    return int(status.split(which + ":")[1].split()[0]) // 1024

def shared(kind):
    if kind == "dictionary":
        return pa.DictionaryArray.from_arrays(pa.array([0] * ROWS, pa.int8()), pa.array([TEXT]))
    if kind == "runs":
        return pa.RunEndEncodedArray.from_arrays(pa.array([ROWS], pa.int32()), pa.array([TEXT]))
    one = pa.array([TEXT], pa.string_view())
    _, view, *data = one.buffers()
    return pa.Array.from_buffers(
        pa.string_view(), ROWS, [None, pa.py_buffer(view.to_pybytes()[:16] * ROWS), *data]
    )

def arrow(column):
    sink = io.BytesIO()
    batch = pa.RecordBatch.from_arrays([column], ["s"])
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return sink.getvalue()

def parquet(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", **options)
    return sink.getvalue()

STREAM, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
texts = pa.table({"s": shared("dictionary")})
nulls = pa.ListArray.from_arrays(pa.array([0, 70_000_000], pa.int32()), pa.nulls(70_000_000, pa.int64()))
bodies = {kind: (STREAM, "text", arrow(shared(kind))) for kind in ("dictionary", "runs", "views")}
bodies["parquet dictionary"] = PARQUET, "text", parquet(texts)
bodies["parquet list"] = PARQUET, "list", parquet(pa.table({"l": nulls}))
bodies["json"] = "application/x-ndjson", "wide", b"{}\\n" * 30_000
keys = b"".join(b'{"k%d":1}\\n' % number for number in range(20_000))
bodies["json keys"] = "application/x-ndjson", "text", keys
bodies["csv"] = "text/csv", "wide", b",".join(b"f%d" % n for n in range(60)) + b"\\n" + (b"," * 59 + b"\\n") * 5_000
del texts, nulls

with fletching.serve(sys.argv[1], port=0) as server:
    access_id, secret = server.access_key
    token = server.service.engine.access_keys.tokens.sign(access_id, secret, time.time() + 3600)
    with fletching.connect(server.url, access_id=access_id, access_key=secret) as client:
        client.create_table("text", pa.schema([("s", pa.string())]))
        client.create_table("list", pa.schema([("l", pa.list_(pa.int64()))]))
        wide = [(f"f{n}", pa.decimal128(30, 2)) for n in range(60)]
        client.create_table("wide", pa.schema(wide))
    found = {}
    for name, (kind, table, body) in bodies.items():
        Path("/proc/self/clear_refs").write_text("5")  # the highest is from now on
        before, began = memory("VmRSS"), time.process_time()
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=600)
        headers = {"authorization": "Bearer " + token, "content-type": kind}
        path = f"/fletching/v1/tables/demo/default/{table}/rows"
        connection.request("POST", path, body, headers)
        reply = connection.getresponse()
        said = json.loads(reply.read())
        found[name] = [reply.status, said, len(body), memory("VmHWM") - before, server.service.memory.held, time.process_time() - began]
    print(json.dumps(found))
"""


def test_hostile_bodies_are_refused_or_read_in_what_memory_there_is(tmp_path: Path) -> None:
    script = tmp_path / "hostile.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "data")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    print(done.stdout)
    for name, (status, message, size, grown, held, _) in result.items():
        assert size < 16 << 20, name
        assert held == 0, name
        assert grown < 1300, (name, status, message, grown)
        if name in {"json", "csv"}:
            assert status == 200, (name, message)
        else:
            assert status in {400, 413}, (name, status, message)
