"""The rows of a statement's result as a file, in any of the formats of plain HTTP."""

from __future__ import annotations

from fletching.errors import InvalidArgumentError
from fletching.protocol.messages.requests import ReadInstance
from fletching.protocol.types.row_formats import FileFormat
from fletching.server.api.response_body import PlanSource, send_source
from fletching.server.http.exchange import Exchange
from fletching.server.plain.plain_parameters import MEDIA_TYPES, format_of_request
from fletching.server.plain.rows_out import BegunReply, WrittenRows
from fletching.server.service import Service
from fletching.server.workers import Job

__all__ = ["send_result"]


class _Result(BegunReply):
    """The rows of a result, in a format."""

    def __init__(self, service: Service, request: ReadInstance, chosen: FileFormat) -> None:
        plan = service.engine.read(request)
        group_bytes = max(service.settings.read_memory_bytes // 4, 1)
        if chosen is FileFormat.STREAM:
            self.source = PlanSource(plan, group_bytes)
        else:
            self.source = WrittenRows(plan.schema, iter(plan.batches()), chosen, group_bytes)
        self.begin()


async def send_result(
    exchange: Exchange, service: Service, project: str, instance: str, wanted: str | None
) -> None:
    """Answers with all rows of a result; whether the caller may see them was asked before.

    Raises:
        InvalidArgumentError: no such format, or the statement chose no rows.
        NotFoundError: the result is gone.
    """
    chosen = format_of_request(wanted, "", "format")
    if chosen is None:
        raise InvalidArgumentError("which format? arrow, parquet, csv or jsonl")
    request = ReadInstance(project=project, instance_id=instance, session_id=instance, offset=0)
    extension = {"stream": "arrows"}.get(chosen.value, chosen.value)
    with service.reads.enter():
        async with Job.opened(
            service.workers.cpu, lambda: _Result(service, request, chosen), _Result.close
        ) as job:
            headers = {
                "content-type": MEDIA_TYPES[chosen],
                "content-disposition": f'attachment; filename="result-{instance}.{extension}"',
                "x-content-type-options": "nosniff",
            }
            await exchange.start(None, headers=headers)
            await send_source(exchange, job, job.owned.source, job.owned.first)
