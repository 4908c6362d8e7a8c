"""Log lines: text for people, or one JSON object each for machines (``FLETCHING_LOG_FORMAT``).

A JSON line has ``time`` (RFC 3339, UTC), ``level``, ``event`` (the logger's name), ``message``; a
request's own line also ``request_id``, ``trace_id``, ``access_id``, ``peer``, ``method``, ``path``,
``action``, ``status``, ``duration_seconds``, ``received_bytes``, ``sent_bytes``, ``outcome``. Whatever
is logged while a request is worked on bears its ``request_id`` and ``access_id``, in whichever thread.
"""

from __future__ import annotations

import datetime as dt
import enum
import json
import logging
from typing import IO

from fletching import caller

__all__ = ["JsonFormatter", "LogFormat", "TextFormatter", "log_to"]

LOGGERS = ("fletching", "uvicorn")
"""Whose lines are formatted: ours, and what serves ASGI applications."""


class LogFormat(enum.StrEnum):
    """How lines look."""

    TEXT = "text"
    JSON = "json"


class TextFormatter(logging.Formatter):
    """A line for people."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")


class JsonFormatter(logging.Formatter):
    """A line for machines; no value breaks it, whatever it holds."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON; line breaks inside values are escaped."""
        moment = dt.datetime.fromtimestamp(record.created, dt.UTC)
        line: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": record.name,
            "message": record.getMessage(),
        }
        line |= {
            name: value
            for name, value in (
                ("request_id", caller.request_id()),
                ("access_id", caller.access_id()),
                ("trace_id", caller.trace_id()),
            )
            if value
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line |= {name: value for name, value in fields.items() if value not in (None, "")}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # In ASCII: what came off the wire may hold what is no character.
        return json.dumps(line, default=str)


def log_to(stream: IO[str] | None, chosen: LogFormat) -> None:
    """Sends our lines, and those of what serves ASGI, to a stream; by default to standard error."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if chosen is LogFormat.JSON else TextFormatter())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False
