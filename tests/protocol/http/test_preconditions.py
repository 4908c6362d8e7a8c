"""Lists of entity tags, and what follows from them (RFC 9110, 13)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fletching.errors import PreconditionFailedError
from fletching.protocol.http.preconditions import check_unconditional, is_not_modified, range_holds

TAG = '"a"'


def headers(**fields: str) -> Callable[[str], str]:
    given = {name.replace("_", "-"): value for name, value in fields.items()}
    return lambda name: given.get(name, "")


@pytest.mark.parametrize(
    ("known", "result"),
    [
        ("", False),
        ("*", True),
        ('"a"', True),
        ('W/"a"', True),
        ('"b" , "a"', True),
        (', "b",,"a",', True),
        ('"b,"a"', False),
        ('"x, "a", y"', False),
        ("a", False),
        ('"a" "b"', False),
        ('w/"a"', False),
        ('"b, a"', False),
        ('"a', False),
    ],
)
def test_what_the_client_has(known: str, result: bool) -> None:
    assert is_not_modified(headers(if_none_match=known), TAG) is result


@pytest.mark.parametrize("wanted", ['"b"', 'W/"a"', "a", '"b" "a"'])
def test_what_is_wanted_and_not_there(wanted: str) -> None:
    with pytest.raises(PreconditionFailedError):
        is_not_modified(headers(if_match=wanted, if_none_match=TAG), TAG)


@pytest.mark.parametrize("wanted", ["*", '"a"', '"b", "a"'])
def test_what_is_wanted_and_there(wanted: str) -> None:
    assert not is_not_modified(headers(if_match=wanted), TAG)
    assert is_not_modified(headers(if_match=wanted, if_none_match=TAG), TAG)


def test_ranges_of_something_else() -> None:
    assert range_holds(headers(), TAG)
    assert range_holds(headers(if_range='"a" '), TAG)
    for other in ('W/"a"', '"b"', '"a", "a"', "Sat, 01 Jan 2000 00:00:00 GMT"):
        assert not range_holds(headers(if_range=other), TAG)


def test_changes_have_no_condition() -> None:
    check_unconditional(headers(if_match="*"))
    for given in ({"if_match": TAG}, {"if_none_match": "*"}, {"if_none_match": TAG}):
        with pytest.raises(PreconditionFailedError):
            check_unconditional(headers(**given))


def test_a_long_list_is_read_in_no_time() -> None:
    assert not is_not_modified(headers(if_none_match='"b", ' * 20_000 + '"'), TAG)
    assert is_not_modified(headers(if_none_match='"b", ' * 20_000 + '"a"'), TAG)
