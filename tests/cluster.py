"""``python -m tests.cluster COMMAND...``: runs a command with a PostgreSQL and an S3 store of its own.

The environment says where they are, so that whatever opens a data set in the command opens one there;
FLETCHING_TEST_SERVERS says how many servers should stand before it. Ends both with the command.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys

from tests.postgresql import PostgresServer
from tests.seaweedfs import BUCKET, SeaweedServer, environment

SERVERS = 3


def main() -> int:
    """Runs the command; its exit status."""
    database = PostgresServer()
    try:
        objects = SeaweedServer()
        try:
            variables = {
                **os.environ,
                **environment(objects.url),
                "FLETCHING_CATALOG": database.url,
                "FLETCHING_OBJECTS": f"s3://{BUCKET}/{secrets.token_hex(8)}",
                "FLETCHING_SERVER_KEY": secrets.token_hex(32),
                "FLETCHING_TEST_SERVERS": str(SERVERS),
            }
            return subprocess.run(sys.argv[1:], env=variables, check=False).returncode
        finally:
            objects.close()
    finally:
        database.close()


if __name__ == "__main__":
    sys.exit(main())
