"""Reports as values: sums that follow from their parts, and JSON that has all of them."""

from __future__ import annotations

import dataclasses
import json

import pytest

from fletching.ipc.reports import ColumnReport, Inspection, MessageReport, PartReport, Problem


def message(kind: str, rows: int | None = None) -> MessageReport:
    return MessageReport(100, kind, "V5", 8, 64, 32, rows)


PART = PartReport(
    "file", 0, 500, "little", (("a", "int64"),),
    (message("schema"), message("dictionary batch", 7), message("record batch", 3), message("record batch", 4)),
    None, (480, 20), {b"k": b"\xffv"},
)  # fmt: skip


def test_sums_are_of_record_batches() -> None:
    assert (PART.rows, PART.batches) == (7, 2)
    assert PART.messages[0].end == 196


@pytest.mark.parametrize(("stored", "raw", "ratio"), [(10, 25, 2.5), (0, 0, 1.0), (0, 5, 1.0)])
def test_ratios(stored: int, raw: int, ratio: float) -> None:
    assert ColumnReport("a", "int64", 0, stored, raw, ()).ratio == ratio


@pytest.mark.parametrize(
    ("parts", "problems", "ok"),
    [
        ((), (), False),
        ((PART,), (), True),
        ((PART,), (Problem(5, "warning", "w"),), True),
        ((PART,), (Problem(5, "warning", "w"), Problem(9, "error", "e")), False),
    ],
)
def test_what_is_in_order(
    parts: tuple[PartReport, ...], problems: tuple[Problem, ...], ok: bool
) -> None:
    report = Inspection(length=500, parts=parts, other=(), problems=problems, verified=False)
    assert report.ok is ok
    assert report.as_dict()["ok"] is ok


def test_json_has_everything() -> None:
    report = Inspection(length=500, parts=(PART,), other=((1, 2),), problems=(), verified=True)
    result = json.loads(json.dumps(report.as_dict()))
    assert result["parts"][0]["rows"] == 7
    assert result["parts"][0]["batches"] == 2
    assert result["parts"][0]["footer_metadata"] == {"k": "\ufffdv"}
    assert result["other"] == [[1, 2]]
    assert set(result) == {field.name for field in dataclasses.fields(report)} | {"ok"}
