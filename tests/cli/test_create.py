"""``fletching create``: a table out of columns or of a file, and its project."""

from __future__ import annotations

from tests.cli.conftest import TABLE, Shell

import fletching
from fletching.cli.output import ExitCode


def test_create_makes_the_project_of_a_service_too(shell: Shell) -> None:
    with fletching.serve(shell.folder / "served", port=0) as server:
        where = ("--at", server.url, "--access-key", ":".join(server.access_key))
        shell.location = where
        shell("put", "events", "in.parquet", "--project", "fresh", exits=ExitCode.FAILED)
        assert "--create" in shell.errors
        assert (
            shell.json("put", "events", "in.parquet", "--project", "fresh", "--create")["rows"] == 3
        )
        assert shell.json("ls", "--project", "fresh")[0]["rows"] == 3


def test_columns_come_from_text_or_from_a_file(shell: Shell) -> None:
    shell("create", "t", "id BIGINT NOT NULL, tags ARRAY<STRING>", "--partition-by", "pt,region")
    shell("create", "t", "id BIGINT", "--if-not-exists")
    shell("create", "like", "--like", "in.parquet")
    with fletching.connect(shell.folder / "data") as client:
        table = client.table("t")
        assert table.schema.names == ["id", "tags", "pt", "region"]
        assert table.partition_columns == ("pt", "region")
        assert not table.schema.field("id").nullable
        assert client.table("like").schema.equals(TABLE.schema)
    shell("create", "t", "id BIGINT", exits=ExitCode.FAILED)
    assert "already exists" in shell.errors
