"""Upsert sessions: one slot, one bucket, and the last record of a key counts."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.tunnel.conftest import Tunnel, upserts

UPSERT, DELETE = 85, 68


def begin(tunnel: Tunnel, **options: Any) -> str:
    return str(tunnel.done("POST", {"slotnum": 1, **options}, part="/upserts")["id"])


def write(
    tunnel: Tunnel, session: str, rows: list[tuple[int | None, str | None, int]], trace: str = ""
) -> Any:
    headers = {"odps-tunnel-retry-trace-id": trace} if trace else {}
    query: dict[str, Any] = {"upsertid": session, "bucketid": 0, "slotid": "0"}
    query["record_count"] = len(rows)
    return tunnel.send("PUT", query, upserts(rows), part="/upserts", headers=headers)


def commit(tunnel: Tunnel, session: str) -> str:
    return str(tunnel.done("POST", {"upsertid": session}, part="/upserts")["status"])


def test_what_a_session_says(keyed: Tunnel) -> None:
    result = keyed.done("POST", {"slotnum": 1}, part="/upserts")
    assert result["status"] == "normal"
    assert result["slots"] == [{"slot_id": "0", "worker_addr": keyed.client.netloc, "buckets": [0]}]
    assert result["hash_key"] == ["id"]
    # Another word is no hash to clients; whether they may leave columns out is told, too.
    assert (result["hasher"], result["enable_partial_update"]) == ("default", False)
    assert (
        keyed.done("POST", {"slotnum": 4, "lifecycle": 24}, part="/upserts")["slots"]
        == result["slots"]
    )
    # The client adds its five columns itself.
    assert [each["name"] for each in result["schema"]["columns"]] == ["id", "text"]
    assert keyed.done("GET", {"upsertid": result["id"]}, part="/upserts") == result


def test_the_last_record_of_a_key_counts(keyed: Tunnel) -> None:
    session = begin(keyed)
    write(keyed, session, [(1, "a", UPSERT), (2, "b", UPSERT), (3, "c", UPSERT), (1, "d", UPSERT)])
    write(keyed, session, [(2, "later", UPSERT), (3, None, DELETE), (4, "e", UPSERT)])
    assert keyed.rows() == []
    assert commit(keyed, session) == "committed"
    assert sorted(keyed.rows()) == [(1, "d"), (2, "later"), (4, "e")]
    session = begin(keyed)
    write(keyed, session, [(1, None, DELETE), (4, None, DELETE)])
    write(keyed, session, [(4, "again", UPSERT)])
    commit(keyed, session)
    assert sorted(keyed.rows()) == [(2, "later"), (4, "again")]


def test_a_commit_may_be_repeated(keyed: Tunnel) -> None:
    session = begin(keyed)
    write(keyed, session, [(1, "a", UPSERT)])
    assert [commit(keyed, session) for _ in range(3)] == ["committed"] * 3
    assert write(keyed, session, [(2, "b", UPSERT)]).status == 409
    assert keyed.rows() == [(1, "a")]


def test_records_that_are_sent_again_do_not_undo_later_ones(keyed: Tunnel) -> None:
    session = begin(keyed)
    write(keyed, session, [(1, "first", UPSERT)], trace="one")
    write(keyed, session, [(1, "second", UPSERT)], trace="two")
    # The answer to the first was lost, and the client repeats it late.
    assert write(keyed, session, [(1, "first", UPSERT)], trace="one").status == 200
    commit(keyed, session)
    assert keyed.rows() == [(1, "second")]


def test_a_session_that_is_dropped(keyed: Tunnel) -> None:
    session = begin(keyed)
    write(keyed, session, [(1, "a", UPSERT)])
    for _ in range(2):
        assert keyed.send("DELETE", {"upsertid": session}, part="/upserts").status == 200
    assert keyed.send("POST", {"upsertid": session}, part="/upserts").status == 404
    assert keyed.rows() == []


def test_deletes_need_nothing_but_the_key(keyed: Tunnel) -> None:
    session = begin(keyed)
    assert write(keyed, session, [(1, None, DELETE)]).status == 200
    refused = write(keyed, session, [(None, None, DELETE)])
    assert refused.status == 400
    assert "primary key" in refused.json["Message"]


@pytest.mark.parametrize("change", [{"bucketid": 1}, {"slotid": "1"}, {"bucketid": "x"}])
def test_other_slots_and_buckets_are_refused(keyed: Tunnel, change: dict[str, Any]) -> None:
    query = {"upsertid": begin(keyed), "bucketid": 0, "slotid": "0", **change}
    assert keyed.send("PUT", query, upserts([(1, "a", UPSERT)]), part="/upserts").status == 400


def test_an_operation_that_is_none(keyed: Tunnel) -> None:
    refused = write(keyed, begin(keyed), [(1, "a", 7)])
    assert (refused.status, refused.json["Code"]) == (400, "InvalidArgument")


def test_a_table_without_a_key(tunnel: Tunnel) -> None:
    refused = tunnel.send("POST", {"slotnum": 1}, part="/upserts")
    assert refused.status == 400
    assert "primary key" in refused.json["Message"]
