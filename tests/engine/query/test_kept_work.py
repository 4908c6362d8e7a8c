"""Texts that come again are neither parsed nor translated again, unless their tables have changed."""

from __future__ import annotations

from typing import Any

import pytest
from tests.engine.query.conftest import Sql

from fletching.engine.query import kept_work
from fletching.engine.query.kept_work import KeptStatements
from fletching.sql.queries import translation
from fletching.sql.statements.statement_kinds import Namespace

HERE = Namespace("demo", "default")


def test_only_what_asks_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptStatements()
    for text in ("SELECT 1", "SET a=b; SELECT a FROM t"):
        assert kept.located(text, HERE) is kept.located(text, HERE)
        assert kept.located(text, HERE) is not kept.located(text, Namespace("demo", "other"))
    for text in ("INSERT INTO t VALUES (1)", "@a := SELECT 1; SELECT * FROM @a"):
        assert kept.located(text, HERE) is not kept.located(text, HERE)
    monkeypatch.setattr(kept_work, "MOST_TEXT", 5)
    assert kept.located("SELECT 2", HERE) is not kept.located("SELECT 2", HERE)


def test_a_translation_holds_as_long_as_its_tables_do(
    sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Any:
        made.append(1)
        return translation.translate(*arguments, **options)

    monkeypatch.setattr("fletching.engine.query.query_runner.translate", counted)

    def asked(text: str) -> tuple[list[tuple[str, ...]], int]:
        made.clear()
        return sql.rows(text), len(made)

    sql("CREATE TABLE t (a BIGINT, b STRING)")
    text = "SELECT * FROM t WHERE a < 10"
    assert asked(text) == ([], 1)
    sql("INSERT INTO t VALUES (1, 'x')")
    assert asked(text) == ([("1", "x")], 0)
    assert asked(f"SET odps.sql.timezone=Asia/Shanghai; {text}") == ([("1", "x")], 1)
    sql("ALTER TABLE t ADD COLUMNS (c BIGINT)")
    assert asked(text) == ([("1", "x", "\\N")], 1)
    sql("CREATE TABLE u (a BIGINT)")
    sql("INSERT INTO u VALUES (7)")
    assert asked(text)[1] == 0
    sql("DROP TABLE t; ALTER TABLE u RENAME TO t")
    assert asked(text) == ([("7",)], 1)
    # A view's text and the moment of a statement are found out anew each time.
    sql("CREATE VIEW v AS SELECT a FROM t")
    sql("SELECT * FROM v")
    sql("CREATE OR REPLACE VIEW v AS SELECT a + 1 AS a FROM t")
    assert asked("SELECT * FROM v") == ([("8",)], 1)
    for timed in (
        "SELECT getdate() FROM t",
        "SELECT a FROM t WHERE a < unix_timestamp()",
        "SELECT a FROM t WHERE cast(a AS STRING) < to_char(getdate(), 'yyyymmdd')",
    ):
        asked(timed)
        assert asked(timed)[1] == 1, timed
