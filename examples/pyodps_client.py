"""PyODPS, unchanged, against a service of your own: tables, the storage API, SQL."""

import pyarrow as pa
from odps import ODPS
from odps.maxstorage import MaxStorageClient

import fletching

with fletching.serve("./data", port=0) as server:
    access_id, access_key = server.access_key
    odps = ODPS(access_id, access_key, project="demo", endpoint=f"{server.url}/api")
    odps.delete_table("orders", if_exists=True)
    odps.create_table("orders", "id bigint, amount double")

    storage = MaxStorageClient(odps)
    session = storage.create_table_write_session("orders")
    with session.open_arrow_writer("stream-0") as writer:
        writer.write_batch(pa.record_batch({"id": [1, 2, 3], "amount": [9.5, 1.0, 4.0]}))
    session.commit()

    session = storage.create_table_read_session("orders", filter_predicate="amount > 2")
    for split in session.splits:
        with session.open_arrow_reader(split) as reader:
            for batch in reader:
                print(batch.to_pylist())

    with odps.execute_sql("select count(*) from orders").open_reader() as reader:
        assert [record[0] for record in reader] in ([3], ["3"])

    # What PyODPS wrote, our client reads, and the reverse.
    client = fletching.connect(server.url, access_id=access_id, access_key=access_key)
    assert client.table("orders").count_rows() == 3
