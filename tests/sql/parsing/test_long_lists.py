"""Lists that are taken out of a condition mean what they mean inside, and nothing else is taken."""

from __future__ import annotations

import re
import time

import pyarrow as pa
import pytest

from fletching.errors import InvalidArgumentError, SqlSyntaxError
from fletching.sql.parsing import long_lists
from fletching.sql.parsing.long_lists import LEAST_ENTRIES, without_long_lists
from fletching.sql.predicates.predicate_compiler import compile_predicate

FIELDS = {name: pa.field(name, kind) for name, kind in (("n", pa.int64()), ("s", pa.string()))}
NUMBERS = ", ".join(str(n) for n in range(LEAST_ENTRIES))
TEXTS = ",".join(f"'it is {n}'" for n in range(LEAST_ENTRIES))


def text_of(condition: object) -> str:
    """A condition as text, without the addresses of its functions."""
    return re.sub(r"0x[0-9a-f]+", "", str(condition))


@pytest.mark.parametrize(
    "condition",
    [
        f"n in ({NUMBERS})",
        f"n IN( {NUMBERS} )",
        f"not n in ({NUMBERS}) and s in ({TEXTS})",
        f"n not in ({NUMBERS}) or s not in ({TEXTS},\n'x, y') or n = 3",
        f"s in ({TEXTS}) -- in ({NUMBERS})",
        f"s = 'in ({NUMBERS})' or n in ({NUMBERS})",
        f's = "in ({NUMBERS})" or n in ({NUMBERS})',
        f"/* in ({NUMBERS}) */ `n` in ({NUMBERS})",
        f"n in ({NUMBERS}, 99999999999999999999)",
        f"n in ({NUMBERS}, 1.5)",
        f"n in ({NUMBERS}, -1)",
        f"n in ({NUMBERS}, null)",
        f"s in ({TEXTS}, 'a\\'b')",
        f"s in ({TEXTS}) and s <> 'long list 0'",
    ],
    ids=lambda text: text[:12] + ".." + text[-14:],
)
def test_a_list_means_what_it_means_inside(condition: str, monkeypatch: pytest.MonkeyPatch) -> None:
    short = compile_predicate(condition, FIELDS)
    monkeypatch.setattr("fletching.sql.parsing.dialect.without_long_lists", lambda text: (text, {}))
    whole = compile_predicate(condition, FIELDS)
    assert text_of(short.condition) == text_of(whole.condition)
    assert short.columns == whole.columns


def test_only_plain_lists_behind_in_are_taken_out() -> None:
    for text in (
        f"f({NUMBERS})",
        f"x = '({NUMBERS})'",
        f"'in ({NUMBERS})'",
        f"min ({NUMBERS})",
        f"x in ({NUMBERS}",
        f"x in ({NUMBERS},)",
        f"x in ({NUMBERS}, y)",
        f"x in ({NUMBERS}, 'it''s')",
        "x in (1, 2, 3)",
    ):
        assert without_long_lists(text) == (text, {})
    short, lists = without_long_lists(f"x in ({TEXTS}) or y in ({NUMBERS})")
    assert short == "x in ('long list 0') or y in ('long list 1')"
    assert lists["long list 0"][3] == ("it is 3", True)
    assert lists["long list 1"][-1] == (str(LEAST_ENTRIES - 1), False)


@pytest.mark.parametrize(
    ("condition", "error"),
    [
        (f"n in ({NUMBERS}) and", SqlSyntaxError),
        (f"n in ({NUMBERS}) n", SqlSyntaxError),
        (f"m in ({NUMBERS})", InvalidArgumentError),
        (f"n in ({TEXTS})", InvalidArgumentError),
    ],
)
def test_errors_are_those_of_the_text_as_it_was_sent(
    condition: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(error) as short:
        compile_predicate(condition, FIELDS)
    monkeypatch.setattr("fletching.sql.parsing.dialect.without_long_lists", lambda text: (text, {}))
    with pytest.raises(error) as whole:
        compile_predicate(condition, FIELDS)
    assert str(short.value) == str(whole.value)
    assert "long list" not in str(short.value)


@pytest.mark.parametrize(
    "text",
    [
        "in (" + "1," * 200_000,
        "in (" * 100_000,
        "in (1," * 50_000,
        "'" + "in (1,2)" * 50_000,
        "/*" * 100_000,
        "in (" + "'a'," * 100_000 + "'",
        "in (" + "1 , " * 100_000 + "x)",
    ],
    ids=lambda text: text[:12],
)
def test_hostile_texts_take_linear_time(text: str) -> None:
    def seconds(part: str) -> float:
        started = time.process_time()
        without_long_lists(part)
        return time.process_time() - started

    # Eight times the text takes about eight times as long, not sixty-four; floors keep noise out.
    assert seconds(text) < 32 * max(seconds(text[: len(text) // 8]), 0.02)


def test_the_least_length_is_that_of_a_list_worth_it() -> None:
    assert long_lists.LEAST_ENTRIES > 32
