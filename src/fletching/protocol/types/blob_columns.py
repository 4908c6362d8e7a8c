"""Which nodes of a table's columns are BLOBs: their column ids and dotted paths."""

from __future__ import annotations

from collections.abc import Iterator

from fletching.errors import UsageError
from fletching.protocol.messages.responses import TableSchema
from fletching.protocol.types.odps_types import OdpsType, TypeCode, parse_type

__all__ = ["blob_column_id", "blob_column_ids"]


def blob_column_ids(schema: TableSchema) -> dict[int, str]:
    """Column id to path of every BLOB node: ``image``, ``pages.element``, ``by_name.value``."""
    result: dict[int, str] = {}
    for column in schema.data_columns:
        try:
            odps_type = parse_type(column.type)
        except UsageError:
            continue  # an Arrow type that ODPS lacks: nothing in it is a BLOB
        # No ids, or too few, come from a service that has none to give.
        for id_, (path, code) in zip(
            column.column_ids, _nodes(column.name, odps_type), strict=False
        ):
            if code is TypeCode.BLOB:
                result[id_] = path
    return result


def blob_column_id(schema: TableSchema, path: str | None) -> int:
    """The id of a BLOB node by its path, without regard to case; the only one there is for None.

    Raises:
        UsageError: there is no such BLOB column, or None was given and there is not exactly one.
    """
    result = blob_column_ids(schema)
    known = ", ".join(result.values()) or "none"
    if path is None:
        if len(result) != 1:
            raise UsageError(f"name the BLOB column: the table's are {known}")
        return next(iter(result))
    for id_, candidate in result.items():
        if candidate.casefold() == path.casefold():
            return id_
    # The column alone is enough where it holds one kind of BLOB.
    inside = [i for i, p in result.items() if p.casefold().startswith(f"{path.casefold()}.")]
    if len(inside) == 1:
        return inside[0]
    raise UsageError(f"{path!r} is not a BLOB column; the table's are {known}")


def _nodes(path: str, odps_type: OdpsType) -> Iterator[tuple[str, TypeCode]]:
    """Every node with its path, depth-first, in the order of `OdpsType.walk`."""
    yield path, odps_type.code
    for field in odps_type.fields:
        yield from _nodes(f"{path}.{field.name}", field.type)
