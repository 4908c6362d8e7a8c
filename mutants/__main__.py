"""Runs a campaign of mutations over the modules that hold promises: do the tests notice?

    python -m mutants --record tests/wire      # which lines does each test run? (once, build/mutants;
                                               # of a file that changed since, name that file)
    python -m mutants --count 250 --seed 1     # 250 drawn mutations, resumed where it stopped
    python -m mutants --only ipc/ --count 40   # of one room
    python -m mutants --list --count 20        # what would be tried

Mutations are drawn without looking, each module gets a share by its size; they are asked about in the
order drawn, so that a campaign that is stopped early is a smaller draw. Each is put to the tests
that run its line, those of the module's own test file first, then its folder's, then the others, the
quickest first, until one fails. A mutation is killed when a test fails, or when pytest cannot even
begin; it hangs when a test makes no progress for many times as long as it takes otherwise. Neither is
believed at once: the test is then asked alone, about the unchanged code, which must pass, and about
the mutation once more, which must fail or hang again, so that a busy machine kills nothing. What
hangs is counted apart. What survives is printed; survivors that are known, each with the reason why no
test can or should see it, stand in ``survivors.toml``. The campaign fails below ``--wanted`` per cent.
What was found out is kept in ``build/mutants`` and is not asked again while the module is the same;
``--again`` asks about survivors anew, after tests were written.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from mutants.asking import BROKEN, Fork, preload, wait_for
from mutants.operators import Mutation, mutations
from mutants.recorder import ROOT, fingerprint
from mutants.selection import RECORDS, Selection

SOURCE = ROOT / "src" / "fletching"
SURVIVORS = Path(__file__).with_name("survivors.toml")
RESULTS = RECORDS / "results.jsonl"
# The modules that hold promises: what they get wrong costs rows, values, secrets or a server.
PROMISES = (
    "catalog/*.py",
    "engine/**/*.py",
    "ipc/*.py",
    "wire/*.py",
    "lz4stream/*.py",
    "objects/*.py",
    "protocol/**/*.py",
    "sql/**/*.py",
    "client/transports/**/*.py",
    "server/**/*.py",
)
OUTCOMES = {"failed": "killed", "hung": "hung", "passed": "survived"}
# How often pytest may end with an error of its own before a campaign does.
PATIENCE = 3
# Why a test that failed says nothing about a mutation.
FAILS_ALWAYS = "fails without a mutation too"
FAILS_ONCE = "did not fail again"
# Folders of tests that are recorded one by one when no record is there.
ROOMS: tuple[str, ...] = (
    "catalog",
    "engine",
    "ipc",
    "wire",
    "lz4stream",
    "objects",
    "protocol",
    "sql",
)
ROOMS += ("client", "server")


@dataclasses.dataclass(slots=True)
class Verdict:
    """What came of one mutation."""

    name: str
    source: str  # the fingerprint of the module that was changed
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
    parser.add_argument("--record", nargs="*", metavar="TESTS", help="record these tests' lines")
    parser.add_argument("--again", action="store_true", help="ask about survivors anew")
    parser.add_argument("--minutes", type=float, default=0.0, help="stop asking after so long")
    options = parser.parse_args()
    if options.record is not None:
        for tests in options.record or [f"tests/{room}" for room in ROOMS]:
            record(tests)
        return 0
    chosen = choose(options.count, options.seed, options.only)
    if options.list:
        for module, mutation in sorted(chosen, key=lambda item: (item[0], item[1].line)):
            print(f"{module}:{mutation.line}  {mutation.before!r} -> {mutation.after!r}")
        return 0
    for room in ROOMS if not options.only else ():
        if not record_of(f"tests/{room}").exists():
            record(f"tests/{room}")
    known = remembered(chosen, again=options.again)
    left = [item for item in chosen if item[1].name not in known]
    reasons = explanations()
    # What is known to survive is asked all tests in vain: last.
    left.sort(key=lambda item: item[1].name in reasons)
    until = time.monotonic() + 60 * options.minutes if options.minutes else None
    campaign(left, options.jobs, known, until)
    return report(chosen, known, options.wanted)


def choose(count: int, seed: int, only: str) -> list[tuple[Path, Mutation]]:
    """Draws mutations, a module's share by the number of its possible ones, in the order drawn.

    Each has a lot of its own, from its name and the seed alone: an edit elsewhere changes neither
    which ones of a module are drawn nor their order, and what was found out about them stays usable.
    """
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
                pool.extend((module, result) for result in mutations(name, path.read_text()))
    return sorted(pool, key=lambda item: lot(item[1].name, seed))[:count]


def lot(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed} {name}".encode(), digest_size=8).digest()


def record_of(tests: str) -> Path:
    return RECORDS / f"{tests.strip('/').replace('/', '-').removesuffix('.py')}.json"


def record(tests: str) -> None:
    """Runs a folder of tests once, and keeps which lines each of them runs."""
    RECORDS.mkdir(parents=True, exist_ok=True)
    print(f"recording {tests}", flush=True)
    began = time.monotonic()
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "mutants.recorder", "--no-header"),
            *("-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist", "-p", "no:cov"),
            *("--tb=line", tests),
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
            "MUTANTS_RECORD": str(record_of(tests)),
        },
        check=False,  # a test that fails is not asked
    )
    print(f"recorded {tests} in {time.monotonic() - began:.0f} s", flush=True)


def remembered(chosen: list[tuple[Path, Mutation]], *, again: bool) -> dict[str, Verdict]:
    """What earlier runs found out about these mutations of these very sources."""
    wanted = {mutation.name: fingerprint(SOURCE / module) for module, mutation in chosen}
    known: dict[str, Verdict] = {}
    if RESULTS.exists():
        for line in RESULTS.read_text().splitlines():
            verdict = Verdict(**json.loads(line))
            if wanted.get(verdict.name) == verdict.source:
                known[verdict.name] = verdict
    if again:
        known = {name: v for name, v in known.items() if v.outcome != "survived"}
    return known


def campaign(
    left: list[tuple[Path, Mutation]], jobs: int, known: dict[str, Verdict], until: float | None
) -> None:
    """Asks about every mutation, `jobs` at a time, each in a copy of the sources of its own."""
    selection = Selection()
    preload()
    waiting = list(reversed(left))
    under_way: dict[int, tuple[Fork, Path, Mutation, Path]] = {}
    # Tests that failed a mutation and then passed it: nothing is learnt from them about that one.
    fickle: dict[str, set[str]] = {}
    broken: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory(prefix="mutants-") as root:
        slots = []
        for number in range(jobs):
            slot = Path(root) / str(number)
            shutil.copytree(ROOT / "src", slot / "src")
            slots.append(slot)
        try:
            while waiting or under_way:
                if until is not None and time.monotonic() > until:
                    waiting.clear()
                while slots and waiting:
                    module, mutation = waiting.pop()
                    slot = slots.pop()
                    without = frozenset(selection.unsound | fickle.get(mutation.name, set()))
                    wanted = [
                        test
                        for test in selection.tests(module, asked_of(mutation))
                        if test not in without
                    ]
                    place(slot, module).write_text(mutation.source)
                    fork = Fork(slot, wanted, slot / "log", selection.seconds, without)
                    under_way[fork.pid] = fork, module, mutation, slot
                forks = [fork for fork, *_ in under_way.values()]
                spoke = wait_for(forks, 1.0)
                for fork in forks:
                    ended = fork in spoke and not fork.hear()
                    if not ended and not fork.hangs():
                        continue
                    _, module, mutation, slot = under_way.pop(fork.pid)
                    code = fork.finish() if ended else fork.end()
                    # A test that fails may leave what ends pytest itself with an error.
                    if code == BROKEN and not fork.failed:
                        broken[mutation.name] += 1
                        if broken[mutation.name] == PATIENCE:
                            raise SystemExit((slot / "log").read_text())
                        place(slot, module).write_text((SOURCE / module).read_text())
                        slots.append(slot)
                        waiting.append((module, mutation))
                        continue
                    outcome = "hung" if not ended else "failed" if code else "passed"
                    doubt = doubts(fork, outcome, slot, module, selection) if code else ""
                    place(slot, module).write_text((SOURCE / module).read_text())
                    slots.append(slot)
                    test = fork.failed if ended else fork.test
                    if doubt:
                        print(f"{test} {doubt}: left out", flush=True)
                        if doubt == FAILS_ALWAYS:
                            selection.forget(test)
                        else:
                            fickle.setdefault(mutation.name, set()).add(test)
                        waiting.append((module, mutation))
                        continue
                    verdict = Verdict(
                        mutation.name,
                        fingerprint(SOURCE / module),
                        OUTCOMES[outcome],
                        (test or f"pytest ended with {code}") if code else "",
                        round(time.monotonic() - fork.began, 1),
                    )
                    known[verdict.name] = verdict
                    RECORDS.mkdir(parents=True, exist_ok=True)
                    with RESULTS.open("a") as results:
                        results.write(json.dumps(dataclasses.asdict(verdict)) + "\n")
                    print(
                        f"{verdict.outcome:8} {verdict.seconds:6.1f} s  {module}:{mutation.line}  "
                        f"{mutation.before[:50]!r} -> {mutation.after[:50]!r}  {verdict.by[-70:]}",
                        flush=True,
                    )
        finally:
            for fork, *_ in under_way.values():
                with contextlib.suppress(OSError):
                    fork.end()


def asked_of(mutation: Mutation) -> range | None:
    """The lines whose tests are asked; None for all of the module."""
    return None if ":<module>:" in mutation.name else mutation.lines


def place(slot: Path, module: Path) -> Path:
    return slot / "src" / "fletching" / module


def doubts(fork: Fork, outcome: str, slot: Path, module: Path, selection: Selection) -> str:
    """Says why the test that killed a mutation, or hung, is not to be believed; "" if it is.

    It is asked alone: about the mutation again, which stands in the slot, and about the unchanged
    code. Where no test began, pytest could not: a mutation kept it from that only if all of its
    tests begin and pass without one.

    Raises:
        SystemExit: they do not, so nothing can be asked of them.
    """
    test = fork.failed or fork.test
    asked = [test] if test else fork.wanted
    if Fork(slot, asked, slot / "log-again", selection.seconds).wait() != outcome:
        return FAILS_ONCE
    place(slot, module).write_text((SOURCE / module).read_text())
    log = slot / "log-unchanged"
    if Fork(slot, asked, log, selection.seconds).wait() == "passed":
        return ""
    if not test:
        raise SystemExit(f"the tests cannot begin, with or without a mutation:\n{log.read_text()}")
    return FAILS_ALWAYS


def explanations() -> dict[str, str]:
    """Why mutations that are known to survive do, by name."""
    return tomllib.loads(SURVIVORS.read_text()).get("survivors", {})


def report(chosen: list[tuple[Path, Mutation]], known: dict[str, Verdict], wanted: float) -> int:
    """Prints the outcome; 1 when too many survived that nobody has explained."""
    reasons = explanations()
    verdicts = [known[m.name] for _, m in chosen if m.name in known]
    survived = {verdict.name for verdict in verdicts if verdict.outcome == "survived"}
    unexplained = [m for _, m in chosen if m.name in survived and m.name not in reasons]
    for m in unexplained:
        print(f"\nsurvived: {m.name}\n  line {m.line}: {m.before!r}\n        -> {m.after!r}")
    explained = len(survived) - len(unexplained)
    counted = len(verdicts) - explained
    noticed = len(verdicts) - len(survived)
    hung = sum(verdict.outcome == "hung" for verdict in verdicts)
    share = 100 * noticed / counted if counted else 100.0
    print(f"\n{'room':<10} asked  killed  hung  explained  unnoticed")
    for room in sorted({verdict.name.partition("/")[0] for verdict in verdicts}):
        of = [verdict for verdict in verdicts if verdict.name.startswith(f"{room}/")]
        kinds = [sum(verdict.outcome == kind for verdict in of) for kind in ("killed", "hung")]
        missed = sum(m.name.startswith(f"{room}/") for m in unexplained)
        print(
            f"{room:<10} {len(of):5} {kinds[0]:7} {kinds[1]:5} "
            f"{len(of) - sum(kinds) - missed:10} {missed:10}"
        )
    print(
        f"\n{len(verdicts)} mutations: {noticed - hung} killed by a failing test, {hung} hung, "
        f"{explained} survived for a known reason, {len(unexplained)} unnoticed: "
        f"{share:.1f} % of those that change behaviour"
    )
    if len(verdicts) < len(chosen):
        print(f"{len(chosen) - len(verdicts)} are still to be asked about: run the same once more")
        return 1
    return 0 if share >= wanted else 1


if __name__ == "__main__":
    sys.exit(main())
