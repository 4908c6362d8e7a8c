"""A table that changes while servers die: one worker changes it, another follows the changes.

The changer is the only one that changes the table's rows, and repeats each change under its key until
somebody answers, so that it knows what every version must be. The watcher builds a copy from nothing but
the change feed, and compares it with the table as it was, now and then and at the end.
"""

from __future__ import annotations

import io
import os
import uuid
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import pyarrow as pa

from fletching.errors import ConflictError, VersionNotFoundError
from fletching.protocol.messages.changes import (
    ChangeRequest,
    DeleteRows,
    RestoreTable,
    TruncateTable,
    UpdateRows,
    WaitForVersion,
)
from fletching.protocol.messages.requests import AppendRows, CreateReadSession
from fletching.protocol.messages.responses import Changed
from fletching.types import TableName
from torture.life import SOAK
from torture.workers import LostError, Worker

LEDGER = TableName("demo", "ledger")
LEDGER_SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("n", pa.int64())])
IDS = 60
KEPT_STATES = 200

Rows = dict[int, int]


def counted(batches: Iterable[Any]) -> Counter[tuple[int, int]]:
    result: Counter[tuple[int, int]] = Counter()
    for batch in batches:
        result.update(zip(batch["id"].to_pylist(), batch["n"].to_pylist(), strict=True))
    return result


def as_text(rows: Iterable[tuple[int, int]]) -> str:
    return " ".join(f"{number}:{n}" for number, n in sorted(rows))


class Changer(Worker):
    """Upserts, deletes, updates, truncates and restores, and says what the table must be then."""

    value = 0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.rows: Rows = {}
        self.states: dict[int, Rows] = {0: {}}

    def turn(self) -> None:
        draw = self.random
        self.value += 1
        kind = draw.choices(
            ["upsert", "delete keys", "delete", "update", "restore", "truncate"],
            [8, 3, 3, 3, 2, 1],
        )[0]
        after = dict(self.rows)
        low = draw.randrange(IDS)
        high = low + draw.randint(1, 8)
        report: Changed | None
        if kind in {"upsert", "delete keys"}:
            ids = draw.sample(range(IDS), draw.randint(1, 10))
            if kind == "upsert":
                after |= dict.fromkeys(ids, self.value)
            else:
                after = {number: n for number, n in after.items() if number not in ids}
            self.intend(kind, after)
            report = self.append(ids, deletes=kind != "upsert")
        else:
            request: ChangeRequest
            match kind:
                case "delete":
                    after = {number: n for number, n in after.items() if not low <= number < high}
                    request = DeleteRows(table=LEDGER, where=f"id >= {low} AND id < {high}")
                case "update":
                    after |= {number: self.value for number in after if low <= number < high}
                    request = UpdateRows(
                        table=LEDGER, values=self.one_row(), where=f"id >= {low} AND id < {high}"
                    )
                case "restore":
                    version = draw.choice(list(self.states))
                    after = dict(self.states[version])
                    request = RestoreTable(table=LEDGER, version=version)
                case _:
                    after = {}
                    request = TruncateTable(table=LEDGER)
            self.intend(kind, after)
            try:
                report = self.change(request)
            except VersionNotFoundError:
                # The ledger of a soak keeps a few minutes of history; on a machine that others use, too, a state
                # that is remembered here may be older. Elsewhere it is kept longer than any run.
                if kind != "restore" or SOAK not in os.environ:
                    raise
                del self.states[version]
                return
        if report is None:
            return
        self.rows = after
        self.states[report.version] = after
        if len(self.states) > KEPT_STATES:
            del self.states[min(self.states)]
        self.say("changed", kind=kind, version=report.version, rows=as_text(after.items()))
        self.pause(0.05)

    def intend(self, kind: str, after: Rows) -> None:
        self.say("change", kind=kind, rows=as_text(after.items()))

    def one_row(self) -> bytes:
        sink = io.BytesIO()
        batch = pa.record_batch({"n": [self.value]})
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return sink.getvalue()

    def append(self, ids: list[int], *, deletes: bool) -> Changed | None:
        columns: dict[str, Any] = {"id": pa.array(ids, pa.int64())}
        if deletes:
            columns["__operation"] = pa.array([68] * len(ids), pa.int8())
        else:
            columns["n"] = pa.array([self.value] * len(ids), pa.int64())
        batch = pa.record_batch(columns)
        request = AppendRows(table=LEDGER, idempotency_key=str(uuid.uuid4()))
        result = self.settle(
            lambda trace: self.ask(
                lambda attempt: self.transport.write(request, [batch], batch.schema, attempt),
                trace=trace,
            )
        )
        return None if result is None else result.report

    def change(self, request: ChangeRequest) -> Changed | None:
        request = msgspec.structs.replace(request, idempotency_key=str(uuid.uuid4()))
        result: Changed | None = self.settle(lambda trace: self.call(request, trace=trace))
        return result

    def settle(self, what: Any) -> Any:
        """As `insist`; nobody else changes the table, so that no conflict can be."""
        try:
            return self.insist(what)
        except ConflictError as error:
            self.say("violation", what=f"a change failed though nobody else made one: {error}")
            raise


