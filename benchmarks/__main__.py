"""``python -m benchmarks``: runs the questions, prints tables, writes results, checks ratios."""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import ratios as promised
from benchmarks import report
from benchmarks.questions import QUESTIONS, Run
from benchmarks.releases import earlier_release
from benchmarks.rounds import Result

RESULTS = Path(__file__).parent / "results"
CHECK_QUESTIONS = (
    "defaults",
    "read",
    "projection",
    "write",
    "links",
    "tunnel",
    "ipc",
    "remote",
)
CHECK_RUNS = 3


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "only", nargs="*", metavar="QUESTION", help=f"of {', '.join(QUESTIONS)}; all by default"
    )
    parser.add_argument(
        "--rounds", type=int, help="measured rounds per contender; 7, of a check or record 5"
    )
    parser.add_argument(
        "--megabytes", type=int, help="about how large a table is; 512, of a check or record 256"
    )
    parser.add_argument(
        "--rows", type=int, default=10_000_000, help="of the tables that are changed"
    )
    parser.add_argument(
        "--many", action="store_true", help="upsert into ten times as many rows, too (4 GB)"
    )
    parser.add_argument(
        "--before", metavar="REVISION", help="an earlier release, to scan and append beside it"
    )
    parser.add_argument("--small", action="store_true", help="one case each, to prove that it runs")
    parser.add_argument(
        "--check", action="store_true", help="fail if a recorded ratio fell by a third"
    )
    parser.add_argument(
        "--record", type=int, metavar="RUNS", help="record the medians of several runs"
    )
    parser.add_argument("--disk", type=Path, help="a folder on the disk to measure")
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm"), help="likewise in memory")
    parser.add_argument("--name", default=time.strftime("%Y-%m-%d"), help="of the result files")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.only if name not in QUESTIONS]
    if unknown:
        parser.error(f"there is no question {unknown[0]!r}")
    recorded = options.check or bool(options.record)
    names = options.only or (CHECK_QUESTIONS if recorded else tuple(QUESTIONS))
    small = options.small or recorded
    with (
        tempfile.TemporaryDirectory(dir=options.disk, prefix="bench-") as disk,
        tempfile.TemporaryDirectory(dir=options.memory, prefix="bench-") as memory,
        earlier_release(options.before) as before,
    ):
        run = Run(
            Path(disk),
            Path(memory),
            options.rounds or (5 if recorded else 7),
            (options.megabytes or (256 if recorded else 512)) << 20,
            small,
            changed_rows=options.rows,
            many=options.many,
            before=before,
        )
        if options.record:
            return _record(run, names, options.record)
        if options.check:
            return _check(run, names, some=bool(options.only))
        results = _ask(run, names)
    found = promised.compute(results)
    print(report.text(results))
    print(_ratio_table(found))
    report.save(results, found, RESULTS, options.name)
    print(f"written to {RESULTS / options.name}.json, .txt and .png")
    return 0


def _check(run: Run, names: tuple[str, ...], *, some: bool) -> int:
    """The best of up to three runs counts: other work on the machine makes a ratio fall, too.

    What a change made slower stays below in all of them.
    """
    processor = report.environment()["processor"]
    record = promised.expected(processor)
    if processor not in promised.load_records():
        print(f"nothing is recorded for {processor!r}: the least of all records counts")
    best: dict[str, float] = {}
    complaints: list[str] = []
    for number in range(CHECK_RUNS):
        for name, value in promised.compute(_ask(_apart(run, number), names)).items():
            best[name] = max(value, best.get(name, value))
        print(_ratio_table(best))
        complaints = promised.fallen(best, record, some=some)
        if not complaints:
            return 0
    for complaint in complaints:
        print(f"fell in {CHECK_RUNS} runs: {complaint}", file=sys.stderr)
    return 1


def _apart(run: Run, number: int) -> Run:
    """The same run in folders of its own."""
    return dataclasses.replace(run, disk=run.disk / str(number), memory=run.memory / str(number))


def _ask(run: Run, names: tuple[str, ...]) -> list[Result]:
    results: list[Result] = []
    for name in names:
        started = time.perf_counter()
        results += QUESTIONS[name](run)
        print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return results


def _record(run: Run, names: tuple[str, ...], runs: int) -> int:
    found: dict[str, list[float]] = {}
    environment = report.environment()
    if environment["load_before"] > environment["cores"]:
        print("others use this machine: what is recorded now will let much pass", file=sys.stderr)
    records = promised.load_records()
    processor = environment["processor"]
    before = records.get(processor, {}).get("medians", {})
    for number in range(runs):
        for name, value in promised.compute(_ask(_apart(run, number), names)).items():
            found.setdefault(name, []).append(value)
        # What was not asked keeps its record. Written after each run, so that one that is broken off
        # leaves what the others found.
        medians = {name: round(statistics.median(values), 3) for name, values in found.items()}
        records[processor] = {
            "environment": environment,
            "runs": number + 1,
            "medians": before | medians,
        }
        promised.RECORD.write_text(json.dumps(records, indent=1) + "\n")
        print(_ratio_table(before | medians))
    return 0


def _ratio_table(found: dict[str, float]) -> str:
    lines = ["ratio, promised, measured"]
    for name, target in promised.TARGETS.items():
        if name in found:
            mark = "reached" if found[name] >= target else "short"
            lines.append(f"  {name:52} {target:6.2f} {found[name]:8.2f}  {mark}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
