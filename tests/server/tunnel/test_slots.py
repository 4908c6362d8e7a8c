"""What streams and upserts write by: one slot, whatever server is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.server.tunnel.conftest import Tunnel, records, upserts

from fletching.server.tunnel.slots import SLOT

KINDS = ["streams", "upserts"]


@pytest.fixture(params=KINDS)
def send(request: pytest.FixtureRequest, keyed: Tunnel, tunnel: Tunnel) -> Callable[..., Any]:
    """Writes a row to a new session of each kind, with headers and parameters as they are given."""
    part = f"/{request.param}"
    streams = request.param == "streams"
    table = tunnel if streams else keyed
    made = table.done("POST", {} if streams else {"slotnum": 1}, part=part)
    name, session = ("uploadid", made["session_name"]) if streams else ("upsertid", made["id"])
    body = records([(1, "a")]) if streams else upserts([(1, "a", 85)])

    def write(headers: dict[str, str] | None = None, **query: Any) -> Any:
        given = {name: session, "slotid": SLOT, "bucketid": 0, **query}
        return table.send("PUT", given, body, part=part, headers=headers)

    return write


def test_the_one_slot_takes_records(send: Callable[..., Any]) -> None:
    again = {"odps-tunnel-retry-trace-id": "t-1"}
    assert [send(again).status for _ in range(2)] == [200, 200]
    assert send(slotid="1").status == 400
    assert send(slotid="").status == 400
