"""Tables in DuckDB, by name, with projections and predicates pushed into the scan.

DuckDB pushes into objects of pyarrow's Dataset kind and into nothing else: a reader can be read once,
and a table is read whole. So each attached table is such an object, which opens a scan of its own for
each query, and queries see what is committed when they begin.
"""

from __future__ import annotations

import types
import warnings
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from fletching.client import Client, Scan, Table
from fletching.client.argument_checks import text_of
from fletching.connectors.narrowing import filtered_batches, missing, scan_of
from fletching.errors import UsageError

try:
    import duckdb
except ImportError as error:
    raise missing("duckdb", error) from error

__all__ = ["ScanDataset", "attach"]


class ScanDataset(pa.dataset.Dataset):  # type: ignore[misc]  # pyarrow ships no types
    """A scan as pyarrow's Dataset: what takes one can read it any number of times.

    Each `scanner` is a scan of its own: a snapshot at that moment, with the columns that there were at
    first, which who holds a dataset goes on to expect. Only what DuckDB and pyarrow's users of datasets
    call for reading is here.
    """

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._schema = scan.schema

    @property
    def schema(self) -> pa.Schema:
        """The schema of the scan."""
        return self._schema

    def scanner(
        self,
        columns: list[str] | None = None,
        filter: pc.Expression | None = None,  # noqa: A002  # pyarrow's word
        **_: object,
    ) -> _Scanner:
        """The wanted rows and columns; batch sizes and read-ahead are the scan's own.

        Args:
            columns: names, or None for all.
            filter: an expression over any of the scan's columns; null counts as false.
        """
        return _Scanner(*filtered_batches(self._scan, columns, filter, self._schema))

    def to_table(self, *args: Any, **options: Any) -> pa.Table:
        """The wanted rows in memory; arguments as for `scanner`."""
        return self.scanner(*args, **options).to_reader().read_all()

    def to_batches(self, *args: Any, **options: Any) -> Iterator[pa.RecordBatch]:
        """The wanted rows a batch at a time; arguments as for `scanner`."""
        yield from self.scanner(*args, **options).to_reader()

    def head(self, num_rows: int, *args: Any, **options: Any) -> pa.Table:
        """The first of the wanted rows."""
        reader = self.scanner(*args, **options).to_reader()
        batches, rows = [], 0
        for batch in reader:
            batches.append(batch.slice(0, num_rows - rows))
            rows += batches[-1].num_rows
            if rows >= num_rows:
                break
        reader.close()
        return pa.Table.from_batches(batches, reader.schema)

    def count_rows(
        self,
        filter: pc.Expression | None = None,  # noqa: A002  # pyarrow's word
        **_: object,
    ) -> int:
        """How many rows there are."""
        return sum(batch.num_rows for batch in self.to_batches(columns=[], filter=filter))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickles as its scan does."""
        return ScanDataset, (self._scan,)


class _Scanner:
    """The part of pyarrow's Scanner that DuckDB uses: it is read once."""

    def __init__(self, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> None:
        self.projected_schema = schema
        self._batches = batches

    def to_reader(self) -> pa.RecordBatchReader:
        return pa.RecordBatchReader.from_batches(self.projected_schema, self._batches)


def attach(
    connection: duckdb.DuckDBPyConnection,
    source: Client | Table | Scan,
    name: str | None = None,
) -> list[str]:
    """Makes tables known to a DuckDB connection; returns the names to query them by.

    Args:
        connection: DuckDB's.
        source: a table, a scan, or a client, for all tables of its project and schema.
        name: of a table's relation, by default the table's own; of the catalog that holds a
            client's tables (``name.table``); without one they stand beside the connection's own.

    Queries read what is committed when they begin. To insert what a query gives, hand the relation
    to the table: ``table.append(connection.sql("select ..."))``.

    A client's tables that DuckDB cannot have are left out, with a warning that says why.

    Raises:
        UsageError: no connection; neither client, table nor scan; an empty name; a scan without
            columns, or with one of a type that DuckDB has not.
        ServiceError: the service refused to list or describe.
    """
    # The module of DuckDB stands for a connection of its own.
    if not isinstance(connection, duckdb.DuckDBPyConnection | types.ModuleType):
        raise UsageError(f"a connection of DuckDB is given, not a {type(connection).__name__}")
    if name is not None and not text_of("name", name):
        raise UsageError("name is what queries say, and not empty")
    if not isinstance(source, Client):
        scan = scan_of(source)
        relation = name or scan.table.name
        refused = _refusal(scan.schema)
        if refused is not None:
            raise UsageError(refused)
        connection.register(relation, ScanDataset(scan))
        return [relation]
    if name is None:
        return [attach(connection, table)[0] for table in _possible(source)]
    names = []
    # A database of its own, in memory: views on registered objects must not outlive the process in
    # a database file of the user's.
    connection.execute(f"ATTACH IF NOT EXISTS ':memory:' AS {_quoted(name)}")
    for each in _possible(source):
        hidden = f"fletching {name} {each.name}"
        connection.register(hidden, ScanDataset(each.scan()))
        target = f"{_quoted(name)}.{_quoted(each.name)}"
        connection.execute(f"CREATE OR REPLACE VIEW {target} AS FROM temp.{_quoted(hidden)}")
        names.append(f"{name}.{each.name}")
    return names


def _possible(client: Client) -> Iterator[Table]:
    """The client's tables that DuckDB can have."""
    for entry in client.list_tables():
        table = client.table(entry.name)
        refused = _refusal(table.schema)
        if refused is None:
            yield table
        else:
            warnings.warn(f"table {entry.name} is left out: {refused}", stacklevel=3)


def _refusal(schema: pa.Schema) -> str | None:
    """Why DuckDB cannot have a relation of this schema; None if it can."""
    if not schema.names:
        return "DuckDB has no relation without columns: choose at least one column"
    for field in schema:
        if _is_foreign(field.type):
            return (
                f"DuckDB has no type for column {field.name} ({field.type}): leave the column out"
            )
    return None


def _is_foreign(kind: pa.DataType) -> bool:
    """Types at which DuckDB's scan of Arrow fails."""
    if pa.types.is_dictionary(kind):
        return _is_foreign(kind.value_type)
    if pa.types.is_decimal256(kind) or pa.types.is_float16(kind):
        return True
    return any(_is_foreign(kind.field(each).type) for each in range(kind.num_fields))


def _quoted(name: str) -> str:
    if not name:
        raise UsageError("a relation needs a name")
    return '"' + name.replace('"', '""') + '"'
