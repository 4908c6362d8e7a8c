"""Names are looked for inside out."""

from __future__ import annotations

from fletching.sql.functions.sql_types import BIGINT, DOUBLE, STRING, UNKNOWN, struct_of
from fletching.sql.queries.name_scopes import Scope, field_of

PLACE = struct_of(["city", "at"], [STRING, struct_of(["lat"], [DOUBLE])])


def test_columns_inside_out() -> None:
    around = Scope(sources={"t": {"a": BIGINT, "p": PLACE}}, ctes={"c": {"x": STRING}})
    inner = Scope(around, sources={"u": {"a": STRING}}, names={"n": DOUBLE})
    assert inner.column(["a"]) == STRING
    assert inner.column(["t", "a"]) == BIGINT
    assert inner.column(["p", "at", "lat"]) == DOUBLE
    assert inner.column(["n"]) == DOUBLE
    assert inner.column(["zz"]) == UNKNOWN
    assert inner.cte("c") == {"x": STRING}
    assert inner.cte("d") is None
    assert field_of(PLACE, ["zz"]) == UNKNOWN


def test_two_sources_with_one_name() -> None:
    both = Scope(sources={"t": {"a": BIGINT}, "u": {"a": STRING}})
    assert both.own(["a"]) == UNKNOWN
    assert both.own(["b"]) is None


def test_what_there_may_be() -> None:
    known = Scope(sources={"t": {"a": UNKNOWN}})
    assert known.has(["a"])
    assert not known.has(["b"])
    assert Scope(known).has(["a"])
    assert not Scope().has(["b"])
    # Nobody knows the columns of this one.
    assert Scope(sources={"t": {}}).has(["b"])
