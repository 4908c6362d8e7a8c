"""pandas: a frame from a scan, a frame appended, and what becomes of its types and index."""

import pandas as pd
import pyarrow as pa

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

    # Nullable numbers, categories, moments with a zone, and an index with a name.
    visits = pd.DataFrame(
        {
            "count": pd.array([2**53 + 1, None], "Int64"),
            "kind": pd.Categorical(["new", "old"]),
            "at": pd.to_datetime(["2026-01-02 10:00", "2026-07-02 10:00"]).tz_localize(
                "Europe/Berlin"
            ),
        },
        index=pd.Index(["x", "y"], name="visitor"),
    )
    client.drop_table("visits", if_exists=True)
    table = client.create_table("visits", visits)
    # Without types_mapper, numbers with nulls become floats, as everywhere in pandas.
    again = table.scan().to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    again = again.set_index("visitor")
    print(again)
    assert again["count"].to_list() == [2**53 + 1, pd.NA]
    assert (again.dtypes.astype(str) == visits.dtypes.astype(str)).all()
    assert again.index.to_list() == ["x", "y"]
    assert again["at"].to_list() == visits["at"].to_list()
