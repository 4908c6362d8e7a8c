"""A plugin of pytest: which lines of the promised modules does each test run, and how long is it?

One folder of tests is recorded at a time (``python -m mutants --record tests/wire``) into a database
of coverage.py, one context for each test, and a JSON file beside it with the tests' times. Shared
fixtures count for the test that is the first to ask for them. What runs in a process of its own is
not seen: a module that only such tests run is tried with the test file of its name.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

ROOT = Path(__file__).resolve().parent.parent
# What these start costs more than any test of ours: their tests come last.
COSTLY_FIXTURES = {"postgresql": 15.0, "_databases": 15.0, "s3": 10.0, "_s3_url": 10.0}


def fingerprint(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=12).hexdigest()


def _spent() -> float:
    """Seconds of the processor, not of the clock: a busy machine makes no test slower by it."""
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system


class Recorder:
    def __init__(self, target: Path) -> None:
        self._target = target
        self._data = target.with_suffix(".coverage")
        self._data.unlink(missing_ok=True)
        self._coverage = coverage.Coverage(
            data_file=str(self._data),
            source=[str(ROOT / "src" / "fletching")],
            branch=False,
            config_file=False,
            messages=False,
        )
        self._tests: dict[str, float] = {}
        self._failed: set[str] = set()
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._coverage.switch_context(item.nodeid)
        began = _spent()
        try:
            return (yield)
        finally:
            costs = [COSTLY_FIXTURES.get(name, 0.0) for name in getattr(item, "fixturenames", ())]
            self._tests[item.nodeid] = _spent() - began + max(costs, default=0.0)
            self._coverage.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
        self._coverage.save()
        usable = {name: spent for name, spent in self._tests.items() if name not in self._failed}
        files = sorted({name.partition("::")[0] for name in self._tests})
        sources = sorted((ROOT / "src" / "fletching").rglob("*.py"))
        result = {
            "tests": usable,
            "files": {name: fingerprint(ROOT / name) for name in files},
            "modules": {
                path.relative_to(ROOT / "src" / "fletching").as_posix(): fingerprint(path)
                for path in sources
            },
        }
        self._target.write_text(json.dumps(result))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Recorder(Path(os.environ["MUTANTS_RECORD"])))
