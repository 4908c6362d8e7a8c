"""The versions of a table: what changed, differences, and what is done only once it was confirmed."""

from __future__ import annotations

from tests.server.console.conftest import ORDERS, Pages

HISTORY = f"{ORDERS}/history"


def test_versions_newest_first(pages: Pages) -> None:
    data = pages.data(HISTORY)
    numbers = [each["version"] for each in data["versions"]]
    assert numbers == sorted(numbers, reverse=True)
    by_number = {each["version"]: each for each in data["versions"]}
    assert by_number[4]["rows_deleted"] == 1
    assert by_number[1]["rows_inserted"] == 10
    assert data["difference"] is None
    assert [each["version"] for each in pages.data(f"{HISTORY}?before=2")["versions"]] == [1, 0]


def test_a_difference_shows_what_came_and_went(pages: Pages) -> None:
    difference = pages.data(f"{HISTORY}?from=3&to=4")["difference"]
    assert difference["total"] == 1
    assert difference["names"][:2] == ["_change_type", "id"]
    ((kind, number, *_),) = difference["cells"]
    assert (kind["text"], number["text"]) == ("delete", "3")
    assert "older one" in pages.data(f"{HISTORY}?from=4&to=3", 400)["problem"]


def test_what_is_to_be_confirmed(pages: Pages) -> None:
    asked = pages.data(f"{HISTORY}?confirm=restore&version=2")["confirm"]
    assert (asked["action"], asked["version"]) == ("restore", 2)
    assert pages.data(f"{HISTORY}?confirm=drop&version=2")["confirm"] is None
    assert pages(f"{HISTORY}?confirm=restore").status == 400


def test_tags_come_and_go_and_nothing_else_is_done(pages: Pages) -> None:
    assert pages.post(HISTORY, action="tag", version="2", name=" v2 ").status == 303
    data = pages.data(HISTORY)
    assert data["tags"] == {"v2": 2}
    assert {each["version"]: each["tags"] for each in data["versions"]}[2] == ["v2"]
    assert pages.post(HISTORY, action="untag", name="v2").status == 303
    assert pages.data(HISTORY)["tags"] == {}
    for wrong in (
        {"action": "tag", "name": "x"},
        {"action": "burn", "version": "1"},
        {"action": "restore"},
    ):
        assert pages.post(HISTORY, **wrong).status == 400
    stale = pages.post(HISTORY, action="restore", version="1", if_version="2")
    assert stale.status == 409
    assert pages.data(HISTORY)["versions"][0]["version"] == 4
