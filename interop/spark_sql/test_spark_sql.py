"""The case tables of our statements, asked of Spark SQL: what both have, both answer alike.

Fletching's answers are held by the tests of the client; here their expectations meet an independent peer. Where
MaxCompute means something else than Hive's family does, the difference is listed with its reason, and has to
stay one.
"""

from __future__ import annotations

import re
from typing import Any

import peer
import pytest
from tests.client.sql_cases import EXPRESSIONS, QUERIES
from tests.client.sql_function_cases import FUNCTION_CASES, QUERY_CASES

DIFFERENCES = {
    r"^trim\('|^[lr]trim\('\w+', ": "MaxCompute's second argument is the letters to take off, Spark's first is",
    r"^split\(": "empty texts at the end are left out unless the third argument is false",
    r"regexp_replace\(.*, \d\)": "the fourth argument is which occurrence, in Spark where to begin",
    r"\[\[:alpha:\]\]": "Spark's regular expressions are Java's",
    r"yyyy-?mm|dd/mm/yyyy|'mm'\)|yyyymmdd": "MaxCompute's own letters of formats, where mm are months",
    r"^(?:last_day|next_day|add_months)\(": "MaxCompute gives the day as a text",
    r"^from_unixtime\(\d+\)$": "MaxCompute gives a DATETIME",
    r"^'9.5' > 9$": "a text beside a number is a DOUBLE in MaxCompute, an INT in Spark",
    r"^cast\(\d+ as (?:tinyint|int)\)$": "what does not fit is null, never another number",
    r"^cast\('\w+' as (?:var)?char\(": "MaxCompute cuts a text to the length of the type",
    r"^least\(1, null\)$": "null is the smallest value in MaxCompute, and left out in Spark",
    r"^substr\('abc', -4(?:, 2)?\)$": "before the beginning of a text is nothing",
    r"^from_json\('oops'": "what is no JSON is null, in Spark a row of nulls",
    r"^exp\(1\) = e\(\)$": "the last bit of e",
    r"^conv\('-12'": "MaxCompute keeps the sign, Spark takes 64 bits",
    r"^array_contains\(array\(1, null\), 2\)$": "MaxCompute says false where Spark does not know",
    r"percentile_approx": "ours is exact between two values, Spark's is one of them",
    r"^hash\(": "MaxCompute's own, of which its documentation gives examples",
    r"^months_between\(": "MaxCompute does not round to eight places",
    r"^cast\(1\.50 as string\)$|^(?:cast|concat|length)\(cast\('[\d.]+' as decimal\(|as decimal\(10,2\)\) \|\| ''$": (
        "MaxCompute writes a DECIMAL without the zeros at its end"
    ),
    r"stddev\(|variance\(": "of the population in MaxCompute, of a sample in Spark",
}
"""Patterns of statements that Spark answers otherwise, and why."""

AT_LEAST = 750
"""How many statements both are known to answer alike."""

EXPRESSION_CASES = [
    case for cases in (*EXPRESSIONS.values(), *FUNCTION_CASES.values()) for case in cases
]


@pytest.fixture(scope="module")
def spark() -> Any:
    made = peer.session()
    yield made
    made.stop()


def reason(text: str) -> str | None:
    return next((why for pattern, why in DIFFERENCES.items() if re.search(pattern, text)), None)


def test_statements_mean_what_they_mean_in_spark(spark: Any) -> None:
    alike = 0
    missing: list[str] = []
    wrong: list[str] = []
    asked = [(text, f"select {text}", [(value,)]) for text, value in EXPRESSION_CASES]
    asked += [(text, text, rows) for text, rows in (*QUERIES, *QUERY_CASES)]
    differ: set[str] = set()
    for text, statement, expected in asked:
        try:
            result = peer.answer(spark, statement)
        except peer.Missing as error:
            missing.append(f"{text}: {error}")
            continue
        if peer.alike(expected, result):
            alike += 1
            continue
        why = reason(text)
        if why is None:
            wrong.append(f"{text}: ours {expected!r}, Spark's {result!r}")
        else:
            differ.add(why)
    print(f"{alike} alike, {len(missing)} that Spark lacks, {len(differ)} kinds of differences")
    print(*wrong, sep="\n")
    assert wrong == []
    assert set(DIFFERENCES.values()) - differ == set(), "differences that are none any more"
    assert alike >= AT_LEAST
