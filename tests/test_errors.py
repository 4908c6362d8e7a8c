from __future__ import annotations

import pickle
import re
from collections.abc import Iterator

from tests.folding import folded

from fletching import errors
from fletching.errors import FletchingError


def tree(root: type[FletchingError] = FletchingError) -> Iterator[type[FletchingError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


@folded("error", sorted(set(tree()), key=str))
def test_every_error_pickles_with_its_facts(error: type[FletchingError]) -> None:
    fields: dict[str, object] = (
        {"offset": 7, "expected": 1} if issubclass(error, errors.WireError) else {}
    )
    if issubclass(error, errors.ServiceError):
        fields = {"http_status": 418, "request_id": "r-1"}
    before = error("what failed", **fields)
    after = pickle.loads(pickle.dumps(before))
    assert type(after) is error
    assert str(after) == str(before)
    assert after.facts == before.facts
    for name, value in fields.items():
        assert getattr(after, name) == value


def test_the_module_docstring_is_the_tree() -> None:
    documented = set(re.findall(r"\b\w+Error\b", errors.__doc__ or "")) - {
        "EOFError",
        "ImportError",
        "TimeoutError",
        "ValueError",
    }
    defined = {e.__name__ for e in tree() if e.__module__ == "fletching.errors"}
    assert documented == defined


def test_every_error_says_in_its_docstring_what_it_means() -> None:
    for error in tree():
        assert (error.__doc__ or "").strip(), error