class Watcher(Worker):
    """Follows the changes of the table, and compares."""

    last = 0

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.copy: Counter[tuple[int, int]] = Counter()

    def turn(self) -> None:
        request = WaitForVersion(table=LEDGER, since=self.last, timeout_ms=500)
        page = self.insist(lambda trace: self.call(request, trace=trace))
        if page is None or not page.versions:
            return
        # Several versions at a time, or each by itself.
        step = self.random.choice([1, 1, len(page.versions)])
        for end in range(step - 1, len(page.versions), step):
            version = page.versions[end].version
            batches = self.rows_of(version=version, since_version=self.last)
            self.apply(batches, version)
            self.last = version
        self.say("watched", version=self.last, rows=as_text(self.copy.elements()))
        if self.random.random() < 0.2:
            self.compare()

    def apply(self, batches: list[Any], version: int) -> None:
        for batch in batches:
            for row in batch.to_pylist():
                came = row["_change_type"] in {"insert", "update_postimage"}
                self.copy[row["id"], row["n"]] += 1 if came else -1
                if self.copy[row["id"], row["n"]] < 0:
                    self.say("violation", what=f"version {version} takes {row}, which is not there")
        self.copy = +self.copy

    def compare(self) -> None:
        batches = self.rows_of(version=self.last)
        if counted(batches) != self.copy:
            self.say(
                "violation",
                what=f"the copy of version {self.last} is {as_text(self.copy.elements())}, the"
                f" table {as_text(counted(batches).elements())}",
            )

    def rows_of(self, **versions: int) -> list[Any]:
        """A read from its session on."""
        opening = CreateReadSession(table=LEDGER, **versions)
        opened = self.insist(lambda trace: self.call(opening, trace=trace))
        if opened is None:
            raise LostError
        result = self.read(LEDGER, opened.session_id)
        if sum(batch.num_rows for batch in result) != opened.record_count:
            self.say("violation", what=f"a session of {opened.record_count} rows gave others")
        return result


def final_ledger(events: list[dict[str, Any]], now: Counter[tuple[int, int]], at: Any) -> list[str]:
    """What is wrong with the table and with the watcher's last copy.

    Args:
        events: of all workers, in order.
        now: the rows of the table.
        at: gives the rows of a version, or None where it is no longer kept.
    """
    problems = []
    states = [""]
    for event in events:
        if event["event"] == "change":
            states = [states[0], event["rows"]]  # may have been done, or not
        elif event["event"] == "changed":
            states = [event["rows"]]
            made = at(event["version"])
            if made is not None and as_text(made.elements()) != event["rows"]:
                problems.append(f"version {event['version']} is not what {event['kind']} made")
    if as_text(now.elements()) not in states:
        problems.append(f"the ledger is {as_text(now.elements())}, and not {states}")
    watched = [event for event in events if event["event"] == "watched"]
    for event in watched[-1:]:
        rows = at(event["version"])
        there = event["rows"] if rows is None else as_text(rows.elements())
        if there != event["rows"]:
            problems.append(
                f"the copy of version {event['version']} is {event['rows']}, the table {there}"
            )
    return problems
