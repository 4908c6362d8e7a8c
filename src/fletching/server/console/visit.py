"""One request of somebody who is signed in, as the pages' handlers see it."""

from __future__ import annotations

from urllib.parse import quote

from fletching.errors import InvalidArgumentError, NoPermissionError
from fletching.protocol.messages.requests import Reply_co, Request
from fletching.server.console.rendering import Pages
from fletching.server.console.sign_in import check_form
from fletching.server.http.exchange import Exchange
from fletching.server.service import Service
from fletching.types import TableName

__all__ = ["Visit", "table_path"]


def table_path(table: TableName, page: str = "") -> str:
    """The path of a table's page below ``/console``."""
    names = (table.project, table.schema, table.name)
    return "/tables/" + "/".join(quote(name, safe="") for name in names) + page


class Visit:
    """A request for a page.

    Attributes:
        exchange, service, pages: what it came with.
        names: the parts of the path that its route names, decoded.
        asked: the query's parameters; of repeated ones the last.
    """

    def __init__(
        self, exchange: Exchange, service: Service, pages: Pages, names: dict[str, str]
    ) -> None:
        self.exchange, self.service, self.pages, self.names = exchange, service, pages, names
        self.asked = dict(exchange.query)

    @property
    def table(self) -> TableName:
        """The table that the path names."""
        return TableName(self.names["project"], self.names["table"], self.names["schema"])

    @property
    def project(self) -> str:
        """The project that the query names, or the service's own."""
        return self.asked.get("project") or self.service.settings.project

    @property
    def posted(self) -> bool:
        """Whether something is to be done, not only shown."""
        return self.exchange.method == "POST"

    @property
    def origin(self) -> str:
        """Where this service is for whoever looks at the page: scheme, host and prefix."""
        exchange = self.exchange
        secure = (
            self.service.settings.tls_certificate is not None
            or exchange.header("x-forwarded-proto") == "https"
        )
        host = exchange.header("x-forwarded-host") or exchange.header("host")
        return f"{'https' if secure else 'http'}://{host}{self.pages.prefix}"

    def number(self, name: str) -> int | None:
        """A parameter that counts something; None if it is not given.

        Raises:
            InvalidArgumentError: it is no whole number.
        """
        text = self.asked.get(name, "")
        if not text:
            return None
        if not (text.isascii() and text.isdecimal() and len(text) <= 18):
            raise InvalidArgumentError(f"{name} is a whole number from 0 on")
        return int(text)

    async def form(self) -> dict[str, str]:
        """The fields of a posted form; see `check_form`."""
        return await check_form(self.exchange)

    async def call(self, request: Request[Reply_co]) -> Reply_co:
        """Asks the engine for what the visitor may know or do.

        Raises:
            NoPermissionError: the visitor's key was not granted it.
            FletchingError: see ``Engine.call``.
        """
        self.service.authorize(self.exchange, request)
        with self.service.calls.enter():
            return self.service.visible(self.exchange, await self.service.call(request))

    def must_operate(self) -> None:
        """Refuses whoever is not the service's operator.

        Raises:
            NoPermissionError: the key was not granted everything.
        """
        if not self.service.may_operate(self.exchange):
            raise NoPermissionError(
                "this page is for keys that may administer all tables of all projects"
            )
