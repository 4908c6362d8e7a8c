"""Results of statements through PyODPS's own instance tunnel."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from fletching.server.metadata.interactive_resources import is_before_0_13
from fletching.server.tunnel import instance_downloads


class _Errors:
    """PyODPS's errors, imported when a test asks: not by every process that only collects the tests."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("odps.errors"), name)


errors: Any = _Errors()
STATEMENT = """
select 1 as id, 'a' as name, 1.5 as x, cast('12.30' as decimal(10, 2)) as d, array(1, null) as l,
  map('k', 1) as m, named_struct('x', 7, 'y', 'z') as s, date '2026-01-02' as day,
  timestamp '2026-01-02 03:04:05.5' as t, true as b
union all select 2, null, null, null, null, null, null, null, null, null order by id
"""


@pytest.fixture(scope="module")
def instance(odps: Any) -> Any:
    return odps.execute_sql(STATEMENT)


def session(odps: Any, instance: Any, **options: Any) -> Any:
    from odps.tunnel import InstanceTunnel

    return InstanceTunnel(odps).create_download_session(instance, **options)


def test_records_have_their_types(instance: Any) -> None:
    with instance.open_reader(tunnel=True) as reader:
        assert reader.count == 2
        first, second = [list(record.values) for record in reader]
    assert first[:3] == [1, "a", 1.5]
    assert str(first[3]) == "12.30"
    assert first[4] == [1, None]
    assert dict(first[5]) == {"k": 1}
    assert tuple(first[6]) == (7, "z")
    assert str(first[7]) == "2026-01-02"
    assert str(first[8]).startswith("2026-01-02")
    assert first[9] is True
    assert second == [2, *[None] * 9]


def test_arrow_has_the_same_rows(instance: Any) -> None:
    with instance.open_reader(tunnel=True, arrow=True) as reader:
        table = reader.read_all()
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == [1, 2]
    assert rows[0]["l"] == [1, None]
    assert rows[0]["t"] is not None
    assert all(value is None for name, value in rows[1].items() if name != "id")


@pytest.mark.parametrize(
    ("user_agent", "structs"),
    [
        ("pyodps/0.13.2 CPython/3.11", True),
        ("pyodps/0.13.1", True),
        ("pyodps/1.0", True),
        ("pyodps/0.12.5.1 CPython/3.11", False),
        ("pyodps/0.9", False),
        ("another", True),
        ("", True),
    ],
)
def test_old_clients_get_plain_timestamps(user_agent: str, structs: bool) -> None:
    assert is_before_0_13(user_agent) is not structs


@pytest.mark.parametrize("algorithm", [None, "zlib", "zstd", "lz4"])
def test_rows_columns_and_codings(odps: Any, instance: Any, algorithm: str | None) -> None:
    opened = session(odps, instance, compress_algo=algorithm)
    options = {"compress": algorithm is not None, "columns": ["name", "id"]}
    with opened.open_record_reader(0, 2, **options) as reader:
        assert [list(record.values) for record in reader] == [["a", 1], [None, 2]]
    with opened.open_arrow_reader(1, 1, **options) as reader:
        assert reader.read().to_pydict() == {"name": [None], "id": [2]}
    again = session(odps, instance, download_id=opened.id)
    assert (again.id, again.count) == (opened.id, 2)
    with opened.open_record_reader(2, 1) as reader:
        assert list(reader) == []
    with pytest.raises(errors.ODPSError, match="no column"):
        opened.open_record_reader(0, 1, columns=["other"])
    with pytest.raises(errors.ODPSError, match="beyond"):
        opened.open_record_reader(3, 1)


def test_the_limit(odps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_downloads, "LIMITED_ROWS", 3)
    instance = odps.execute_sql("select explode(sequence(1, 5)) as a")
    limited, whole = (session(odps, instance, limit=flag) for flag in (True, False))
    assert (limited.count, whole.count) == (3, 5)
    again = session(odps, instance, download_id=limited.id)
    assert again.count == 3
    with limited.open_record_reader(1, 4) as reader:
        assert [record[0] for record in reader] == [2, 3]
    with whole.open_record_reader(1, 4) as reader:
        assert [record[0] for record in reader] == [2, 3, 4, 5]
    with pytest.raises(errors.NoSuchObject):
        session(odps, instance, download_id="another")


def test_large_results_are_read_from_where_they_are_kept(odps: Any) -> None:
    instance = odps.execute_sql("select explode(sequence(1, 100000)) as a")
    with instance.open_reader(tunnel=True) as reader:
        assert reader.count == 100_000
        assert reader[99_999][0] == 100_000
    assert len(instance.to_pandas()) == 100_000


@pytest.mark.parametrize("statement", ["show tables", "create table if not exists made (a bigint)"])
def test_what_chose_no_rows_has_text(odps: Any, statement: str) -> None:
    instance = odps.execute_sql(statement)
    with pytest.raises(errors.InstanceTypeNotSupported):
        instance.open_reader(tunnel=True)
    assert hasattr(instance.open_reader(), "raw")


def test_a_statement_that_goes_on(odps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_downloads, "WAIT_SECONDS", 0.01)
    instance = odps.run_sql(
        "select count(*) from (select explode(sequence(1, 1000000)) as a) t"
        " cross join (select explode(sequence(1, 1000000)) as b) u where a * b < 0"
    )
    with pytest.raises(errors.InstanceNotTerminate):
        instance.open_reader(tunnel=True)
    instance.stop()
    with pytest.raises(errors.InstanceTypeNotSupported):
        instance.open_reader(tunnel=True)
    with pytest.raises(errors.NoSuchObject):
        odps.get_instance("absent").open_reader(tunnel=True)


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("select * from absent_table", "NoSuchTable"),
        ("select absent from (select 1) t", "ODPSError"),
    ],
)
def test_failures_are_told_instead_of_rows(odps: Any, statement: str, error: str) -> None:
    failed = odps.run_sql(statement)
    failed.wait_for_completion()
    with pytest.raises(getattr(errors, error), match="absent"):
        session(odps, failed)
    accelerated = odps.run_sql_interactive(statement)
    with pytest.raises(getattr(errors, error), match="absent"):
        list(accelerated.open_reader(tunnel=True))


def test_sessions_of_query_acceleration(odps: Any) -> None:
    instance = odps.execute_sql_interactive("select 1 as a, 'é' as `größe`", fallback=False)
    with instance.open_reader(tunnel=True) as reader:
        assert [list(record.values) for record in reader] == [[1, "é"]]
        assert [column.name for column in reader.schema.columns] == ["a", "größe"]
    with pytest.raises(errors.NoSuchTable):
        odps.execute_sql_interactive("select * from absent", fallback=False)
