"""Changes the code in one small place after another, and asks the tests beside it whether they see it.

``make mutants`` chooses ``--count`` mutations over the modules that hold promises, the same ones for
the same ``--seed``: each module gets a share by its size. Each runs with the module's own test file,
then, when that did not notice, with the tests of its room. A run is killed when a test fails, when
pytest cannot even begin, or when it makes no progress for many times as long as the unchanged code
took. What survives is printed; survivors that are known, each with the reason why no test can or
should see it, stand in ``survivors.toml``. The campaign fails below ``--wanted`` per cent.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from pathlib import Path

from mutants.operators import Mutation, mutations

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "fletching"
SURVIVORS = Path(__file__).with_name("survivors.toml")
# The modules that hold promises: what they get wrong costs rows, values, secrets or a server.
PROMISES = (
    "catalog/*.py",
    "engine/**/*.py",
    "ipc/*.py",
    "wire/*.py",
    "lz4stream/*.py",
    "objects/*.py",
    "protocol/**/*.py",
    "sql/*.py",
    "client/transports/**/*.py",
    "server/**/*.py",
)


@dataclasses.dataclass(slots=True)
class Verdict:
    """What came of one mutation."""

    module: Path
    mutation: Mutation
    outcome: str  # killed, hung, survived
    by: str
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("--count", type=int, default=250, help="mutations in all")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--wanted", type=float, default=95.0, help="per cent that must be killed")
    parser.add_argument("--only", default="", help="only modules whose path contains this")
    parser.add_argument("--list", action="store_true", help="print the chosen ones, run nothing")
    options = parser.parse_args()
    chosen = choose(options.count, options.seed, options.only)
    if options.list:
        for module, mutation in chosen:
            print(f"{module}:{mutation.line}  {mutation.before!r} -> {mutation.after!r}")
        return 0
    verdicts = campaign(chosen, options.jobs)
    return report(verdicts, options.wanted)


def choose(count: int, seed: int, only: str) -> list[tuple[Path, Mutation]]:
    """Draws mutations, a module's share by the number of its possible ones."""
    pool: list[tuple[Path, Mutation]] = []
    seen: set[Path] = set()
    for pattern in PROMISES:
        for path in sorted(SOURCE.glob(pattern)):
            if path in seen or path.name == "__init__.py" or "migrations" in path.parts:
                continue
            seen.add(path)
            module = path.relative_to(SOURCE)
            if only in module.as_posix():
                name = module.as_posix().removesuffix(".py")
                pool.extend((module, found) for found in mutations(name, path.read_text()))
    random.Random(seed).shuffle(pool)
    return sorted(pool[:count], key=lambda item: (item[0].as_posix(), item[1].line))


def campaign(chosen: list[tuple[Path, Mutation]], jobs: int) -> list[Verdict]:
    """Runs every mutation, `jobs` at a time, each in a copy of the sources of its worker's own."""
    work: queue.SimpleQueue[tuple[Path, Mutation]] = queue.SimpleQueue()
    for item in chosen:
        work.put(item)
    verdicts: list[Verdict] = []
    usual: dict[str, float] = {}
    lock = threading.Lock()

    def worker() -> None:
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            shutil.copytree(ROOT / "src", Path(folder) / "src")
            while True:
                try:
                    module, mutation = work.get_nowait()
                except queue.Empty:
                    return
                verdict = judge(Path(folder), module, mutation, usual, lock)
                with lock:
                    verdicts.append(verdict)
                    print(
                        f"{len(verdicts):4}/{len(chosen)}  {verdict.outcome:8} "
                        f"{verdict.seconds:6.1f} s  {module}:{mutation.line}  "
                        f"{mutation.before[:50]!r} -> {mutation.after[:50]!r}",
                        flush=True,
                    )

    threads = [threading.Thread(target=worker) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return verdicts


def judge(
    folder: Path, module: Path, mutation: Mutation, usual: dict[str, float], lock: threading.Lock
) -> Verdict:
    """Runs the tests beside a module on its mutation, the nearest first."""
    target = folder / "src" / "fletching" / module
    original = target.read_text()
    began = time.monotonic()
    try:
        for tests in nearest_tests(module):
            with lock:
                known = usual.get(tests)
            if known is None:
                outcome, known = run(folder, tests, None)
                if outcome != 0:
                    raise SystemExit(f"{tests} fails without any mutation")
                with lock:
                    usual[tests] = known
            target.write_text(mutation.source)
            outcome, _ = run(folder, tests, 60 + 20 * known)
            target.write_text(original)
            if outcome is None:
                return Verdict(module, mutation, "hung", tests, time.monotonic() - began)
            if outcome != 0:
                return Verdict(module, mutation, "killed", tests, time.monotonic() - began)
        return Verdict(module, mutation, "survived", "", time.monotonic() - began)
    finally:
        target.write_text(original)


def nearest_tests(module: Path) -> list[str]:
    """The test file of the module's name, then the folder it stands in, then its room."""
    own = ROOT / "tests" / module.parent / f"test_{module.stem}.py"
    folder = ROOT / "tests" / module.parent
    room = ROOT / "tests" / module.parts[0]
    return [
        path.relative_to(ROOT).as_posix()
        for path in dict.fromkeys((own, folder, room))
        if path.exists()
    ]


def run(folder: Path, tests: str, limit: float | None) -> tuple[int | None, float]:
    """Runs pytest on the worker's copy; None when it had to be ended."""
    began = time.monotonic()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
            *("-p", "no:randomly", "--no-header", tests),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder / "src"), str(ROOT)]),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(limit), time.monotonic() - began
    except subprocess.TimeoutExpired:
        return None, time.monotonic() - began
    finally:
        # Tests start servers: whatever a mutation left behind goes with its session.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


def report(verdicts: list[Verdict], wanted: float) -> int:
    """Prints the outcome; 1 when too many survived that nobody has explained."""
    reasons = tomllib.loads(SURVIVORS.read_text()).get("survivors", {})
    survived = [verdict for verdict in verdicts if verdict.outcome == "survived"]
    unexplained = [v for v in survived if v.mutation.name not in reasons]
    for verdict in unexplained:
        m = verdict.mutation
        print(f"\nsurvived: {m.name}\n  line {m.line}: {m.before!r}\n        -> {m.after!r}")
    counted = len(verdicts) - (len(survived) - len(unexplained))
    killed = len(verdicts) - len(survived)
    share = 100 * killed / counted if counted else 100.0
    print(
        f"\n{len(verdicts)} mutations: {killed} killed, {len(survived) - len(unexplained)} survived "
        f"for a known reason, {len(unexplained)} unnoticed: {share:.1f} % of those that change behaviour"
    )
    return 0 if share >= wanted else 1


if __name__ == "__main__":
    sys.exit(main())
