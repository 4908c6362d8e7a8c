"""Ray Data: read tasks over one version, and a write that is committed once."""

import ray
from ray.data.expressions import col

import fletching
from fletching.connectors.ray import read_table, write_table

if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    # Ray's workers are other processes: they read from a service.
    with fletching.serve("./data", port=0) as server:
        access_id, access_key = server.access_key
        with fletching.connect(server.url, access_id=access_id, access_key=access_key) as client:
            numbers = client.create_table("numbers", "n BIGINT, s STRING", if_not_exists=True)
            numbers.overwrite({"n": range(1000), "s": [f"s{n}" for n in range(1000)]})
            large = client.create_table("large", "n BIGINT", if_not_exists=True)

            dataset = read_table(numbers).filter(expr=col("n") >= 900).select_columns(["n"])
            # Workers read by a token for this table; the key stays here.
            write_table(dataset, large, mode="overwrite", idempotency_key="large-1")
            print(large.count_rows(), "rows")
            assert large.count_rows() == 100
    ray.shutdown()
