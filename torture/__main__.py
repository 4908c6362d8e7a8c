"""Runs a campaign: lives of a server, a network that fails, writers, readers, then the verdict."""

from __future__ import annotations

import argparse
import contextlib
import os
import queue
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa

from fletching import faultpoints
from fletching.engine.engine import Engine
from fletching.ipc import lowlevel
from fletching.protocol.messages.admin import CreateTable
from fletching.protocol.messages.requests import CreateReadSession, ReadTable
from fletching.protocol.types.blob_type import blob
from torture.checker import Checker, load
from torture.life import SETTINGS
from torture.workers import MAIN, PICTURE_SCHEMA, PICTURES, REGISTER, SCHEMA, contents, picture

WORKERS = {"eo": 2, "batch": 2, "register": 1, "reader": 2, "blob": 1, "viewer": 1}
# Upkeep comes by less often than writes do: one arrival, and more time to get there.
SELDOM = ("compact.", "retention.", "abort.", "object.deleted")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Lives:
    """Starts servers and sees to it that they die."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.port = free_port()
        self.random = random.Random(f"{seed}/lives")
        self.deaths: Counter[str] = Counter()
        self.strange: list[str] = []
        self.parent = subprocess.Popen(
            [sys.executable, "-m", "torture.life", str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.answers: queue.Queue[list[str]] = queue.Queue()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        assert self.parent.stdout is not None
        for line in self.parent.stdout:
            self.answers.put(line.split())

    def start(self, fault: str) -> int:
        assert self.parent.stdin is not None
        self.parent.stdin.write(f"start {self.port} {fault}\n")
        self.parent.stdin.flush()
        return int(self.answers.get(timeout=30)[1])

    def live_and_die(self) -> None:
        """One life: ends at a point of the code, or at a moment."""
        draw = self.random
        fault, longest = "-", 1.2
        if draw.random() < 0.7:
            point = draw.choice(faultpoints.POINTS)
            seldom = point.startswith(SELDOM)
            fault = f"{point}:{1 if seldom else draw.randint(1, 5)}"
            longest = 3.0 if seldom else 1.2
        pid = self.start(fault)
        try:
            code = int(self.answers.get(timeout=draw.uniform(0.15, longest))[1])
            if code == -signal.SIGKILL:
                self.deaths[fault.split(":")[0]] += 1
            else:
                self.strange.append(f"a server with fault {fault} exited with {code}")
        except queue.Empty:
            os.kill(pid, signal.SIGKILL)
            self.answers.get(timeout=30)
            self.deaths["at random"] += 1

    def close(self) -> None:
        assert self.parent.stdin is not None
        self.parent.stdin.close()
        self.parent.wait(timeout=30)


def prepare(folder: Path) -> None:
    with Engine.open(folder / "data", settings=SETTINGS) as engine:
        pictures = pa.schema([*list(PICTURE_SCHEMA)[:3], ("image", blob())])
        for table, schema in ((MAIN, SCHEMA), (REGISTER, SCHEMA), (PICTURES, pictures)):
            engine.call(CreateTable(table=table, arrow_schema=lowlevel.encode_schema(schema)))


def campaign(folder: Path, seconds: float, seed: int, rate: float) -> tuple[list[str], str]:
    prepare(folder)
    lives = Lives(folder, seed)
    proxy = subprocess.Popen(
        [sys.executable, "-m", "torture.proxy", "0", str(lives.port), str(seed), str(rate)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert proxy.stdout is not None
    url = f"http://127.0.0.1:{proxy.stdout.readline().split()[1]}"
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "torture.workers", kind, str(number), url,
             str(folder / f"{kind}{number}.jsonl"), str(seed)],
            stdin=subprocess.PIPE, stderr=(folder / f"{kind}{number}.err").open("w"),
        )
        for kind, count in WORKERS.items()
        for number in range(count)
    ]  # fmt: skip
    try:
        start = time.monotonic()
        # On a busy machine a short run goes on until everything has happened at least once.
        while (passed := time.monotonic() - start) < seconds or (
            passed < 10 * seconds and missing(folder)
        ):
            lives.live_and_die()
        # A calm end, so that whoever is in doubt can ask; then everybody stops.
        pid = lives.start("-")
        time.sleep(2)
        stop(workers)
        os.kill(pid, signal.SIGTERM)
        exited = int(lives.answers.get(timeout=60)[1])
        if exited:
            lives.strange.append(f"the last server exited with {exited} on SIGTERM")
    finally:
        stop(workers)
        with contextlib.suppress(OSError):
            assert proxy.stdin is not None
            proxy.stdin.close()
        faults = proxy.stdout.read().strip()
        proxy.wait(timeout=30)
        lives.close()
    checker = Checker(load(folder))
    lives.strange += [
        f"there was no {event!r} in the whole run: it proves nothing about them"
        for event in missing(folder)
    ]
    problems = [*lives.strange, *checker.check(), *final_state(folder, checker)]
    summary = describe(lives, faults, checker)
    return problems, summary


def missing(folder: Path) -> list[str]:
    """Kinds of events that a run which proves something has, and this one does not have yet."""
    done = {event["event"] for event in load(folder)}
    return [event for event in ("appended", "commited", "was set", "snapshot") if event not in done]


def stop(workers: list[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        if worker.stdin is not None and not worker.stdin.closed:
            worker.stdin.close()
    for worker in workers:
        try:
            worker.wait(timeout=60)
        except subprocess.TimeoutExpired:
            worker.kill()


def final_state(folder: Path, checker: Checker) -> list[str]:
    """The folder itself, when all is over."""
    problems = []
    now = time.monotonic()
    with Engine.open(
        folder / "data", settings=SETTINGS, clock=lambda: time.time() + 90_000
    ) as engine:
        for table, check in ((MAIN, checker.check_main), (REGISTER, checker.check_register)):
            found = len(checker.problems)
            check("the end", contents(read(engine, table)), now, now)
            problems += checker.problems[found:]
        problems += final_pictures(engine, checker, now)
        problems += [f"{item.name}: {item.problems}" for item in engine.verify() if item.problems]
        engine.collect()
        checked = list(engine.verify())
        problems += [f"{item.name}: {item.problems}" for item in checked if item.problems]
        unknown = {info.key for info in engine.context.store.list("tables")} - {
            item.name for item in checked
        }
        problems += [f"object {key} has no owner and was not collected" for key in unknown]
    return problems


def final_pictures(engine: Engine, checker: Checker, now: float) -> list[str]:
    """Every blob that a row refers to, byte for byte."""
    problems = []
    found: dict[str, list[int]] = {}
    for row in read(engine, PICTURES).to_pylist():
        entry = found.setdefault(row["src"], [0, 0, -1, row["total"]])
        entry[0] += 1
        entry[2] = max(entry[2], row["n"])
        slice_ = engine.blobs.slice(row["image"].decode())
        data = b"".join(bytes(e.object.read(e.start, e.end)) for e in slice_.pieces)
        if data != picture(row["src"], row["n"]):
            problems.append(f"blob {row['n']} of {row['src']} is not what was sent")
    before = len(checker.problems)
    checker.check_pictures("the end", found, now, now)
    return problems + checker.problems[before:]


def read(engine: Engine, table: Any) -> Any:
    session: Any = engine.call(CreateReadSession(table=table))
    plan = engine.read(ReadTable(table=table, session_id=session.session_id))
    return pa.ipc.open_stream(b"".join(bytes(piece) for piece in plan.buffers())).read_all()


def describe(lives: Lives, faults: str, checker: Checker) -> str:
    events = Counter(event["event"] for event in checker.events)
    appended = sum(pairs[-1][1] for pairs in checker.acknowledged.values() if pairs)
    return "\n".join(
        [
            f"kills: {lives.deaths.total()}",
            *(f"  {count:4} {where}" for where, count in lives.deaths.most_common()),
            f"network faults: {faults.removeprefix('counts ')}",
            f"exactly-once rows acknowledged: {appended}",
            f"sessions committed: {events['commited']}, aborted or left: {len(checker.aborted)}",
            f"register values set: {events['was set']}",
            f"snapshots read twice: {events['snapshot']}",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument(
        "--fault-rate", type=float, default=0.08, help="share of requests that meet a network fault"
    )
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to work; kept if the run fails"
    )
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    shared = Path("/dev/shm")
    folder = options.folder or Path(
        tempfile.mkdtemp(prefix="torture-", dir=shared if shared.is_dir() else None)
    )
    folder.mkdir(parents=True, exist_ok=True)
    problems, summary = campaign(folder, options.seconds, seed, options.fault_rate)
    print(summary)
    if not problems:
        print("every acknowledged row is there exactly once; nothing else is")
        if options.folder is None:
            shutil.rmtree(folder)
        return 0
    kept = folder
    if options.folder is None:
        kept = Path(f"torture-failure-{seed}")
        shutil.copytree(folder, kept, dirs_exist_ok=True)
        shutil.rmtree(folder)
    for problem in problems[:50]:
        print("PROBLEM", problem)
    print(f"{len(problems)} problems; history and folder are kept in {kept}; seed {seed}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
