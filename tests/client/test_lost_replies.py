"""Administration over HTTP whose reply is lost: the client sends it again, and it is done once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pytest

import fletching
from fletching.client import Client
from fletching.client.transports.http.http_transport import HttpTransport
from fletching.errors import ConnectionBrokenError

SCHEMA = pa.schema([("id", pa.int64())])


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("lost") / "data"
    with (
        fletching.serve(folder, port=0, access_keys={"id": "key"}) as server,
        fletching.connect(server.url, project="demo", access_id="id", access_key="key") as opened,
    ):
        opened.create_table("parts", SCHEMA, partition_by=["p"]).create_partition("p=0")
        for name in ("t", "old", "gone", "left"):
            opened.create_table(name, SCHEMA).append({"id": [1]})
        opened.table("t").create_tag("old")
        yield opened


OPERATIONS: dict[str, Callable[[Client], Any]] = {
    "create": lambda client: client.create_table("new", SCHEMA),
    "create with rows": lambda client: client.create_table("full", pa.table({"id": [1]})),
    "drop": lambda client: client.drop_table("gone"),
    "rename": lambda client: client.table("old").rename("renamed"),
    "create partition": lambda client: client.table("parts").create_partition("p=1"),
    "drop partition": lambda client: client.table("parts").drop_partition("p=0"),
    "add columns": lambda client: client.table("t").add_columns("x BIGINT"),
    "properties": lambda client: client.table("t").set_properties({"a": "b"}),
    "tag": lambda client: client.table("t").create_tag("new"),
    "drop a tag": lambda client: client.table("t").drop_tag("old"),
    "statements": lambda client: client.sql("insert into left values (2); drop table left"),
    "schema": lambda client: client.sql("create schema s"),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_was_done_is_not_refused(
    client: Client, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = HttpTransport.call
    answered: list[object] = []

    def lossy(transport: HttpTransport, request: Any, attempt: Any) -> Any:
        answer = call(transport, request, attempt)
        # Of each request the first answer is lost.
        if all(request is not each for each in answered):
            answered.append(request)
            raise ConnectionBrokenError("the connection ended")
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(HttpTransport, "call", lossy)
        OPERATIONS[name](client)
    assert answered
