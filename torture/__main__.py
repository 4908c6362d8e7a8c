"""Runs a campaign: lives of two servers over one folder, each behind a network that fails, writers and
readers through them and beside them, then the verdict. ``--soak`` kills nobody and watches one server.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
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
from fletching.errors import FletchingError, VersionNotFoundError
from fletching.ipc import lowlevel
from fletching.protocol.messages.admin import CreateTable
from fletching.protocol.messages.requests import CreateReadSession, ReadTable
from fletching.protocol.types.blob_type import blob
from torture import cluster
from torture.checker import Checker, load
from torture.ledger import LEDGER, LEDGER_SCHEMA, counted, final_ledger
from torture.life import NOT_STARTED, SETTINGS, SOAK, data_set
from torture.usage import growth, remembered_mb, used
from torture.workers import MAIN, PICTURE_SCHEMA, PICTURES, REGISTER, SCHEMA, contents, picture

WORKERS = {
    "eo": 2, "batch": 2, "register": 1, "reader": 2, "blob": 1, "viewer": 1, "changer": 1, "watcher": 1,
}  # fmt: skip
SERVERS = 2
SKEW_SECONDS = (
    300.0  # servers' clocks are off by up to this; requests may be by three times as much
)
CLUSTER_SKEW_SECONDS = 240.0  # more than 300 from the database's, and a server does not start
# Workers that open the folder themselves, beside the servers.
EMBEDDED = {("batch", 1), ("reader", 1)}
# What an accident may take away; without it nothing may open, and with it everything is there again.
LOSABLE = ("catalog.sqlite", "server.key")
# Upkeep comes by less often than writes do: one arrival, and more time to get there.
SELDOM = ("compact.", "retention.", "abort.", "object.deleted")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Lives:
    """Starts servers and sees to it that they die."""

    # When a part of the folder was away last, for whichever of the servers: another one may be starting.
    part_was_away_until = -math.inf

    def __init__(self, folder: Path, seed: int, number: int = 0, *, cluster: bool = False) -> None:
        self.cluster = cluster
        self.skew_seconds = CLUSTER_SKEW_SECONDS if cluster else SKEW_SECONDS
        # Over a network a start takes longer, and must be worth it.
        self.patience = 4.0 if cluster else 1.0
        self.port = free_port()
        self.folder = folder
        self.losses = 0
        self.random = random.Random(f"{seed}/lives/{number}")
        self.current: int | None = None
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

    def answer(self) -> int:
        """The next answer, however busy the machine is; a parent that is gone gives none."""
        while True:
            try:
                number = int(self.answers.get(timeout=1.0)[1])
            except queue.Empty:
                if self.parent.poll() is not None:
                    raise RuntimeError("the parent of the servers died") from None
            else:
                return number

    def start(self, fault: str) -> int:
        assert self.parent.stdin is not None
        skew = self.random.uniform(-self.skew_seconds, self.skew_seconds)
        self.parent.stdin.write(f"start {self.port} {fault} {skew}\n")
        self.parent.stdin.flush()
        self.current = self.answer()
        return self.current

    def wait_until_it_serves(self) -> None:
        """Until the server answers or is dead: a life is counted from there, on any machine."""
        while self.answers.empty():
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as probe,
            ):
                probe.sendall(
                    b"GET /healthz HTTP/1.1\r\nHost: torture\r\nConnection: close\r\n\r\n"
                )
                if probe.recv(1):
                    return
            time.sleep(0.01)

    def live_and_die(self) -> None:
        """One life: ends at a point of the code, or at a moment."""
        draw = self.random
        fault, longest = "-", 2.0
        if draw.random() < 0.7:
            point = draw.choice(faultpoints.POINTS)
            seldom = point.startswith(SELDOM)
            fault = f"{point}:{1 if seldom else draw.randint(1, 5)}"
            longest = 4.0 if seldom else 2.0
        began = time.monotonic()
        pid = self.start(fault)
        self.wait_until_it_serves()
        try:
            seconds = self.patience * draw.uniform(0.15, longest)
            code = int(self.answers.get(timeout=seconds)[1])
            if code == NOT_STARTED and (self.cluster or Lives.part_was_away_until >= began):
                self.deaths["not started: a part was away"] += 1
                time.sleep(0.5)
            elif code == -signal.SIGKILL:
                self.deaths[fault.split(":")[0]] += 1
            else:
                self.strange.append(f"a server with fault {fault} exited with {code}")
        except queue.Empty:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.answer()
            self.deaths["at random"] += 1
        self.current = None
        if self.random.random() < 0.1 and (self.folder / "data").is_dir():
            self.lose()

    def lose(self) -> None:
        """Takes a part of the folder away for a moment: nothing may open it, or make it anew."""
        part = self.folder / "data" / self.random.choice(LOSABLE)
        kept = part.with_name(f"{part.name}.lost")
        Lives.part_was_away_until = math.inf
        part.rename(kept)
        try:
            Engine.open(self.folder / "data", settings=SETTINGS).close()
            self.strange.append(f"the folder opened without its {part.name}")
        except FletchingError:
            self.losses += 1
        finally:
            if part.exists():
                self.strange.append(f"{part.name} was made anew")
            kept.rename(part)
            Lives.part_was_away_until = time.monotonic()

    def calm(self) -> None:
        """A last life, in which whoever is in doubt can ask."""
        self.start("-")

    def end(self) -> None:
        """Ends the last life as an operator would."""
        assert self.current is not None
        os.kill(self.current, signal.SIGTERM)
        exited = self.answer()
        self.current = None
        if exited:
            self.strange.append(f"the last server exited with {exited} on SIGTERM")

    def close(self) -> None:
        """Leaves no process behind, wherever the run ended."""
        if self.current is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.current, signal.SIGKILL)
        assert self.parent.stdin is not None
        with contextlib.suppress(OSError):
            self.parent.stdin.close()
        self.parent.wait()


def prepare(folder: Path, *, ledger_hours: float = 1000.0) -> None:
    """Makes the tables.

    Args:
        folder: of the run.
        ledger_hours: for so long every version of the ledger is kept, and can be compared at the end.
    """
    where, settings = data_set(folder)
    with Engine.open(where, settings=settings) as engine:
        pictures = pa.schema([*list(PICTURE_SCHEMA)[:3], ("image", blob())])
        for table, schema in ((MAIN, SCHEMA), (REGISTER, SCHEMA), (PICTURES, pictures)):
            engine.call(CreateTable(table=table, arrow_schema=lowlevel.encode_schema(schema)))
        ledger = CreateTable(
            table=LEDGER,
            arrow_schema=lowlevel.encode_schema(LEDGER_SCHEMA),
            primary_key=("id",),
            properties={"acid.data.retain.hours": f"{ledger_hours:g}"},
        )
        engine.call(ledger)


def campaign(folder: Path, seconds: float, seed: int, rate: float) -> tuple[list[str], str]:
    prepare(folder)
    lives = [Lives(folder, seed, number) for number in range(SERVERS)]
    proxies = [start_proxy(each.port, seed + number, rate) for number, each in enumerate(lives)]
    urls = [f"http://127.0.0.1:{read_port(proxy)}" for proxy in proxies]
    workers = start_workers(folder, urls, seed)
    ended = threading.Event()
    others = [threading.Thread(target=go_on, args=(each, ended), daemon=True) for each in lives[1:]]
    faults = []
    try:
        for thread in others:
            thread.start()
        start = time.monotonic()
        # On a busy machine a short run goes on until everything has happened at least once.
        while (passed := time.monotonic() - start) < seconds or (
            passed < 40 * seconds and missing(folder)
        ):
            lives[0].live_and_die()
        ended.set()
        for thread in others:
            thread.join()
        # A calm end, so that whoever is in doubt can ask; then everybody stops.
        for each in lives:
            each.calm()
        time.sleep(2)
        stop(workers)
        for each in lives:
            each.end()
    finally:
        ended.set()
        stop(workers)
        for proxy in proxies:
            with contextlib.suppress(OSError):
                assert proxy.stdin is not None
                proxy.stdin.close()
            assert proxy.stdout is not None
            faults.append(proxy.stdout.read().strip().removeprefix("counts "))
            proxy.wait()
        for each in lives:
            each.close()
    checker = Checker(load(folder))
    strange = [line for each in lives for line in each.strange]
    strange += [
        f"there was no {event!r} in the whole run: it proves nothing about them"
        for event in missing(folder)
    ]
    problems = [*strange, *checker.check(), *final_state(folder, checker)]
    return problems, describe(lives, faults, checker)


def cluster_campaign(folder: Path, seconds: float, seed: int, rate: float) -> tuple[list[str], str]:
    """Three servers over PostgreSQL and S3, behind one address, and accidents to each part."""
    with cluster.parts() as made:
        return _cluster_campaign(made, folder, seconds, seed, rate)


def _cluster_campaign(
    made: cluster.Parts, folder: Path, seconds: float, seed: int, rate: float
) -> tuple[list[str], str]:
    prepare(folder)
    # One more than are meant to be there: it comes and goes.
    lives = [Lives(folder, seed, number, cluster=True) for number in range(cluster.SERVERS + 1)]
    accidents = cluster.Accidents(made, seed)
    ended = threading.Event()
    threads = [
        threading.Thread(target=go_on, args=(each, ended), daemon=True) for each in lives[:-1]
    ]
    threads.append(threading.Thread(target=come_and_go, args=(lives[-1], ended), daemon=True))
    workers: list[subprocess.Popen[bytes]] = []
    faults = ""
    with cluster.balancer([each.port for each in lives]) as front:
        proxy = start_proxy(front.port, seed, rate)
        try:
            urls = [f"http://127.0.0.1:{read_port(proxy)}"]
            workers = start_workers(folder, urls, seed)
            for thread in threads:
                thread.start()
            accidents.start()
            start = time.monotonic()
            while (passed := time.monotonic() - start) < seconds or (
                passed < 10 * seconds and (missing(folder) or not accidents.complete)
            ):
                time.sleep(0.5)
            accidents.end()
            ended.set()
            for thread in threads:
                thread.join()
            for each in lives[:-1]:
                each.calm()
                each.wait_until_it_serves()
            time.sleep(2)
            stop(workers)
            for each in lives[:-1]:
                each.end()
        finally:
            accidents.end()
            ended.set()
            stop(workers)
            with contextlib.suppress(OSError):
                assert proxy.stdin is not None
                proxy.stdin.close()
            assert proxy.stdout is not None
            faults = proxy.stdout.read().strip().removeprefix("counts ")
            proxy.wait()
            for each in lives:
                each.close()
    checker = Checker(load(folder))
    strange = [line for each in lives for line in each.strange] + accidents.strange
    strange += [f"there was no {event!r}: the run proves nothing" for event in missing(folder)]
    strange += [] if accidents.complete else ["not every kind of accident has happened"]
    problems = [*strange, *checker.check(), *final_state(folder, checker)]
    return problems, "\n".join([describe(lives, [faults], checker), *accidents.describe()])


def come_and_go(lives: Lives, ended: threading.Event) -> None:
    """A server that is added, works for a while, and is taken away as an operator would."""
    try:
        while not ended.wait(lives.random.uniform(0.5, 2.0)):
            lives.start("-")
            lives.wait_until_it_serves()
            ended.wait(lives.random.uniform(3.0, 10.0))
            if lives.answers.empty():
                lives.end()
            else:
                lives.answer()
                lives.current = None
    except Exception as error:
        lives.strange.append(f"the lives of a server ended early: {error!r}")


def go_on(lives: Lives, ended: threading.Event) -> None:
    try:
        while not ended.is_set():
            lives.live_and_die()
    except Exception as error:
        lives.strange.append(f"the lives of a server ended early: {error!r}")


def start_proxy(port: int, seed: int, rate: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "torture.proxy", "0", str(port), str(seed), str(rate)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def read_port(proxy: subprocess.Popen[str]) -> int:
    assert proxy.stdout is not None
    return int(proxy.stdout.readline().split()[1])


def start_workers(
    folder: Path, urls: list[str], seed: int, *, embedded: bool = True
) -> list[subprocess.Popen[bytes]]:
    """Every kind of worker, spread over the servers; some open the folder themselves."""
    wanted: list[str] = []
    for kind, count in WORKERS.items():
        for number in range(count):
            where = urls[len(wanted) // 5 % len(urls)]
            if embedded and (kind, number) in EMBEDDED:
                where = str(folder / "data")
            wanted += [kind, str(number), where, str(folder / f"{kind}{number}.jsonl"), str(seed)]
    return [
        subprocess.Popen([sys.executable, "-m", "torture.workers", *wanted], stdin=subprocess.PIPE)
    ]


def missing(folder: Path) -> list[str]:
    """Kinds of events that a run which proves something has, and this one does not have yet."""
    done = {event["event"] for event in load(folder)}
    wanted = ("appended", "commited", "was set", "snapshot", "changed", "watched")
    return [event for event in wanted if event not in done]


def stop(workers: list[subprocess.Popen[bytes]]) -> None:
    for worker in workers:
        if worker.stdin is not None and not worker.stdin.closed:
            worker.stdin.close()
    for worker in workers:
        try:
            worker.wait(timeout=600)  # each of its requests ends by itself within seconds
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


def final_state(folder: Path, checker: Checker) -> list[str]:
    """The folder itself, when all is over."""
    problems = []
    now = time.monotonic()
    where, settings = data_set(folder)
    ahead = 90_000.0
    with Engine.open(where, settings=settings, clock=lambda: time.time() + ahead) as engine:
        for table, check in ((MAIN, checker.check_main), (REGISTER, checker.check_register)):
            result = len(checker.problems)
            check("the end", contents(read(engine, table)), now, now)
            problems += checker.problems[result:]
        problems += final_pictures(engine, checker, now)
        problems += final_ledger(
            checker.events,
            counted([read(engine, LEDGER)]),
            lambda version: ledger_rows(engine, version),
        )
        problems += [f"{item.name}: {item.problems}" for item in engine.verify() if item.problems]
        engine.collect()
        # An object whose writer nobody knows any more goes when it has been without an owner for long.
        ahead += 90_000.0
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
    result: dict[str, list[int]] = {}
    for row in read(engine, PICTURES).to_pylist():
        entry = result.setdefault(row["src"], [0, 0, -1, row["total"]])
        entry[0] += 1
        entry[2] = max(entry[2], row["n"])
        slice_ = engine.blobs.slice(row["image"].decode())
        data = b"".join(bytes(e.object.read(e.start, e.end)) for e in slice_.pieces)
        if data != picture(row["src"], row["n"]):
            problems.append(f"blob {row['n']} of {row['src']} is not what was sent")
    before = len(checker.problems)
    checker.check_pictures("the end", result, now, now)
    return problems + checker.problems[before:]


def ledger_rows(engine: Engine, version: int) -> Counter[tuple[int, int]] | None:
    """The rows of a version of the ledger; None where its history is no longer kept."""
    try:
        return counted([read(engine, LEDGER, version=version)])
    except VersionNotFoundError:
        if SOAK in os.environ:
            return None
        raise


def read(engine: Engine, table: Any, **options: Any) -> Any:
    session: Any = engine.call(CreateReadSession(table=table, **options))
    plan = engine.read(ReadTable(table=table, session_id=session.session_id))
    return pa.ipc.open_stream(b"".join(bytes(piece) for piece in plan.buffers())).read_all()


def describe(lives: list[Lives], faults: list[str], checker: Checker) -> str:
    events = Counter(event["event"] for event in checker.events)
    appended = sum(pairs[-1][1] for pairs in checker.acknowledged.values() if pairs)
    deaths = sum((each.deaths for each in lives), Counter[str]())
    return "\n".join(
        [
            f"kills: {deaths.total()}",
            *(f"  {count:4} {where}" for where, count in deaths.most_common()),
            f"parts lost and found again: {sum(each.losses for each in lives)}",
            *(f"network faults: {line}" for line in faults),
            f"exactly-once rows acknowledged: {appended}",
            f"sessions committed: {events['commited']}, aborted or left: {len(checker.aborted)}",
            f"register values set: {events['was set']}",
            f"snapshots read twice: {events['snapshot']}",
            f"rows of a table changed: {events['changed']} times, followed {events['watched']} times",
        ]
    )


# --- soak ---

SAMPLES = 120
LEDGER_HOURS = 0.1
"""For so long the ledger's history is kept in a soak: it grows without an end else, as it should."""


