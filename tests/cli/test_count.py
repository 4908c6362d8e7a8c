from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest
from tests.cli.conftest import run_at as run
from typer.testing import CliRunner

import fletching
from fletching.cli.main import app
from fletching.errors import UsageError

ROWS = 5_000


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("count") / "data"
    table = pa.table(
        {
            "id": range(ROWS),
            "x": pa.array([None if n % 10 == 0 else n / 2 for n in range(ROWS)]),
            "text": [f"row {n:05}" for n in range(ROWS)],
            "nested": [[n] for n in range(ROWS)],
            "empty": pa.nulls(ROWS, pa.string()),
            "odd": pa.array([float("nan")] * ROWS),
        }
    )
    made = CliRunner().invoke(app, ["create", "none", "id BIGINT", "--at", str(folder)])
    assert made.exit_code == 0, made.output
    with fletching.connect(folder) as client:
        client.create_table("t", table.schema).append(table)
    return folder


def test_counting(at: Path) -> None:
    assert run(at, "count", "t").stdout == f"{ROWS}\n"
    assert run(at, "count", "t", "--filter", "id < 10").stdout == "10\n"
    assert json.loads(run(at, "count", "none", "--json").stdout) == {"table": "none", "rows": 0}


def test_describing(at: Path) -> None:
    report = json.loads(run(at, "describe", "t", "--json").stdout)
    assert report["rows"] == ROWS
    result = {column["column"]: column for column in report["columns"]}
    assert (result["id"]["least"], result["id"]["most"], result["id"]["mean"]) == (0, 4999, 2499.5)
    assert result["x"]["nulls"] == ROWS // 10
    assert result["text"]["most"] == "row 04999"
    assert result["nested"]["least"] is None
    assert result["empty"]["nulls"] == ROWS
    assert result["odd"]["mean"] is None
    shown = run(at, "describe", "t", "--columns", "ID,text", "--filter", "id < 3").stdout
    assert shown.splitlines()[1].split("\t")[3:5] == ["0", "2"]
    assert json.loads(run(at, "describe", "none", "--json").stdout)["rows"] == 0


def test_sampling(at: Path) -> None:
    def ids(*words: object) -> list[int]:
        lines = run(at, "sample", "t", "--json", "--columns", "id", *words).stdout.splitlines()
        return [json.loads(line)["id"] for line in lines]

    assert ids("--seed", 1) == ids("--seed", 1)
    drawn = ids("-n", 500, "--seed", 2)
    assert len(set(drawn)) == 500
    assert drawn == sorted(drawn)
    assert 2000 < sum(drawn) / 500 < 3000  # of all of the table, not of its beginning
    assert ids("-n", 10, "--filter", "id < 3") == [0, 1, 2]


def test_a_misspelt_column_is_answered_with_those_like_it(at: Path) -> None:
    for command in (["head", "t"], ["sample", "t"], ["describe", "t"], ["get", "t", "x.csv"]):
        with pytest.raises(UsageError, match=r"no column txt; did you mean text\?"):
            run(at, *command, "--columns", "txt")
