from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from fletching.server.request_ids import new_request_id


def test_ids_have_their_form_and_never_repeat() -> None:
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda _: new_request_id(), range(2000)))
    assert len(set(ids)) == 2000
    assert all(re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]{8,}", each) for each in ids)


def test_another_process_makes_others() -> None:
    code = "from fletching.server.request_ids import new_request_id as n; print(n())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.split("-")[0] != new_request_id().split("-")[0]
