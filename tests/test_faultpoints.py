"""Fault points: silent unless armed, fatal at the arrival that was named."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from fletching import faultpoints
from fletching.errors import UsageError

SCRIPT = """
from fletching import faultpoints
faultpoints.arm_from_environment()
for number in range(5):
    faultpoints.reach("object.synced")
    faultpoints.reach("commit.begun")
    print(number, flush=True)
"""


@pytest.mark.parametrize(
    ("target", "survived"),
    [
        ("commit.begun", 0),
        ("commit.begun:1", 0),
        ("object.synced:3", 2),
        ("abort.done", 5),
        (None, 5),
    ],
)
def test_the_named_arrival_kills(target: str | None, survived: int) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=600, check=False,
        env={faultpoints.VARIABLE: target} if target else {},
    )  # fmt: skip
    assert run.stdout.split() == [str(number) for number in range(survived)]
    assert run.returncode == (0 if survived == 5 else -signal.SIGKILL)


@pytest.mark.parametrize(
    "target", ["nowhere", "commit.begun:0", "commit.begun:x", ":1", "commit.begun:-1"]
)
def test_a_target_that_cannot_be(target: str) -> None:
    with pytest.raises(UsageError, match=r"commit\.begun"):
        faultpoints.arm(target)


def test_names_are_distinct() -> None:
    assert len(set(faultpoints.POINTS)) == len(faultpoints.POINTS)
