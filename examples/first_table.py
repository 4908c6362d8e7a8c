"""A table in a folder, without any server: write, read parts, look at what is there."""

import fletching

with fletching.connect("./data", create=True) as client:
    table = client.create_table(
        "visits",
        "user BIGINT NOT NULL, page STRING, seconds DOUBLE",
        partition_by=["day"],
        if_not_exists=True,
    )

    # Anything tabular goes in: Arrow, polars, pandas, a dict of columns, a list of dicts, generators.
    table.overwrite(
        [
            {"user": 1, "page": "/", "seconds": 3.5, "day": "2026-01-01"},
            {"user": 2, "page": "/docs", "seconds": None, "day": "2026-01-01"},
            {"user": 1, "page": "/docs", "seconds": 40.0, "day": "2026-01-02"},
        ]
    )

    long = table.scan(columns=["user", "page"], filter="seconds > 3", partitions=["day=2026-01-02"])
    print(long.to_table().to_pylist())
    for partition in table.partitions():
        print(partition, partition.rows, "rows")
    assert table.count_rows() == 3
