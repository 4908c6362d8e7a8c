"""Spark: a batch job, and a stream whose epochs are each written once."""

import os
import sys
import tempfile

from pyspark.sql import SparkSession

import fletching
from fletching.connectors.spark import register

if __name__ == "__main__":
    with fletching.serve("./data", port=0) as server:
        # Driver and workers take the key from the environment in which Spark is started.
        os.environ["PYSPARK_PYTHON"] = sys.executable
        os.environ["FLETCHING_AT"] = server.url
        os.environ["FLETCHING_ACCESS_KEY"] = ":".join(server.access_key)
        spark = (
            SparkSession.builder.master("local[2]")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1")
            .getOrCreate()
        )
        register(spark)
        with fletching.connect() as client:
            orders = client.create_table("orders", "id BIGINT, amount DOUBLE", if_not_exists=True)
            orders.overwrite({"id": [1, 2, 3], "amount": [1.0, 20.0, 300.0]})
            copy = client.create_table("copy", "id BIGINT, amount DOUBLE", if_not_exists=True)
            copy.truncate()

            frame = spark.read.format("fletching").option("columns", "id,amount").load("orders")
            frame.where("amount > 10").write.format("fletching").mode("append").save("copy")
            assert copy.count_rows() == 2

            newest = orders.versions(limit=1)[0].version
            orders.append({"id": [4], "amount": [4000.0]})
            stream = (
                spark.readStream.format("fletching")
                .option("startingVersion", str(newest))
                .load("orders")
                .writeStream.format("fletching")
                .option("checkpointLocation", tempfile.mkdtemp())
                .trigger(availableNow=True)
            )
            stream.start("copy").awaitTermination()
            print(copy.to_table().sort_by("id").to_pydict())
            assert sorted(copy.to_table()["id"].to_pylist()) == [2, 3, 4]
        spark.stop()