def soak(folder: Path, seconds: float, seed: int) -> tuple[list[str], str]:
    """One server under mixed load: memory of its own, descriptors, threads and the catalog's size."""
    os.environ[SOAK] = "1"
    prepare(folder, ledger_hours=LEDGER_HOURS)
    lives = Lives(folder, seed)
    samples: list[dict[str, float]] = []
    workers: list[subprocess.Popen[bytes]] = []
    try:
        pid = lives.start("-")
        workers = start_workers(folder, [f"http://127.0.0.1:{lives.port}"], seed, embedded=False)
        while missing(folder) and lives.answers.empty():
            time.sleep(0.2)  # counted from when everything is under way, on any machine
        start = time.monotonic()
        while (passed := time.monotonic() - start) < seconds:
            time.sleep(max(0.5, seconds / SAMPLES))
            remembered = {"remembered_mb": remembered_mb(lives.port)}
            samples.append({"seconds": passed, **used(pid, folder), **remembered})
        stop(workers)
        lives.end()
    finally:
        stop(workers)
        lives.close()
    lines, grown = growth(samples, seconds)
    problems = [*lives.strange, *grown]
    # Said at once: the history of hours takes long to check, and whoever stops that has the figures.
    (folder / "soak.json").write_text(json.dumps(samples))
    print("\n".join(lines), flush=True)
    checker = Checker(load(folder))
    problems += [*checker.check(), *final_state(folder, checker)]
    problems += [f"there was no {event!r}: the run proves nothing" for event in missing(folder)]
    return problems, "the history was checked"


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
    parser.add_argument(
        "--cluster", action="store_true", help="three servers over PostgreSQL and S3"
    )
    parser.add_argument(
        "--soak", action="store_true", help="kill nobody; watch what one server uses"
    )
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    shared = Path("/dev/shm")
    folder = options.folder or Path(
        tempfile.mkdtemp(prefix="torture-", dir=shared if shared.is_dir() else None)
    )
    folder.mkdir(parents=True, exist_ok=True)
    if options.soak:
        problems, summary = soak(folder, options.seconds, seed)
    elif options.cluster:
        problems, summary = cluster_campaign(folder, options.seconds, seed, options.fault_rate)
    else:
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
