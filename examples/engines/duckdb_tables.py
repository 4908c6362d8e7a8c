"""DuckDB: the tables of a project by name, and a table filled from a query."""

import duckdb

import fletching
from fletching.connectors.duckdb import attach

with fletching.connect("./data", create=True) as client:
    sales = client.create_table("sales", "shop STRING, amount DOUBLE", if_not_exists=True)
    sales.overwrite({"shop": ["a", "b", "a", "c"], "amount": [1.0, 2.0, 3.0, None]})
    client.create_table("totals", "shop STRING, total DOUBLE", if_not_exists=True).truncate()

    connection = duckdb.connect()
    print(attach(connection, client, "shop"))  # a catalog of all tables of the project
    query = "SELECT shop, sum(amount) AS total FROM shop.sales WHERE amount > 0 GROUP BY shop"
    client.table("totals").append(connection.sql(query))
    rows = connection.sql("SELECT * FROM shop.totals ORDER BY shop").fetchall()
    print(rows)
    assert rows == [("a", 4.0), ("b", 2.0)]
