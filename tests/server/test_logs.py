"""Lines of the log: one JSON object each, whatever is in them, with the ids that belong to them."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import fletching
from fletching import caller
from fletching.errors import ServiceError, UsageError
from fletching.server.logs import LOGGERS, JsonFormatter, LogFormat, log_to
from fletching.server.server_settings import ServerSettings


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What is logged while the test runs; the loggers are left as they were."""
    kept = {
        name: (logger.handlers, logger.level, logger.propagate)
        for name in LOGGERS
        for logger in (logging.getLogger(name),)
    }
    yield io.StringIO()
    for name, (handlers, level, propagate) in kept.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_every_request_is_a_line_with_its_ids(stream: io.StringIO, tmp_path: Any) -> None:
    log_to(stream, LogFormat.JSON)
    with fletching.serve(tmp_path / "data", port=0) as server:
        access_id, secret = server.access_key
        with fletching.connect(server.url, access_id=access_id, access_key=secret) as client:
            client.create_table("t", "id BIGINT").append({"id": [1]})
            with pytest.raises(ServiceError) as caught:
                client.table("nowhere")
    result = [line for line in lines(stream) if line["event"] == "fletching.access"]
    made = next(line for line in result if line["action"] == "CreateTable")
    assert made["access_id"] == access_id
    assert made["status"] in {200, 201}
    assert made["duration_seconds"] > 0
    assert made["time"].endswith("Z")
    failed = next(line for line in result if line["request_id"] == caught.value.request_id)
    assert (failed["status"], failed["outcome"]) == (404, "NoSuchTableError")
    assert secret not in stream.getvalue()
    assert len({line["request_id"] for line in result}) == len(result)


def test_lines_in_threads_of_a_request_bear_its_id(stream: io.StringIO) -> None:
    log_to(stream, LogFormat.JSON)
    import contextvars

    def work() -> None:
        caller.begin_request("r-1", "t" * 32)
        caller.work_for("ann")
        logging.getLogger("fletching.engine").warning("slow")
        caller.begin_request("r-2")
        logging.getLogger("fletching.engine").warning("next")

    contextvars.copy_context().run(work)
    logging.getLogger("fletching.engine").warning("upkeep")
    first, second, third = lines(stream)
    assert (first["request_id"], first["access_id"], first["trace_id"]) == ("r-1", "ann", "t" * 32)
    assert second["request_id"] == "r-2"
    assert "access_id" not in second
    assert "request_id" not in third


@pytest.mark.parametrize("nasty", ['a\nb "c"', "\x1b[2J\u202e", "\ud800", "\0"])
def test_no_value_breaks_a_line(nasty: str) -> None:
    record = logging.LogRecord("fletching", logging.INFO, "x", 1, "%s", (nasty,), None)
    record.fields = {"path": nasty, "odd": object()}
    text = JsonFormatter().format(record)
    assert len(text.splitlines()) == 1
    assert json.loads(text)["level"] == "info"


def test_a_failure_has_its_trace(stream: io.StringIO) -> None:
    log_to(stream, LogFormat.JSON)
    try:
        int("broken")
    except ValueError:
        record = logging.LogRecord("f", logging.ERROR, "x", 1, "m", (), sys.exc_info())
    assert "ValueError: " in json.loads(JsonFormatter().format(record))["exception"]


def test_text_is_for_people(stream: io.StringIO) -> None:
    log_to(stream, LogFormat.TEXT)
    logging.getLogger("uvicorn.error").info("started")
    assert stream.getvalue().endswith("INFO started\n")


def test_the_setting() -> None:
    assert ServerSettings.from_environment({"FLETCHING_LOG_FORMAT": "json"}).log_format == "json"
    with pytest.raises(UsageError, match="text or json"):
        ServerSettings.from_environment({"FLETCHING_LOG_FORMAT": "xml"})
