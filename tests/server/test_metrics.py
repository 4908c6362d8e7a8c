"""What /metrics says, who may read it, and that dashboard, alerts and page name what it exports."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import threading
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
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=600)
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
    token = server.service.engine.access_keys.tokens.sign(access_id, secret, time.time() + 60)
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
        assert len(json.loads(text)["panels"]) == 14
    samples = {sample.name for family in families.values() for sample in family.samples}
    samples |= set(families)
    used = set(re.findall(r"\b((?:fletching|process)_[a-z_]+)", text))
    assert used
    assert used - samples == set()


def test_labels_stay_few() -> None:
    limiter = SimpleNamespace(open=0, limit=1, refused=0)
    memory = SimpleNamespace(held=0, peak=0, limit=1)
    service = SimpleNamespace(
        draining=False, bodies=limiter, reads=limiter, calls=limiter, memory=memory
    )
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


def lint(families: dict[str, Any]) -> list[str]:
    """What the conventions of Prometheus ask of names, help, types and labels."""
    problems = []
    for name, family in families.items():
        if not name.startswith("fletching_"):
            continue
        if not family.documentation.endswith("."):
            problems.append(f"{name}: no sentence of help")
        if not re.fullmatch(r"[a-z]+(_[a-z]+)+", name):
            problems.append(f"{name}: not of words in lower case")
        if re.search(r"milli|micro|_ms|kilo|mega|_kb|_mb|minutes|hours", name):
            problems.append(f"{name}: not in base units")
        if family.type == "histogram" and not name.endswith(("_seconds", "_bytes")):
            problems.append(f"{name}: a histogram without a unit")
        labels = {label for sample in family.samples for label in sample.labels}
        if labels & {"table", "project", "key", "path", "access_id"}:
            problems.append(f"{name}: labels without bound: {labels}")
        ends = {
            "counter": ("_total",),
            "histogram": ("_bucket", "_count", "_sum"),
            "gauge": ("_info",) if name.endswith("_info") else ("",),
        }[family.type]
        problems += [
            f"{sample.name}: not named as a {family.type}"
            for sample in family.samples
            if not sample.name.endswith(ends)
            or (family.type == "gauge" and sample.name.endswith("_total"))
        ]
    return problems


def test_names_and_types_follow_the_conventions(families: dict[str, Any]) -> None:
    assert lint(families) == []


def test_scrapes_while_load_runs_are_whole_and_go_up_alone(server: Server) -> None:
    access_id, secret = server.access_key
    token = server.service.engine.access_keys.tokens.sign(access_id, secret, time.time() + 600)
    stop = threading.Event()
    failures: list[BaseException] = []

    def load(number: int) -> None:
        try:
            with fletching.connect(server.url, access_id=access_id, access_key=secret) as client:
                table = client.create_table(f"load_{number}", "id BIGINT")
                while not stop.is_set():
                    table.append({"id": [1, 2, 3]})
                    table.count_rows(filter="id > 1")
        except BaseException as error:  # noqa: BLE001 - said by the test
            failures.append(error)

    threads = [threading.Thread(target=load, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    before: dict[tuple[str, str], float] = {}
    last = ""
    try:
        for _ in range(20):
            status, last = scrape(server, token)
            assert status == 200
            for family in text_string_to_metric_families(last):
                if family.type not in {"counter", "histogram"}:
                    continue
                for sample in family.samples:
                    key = (sample.name, str(sorted(sample.labels.items())))
                    assert sample.value >= before.get(key, 0.0), key
                    before[key] = sample.value
                _check_histogram(family)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    result = {family.name for family in text_string_to_metric_families(last)}
    assert {"fletching_catalog_transaction_duration_seconds", "fletching_cache_hits"} <= result
    promtool = shutil.which("promtool")
    if promtool is not None:
        checked = subprocess.run(
            [promtool, "check", "metrics"], input=last, text=True, capture_output=True, check=False
        )
        ours = [line for line in checked.stderr.splitlines() if line.startswith("fletching_")]
        assert ours == []


def _check_histogram(family: Any) -> None:
    series: dict[str, list[tuple[float, float]]] = {}
    counts: dict[str, float] = {}
    for sample in family.samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        key = str(sorted(labels.items()))
        if sample.name.endswith("_bucket"):
            series.setdefault(key, []).append((float(sample.labels["le"]), sample.value))
        elif sample.name.endswith("_count"):
            counts[key] = sample.value
    for key, buckets in series.items():
        assert buckets == sorted(buckets)
        assert [value for _, value in buckets] == sorted(value for _, value in buckets)
        assert buckets[-1] == (float("inf"), counts[key])
