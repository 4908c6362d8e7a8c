"""The mutation campaign changes what it says it changes, and one place at a time."""

from __future__ import annotations

import ast
import json
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import coverage
import mutants.__main__
import pytest
from mutants.__main__ import FAILS_ALWAYS, FAILS_ONCE, SURVIVORS, asked_of, choose
from mutants.__main__ import SOURCE as SOURCE_FOLDER
from mutants.operators import mutations
from mutants.recorder import ROOT, fingerprint
from mutants.selection import Selection, mentions, nearest

SOURCE = """
def between(low: int, value: int, high: int) -> bool:
    \"\"\"Says whether low <= value < high.\"\"\"
    if value < low:
        raise ValueError(f"{value} < {low}")
    return not value >= high and value + 2 > low
"""


def test_every_mutation_compiles_and_differs_from_the_source() -> None:
    result = list(mutations("module", SOURCE))
    plain = ast.dump(ast.parse(SOURCE))
    assert result
    for mutation in result:
        assert ast.dump(ast.parse(mutation.source)) != plain, mutation
    assert len({mutation.name for mutation in result}) == len(result)
    assert len({mutation.source for mutation in result}) == len(result)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("value < low", "value <= low"),
        ("value >= high", "value > high"),
        ("not value >= high", "value >= high"),
        ("value + 2", "value - 2"),
        ("2", "3"),
        ("not value >= high and value + 2 > low", "not value >= high or value + 2 > low"),
        ("not value >= high and value + 2 > low", "value + 2 > low"),
    ],
)
def test_operators(before: str, after: str) -> None:
    assert (before, after) in {(m.before, m.after) for m in mutations("module", SOURCE)}


def test_how_much_is_taken_at_a_time_is_a_cost() -> None:
    source = "SIZE = 8 << 20\nWIDTH = 4\n\ndef f(x: int) -> int:\n    return x << 8\n"
    result = {(m.before, m.after) for m in mutations("module", source)}
    assert result == {("4", "5"), ("x << 8", "x >> 8"), ("8", "9")}


def test_a_refusal_can_be_forgotten() -> None:
    skipped = [m for m in mutations("module", SOURCE) if m.after == "nothing"]
    assert [m.before for m in skipped] == ["raise ValueError(f'{value} < {low}')"]


def test_the_same_seed_draws_the_same_mutations() -> None:
    first = choose(20, seed=3, only="wire/")
    assert [m.name for _, m in first] == [m.name for _, m in choose(20, seed=3, only="wire/")]
    assert {module.parts[0] for module, _ in first} == {"wire"}


def test_what_is_drawn_of_a_module_depends_on_that_module_alone() -> None:
    """So an edit elsewhere leaves what was found out about it of use."""
    of_all = [m.name for module, m in choose(10_000, 3, "wire/crc") if "blocks" in module.name]
    alone = [m.name for _, m in choose(10_000, 3, "wire/crc32c_blocks")]
    assert of_all == alone != sorted(alone)


def test_every_known_survivor_is_a_mutation_of_today() -> None:
    known = tomllib.loads(SURVIVORS.read_text())["survivors"]
    for module in {name.partition(":")[0] for name in known}:
        there = {m.name for m in mutations(module, (SOURCE_FOLDER / f"{module}.py").read_text())}
        assert {name for name in known if name.startswith(f"{module}:")} <= there


def test_a_module_is_tried_with_its_own_tests_first() -> None:
    assert nearest(Path("wire/crc32c_blocks.py")) == [
        "tests/wire/test_crc32c_blocks.py",
        "tests/wire",
    ]


def test_a_module_of_which_nothing_is_recorded_is_tried_with_tests_that_import_it(
    tmp_path: Path,
) -> None:
    asked = Selection(tmp_path).tests(Path("engine/query/row_writing.py"), range(1))
    assert asked[0] == "tests/engine/query/test_row_writing.py"
    assert mentions(Path("wire/crc32c_blocks.py"))[0] == "tests/wire/test_crc32c_blocks.py"
    assert "tests/objects/test_local.py" not in asked


