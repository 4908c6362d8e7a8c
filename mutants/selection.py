"""Which tests are asked about a mutation, and in which order."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

import coverage

from mutants.recorder import ROOT, fingerprint

RECORDS = ROOT / "build" / "mutants"
# Tests that take longer than this together are not asked about one mutation, those of the module's own
# test file excepted: the nearest and the quickest come first.
SECONDS = 40.0
# How long a test takes that nobody has recorded: it is new, so it was written for what is tried.
UNKNOWN = 0.5


class Selection:
    """The records of all folders of tests: who runs a line, nearest and quickest first."""

    def __init__(self, records: Path = RECORDS) -> None:
        self.seconds: dict[str, float] = {}
        # Tests that the unchanged code fails: nothing is learnt from them.
        self.unsound: set[str] = set()
        # Test files that a record knows as they are now.
        self._recorded: set[str] = set()
        self._data: list[tuple[coverage.CoverageData, dict[str, str]]] = []
        for path in sorted(records.glob("tests*.json")):
            record = json.loads(path.read_text())
            self.seconds.update(record["tests"])
            for name, known in record["files"].items():
                if (ROOT / name).exists() and fingerprint(ROOT / name) == known:
                    self._recorded.add(name)
            data = coverage.CoverageData(str(path.with_suffix(".coverage")))
            data.read()
            self._data.append((data, record["modules"]))

    @functools.lru_cache(maxsize=64)  # noqa: B019  # one selection lives as long as its campaign
    def _contexts(self, module: Path) -> dict[int, set[str]]:
        """The tests of each line of a module; line 0 has those of all its lines."""
        path = ROOT / "src" / "fletching" / module
        lines: dict[int, set[str]] = {0: set()}
        for data, known in self._data:
            current = known.get(module.as_posix()) == fingerprint(path)
            for line, contexts in data.contexts_by_lineno(str(path)).items():
                named = {name for name in contexts if name in self.seconds}
                lines[0] |= named
                if current:
                    lines.setdefault(line, set()).update(named)
                else:
                    lines.setdefault(-1, set()).update(named)
        return lines

    def forget(self, test: str) -> None:
        """Asks this test about nothing more."""
        self.unsound.add(test)
        self.seconds.pop(test, None)
        self._contexts.cache_clear()

    def tests(self, module: Path, lines: range | None) -> list[str]:
        """The module's own test file if no record knows it as it is, then tests that run a line.

        Lines that run as the module is imported are None: whichever test was the first to need the
        module ran them, and all tests of the module depend on them.

        A name with ``::`` is one test; one without is a file of which every test is asked. Of other
        files that changed since they were recorded the tests that were there then are asked.
        """
        contexts = self._contexts(module)
        if lines is None:
            named = contexts[0]
        else:
            named = contexts.get(-1, set()).union(*(contexts.get(line, ()) for line in lines))
        near = nearest(module)
        own = near[0] if near else ""
        whole = [own] if own.endswith(".py") and (own not in self._recorded or not named) else []
        if not named and not whole:
            named = contexts[0]
        if not named:  # nothing is recorded of it
            whole = list(dict.fromkeys([*(whole or near[:1]), *mentions(module)]))

        def order(name: str) -> tuple[int, float]:
            place = next((i for i, start in enumerate(near) if name.startswith(start)), len(near))
            return place, self.seconds[name]

        chosen: list[str] = list(whole)
        spent = 0.0
        for name in sorted(named, key=order):
            if name.partition("::")[0] in whole:
                continue
            if name.partition("::")[0] == own or spent + self.seconds[name] <= SECONDS:
                spent += self.seconds[name]
                chosen.append(name)
        return chosen


@functools.lru_cache(maxsize=64)
def mentions(module: Path) -> list[str]:
    """The test files that import a module by its name, those of its own folder first."""
    parent, stem = ".".join(("fletching", *module.parent.parts)), re.escape(module.stem)
    wanted = re.compile(
        rf"^ *(from {parent}\.{stem} import|from {parent} import .*\b{stem}\b)", re.MULTILINE
    )
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    result = [path.relative_to(ROOT) for path in files if wanted.search(path.read_text())]
    result.sort(key=lambda path: path.parent != Path("tests") / module.parent)
    return [path.as_posix() for path in result]


def nearest(module: Path) -> list[str]:
    """The test file of the module's name, then the folder it stands in, then its room."""
    own = ROOT / "tests" / module.parent / f"test_{module.stem}.py"
    folder = ROOT / "tests" / module.parent
    room = ROOT / "tests" / module.parts[0]
    return [
        path.relative_to(ROOT).as_posix()
        for path in dict.fromkeys((own, folder, room))
        if path.exists()
    ]
