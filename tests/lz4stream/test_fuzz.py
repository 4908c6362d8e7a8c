"""The fuzz target's oracle on its seeds and on some random damage, so that neither rots."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FUZZ))
    monkeypatch.delitem(sys.modules, "fuzz_lz4stream", raising=False)
    return importlib.import_module("fuzz_lz4stream")


def test_the_seeds_pass(target: ModuleType) -> None:
    for data in target.seeds():
        target.lz4stream_oracle.everything(data)


@pytest.mark.slow
def test_random_damage_passes(target: ModuleType) -> None:
    assert target.run(600.0, seed=5, most=300) == 300


def test_the_oracle_can_fail(target: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle = target.lz4stream_oracle
    monkeypatch.setattr(oracle, "by_block", lambda _data, _width: (b"something else", True))
    with pytest.raises(AssertionError):
        oracle.everything(b"\x04\x00\x00\x00\x30abc")
