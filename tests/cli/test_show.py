"""``fletching show``: one table's columns and figures."""

from __future__ import annotations

from tests.cli.conftest import Shell


def test_columns_have_both_their_types_and_what_they_are(shell: Shell) -> None:
    shell("create", "t", "id BIGINT NOT NULL, tags ARRAY<STRING>", "--partition-by", "pt,region")
    shown = shell("show", "t")
    for text in ("array<string>", "not null", "partition"):
        assert text in shown
    assert "version 0" in shell.errors
    shell("create", "like", "--like", "in.parquet")
    assert "timestamp[us]" in shell("show", "like")


def test_programs_get_the_figures_as_json(shell: Shell) -> None:
    shell("put", "t", "in.parquet", "--create")
    shown = shell.json("show", "t")
    assert shown["table"] == "demo.default.t"
    assert (shown["rows"], shown["segments"]) == (3, 1)
    assert shown["bytes"] > 0
    assert shown["modified_at"] >= shown["created_at"]
    assert [(c["name"], c["arrow_type"], c["partition"]) for c in shown["columns"]] == [
        ("id", "int64", False),
        ("name", "string", False),
        ("at", "timestamp[us]", False),
    ]
