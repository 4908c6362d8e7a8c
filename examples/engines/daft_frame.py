"""Daft: a frame over a scan, and a frame written back a partition at a time in one commit."""

import daft

import fletching

if __name__ == "__main__":
    with fletching.connect("./data", create=True) as client:
        sales = client.create_table("sales", "shop STRING, amount DOUBLE", if_not_exists=True)
        sales.overwrite({"shop": ["a", "b", "a", "c"], "amount": [1.0, 2.0, 3.0, None]})

        # What the scan says is applied where the table is.
        frame = daft.from_arrow(sales.scan(filter="amount IS NOT NULL").to_table())
        totals = frame.groupby("shop").agg(daft.col("amount").sum().alias("total"))

        kept = client.create_table("totals", "shop STRING, total DOUBLE", if_not_exists=True)
        kept.truncate()
        with kept.write_session() as session, session.writer() as writer:
            for batch in totals.to_arrow_iter():
                writer.write(batch)
        rows = sorted(kept.to_table().to_pylist(), key=lambda row: row["shop"])
        print(rows)
        assert rows == [{"shop": "a", "total": 4.0}, {"shop": "b", "total": 2.0}]
