"""A writer that dies and comes back: rows are visible at each flush, and none is stored twice."""

import fletching

EVENTS = [{"id": number, "text": f"event {number}"} for number in range(100)]


def run(client, upto):
    """Sends the events that are not stored yet, in flushes of ten, up to one of them."""
    table = client.table("events")
    # The stream's name stays the same over restarts; resume asks the service how far it is.
    with table.stream_writer("sensor-7", resume=True) as writer:
        for start in range(writer.row_offset, upto, 10):
            writer.write(EVENTS[start : start + 10])
            writer.flush()  # durable and visible; a repeated one is recognised by its offset
        return writer.row_offset


with fletching.serve("./data", port=0) as server:
    access_id, access_key = server.access_key
    with fletching.connect(server.url, access_id=access_id, access_key=access_key) as client:
        client.drop_table("events", if_exists=True)
        client.create_table("events", "id BIGINT, text STRING")
        print("stored", run(client, 40))
        # ... the writer is killed, and started again with all events ...
        print("stored", run(client, 100))
        ids = sorted(client.table("events").to_table()["id"].to_pylist())
        assert ids == list(range(100))
