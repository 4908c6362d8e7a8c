"""What /metrics says, who may read it, and that dashboard, alerts and page name what it exports."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

import fletching
from fletching.server.metrics import MAX_ACTIONS, Metrics
from fletching.server.server import Server

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with fletching.serve(tmp_path_factory.mktemp("metrics") / "data", port=0) as running:
        yield running


def scrape(server: Server, token: str | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    try:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", "/metrics", headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.read().decode()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def families(server: Server) -> dict[str, Any]:
    access_id, secret = server.access_key
    with fletching.connect(server.url, access_id=access_id, access_key=secret) as client:
        table = client.create_table("secret_table", "id BIGINT")
        table.append({"id": [1, 2]})
        assert table.count_rows() == 2
    token = server.service.engine.access_keys.bearer_token(access_id, time.time() + 60)
    status, text = scrape(server, token)
    assert status == 200
    assert "secret_table" not in text
    assert access_id not in text
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_it_asks_for_a_key_unless_told_otherwise(server: Server, tmp_path: Path) -> None:
    assert scrape(server)[0] == 401
    with fletching.serve(tmp_path / "data", port=0, public_metrics=True) as open_server:
        assert scrape(open_server)[0] == 200


def test_requests_are_counted(families: dict[str, Any]) -> None:
    samples = families["fletching_http_requests"].samples
    assert sum(sample.value for sample in samples) >= 3
    assert {sample.labels["code"] for sample in samples} <= {"200", "201", "401"}
    # A few rows are one request; more of them are a session's.
    assert {"TableAppend", "TableWrite"} & {sample.labels["action"] for sample in samples}
    assert families["fletching_build_info"].samples[0].labels == {"version": fletching.__version__}


def test_the_page_lists_exactly_what_is_exported(families: dict[str, Any]) -> None:
    exported = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in families.values()
        if family.name.startswith("fletching_") and not family.name.endswith("_created")
    }
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    assert set(re.findall(r"^\| `(fletching_\w+)`", page, re.MULTILINE)) == exported


@pytest.mark.parametrize("name", ["grafana-dashboard.json", "prometheus-alerts.yaml"])
def test_queries_name_what_is_exported(families: dict[str, Any], name: str) -> None:
    text = (ROOT / "deploy" / name).read_text()
    if name.endswith(".json"):
        assert len(json.loads(text)["panels"]) == 8
    samples = {sample.name for family in families.values() for sample in family.samples}
    samples |= set(families)
    used = set(re.findall(r"\b((?:fletching|process)_[a-z_]+)", text))
    assert used
    assert used - samples == set()


def test_labels_stay_few() -> None:
    gate = SimpleNamespace(open=0, limit=1, refused=0)
    memory = SimpleNamespace(held=0, peak=0, limit=1)
    service = SimpleNamespace(draining=False, bodies=gate, reads=gate, calls=gate, memory=memory)
    metrics = Metrics(cast("Any", service))
    for number in range(3 * MAX_ACTIONS):
        exchange = SimpleNamespace(
            action=f"a{number}",
            method="BREW",
            status=200,
            seconds=0.1,
            sent_bytes=1,
            outcome="ok",
            body=SimpleNamespace(body_bytes=1),
        )
        metrics.observe(cast("Any", exchange))
    samples = next(
        family.samples
        for family in metrics.registry.collect()
        if family.name == "fletching_http_requests"
    )
    actions = {sample.labels["action"] for sample in samples}
    assert len(actions) == MAX_ACTIONS + 1
    assert "_other" in actions
    assert {sample.labels["method"] for sample in samples} == {"_other"}
