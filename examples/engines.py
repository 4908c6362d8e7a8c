"""polars, DuckDB and pandas over the same scan: all take Arrow's C stream, without copies."""

import duckdb
import polars as pl
import pyarrow as pa

import fletching

with fletching.connect("./data", create=True) as client:
    table = client.create_table("sales", "shop STRING, amount DOUBLE", if_not_exists=True)
    table.overwrite({"shop": ["a", "b", "a", "c"], "amount": [1.0, 2.0, 3.0, None]})

    # Columns and filters given to the scan are applied where the table is.
    scan = table.scan(columns=["shop", "amount"], filter="amount IS NOT NULL")

    frame = pl.DataFrame(scan)  # not pl.from_arrow, which makes a series of structs
    print(frame.group_by("shop").agg(pl.col("amount").sum()).sort("shop"))

    relation = duckdb.sql("select shop, sum(amount) total from scan group by shop order by shop")
    print(relation)
    assert relation.fetchall() == [("a", 4.0), ("b", 2.0)]

    pandas = scan.to_table().to_pandas()
    assert pandas["amount"].sum() == 6.0

    # And back: what an engine computed goes in as it is.
    totals = client.create_table("totals", "shop STRING, total DOUBLE", if_not_exists=True)
    totals.overwrite(
        duckdb.sql("select shop, sum(amount) total from scan group by shop").to_arrow_table()
    )
    assert isinstance(totals.to_table(), pa.Table)
    print(totals.count_rows(), "totals")
