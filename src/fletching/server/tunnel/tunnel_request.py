"""What a tunnel handler works with: the request, the table in its path, replies in JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

from fletching.errors import InvalidArgumentError, NoSuchPartitionError, UsageError
from fletching.protocol.http.numbers import parse_count
from fletching.protocol.messages.admin import ListPartitions
from fletching.protocol.messages.requests import Reply_co, Request
from fletching.protocol.messages.responses import Column, TableSchema
from fletching.server.http.exchange import Exchange
from fletching.server.service import Service
from fletching.types import PartitionSpec, TableName

__all__ = ["TunnelRequest", "schema_json"]


@dataclasses.dataclass(frozen=True)
class TunnelRequest:
    """One request to a table's tunnel.

    Attributes:
        exchange: the request and its reply.
        service: the engine and its limits.
        table: from the path.
    """

    exchange: Exchange
    service: Service
    table: TableName

    @property
    def query(self) -> dict[str, str]:
        """The query parameters; flags have an empty value."""
        return dict(self.exchange.query)

    @property
    def partition(self) -> PartitionSpec:
        """The partition that the request is about, or none.

        Raises:
            InvalidArgumentError: it is not of the form ``pt=1,region=cn``.
        """
        try:
            return PartitionSpec.parse(self.query.get("partition", ""))
        except UsageError as error:
            raise InvalidArgumentError(error.message[:300], code="InvalidPartitionSpec") from error

    @property
    def quota(self) -> str:
        """The quota that the client named, which stands for the one there is: clients look for its name."""
        return self.query.get("quotaName", "")

    @property
    def server(self) -> str:
        """Where this server answers, ``host:port`` with one colon, as clients take slots apart."""
        given = self.service.settings.public_host or self.exchange.header("host")
        host, colon, port = given.rpartition(":")
        if not colon or not (port.isascii() and port.isdecimal()):
            host, port = given, "443" if self.exchange.head.scheme == "https" else "80"
        # Nobody connects to it: clients send it back as a header, and cannot read an IPv6 address.
        return f"{host if host and ':' not in host else 'localhost'}:{port}"

    def text(self, name: str) -> str:
        """A parameter that must be there.

        Raises:
            InvalidArgumentError: it is missing or empty.
        """
        value = self.query.get(name, "")
        if not value:
            raise InvalidArgumentError(f"the parameter {name} is missing")
        return value

    def count(self, name: str) -> int:
        """A parameter that must be a count.

        Raises:
            InvalidArgumentError: it is missing, or something else.
        """
        text = self.text(name)
        value = parse_count(text)
        if value is None:
            raise InvalidArgumentError(f"{name} is {text[:20]!r}, not a count")
        return value

    def flag(self, name: str) -> bool:
        """Whether a parameter is there and does not say no."""
        return self.query.get(name, "false").lower() not in {"false", "0"}

    async def call(self, request: Request[Reply_co]) -> Reply_co:
        """Asks the engine, if the caller may."""
        self.service.authorize(self.exchange, request)
        with self.service.calls.enter():
            return await self.service.call(request)

    async def check_partition(self, schema: TableSchema) -> PartitionSpec:
        """The partition of the request, which names one of the table that there is.

        Raises:
            InvalidArgumentError: it is missing or not whole, or the table has none.
            NoSuchPartitionError: there is none.
        """
        partition = self.whole_partition(schema)
        if partition:
            request = ListPartitions(table=self.table, prefix=partition, max_items=1)
            page = await self.call(request)
            if not page.partitions:
                raise NoSuchPartitionError(
                    f"there is no partition {partition} in table {self.table.name}"
                )
        return partition

    def whole_partition(self, schema: TableSchema) -> PartitionSpec:
        """The partition of the request, in the order of the table's columns; it need not exist.

        Raises:
            InvalidArgumentError: it is missing or not whole, or the table has none.
        """
        partition = self.partition
        columns = [column.name for column in schema.partition_columns]
        values = {name.casefold(): value for name, value in partition}
        if sorted(values) != sorted(name.casefold() for name in columns):
            wanted = ",".join(f"{name}=.." for name in columns) or "none: it is not partitioned"
            given = f"the partition {str(partition)[:100]!r}" if partition else "no partition"
            raise InvalidArgumentError(
                f"{given} is given for table {self.table.name}; it takes {wanted}",
                code="InvalidPartitionSpec",
            )
        return PartitionSpec(tuple((name, values[name.casefold()]) for name in columns))

    async def reply(
        self, document: Mapping[str, object], *, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answers with a JSON document."""
        body = json.dumps(document, ensure_ascii=False).encode()
        await self.exchange.reply(body, headers=headers)


def schema_json(schema: TableSchema) -> dict[str, object]:
    """A table's columns as clients of the tunnel parse them."""
    return {
        "columns": [_column_json(column) for column in schema.data_columns],
        "partitionKeys": [_column_json(column) for column in schema.partition_columns],
    }


def _column_json(column: Column) -> dict[str, object]:
    return {
        "name": column.name,
        "type": column.type,
        "comment": column.comment,
        "nullable": column.nullable,
    }
