"""Dask: a dataframe of ranges of one version, written by the workers in one commit."""

import dask

import fletching
from fletching.connectors.dask import read_table, write_table

if __name__ == "__main__":
    dask.config.set(scheduler="threads")  # a distributed client is used as it is
    with fletching.connect("./data", create=True) as client:
        numbers = client.create_table("numbers", "n BIGINT, odd BOOLEAN", if_not_exists=True)
        numbers.overwrite({"n": range(10_000), "odd": [n % 2 == 1 for n in range(10_000)]})
        odd = client.create_table("odd", "n BIGINT", if_not_exists=True)

        frame = read_table(numbers, npartitions=4)
        print("sum", frame["n"].sum().compute())
        rows = write_table(frame[frame["odd"]][["n"]], odd, mode="overwrite")
        print(rows, "rows written in one commit")
        assert rows == odd.count_rows() == 5000
