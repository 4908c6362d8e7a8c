"""The fuzz target's oracle on seeds and on some thousand damaged ones."""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path
from typing import Any

import pytest

FUZZ = Path(__file__).parents[2] / "fuzz"


@pytest.fixture
def fuzz_wire(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FUZZ))
    yield importlib.import_module("fuzz_wire")
    for name in ("fuzz_wire", "wire_oracle"):
        sys.modules.pop(name, None)


def test_seeds_are_whole(fuzz_wire: Any) -> None:
    oracle = fuzz_wire.wire_oracle
    for seed in fuzz_wire.seeds():
        oracle.check(seed)
        assert oracle.outcome(seed[1:], seed[0], 1000)[0] == "whole"


def test_damaged_seeds_give_documented_errors(fuzz_wire: Any) -> None:
    chance = random.Random(11)
    pool = fuzz_wire.seeds()
    for _ in range(1500):
        fuzz_wire.wire_oracle.check(fuzz_wire.mutated(chance, pool))
