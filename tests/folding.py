"""Tables of small cases in one test.

A test costs some milliseconds whatever it does: it is collected by each process, set up, and told about.
Where a case takes microseconds and there are hundreds, ``folded`` stands for ``pytest.mark.parametrize``:
every case runs, and those that fail are named.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytest

Test = Callable[..., None]


def folded(names: str, cases: Iterable[Any]) -> Callable[[Test], Test]:
    """A decorator that calls a test for each case; stacked, for each combination.

    Fixtures are shared by the cases: only for tests that leave them as they were.

    Args:
        names: of the arguments, with commas between them.
        cases: a value each, or a tuple of values where there are several names.
    """
    arguments = [name.strip() for name in names.split(",")]
    every = [case if len(arguments) > 1 else (case,) for case in cases]
    assert every, "a table without cases proves nothing"

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            failures: list[BaseException] = []
            for values in every:
                case = dict(zip(arguments, values, strict=True))
                try:
                    test(**fixtures, **case)
                except pytest.skip.Exception as skipped:
                    raise AssertionError(
                        f"a case among others cannot be skipped: {case}"
                    ) from skipped
                except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - each is told with its case
                    error.add_note(f"with {case}"[:1000])
                    failures.append(error)
            if failures:
                first = failures[0]
                if len(failures) > 1:
                    first.add_note(f"{len(failures)} of {len(every)} cases fail, also those with")
                    first.add_note("; ".join(error.__notes__[0] for error in failures[1:20]))
                raise first

        signature = inspect.signature(test)
        kept = [each for each in signature.parameters.values() if each.name not in arguments]
        assert len(kept) == len(signature.parameters) - len(arguments), "an argument is missing"
        run.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]  # what pytest asks for
        return run

    return decorate
