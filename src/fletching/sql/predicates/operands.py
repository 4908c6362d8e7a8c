"""Columns and nested fields as sides of a comparison, and comparisons of two of them."""

from __future__ import annotations

import dataclasses
import functools
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from fletching.errors import InvalidArgumentError
from fletching.sql.predicates.bounds import ColumnPath
from fletching.sql.predicates.literals import UNITS

__all__ = ["Operand", "applied", "compared", "operand_of"]


@dataclasses.dataclass(frozen=True, eq=False)
class Operand:
    """A column, or a field inside a struct column.

    Attributes:
        path: the column's name, then the fields' names, as the table spells them.
        indices: the places of those fields in their structs.
        type: the Arrow type of its values.
    """

    path: ColumnPath
    indices: tuple[int, ...]
    type: pa.DataType

    @property
    def name(self) -> str:
        """Its name for messages."""
        return ".".join(self.path)

    @functools.cached_property
    def expression(self) -> pc.Expression:
        """Its values; a field of a null struct is null."""
        column = pc.field(self.path[0])
        return pc.struct_field(column, self.indices) if self.indices else column

    @functools.cached_property
    def comparable(self) -> pc.Expression:
        """Its values in a form that Arrow orders: floats as doubles, booleans as numbers."""
        if self.floating and not pa.types.is_float64(self.type):
            return self.expression.cast(pa.float64())
        return self.expression

    @property
    def floating(self) -> bool:
        """Whether there may be a NaN among the values."""
        return bool(pa.types.is_floating(self.type))


def operand_of(field: pa.Field, rest: ColumnPath) -> Operand:
    """A column, or the field that names lead to from it; names are compared in any case.

    Raises:
        InvalidArgumentError: there is no such field, or more than one.
    """
    path, indices, data_type = [field.name], [], field.type
    for name in rest:
        shown = ".".join(path)
        if not pa.types.is_struct(data_type):
            raise InvalidArgumentError(
                f"{shown} of type {data_type} has no fields, so not {name[:100]!r}"
            )
        wanted = name.casefold()
        result = [
            index
            for index in range(data_type.num_fields)
            if data_type.field(index).name.casefold() == wanted
        ]
        if len(result) != 1:
            how = "no field" if not result else "more than one field"
            raise InvalidArgumentError(f"{shown} has {how} {name[:100]!r}")
        inner = data_type.field(result[0])
        path.append(inner.name)
        indices.append(result[0])
        data_type = inner.type
    return Operand(tuple(path), tuple(indices), data_type)


def applied(operator: str, left: pc.Expression, right: pc.Expression) -> pc.Expression:
    """A comparison of two expressions of one type."""
    functions = {
        "==": pc.equal,
        "!=": pc.not_equal,
        "<": pc.less,
        "<=": pc.less_equal,
        ">": pc.greater,
        ">=": pc.greater_equal,
    }
    return functions[operator](left, right)


def compared(left: Operand, operator: str, right: Operand) -> pc.Expression:
    """A comparison of two columns as an expression: exact, or approximate if one of them is.

    Raises:
        InvalidArgumentError: their types cannot be compared.
    """
    item, other = _common(left, right)
    return applied(operator, item, other)


def _common(left: Operand, right: Operand) -> tuple[pc.Expression, pc.Expression]:
    """The two sides in one type that holds every value of both, or in DOUBLE."""
    types = pa.types
    first, second = left.type, right.type
    if _is_number(first) and _is_number(second):
        if left.floating or right.floating:
            narrow = any(side.floating and side.type.bit_width < 64 for side in (left, right))
            return _as_double(left, narrow=narrow), _as_double(right, narrow=narrow)
        if first == second:
            return left.expression, right.expression
        if types.is_integer(first) and types.is_integer(second):
            wide = pa.int64()
            if types.is_uint64(first) or types.is_uint64(second):
                wide = pa.decimal128(20, 0)
            return left.expression.cast(wide), right.expression.cast(wide)
        scale = max(getattr(first, "scale", 0), getattr(second, "scale", 0))
        wide = pa.decimal256(76, scale)
        return left.expression.cast(wide), right.expression.cast(wide)
    if _is_time(first) and _is_time(second):
        if first == second:
            return left.expression, right.expression
        finest = min(_nanoseconds(first), _nanoseconds(second))
        return _in_units_of(left, finest), _in_units_of(right, finest)
    for kinds, wide in (
        ((types.is_string, types.is_large_string), pa.large_string()),
        ((types.is_binary, types.is_large_binary), pa.large_binary()),
    ):
        if all(any(kind(data_type) for kind in kinds) for data_type in (first, second)):
            if first == second:
                return left.expression, right.expression
            return left.expression.cast(wide), right.expression.cast(wide)
    if types.is_boolean(first) and types.is_boolean(second):
        # Arrow has no order of booleans.
        return left.expression.cast(pa.int8()), right.expression.cast(pa.int8())
    raise InvalidArgumentError(
        f"columns {left.name} ({first}) and {right.name} ({second}) cannot be compared"
    )


def _is_number(data_type: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_integer(data_type) or types.is_floating(data_type) or types.is_decimal(data_type)
    )


def _as_double(operand: Operand, *, narrow: bool) -> pc.Expression:
    """Numbers as doubles; exact ones that meet a FLOAT take that type first, as literals do."""
    values = operand.expression
    if narrow and not operand.floating:
        # By way of DOUBLE, as Arrow rounds a decimal to a FLOAT by less exact arithmetic.
        values = values.cast(options=pc.CastOptions.unsafe(pa.float64()))
        values = values.cast(options=pc.CastOptions.unsafe(pa.float32()))
    return values.cast(options=pc.CastOptions.unsafe(pa.float64()))


def _is_time(data_type: pa.DataType) -> bool:
    return bool(pa.types.is_date32(data_type) or pa.types.is_timestamp(data_type))


def _nanoseconds(data_type: pa.DataType) -> int:
    return 86_400 * 10**9 if pa.types.is_date32(data_type) else UNITS[data_type.unit]


def _in_units_of(operand: Operand, finest: int) -> pc.Expression:
    """Times as counts of a unit, wide enough that a coarse one cannot overflow."""
    count = operand.expression
    if pa.types.is_date32(operand.type):
        count = count.cast(pa.int32())
    count = count.cast(pa.int64()).cast(pa.decimal128(19, 0))
    factor = _nanoseconds(operand.type) // finest
    if factor == 1:
        return count.cast(pa.decimal128(38, 0))
    exact = pc.multiply(count, pc.scalar(pa.scalar(Decimal(factor), pa.decimal128(18, 0))))
    return exact.cast(pa.decimal128(38, 0))
