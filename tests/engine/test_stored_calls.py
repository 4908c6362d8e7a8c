"""Each request that the catalog answers has one answerer, and no request is answered twice."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from fletching.engine.stored_calls import stored_calls
from fletching.protocol.messages import admin, changes, requests
from fletching.protocol.messages.requests import Request


def test_requests_go_to_methods_that_take_them(house: Any) -> None:
    calls = stored_calls(house.engine.context)
    assert len(calls) >= 30
    for kind, method in calls.items():
        assert issubclass(kind, Request)
        (parameter,) = inspect.signature(method).parameters.values()
        assert parameter.annotation == kind.__name__


@pytest.mark.parametrize("module", [admin, changes, requests])
def test_what_is_not_among_them_needs_rows_or_statements(house: Any, module: Any) -> None:
    calls = stored_calls(house.engine.context)
    others = {
        kind.__name__
        for kind in vars(module).values()
        if isinstance(kind, type)
        and issubclass(kind, Request)
        and kind.__module__ == module.__name__
    } - {kind.__name__ for kind in calls}
    words = ("Read", "Write", "Statement", "Rows", "Truncate", "Restore", "Enforce", "Compact", "Preview",
             "Append", "Request", "Blob", "Instance")  # fmt: skip
    assert all(any(word in name for word in words) for name in others), others