def test_a_test_file_that_no_record_knows_is_asked_first(tmp_path: Path) -> None:
    module, own = Path("wire/crc32c_blocks.py"), "tests/wire/test_crc32c_blocks.py"
    other = "tests/wire/test_tunnel_rows.py::test_one"
    data = coverage.CoverageData(str(tmp_path / "tests-x.coverage"))
    data.set_context(other)
    data.add_lines({str(SOURCE_FOLDER / module): [50]})
    data.write()
    record: dict[str, Any] = {"tests": {other: 0.1}, "files": {}}
    record["modules"] = {module.as_posix(): fingerprint(SOURCE_FOLDER / module)}
    for known, asked in (("another text", [own, other]), (fingerprint(ROOT / own), [other])):
        record["files"] = {own: known}
        (tmp_path / "tests-x.json").write_text(json.dumps(record))
        assert Selection(tmp_path).tests(module, range(50, 51)) == asked
        assert Selection(tmp_path).tests(module, None) == asked


def test_what_a_module_sets_up_is_asked_of_all_its_tests() -> None:
    result = {m.before: asked_of(m) for m in mutations("module", "SIZE = 4\n" + SOURCE)}
    assert result["4"] is None
    assert result["2"] == range(7, 8)


@pytest.mark.parametrize(
    ("outcome", "again", "unchanged", "doubt"),
    [
        ("failed", "failed", "passed", ""),
        ("hung", "hung", "passed", ""),
        ("failed", "passed", None, FAILS_ONCE),
        ("hung", "passed", None, FAILS_ONCE),
        ("hung", "failed", None, FAILS_ONCE),
        ("failed", "failed", "failed", FAILS_ALWAYS),
        ("hung", "hung", "hung", FAILS_ALWAYS),
    ],
)
def test_a_kill_is_believed_when_it_happens_again_and_never_without_the_mutation(
    outcome: str,
    again: str,
    unchanged: str | None,
    doubt: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = _answers(monkeypatch, [again, unchanged])
    ended: Any = SimpleNamespace(failed="", test="t::a", wanted=["t::a", "t::b"])
    if outcome == "failed":
        ended.failed = "t::a"
    selection: Any = SimpleNamespace(seconds={})
    module = Path("wire/crc32c_blocks.py")
    changed = mutants.__main__.place(tmp_path, module)
    changed.parent.mkdir(parents=True)
    changed.write_text("changed")
    result = mutants.__main__.doubts(ended, outcome, tmp_path, module, selection)
    assert result == doubt
    plain = (SOURCE_FOLDER / module).read_text()
    wanted = [(["t::a"], "changed"), (["t::a"], plain)]
    assert [(names, changed_text) for names, changed_text in asked] == (
        wanted if unchanged else wanted[:1]
    )


def test_what_keeps_all_tests_from_beginning_is_asked_without_the_mutation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: Any = SimpleNamespace(failed="", test="", wanted=["t::a", "t::b"])
    selection: Any = SimpleNamespace(seconds={})
    module = Path("wire/crc32c_blocks.py")
    mutants.__main__.place(tmp_path, module).parent.mkdir(parents=True)
    mutants.__main__.place(tmp_path, module).touch()
    asked = _answers(monkeypatch, ["failed", "passed", "failed", "failed"])
    assert mutants.__main__.doubts(ended, "failed", tmp_path, module, selection) == ""
    with pytest.raises(SystemExit, match=r"(?s)cannot begin.*no such test"):
        mutants.__main__.doubts(ended, "failed", tmp_path, module, selection)
    assert [names for names, _ in asked] == [["t::a", "t::b"]] * 4


def _answers(monkeypatch: pytest.MonkeyPatch, answers: list[Any]) -> list[tuple[list[str], str]]:
    """Has forks give these answers; what they are asked, and what stands in the slot then."""
    asked: list[tuple[list[str], str]] = []

    def fork(folder: Path, wanted: list[str], log: Path, _seconds: object) -> Any:
        module = mutants.__main__.place(folder, Path("wire/crc32c_blocks.py"))
        asked.append((wanted, module.read_text()))
        log.write_text("no such test")
        return SimpleNamespace(wait=lambda: answers.pop(0))

    monkeypatch.setattr(mutants.__main__, "Fork", fork)
    return asked
