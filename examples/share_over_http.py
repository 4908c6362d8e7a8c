"""A server over a folder, and a key of its own for somebody who may only read one table."""

import json
import subprocess
import sys
import time
from decimal import Decimal

import fletching
from fletching.errors import NoPermissionError

with fletching.serve("./data", port=0) as server:
    admin_id, admin_secret = server.access_key  # the folder's own key: may do everything
    with fletching.connect(server.url, access_id=admin_id, access_key=admin_secret) as admin:
        admin.create_table("prices", "item STRING, price DECIMAL(10,2)", if_not_exists=True)
        admin.create_table("salaries", "name STRING, amount BIGINT", if_not_exists=True)
        admin.table("prices").overwrite([{"item": "pen", "price": Decimal("1.50")}])

    # On the server's machine; a running server notices within two seconds.
    made = subprocess.run(
        f"{sys.executable} -m fletching keys create --json --grant read:demo.prices --folder ./data".split(),
        check=True,
        capture_output=True,
        text=True,
    )
    key = json.loads(made.stdout)
    with fletching.connect(
        server.url, access_id=key["access_id"], access_key=key["access_key"]
    ) as reader:
        for _ in range(100):
            try:
                print(reader.table("prices").to_table().to_pylist())
                break
            except fletching.FletchingError:
                time.sleep(0.1)  # not noticed yet
        print("visible:", [str(name) for name in reader.list_tables()])
        try:
            reader.table("salaries")
        except NoPermissionError as error:
            print("refused:", error.message)
