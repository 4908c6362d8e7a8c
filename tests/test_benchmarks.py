"""The measurements run, small: that they do not rot is proven here, how fast things are is not."""

from __future__ import annotations

import collections
import dataclasses
import importlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="the measurements read CPU time from /proc"
)


@pytest.fixture(scope="module")
def benchmarks() -> Any:
    """The benchmark package, which is not installed but lies beside the sources."""
    sys.path.insert(0, str(ROOT))
    try:
        import benchmarks.questions
        import benchmarks.ratios
        import benchmarks.report

        yield benchmarks
    finally:
        sys.path.remove(str(ROOT))


def small_run(benchmarks: Any, folder: Path) -> Any:
    for name in ("disk", "memory"):
        (folder / name).mkdir()
    return benchmarks.questions.Run(folder / "disk", folder / "memory", 1, 4 << 20, True)


@pytest.mark.bench
@pytest.mark.parametrize(
    "name",
    [
        "defaults",
        "read",
        "projection",
        "write",
        "embedded",
        "sessions",
        "blob",
        "tunnel",
        "changes",
        "remote",
        "several",
        "catalog",
        "links",
        "ipc",
        "engines",
        "pages",
    ],
)
def test_a_question_gives_results(benchmarks: Any, tmp_path: Path, name: str) -> None:
    results = benchmarks.questions.QUESTIONS[name](small_run(benchmarks, tmp_path))
    assert results
    for result in results:
        assert result.rows > 0
        assert len(result.seconds) >= 1
    text = benchmarks.report.text(results)
    assert all(result.name in text for result in results)
    json.dumps([result.as_json() for result in results])


def made(benchmarks: Any, question: str, case: str, name: str, seconds: float) -> Any:
    return sys.modules["benchmarks.rounds"].Result(
        question=question,
        case=case,
        name=name,
        bytes=1000,
        rows=10,
        seconds=[seconds, seconds, seconds],
        first_seconds=[],
        client_cpu_seconds=seconds,
        server_cpu_seconds=seconds,
        client_peak_bytes=1,
        server_peak_bytes=1,
    )


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_contenders_follow_each_other_equally_often(benchmarks: Any, count: int) -> None:
    turns = importlib.import_module("benchmarks.rounds").turns
    orders = [turns(count, number) for number in range(2 * count)]
    assert all(sorted(order) == list(range(count)) for order in orders)
    pairs = collections.Counter(pair for order in orders for pair in itertools.pairwise(order))
    assert len(pairs) == count * (count - 1)
    assert set(pairs.values()) <= {2}


def test_ratios_are_larger_when_we_are_faster(benchmarks: Any) -> None:
    case = "numeric, 65,536 rows"
    results = [
        made(benchmarks, "read", case, "fletching", 1.0),
        made(benchmarks, "read", case, "Flight DoGet", 3.0),
        made(benchmarks, "read", case, "raw socket", 0.9),
        made(benchmarks, "projection", case, "10 of 10", 1.0),
        made(benchmarks, "projection", case, "2 of 10", 0.25),
    ]
    ratios = benchmarks.ratios.compute(results)
    assert ratios["read / Flight DoGet"] == pytest.approx(3.0)
    assert ratios["read / raw socket"] == pytest.approx(0.9)
    assert ratios["server CPU: raw socket / fletching"] == pytest.approx(0.9)
    assert ratios["projection, 2 of 10: ideal / measured"] == pytest.approx(0.8)


def test_the_server_of_direct_reads_is_counted_without_what_it_does_anyway(benchmarks: Any) -> None:
    def taking(name: str, cpu_seconds: float) -> Any:
        result = made(
            benchmarks, "remote", "10 columns", name, 1.0
        )  # three rounds of a second each
        return dataclasses.replace(result, server_cpu_seconds=cpu_seconds)

    at_rest = taking(sys.modules["benchmarks.remote"].AT_REST, 0.006)
    name = "remote: through the server / direct, server CPU"
    for direct, expected in ((0.016, 100.0), (0.006, 1.0 / 3e-4), (0.0, 1.0 / 3e-4)):
        results = [
            at_rest,
            taking("bucket, direct", direct),
            taking("bucket, through the server", 1.006),
        ]
        assert benchmarks.ratios.compute(results)[name] == pytest.approx(expected)


