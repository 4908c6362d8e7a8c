"""What a notebook shows of tables, scans, splits, versions and results."""

from __future__ import annotations

import pickle
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import fletching
from fletching.client.html_views import MOST_ROWS, ShownList, html_rows

NASTY = "<script>alert(1)</script>"


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, _: object) -> None:
        self.tags.add(tag)


def test_what_is_listed_is_shown_as_a_table_and_stays_a_list(tmp_path: Path) -> None:
    with fletching.connect(str(tmp_path / "data"), create=True) as client:
        table = client.create_table("t", "id BIGINT, day STRING", partition_by=["day"])
        for number in range(3):
            table.append({"id": list(range(10)), "day": [NASTY] * (10 - number) + ["b"] * number})
        splits: Any = table.scan().splits(2)
        versions: Any = table.versions()
        newest: Any = table.versions(1)
        for result, words in (
            (splits, "2 splits"),
            (versions, "4 versions"),
            (newest, "1 version<"),
        ):
            shown = result._repr_html_()
            assert words in shown
            assert Tags(shown).tags <= {
                "div",
                "p",
                "b",
                "table",
                "thead",
                "tbody",
                "tr",
                "th",
                "td",
            }
            assert isinstance(result, list)
        assert versions[0].version == 3
        assert "append" in versions._repr_html_()
        assert pickle.loads(pickle.dumps(versions)) == versions
        assert sum(split.to_table().num_rows for split in splits) == 30
        for view in (table, table.scan(filter=f"day = '{NASTY}'")):
            assert "<script" not in view._repr_html_()


def test_long_lists_are_cut_and_texts_escaped() -> None:
    shown = html_rows(NASTY, ["a"], [[NASTY]] * (MOST_ROWS + 5))
    assert "<script" not in shown
    assert "and 5 more" in shown
    assert shown.count("<tr>") == MOST_ROWS + 2


def test_a_list_says_how_its_items_look() -> None:
    with pytest.raises(NotImplementedError):
        ShownList([1]).cells(1)
