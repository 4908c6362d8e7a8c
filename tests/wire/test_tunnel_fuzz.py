"""The tunnel's fuzz target: its oracle on seeds and on a hundred and fifty damaged ones."""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path
from typing import Any

import pytest

FUZZ = Path(__file__).parents[2] / "fuzz"


@pytest.fixture
def fuzz_tunnel(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(FUZZ))
    yield importlib.import_module("fuzz_tunnel")
    for name in ("fuzz_tunnel", "tunnel_oracle", "fuzz_wire", "wire_oracle"):
        sys.modules.pop(name, None)


def test_seeds_are_whole(fuzz_tunnel: Any) -> None:
    oracle = fuzz_tunnel.tunnel_oracle
    for seed in fuzz_tunnel.seeds()[1:]:
        oracle.check(seed)
        assert oracle.outcome(seed[1:], seed[0], 1000)[0] == "whole"


def test_damaged_seeds_give_documented_errors(fuzz_tunnel: Any) -> None:
    chance = random.Random(11)
    pool = fuzz_tunnel.seeds()
    for _ in range(150):
        fuzz_tunnel.tunnel_oracle.check(fuzz_tunnel.fuzz_wire.mutated(chance, pool))
