"""Conditions as Spark hands them to a Python source, as pyarrow expressions."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from decimal import Decimal

import pyarrow.compute as pc
from pyspark.sql import datasource as spark

__all__ = ["spark_expression"]

_VALUES = (bool, int, float, str, Decimal, dt.date)

_COMPARED: dict[str, Callable[[pc.Expression, pc.Expression], pc.Expression]] = {
    "EqualTo": lambda column, value: column == value,
    "GreaterThan": lambda column, value: column > value,
    "GreaterThanOrEqual": lambda column, value: column >= value,
    "LessThan": lambda column, value: column < value,
    "LessThanOrEqual": lambda column, value: column <= value,
}


def spark_expression(condition: object) -> pc.Expression | None:
    """A condition that holds wherever Spark's does; None where that is not sure.

    Not for greater: for Spark NaN is the greatest number, elsewhere it compares as false. Moments depend
    on the session's time zone and are left to Spark; so is what this has no form of.
    """
    name = type(condition).__name__
    column = getattr(condition, "attribute", None)
    if not column or not isinstance(condition, getattr(spark, "Filter", ())):
        return None
    field = pc.field(*column)
    if name == "IsNull":
        return field.is_null()
    if name == "IsNotNull":
        return field.is_valid()
    value: object = getattr(condition, "value", None)
    if name == "In":
        if not isinstance(value, list | tuple | set | frozenset):
            return None
        plain = all(isinstance(each, str) or type(each) is int for each in value)
        return field.isin(list(value)) if value and plain else None
    if name not in _COMPARED or not isinstance(value, _VALUES) or isinstance(value, dt.datetime):
        return None
    if isinstance(value, float) and (math.isnan(value) or name.startswith("Greater")):
        return None
    return _COMPARED[name](field, value)
