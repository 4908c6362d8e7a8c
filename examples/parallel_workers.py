"""A scan's splits, read by several processes. Splits pickle, so Ray, Dask and Spark take them, too."""

from multiprocessing import get_context

import pyarrow as pa
import pyarrow.compute as pc

import fletching


def total(split):
    """Runs in a worker: reads one part of the table, batch by batch."""
    return sum(pc.sum(batch["value"]).as_py() or 0 for batch in split.reader())


if __name__ == "__main__":
    with fletching.serve("./data", port=0) as server:
        access_id, access_key = server.access_key
        with fletching.connect(server.url, access_id=access_id, access_key=access_key) as client:
            table = client.create_table("numbers", "value BIGINT", if_not_exists=True)
            table.overwrite(
                pa.table({"value": range(n, n + 10_000)}) for n in range(0, 200_000, 10_000)
            )

            # One snapshot for all workers, whatever is written meanwhile.
            splits = table.scan().splits(4)
            with get_context("spawn").Pool(2) as pool:
                sums = pool.map(total, splits)
            print(len(splits), "splits:", sums)
            assert sum(sums) == sum(range(200_000))
