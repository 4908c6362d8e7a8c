"""A job that is stopped in the middle of a table, goes on there, and reads every row once."""

import json
from pathlib import Path

import pyarrow as pa

import fletching

PLACE = Path("place.json")  # a real job keeps this beside its results, in one transaction


def work(client, stop_after=None):
    """Reads on from where the last run was; stops early if told to."""
    if PLACE.exists():
        reader = client.resume(json.loads(PLACE.read_text())["token"])
    else:
        (split,) = client.table("numbers").scan().splits(1)
        reader = split.reader()
    rows = 0
    for batches, batch in enumerate(reader, start=1):
        rows += batch.num_rows
        # The token names session, split and row: it stays good as long as the session is.
        PLACE.write_text(json.dumps({"token": str(reader.token)}))
        if batches == stop_after:
            reader.close()
            break
    return rows


PLACE.unlink(missing_ok=True)
with fletching.serve("./data", port=0) as server:
    access_id, access_key = server.access_key
    with fletching.connect(server.url, access_id=access_id, access_key=access_key) as client:
        table = client.create_table("numbers", "value BIGINT", if_not_exists=True)
        table.overwrite(pa.table({"value": range(n, n + 1_000)}) for n in range(0, 10_000, 1_000))
        first = work(client, stop_after=3)
    # ... the job is killed and started again ...
    with fletching.connect(server.url, access_id=access_id, access_key=access_key) as client:
        second = work(client)
print(first, "+", second, "rows")
assert first + second == 10_000
