"""Spans of a client's requests, for programs that use OpenTelemetry; nothing for all others.

Nothing is imported here that the program has not imported itself: whoever traces has OpenTelemetry in
memory, and for whoever does not, asking costs one look into a dictionary.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fletching._version import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import Span

__all__ = ["ClientSpan", "client_span"]

_NOTHING = contextlib.nullcontext(None)


class ClientSpan:
    """A request's span."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def headers(self) -> dict[str, str]:
        """What tells the service of the trace."""
        from opentelemetry import propagate

        result: dict[str, str] = {}
        propagate.inject(result)
        return result

    def answered(self, status: int, request_id: str | None) -> None:
        """Notes the reply's head."""
        self._span.set_attribute("http.response.status_code", status)
        if request_id:
            self._span.set_attribute("fletching.request_id", request_id)


def client_span(
    action: str, method: str, address: str, attempt: int
) -> contextlib.AbstractContextManager[ClientSpan | None]:
    """The span of one attempt, from sending it to the head of its reply; None where nobody traces."""
    if "opentelemetry.trace" not in sys.modules:
        return _NOTHING
    return _spanned(action, method, address, attempt)


@contextlib.contextmanager
def _spanned(action: str, method: str, address: str, attempt: int) -> Iterator[ClientSpan | None]:
    from opentelemetry import trace

    tracer = trace.get_tracer("fletching.client", __version__)
    with tracer.start_as_current_span(
        f"{method} {action}",
        kind=trace.SpanKind.CLIENT,
        attributes={
            "http.request.method": method,
            "server.address": address,
            "fletching.action": action,
            "http.request.resend_count": attempt,
        },
    ) as span:
        yield ClientSpan(span)
