"""Spark SQL as the peer of our statements: the same expressions and queries, in Hive's form."""

from __future__ import annotations

import datetime as dt
import math
import re
from decimal import Decimal
from typing import Any

from pyspark.sql import Row, SparkSession

__all__ = ["Missing", "alike", "answer", "session"]

_TABLES = [
    """create or replace temporary view sale as select * from values
    (1L, 'pen', 1.50BD, 10, timestamp '2024-01-01 10:00:00', array('a','b'), map('x',1L), named_struct('city','Rome','zip',1), '20240101'),
    (2L, 'ink', 4.25BD, 2, timestamp '2024-01-01 11:00:00', array('b'), map('x',2L,'y',3L), named_struct('city','Oslo','zip',2), '20240101'),
    (3L, 'pen', 1.75BD, 4, timestamp '2024-01-02 10:00:00', array(), map(), named_struct('city','Rome','zip',3), '20240102'),
    (4L, null, 9.00BD, null, timestamp '2024-01-02 12:00:00', null, null, null, '20240102'),
    (5L, 'pad', null, 7, null, array('c','a'), map('y',5L), named_struct('city',null,'zip',5), '20240103')
    v(id, item, price, n, at, tags, attrs, place, pt)""",
    """create or replace temporary view item as select * from values
    ('pen', 'write', 0.5D), ('ink', 'write', 1.0D), ('cup', 'drink', 2.5D), (null, 'none', null) v(name, kind, weight)""",
    """create or replace temporary view part as select * from values
    (1L, 'x', '2024', 1L), (2L, 'y', '2024', 2L), (3L, 'z', '2025', 10L) v(k, v, ds, hh)""",
    "create or replace temporary view pens as select id, price from sale where item = 'pen'",
]


class Missing(Exception):  # noqa: N818 - it is an answer
    """Spark has no such function or form."""


def session() -> SparkSession:
    """Spark on two threads, in Hive's rules: no errors for what has no value, times in UTC."""
    made: SparkSession = (
        SparkSession.builder.master("local[2]")
        .appName("statements")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.ansi.enabled", "false")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.legacy.timeParserPolicy", "CORRECTED")
        .getOrCreate()
    )
    made.sparkContext.setLogLevel("OFF")
    for text in _TABLES:
        made.sql(text)
    return made


def answer(spark: SparkSession, text: str) -> list[tuple[Any, ...]]:
    """What Spark gives for a query.

    Raises:
        Missing: it refuses the text.
    """
    # DATETIME is MaxCompute's name of Spark's TIMESTAMP.
    text = re.sub(r"\bdatetime '", "timestamp '", text)
    text = re.sub(r"\bas datetime\)", "as timestamp)", text)
    try:
        return [tuple(map(_plain, row)) for row in spark.sql(text).collect()]
    except Exception as error:
        raise Missing(str(error).splitlines()[0][:200]) from error


def _plain(value: Any) -> Any:
    if isinstance(value, Row):
        return {name: _plain(one) for name, one in value.asDict(recursive=False).items()}
    if isinstance(value, dict):
        return [(_plain(key), _plain(one)) for key, one in value.items()]
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, bytearray):
        return bytes(value)
    return value


def alike(ours: Any, theirs: Any) -> bool:
    """Whether two values are the same; numbers by their value, since widths differ in name only."""
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return ours is theirs
    numbers = (int, float, Decimal)
    if isinstance(ours, numbers) and isinstance(theirs, numbers):
        one, other = float(ours), float(theirs)
        return math.isclose(one, other, rel_tol=1e-9) or (math.isnan(one) and math.isnan(other))
    if isinstance(ours, dt.datetime) and isinstance(theirs, dt.datetime):
        return ours.replace(tzinfo=None) == theirs.replace(tzinfo=None)
    if isinstance(ours, list) and isinstance(theirs, list):
        if ours and isinstance(ours[0], tuple):
            ours, theirs = sorted(ours, key=repr), sorted(theirs, key=repr)
        return len(ours) == len(theirs) and all(map(alike, ours, theirs))
    if isinstance(ours, tuple) and isinstance(theirs, tuple):
        return len(ours) == len(theirs) and all(map(alike, ours, theirs))
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return len(ours) == len(theirs) and all(map(alike, ours.values(), theirs.values()))
    return bool(ours == theirs)
