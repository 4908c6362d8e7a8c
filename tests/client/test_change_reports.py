"""What a change did: a number that says more, and pickles."""

from __future__ import annotations

import pickle

import pytest

from fletching.client.change_reports import ChangeReport
from fletching.protocol.messages.responses import Changed


@pytest.mark.parametrize(
    ("report", "number"),
    [
        (ChangeReport(3, 5), 5),
        (ChangeReport(3, 5, 2, 9), 7),
        (ChangeReport(3, rows_deleted=4), 4),
        (ChangeReport(3), 0),
        (ChangeReport(3, 5, count=8), 8),
    ],
)
def test_as_a_number_it_is_what_was_written_or_else_deleted(
    report: ChangeReport, number: int
) -> None:
    assert report == number
    assert str(report) == str(number)
    assert f"{report:>3}" == f"{number:>3}"
    assert bool(report) is bool(number)
    again = pickle.loads(pickle.dumps(report))
    assert (again, repr(again)) == (report, repr(report))


def test_the_figures_are_shown_by_their_names() -> None:
    assert repr(ChangeReport(3, 5, 2, 9)) == (
        "ChangeReport(version=3, rows_inserted=5, rows_updated=2, rows_deleted=9)"
    )


def test_replies_become_reports() -> None:
    report = ChangeReport.of(Changed(version=4, rows_inserted=1, rows_updated=2, rows_deleted=3))
    assert (report.version, report.rows_inserted, report.rows_updated, report.rows_deleted) == (
        4,
        1,
        2,
        3,
    )
    assert (ChangeReport.of(None, count=7), ChangeReport.of(None).version) == (7, -1)
    assert ChangeReport.of(report) == report
