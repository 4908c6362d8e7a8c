"""What the page says of upkeep that is under way."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.console.conftest import Browser

import fletching
from fletching.engine.upkeep.operations import TaskState
from fletching.server.server import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("storage") / "data"
    with fletching.serve(folder, port=0, access_log=False) as running:
        yield running


@pytest.mark.parametrize(
    ("done", "total", "bar", "words"),
    [
        (0, 0, r'<progress max="1" aria-label', "<br>for 5 s"),  # how much there is is not known
        (3, 12, r'<progress max="12" value="3" aria-label', "3 of 12 steps, for 5 s"),
        (12, 12, r'<progress max="12" value="12" aria-label', "12 of 12 steps, for 5 s"),
    ],
)
def test_a_running_task_has_a_bar_that_says_what_is_known(
    server: Server, monkeypatch: pytest.MonkeyPatch, done: int, total: int, bar: str, words: str
) -> None:
    browser = Browser(server)
    browser.sign_in(*server.access_key)
    engine = server.service.engine
    state = TaskState(
        "retention", engine.context.clock() - 5.2, done=done, total=total, unit="steps"
    )
    monkeypatch.setattr(engine.operations, "tasks", lambda: [state])
    page = browser("/storage").text
    assert re.search(bar, page)
    assert words in page
    assert page.count("<progress") == 1
    assert page.count("disabled") == 3
    assert 'http-equiv="refresh"' in page  # for readers without scripts
    (task,) = json.loads(browser("/storage?format=json").text)["tasks"]
    assert (task["done"], task["total"], task["ended_at"]) == (done, total, None)
    assert task["seconds"] >= 5