def test_processor_time_of_another_process_is_exact(benchmarks: Any) -> None:
    assert benchmarks
    processes = importlib.import_module("benchmarks.processes")
    before = processes.cpu_seconds(os.getpid()), time.process_time()
    sum(range(200_000))
    after = processes.cpu_seconds(os.getpid()), time.process_time()
    assert after[0] - before[0] >= (after[1] - before[1]) / 2 > 0
    # One that has only just begun may not have been counted yet: it is given something to do.
    with subprocess.Popen(
        ["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        for _ in range(1000):
            other.stdin.write(b".")
            assert other.stdout.read(1) == b"."
        assert 0 < processes.cpu_seconds(other.pid) < 1
        other.stdin.close()


def test_a_ratio_that_fell_by_more_than_a_third_is_told(benchmarks: Any) -> None:
    name = "read / Flight DoGet"
    record = {name: 3.0}
    assert benchmarks.ratios.fallen({name: 2.1}, record) == []
    (complaint,) = benchmarks.ratios.fallen({name: 1.9}, record)
    assert name in complaint
    assert "not measured" in benchmarks.ratios.fallen({}, record)[0]


def test_processor_time_is_checked_more_closely_than_the_clock(benchmarks: Any) -> None:
    results = [
        made(benchmarks, "write", case, name, seconds)
        for case in ("numeric, memory", "batches of 8,192 rows, memory")
        for name, seconds in (("fletching", 2.0), ("Flight DoPut", 1.0))
    ]
    ratios = benchmarks.ratios.compute(results)
    for name in (
        "write, memory: Flight DoPut / it, processor time",
        "write of small batches, memory: Flight DoPut / it, processor time",
    ):
        assert ratios[name] == pytest.approx(0.5)
        # Of the processor's time a quarter is allowed, of the clock's a third.
        assert not benchmarks.ratios.fallen(ratios, {name: 0.65}, some=True)
        (complaint,) = benchmarks.ratios.fallen(ratios, {name: 0.7}, some=True)
        assert name in complaint
    clock = "write, memory / Flight DoPut"
    assert not benchmarks.ratios.fallen(ratios, {clock: 0.7}, some=True)


def test_who_asks_some_questions_is_not_told_of_the_others(benchmarks: Any) -> None:
    record = {"read / Flight DoGet": 3.0, "write, memory / Flight DoPut": 1.0}
    ratios = {"write, memory / Flight DoPut": 0.5}
    assert len(benchmarks.ratios.fallen(ratios, record)) == 2
    (complaint,) = benchmarks.ratios.fallen(ratios, record, some=True)
    assert "DoPut" in complaint


def test_a_record_that_is_broken_off_keeps_what_was_found(
    benchmarks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = importlib.import_module("benchmarks.__main__")
    monkeypatch.setattr(benchmarks.ratios, "RECORD", tmp_path / "record.json")
    processor = benchmarks.report.environment()["processor"]
    others = {"another kind": {"medians": {"read / PyODPS": 9.0}}}
    before = others | {processor: {"medians": {"read / PyODPS": 1.5}}}
    (tmp_path / "record.json").write_text(json.dumps(before))
    speeds = iter([2.0, 3.0])

    def asked(_run: Any, _names: Any) -> list[Any]:
        case = "numeric, 65,536 rows"
        return [
            made(benchmarks, "read", case, "fletching", 1.0),
            made(benchmarks, "read", case, "Flight DoGet", next(speeds)),
        ]

    monkeypatch.setattr(command, "_ask", asked)
    run = small_run(benchmarks, tmp_path)
    with pytest.raises((StopIteration, RuntimeError)):
        command._record(run, ("read",), 3)
    records = json.loads((tmp_path / "record.json").read_text())
    assert records.pop("another kind") == others["another kind"]
    (record,) = records.values()
    assert record["runs"] == 2
    assert record["medians"] == {"read / PyODPS": 1.5, "read / Flight DoGet": 2.5}


def test_a_ratio_is_expected_as_its_kind_of_processor_reached_it(
    benchmarks: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmarks.ratios, "RECORD", tmp_path / "record.json")
    assert benchmarks.ratios.expected("A") == {}
    records = {
        "A": {"medians": {"read / PyODPS": 1.5, "read / raw socket": 0.9}},
        "B": {"medians": {"read / PyODPS": 1.2, "tunnel: read Arrow / records": 3.0}},
    }
    (tmp_path / "record.json").write_text(json.dumps(records))
    assert benchmarks.ratios.expected("A") == records["A"]["medians"]
    assert benchmarks.ratios.expected("C") == {
        "read / PyODPS": 1.2,
        "read / raw socket": 0.9,
        "tunnel: read Arrow / records": 3.0,
    }


def test_what_is_checked_is_promised(benchmarks: Any) -> None:
    assert set(benchmarks.ratios.CHECKED) <= set(benchmarks.ratios.TARGETS)
    for record in benchmarks.ratios.load_records().values():
        assert set(record["medians"]) <= set(benchmarks.ratios.TARGETS)


def test_the_corpus_is_the_same_each_time(benchmarks: Any) -> None:
    corpus = sys.modules["benchmarks.corpus"]
    for shape in corpus.SHAPES:
        first, second = (corpus.make(shape, 100, 10_000) for _ in range(2))
        assert all(a.equals(b) for a, b in zip(first, second, strict=True))


def test_the_picture_of_the_readme_is_of_recorded_results(benchmarks: Any) -> None:
    speed = importlib.import_module("benchmarks.speed_picture")
    text = speed.PICTURE.read_text()
    result = re.search(r"<!-- results (\S+) -->", text)
    assert result is not None
    path = speed.FOLDER / "results" / result[1]
    assert text == speed.drawn(json.loads(path.read_text()), path.stem)
    root = ET.fromstring(text)
    label = str(root.get("aria-label"))
    alternative = (ROOT / "README.md").read_text()
    alternative = alternative[: alternative.index("(docs/images/speed.svg)")].rpartition("![")[2]
    # What is said to those who do not see it is what is drawn.
    assert re.findall(r"\d\.\d", alternative) == re.findall(r"(\d\.\d) GB/s", label)
    widths = [float(each.get("width") or 0) for each in root.iter() if each.tag.endswith("rect")]
    speeds = [float(each) for each in re.findall(r"(\d\.\d) GB/s", label)]
    for width, value in zip(widths, speeds, strict=True):
        assert width / max(widths) == pytest.approx(value / max(speeds), abs=0.03)


def test_the_model_of_capacity_obeys_the_laws_of_queues(benchmarks: Any) -> None:
    capacity = importlib.import_module("benchmarks.capacity")
    light = capacity.solve(capacity.Load(clients=1, servers=1))
    for clients in (1, 50, 3000):
        before = None
        for servers in (1, 3, 9):
            load = capacity.Load(clients=clients, servers=servers)
            answer = capacity.solve(load)
            used = max(answer.used.values())
            assert used <= 1 + 1e-9
            # Little's law: who does not think is being served or waits.
            away = answer.rounds_per_second * (answer.round_seconds + load.think_seconds)
            assert away == pytest.approx(clients)
            assert answer.round_seconds >= light.round_seconds * 0.5
            if before is not None:
                assert answer.rounds_per_second >= before * (1 - 1e-6), "never slower"
            before = answer.rounds_per_second
    direct = capacity.solve(capacity.Load(clients=10_000, direct=True))
    through = capacity.solve(capacity.Load(clients=10_000))
    assert direct.rounds_per_second > through.rounds_per_second
    assert through.first == "server network"
    assert capacity.table([capacity.Load(clients=10)]).count("\n") == 2


def test_a_small_catalog_is_measured(
    benchmarks: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = importlib.import_module("benchmarks.bench_catalog")
    result = catalog.run(str(tmp_path / "data"), 300, 10, None, as_json=True).results
    assert result["open a session"]["statements"] <= 3
    assert json.loads(capsys.readouterr().out.splitlines()[-1]).keys() == result.keys()
