"""Polars: a lazy frame over a table, and a frame written back in one commit."""

import polars as pl

import fletching
from fletching.connectors.polars import scan_table, sink_table

with fletching.connect("./data", create=True) as client:
    sales = client.create_table("sales", "shop STRING, amount DOUBLE", if_not_exists=True)
    sales.overwrite({"shop": ["a", "b", "a", "c"], "amount": [1.0, 2.0, 3.0, None]})

    # Columns and conditions go to the table; nothing is read before collect.
    frame = scan_table(sales).filter(pl.col("amount").is_not_null())
    totals = frame.group_by("shop").agg(pl.col("amount").sum().alias("total")).sort("shop")
    print(totals.collect())

    kept = client.create_table("totals", "shop STRING, total DOUBLE", if_not_exists=True)
    assert sink_table(totals, kept, overwrite=True) == 2
    assert kept.to_table().to_pydict() == {"shop": ["a", "b"], "total": [4.0, 2.0]}
