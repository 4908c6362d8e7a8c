"""Limits: positive, and compared before memory is taken."""

from __future__ import annotations

import dataclasses

import pytest

from fletching.errors import UsageError
from fletching.ipc.limits import DEFAULT_LIMITS, Limits


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Limits)])
def test_a_limit_that_nothing_meets_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        Limits(**{name: -1})
    least = 0 if name == "ratio_free_bytes" else 1
    assert getattr(Limits(**{name: least}), name) == least
    if least:
        with pytest.raises(UsageError, match=name):
            Limits(**{name: 0})


def test_the_defaults_are_those_of_every_function() -> None:
    assert Limits() == DEFAULT_LIMITS
