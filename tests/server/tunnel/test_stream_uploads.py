"""Stream uploads: rows that are visible at once."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.tunnel.conftest import Row, Tunnel, records


def begin(tunnel: Tunnel, **options: Any) -> Any:
    return tunnel.done("POST", {"check_latest_schema": "false", **options}, part="/streams")


def write(tunnel: Tunnel, session: str, rows: list[Row], trace: str = "", **options: Any) -> Any:
    headers = {"odps-tunnel-retry-trace-id": trace} if trace else {}
    query = {"uploadid": session, "slotid": "0", **options}
    return tunnel.send("PUT", query, records(rows), part="/streams", headers=headers)


def test_rows_are_visible_at_once(tunnel: Tunnel) -> None:
    session = begin(tunnel)
    assert session["slots"] == [["0", tunnel.client.netloc]]
    reply = write(tunnel, session["session_name"], [(1, "a")])
    assert reply.status == 200
    # Clients fail without these.
    assert reply.headers["odps-tunnel-routed-server"] == tunnel.client.netloc
    assert reply.headers["odps-tunnel-slot-num"] == "1"
    assert tunnel.rows() == [(1, "a")]
    write(tunnel, session["session_name"], [(2, "b"), (3, "c")])
    assert tunnel.rows() == [(1, "a"), (2, "b"), (3, "c")]


def test_a_pack_that_is_sent_again_adds_nothing(tunnel: Tunnel) -> None:
    session = begin(tunnel)["session_name"]
    for _ in range(3):
        assert write(tunnel, session, [(1, "a")], trace="the same").status == 200
    assert write(tunnel, session, [(1, "a")], trace="another").status == 200
    assert tunnel.rows() == [(1, "a"), (1, "a")]


def test_ending_a_session_keeps_its_rows(tunnel: Tunnel) -> None:
    session = begin(tunnel)["session_name"]
    write(tunnel, session, [(1, "a")])
    assert tunnel.send("POST", {"uploadid": session}, part="/streams").status == 200
    assert write(tunnel, session, [(2, "b")]).status in {404, 409}
    assert tunnel.rows() == [(1, "a")]


def test_partitions(parted: Tunnel) -> None:
    refused = parted.send("POST", {"partition": "pt=a"}, part="/streams")
    assert (refused.status, refused.json["Code"]) == (404, "NoSuchPartition")
    session = begin(parted, partition="pt=a", create_partition="")["session_name"]
    write(parted, session, [(1, "a")], partition="pt=a")
    assert parted.rows(partition="pt=a") == [(1, "a")]


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"dynamic_partition": "true"}, 400, "InvalidArgument"),
        ({"schema_version": "77"}, 404, "NoSuchSchema"),
        ({"partition": "pt=a"}, 400, "InvalidPartitionSpec"),
    ],
)
def test_sessions_that_are_refused(
    tunnel: Tunnel, query: dict[str, Any], status: int, code: str
) -> None:
    refused = tunnel.send("POST", query, part="/streams")
    assert (refused.status, refused.json["Code"]) == (status, code)


def test_packs_that_are_refused(tunnel: Tunnel) -> None:
    session = begin(tunnel)["session_name"]
    assert write(tunnel, session, [(None, "a")]).status == 400
    assert write(tunnel, session, [(1, "a")], slotid="1").status == 400
    assert write(tunnel, "nobody's", [(1, "a")]).status == 404
    cut = records([(1, "a")])[:-1]
    query = {"uploadid": session, "slotid": "0"}
    assert tunnel.send("PUT", query, cut, part="/streams").status == 400
    assert tunnel.rows() == []


def test_looking_a_session_up(tunnel: Tunnel) -> None:
    session = begin(tunnel)
    query = {"uploadid": session["session_name"], "read_only": "true"}
    result = tunnel.done("GET", query, part="/streams")
    assert result == session
    assert isinstance(result["schema_version"], str)
