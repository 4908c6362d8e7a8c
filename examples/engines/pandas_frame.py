"""pandas: a frame from a scan, and a frame appended."""

import pandas as pd

import fletching

with fletching.connect("./data", create=True) as client:
    sales = client.create_table("sales", "shop STRING, amount DOUBLE", if_not_exists=True)
    sales.overwrite(pd.DataFrame({"shop": ["a", "b", "a", "c"], "amount": [1.0, 2.0, 3.0, None]}))

    frame = sales.scan(filter="amount IS NOT NULL").to_pandas()
    totals = frame.groupby("shop", as_index=False)["amount"].sum()
    print(totals)

    kept = client.create_table("totals", "shop STRING, amount DOUBLE", if_not_exists=True)
    kept.overwrite(totals)
    assert kept.to_table().to_pydict() == {"shop": ["a", "b"], "amount": [4.0, 2.0]}
