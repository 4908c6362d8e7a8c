"""The rows of a write session that a change takes in place of a commit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from sqlalchemy import Connection

from fletching.catalog import table_rows as catalog_tables
from fletching.catalog import write_session_rows as write_sessions
from fletching.catalog import write_stream_rows as write_streams
from fletching.catalog.publishing import Publication
from fletching.catalog.write_stream_rows import StagedRows
from fletching.engine.changes.attempts import Draft
from fletching.engine.changes.keyed_merge import staged_rows
from fletching.engine.context import EngineContext
from fletching.engine.writing.states import SessionEvent, SessionState, next_session_state
from fletching.engine.writing.upload_parts import block_order
from fletching.engine.writing.write_sessions import highest_closed
from fletching.engine.writing.write_targets import find_session, session_state
from fletching.errors import ConflictError, InvalidArgumentError
from fletching.protocol.messages.vocabulary import WriteMode
from fletching.types import TableName

__all__ = ["SessionRows"]


@dataclasses.dataclass(frozen=True, slots=True)
class SessionRows:
    """What a session holds, and how a change ends it."""

    context: EngineContext
    table: TableName
    session_id: str
    staged: Sequence[StagedRows]

    @classmethod
    def of(cls, context: EngineContext, table: TableName, session_id: str) -> SessionRows:
        """The rows of a session's closed streams, in the order that a commit would give them.

        Raises:
            NotFoundError: no such session, or ExpiredSessionError.
            ConflictError: it is committed.
            InvalidArgumentError: it overwrites, or has keys whose rows are to go.
        """
        with context.database.read() as connection:
            _, rows, _ = cls._read(connection, context, table, session_id, lock=False)
        return cls(context, table, session_id, rows)

    @staticmethod
    def _read(
        connection: Connection,
        context: EngineContext,
        table: TableName,
        session_id: str,
        *,
        lock: bool,
    ) -> tuple[int, list[StagedRows], list[int]]:
        target = find_session(
            connection,
            context,
            table,
            session_id,
            WriteMode.BATCH,
            event=SessionEvent.COMMIT,
            lock=lock,
        )
        if target.is_default or target.mode.is_streaming or target.session.overwrite:
            raise InvalidArgumentError("a change takes the rows of a batch session that appends")
        if session_state(target.session, context.clock()) is not SessionState.NORMAL:
            raise ConflictError(f"write session {session_id} is committed")
        streams = write_streams.list_write_streams(connection, target.session.pk)
        chosen = sorted(highest_closed(streams), key=block_order)
        order = {row.pk: index for index, row in enumerate(chosen)}
        staged = write_streams.staged_of_streams(connection, [row.pk for row in chosen])
        staged.sort(key=lambda row: (order[row.stream_pk], row.write_number, row.pk))
        if any(row.kind for row in staged):
            raise InvalidArgumentError("a change takes rows, and not keys whose rows are to go")
        return target.session.pk, staged_rows(staged), [row.pk for row in streams]

    def ended_by(self, draft: Draft) -> Draft:
        """A draft that ends the session in its transaction."""
        draft.lock_first, draft.finish = self._lock, self._end
        return draft

    def _lock(self, connection: Connection) -> None:
        """Sessions are locked before tables, by everybody; what it is then, ``_end`` sees."""
        table = catalog_tables.get_table(connection, self.table)
        write_sessions.find_write_session(connection, table.id, self.session_id, lock=True)

    def _end(self, connection: Connection, publication: Publication) -> None:
        pk, staged, streams = self._read(
            connection, self.context, self.table, self.session_id, lock=True
        )
        if [each.segment.key for each in staged] != [each.segment.key for each in self.staged]:
            raise ConflictError(f"write session {self.session_id} was written to meanwhile; retry")
        write_streams.discard_staged(connection, streams)
        state = next_session_state(SessionState.NORMAL, SessionEvent.COMMIT, self.session_id)
        write_sessions.end_write_session(
            connection,
            pk,
            from_state=SessionState.NORMAL.value,
            state=state.value,
            now=self.context.clock(),
            committed_version=publication.version,
            commit_request="change",
        )
