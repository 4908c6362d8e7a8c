"""The verbs that change a table: its rows, its columns, its name and properties.

The module is long because it is one list of verbs, half of it what each promises: where one of them is
looked for, the others that change a table stand beside it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import ClassVar, Literal, Self

import pyarrow as pa

from fletching.client.argument_checks import mapping_of, names_of, properties_of
from fletching.client.change_data import deleting, one_row, only_columns, whole_rows
from fletching.client.change_reports import ChangeReport
from fletching.client.progress import ProgressLike, metered
from fletching.client.reading.filter_text import Condition, filter_text
from fletching.client.stored_table import StoredTable
from fletching.client.tabular.alignment import aligned
from fletching.client.tabular.tabular_data import BatchStream, batches_of
from fletching.client.writing.batch_writer import append_rows
from fletching.client.writing.direct_append import append_at_once
from fletching.errors import UsageError
from fletching.protocol.messages import changes as messages
from fletching.protocol.messages.changes import ChangeRequest
from fletching.protocol.messages.requests import AppendRows, Request
from fletching.protocol.messages.responses import Changed
from fletching.protocol.messages.vocabulary import OPERATION
from fletching.protocol.types.blob_type import contains_blob
from fletching.types import PartitionLike, PartitionSpec

__all__ = ["ChangingTable"]


class ChangingTable(StoredTable):
    """The part of a `Table` that changes it; not made by itself."""

    READ_ONLY: ClassVar[str] = ""

    def _new_key(self, key: str | None) -> str:
        """An idempotency key, so that a change may be sent again when its answer is lost."""
        if self.READ_ONLY:
            raise UsageError(self.READ_ONLY)
        return f"change-{secrets.token_hex(12)}" if key is None else key

    def _changed(self, request: ChangeRequest[Changed]) -> ChangeReport:
        return ChangeReport.of(self.channel.call(request))

    # --- rows ----------------------------------------------------------------------------------

    def delete(
        self,
        where: Condition,
        *,
        if_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> ChangeReport:
        """Deletes the rows for which a predicate is true.

        Args:
            where: SQL over data and partition columns, or a ``pyarrow.compute.Expression``, as a scan's
                ``filter``; rows for which it is null stay.
            if_version: refuse if anything but upkeep has happened since this version.
            idempotency_key: a change with the key of an earlier one changes nothing, and is
                answered as that one was.

        Raises:
            InvalidArgumentError: it is no predicate.
            ConflictError: the table is not at ``if_version``, or others were always faster.
            ServiceError: the service refused; nothing is changed.
            TransportError: no answer within the retry budget: repeat it with an idempotency key.
        """
        condition = filter_text(where, "where")
        if condition is None:
            raise UsageError("delete needs a predicate; truncate deletes every row")
        key = self._new_key(idempotency_key)
        return self._changed(
            messages.DeleteRows(
                table=self.full_name, where=condition, if_version=if_version, idempotency_key=key
            )
        )

    def update(
        self,
        expressions: Mapping[str, str] | None = None,
        *,
        values: Mapping[str, object] | None = None,
        where: Condition | None = None,
        if_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> ChangeReport:
        """Replaces values of the rows for which a predicate is true; of all rows without one.

        Updated rows stand behind the others of their partition afterwards.

        Args:
            expressions: column to SQL, over the row as it was: ``{"text": "upper(text)"}``.
            values: column to a plain value: ``{"text": "it's"}``; of a BLOB column a reference, or
                contents, which are uploaded once.
            where: as for `delete`; rows for which it is null stay as they are.
            if_version: as for `delete`.
            idempotency_key: as for `delete`.

        Raises:
            UsageError: nothing to change.
            InvalidArgumentError: the predicate or an expression is none, a column is unknown or part
                of the primary key, or a value does not fit; nothing is changed.
            ConflictError, ServiceError, TransportError: as for `delete`.
        """
        assigned = mapping_of("expressions", expressions)
        given = mapping_of("values", values)
        if not assigned and not given:
            raise UsageError("an update needs expressions, values, or both")
        condition = filter_text(where, "where") or ""
        for name, text in assigned.items():
            if not isinstance(text, str):
                raise UsageError(
                    f"the expression of column {name!r} is SQL text, not a {type(text).__name__}: "
                    f"a plain value is given as values={{{name!r}: ...}}"
                )
        key = self._new_key(idempotency_key)

        def changed(plain: Mapping[str, object]) -> ChangeReport:
            return self._changed(
                messages.UpdateRows(
                    table=self.full_name,
                    expressions=assigned,
                    values=b"" if not plain else one_row(plain, self.schema),
                    where=condition,
                    if_version=if_version,
                    idempotency_key=key,
                )
            )

        of_blobs = {f.name.casefold() for f in self.data_schema if contains_blob(f.type)}
        blobs = {name: given[name] for name in given if name.casefold() in of_blobs}
        if all(value is None for value in blobs.values()):
            return changed(given)
        # The session keeps the uploads until the update's rows do; it brings no rows of its own.
        with self.write_session() as session:
            (cells,) = batches_of(self.with_uploads(session, [blobs], None))
            return changed(given | {name: cells.column(name)[0].as_py() for name in blobs})

    def merge(
        self,
        data: object,
        on: Iterable[str],
        *,
        when_matched: Literal["update", "delete"] | None = "update",
        when_not_matched: Literal["insert"] | None = "insert",
        when_not_matched_by_source: Literal["delete"] | None = None,
        columns: Iterable[str] | None = None,
        partition: str | PartitionSpec | Mapping[str, object] | None = None,
        if_version: int | None = None,
        idempotency_key: str | None = None,
        progress: ProgressLike = None,
    ) -> ChangeReport:
        """Meets the table's rows with those of some data that are equal to them in some columns.

        Args:
            data: anything tabular, as for `append`.
            on: the columns. Null is equal to nothing.
            when_matched: what becomes of rows of the table that have one: they are replaced by it,
                deleted, or left.
            when_not_matched: whether rows of the data that have none are added.
            when_not_matched_by_source: whether rows of the table that have none are deleted.
            columns: only these columns are replaced; the data has them and those of ``on``. Rows
                that are added have nulls in the others.
            partition: the partition of all rows of the data, as for `append`.
            if_version: as for `delete`.
            idempotency_key: as for `delete`.
            progress: as for `append`.

        Raises:
            InvalidArgumentError: several rows of the data are for one of the table, or a clause or
                column cannot be; nothing is changed.
            UsageError: data that does not fit the table.
            ConflictError, ServiceError, TransportError: as for `delete`.
        """
        keys, replaced = names_of("on", on), names_of("columns", columns)
        return self._merged(
            data,
            partition,
            lambda session_id, key: messages.MergeRows(
                table=self.full_name,
                session_id=session_id,
                on=keys,
                when_matched=when_matched,
                when_not_matched=when_not_matched,
                when_not_matched_by_source=when_not_matched_by_source,
                columns=replaced,
                if_version=if_version,
                idempotency_key=key,
            ),
            idempotency_key,
            columns=None if columns is None else {*keys, *replaced},
            progress=progress,
        )

    def upsert(
        self,
        data: object,
        on: Iterable[str] | None = None,
        columns: Iterable[str] | None = None,
        *,
        partition: str | PartitionSpec | Mapping[str, object] | None = None,
        if_version: int | None = None,
        idempotency_key: str | None = None,
        progress: ProgressLike = None,
    ) -> ChangeReport:
        """Puts rows in the place of those with their keys, or adds them; of one key the last row wins.

        In a table with a primary key rows are found by its key runs, and blind upserts of several
        writers never conflict: the later commit wins. A key is that of a row within its partition, with a primary
        key and without: rows of other partitions stay.

        Args:
            data: anything tabular, as for `append`, with all data columns unless ``columns`` is given.
            on: the key's columns; by default the table's primary key. Partition columns are always among them.
            columns: only these columns are replaced, as for `merge`.
            partition: the partition of all rows, as for `append`.
            if_version: as for `delete`.
            idempotency_key: as for `delete`.
            progress: as for `append`.

        Raises:
            UsageError: the table has no primary key and ``on`` is not given, or data does not fit.
            ServiceError, TransportError: as for `delete`.
        """
        key_columns = tuple(self.info.primary_key)
        names = key_columns if on is None else names_of("on", on)
        replaced = names_of("columns", columns)
        if not names:
            raise UsageError(f"table {self.full_name} has no primary key: say on which columns")
        parts = {name.casefold(): name for name in self.partition_columns}
        given = {name.casefold() for name in names}
        own = given - parts.keys() == {name.casefold() for name in key_columns}
        if columns is None:
            data = whole_rows(data, self.data_schema)
        if own and self.info.keyed and columns is None:
            return self.append(
                *(data, partition),
                if_version=if_version,
                idempotency_key=idempotency_key,
                progress=progress,
            )
        # The partition is part of a key's identity, as far as the table has one.
        names = (*names, *(parts[name] for name in parts if name not in given))
        return self._merged(
            data,
            partition,
            lambda session_id, key: messages.MergeRows(
                table=self.full_name,
                session_id=session_id,
                on=names,
                columns=replaced,
                last_wins=True,
                operation="upsert",
                if_version=if_version,
                idempotency_key=key,
            ),
            idempotency_key,
            columns=None if columns is None else {*names, *replaced},
            progress=progress,
        )

    def delete_keys(
        self,
        data: object,
        *,
        partition: str | PartitionSpec | Mapping[str, object] | None = None,
        if_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> ChangeReport:
        """Deletes the rows with some primary keys; keys that are not there do not matter.

        Args:
            data: anything tabular with the key columns, and with the partition columns that
                ``partition`` does not name; other columns are ignored.
            partition: the partition of all rows, as for `append`.
            if_version: as for `delete`.
            idempotency_key: as for `delete`.

        Raises:
            UsageError: the table keeps no primary key unique, or the data lacks a column.
            ServiceError, TransportError: as for `delete`.
        """
        if not self.info.keyed:
            raise UsageError(
                f"table {self.full_name} keeps no primary key unique"
                + ("; see enforce_primary_key" if self.info.primary_key else "")
            )
        self._new_key(None)
        spec = PartitionSpec.parse(partition)
        bound = {name.casefold() for name, _ in spec.items}
        keys = {name.casefold() for name in self.info.primary_key}
        keys |= {name.casefold() for name in self.partition_columns} - bound
        schema = pa.schema([field for field in self.schema if field.name.casefold() in keys])
        target = schema.append(pa.field(OPERATION, pa.int8(), nullable=False))
        marked = BatchStream(target, deleting(aligned(only_columns(data, schema), schema), target))
        if not self.channel.options.lz4_stream:
            request = AppendRows(
                table=self.full_name,
                partition=spec,
                if_version=if_version,
                idempotency_key=idempotency_key,
            )
            result, marked = append_at_once(self.channel, request, target, marked)
            if result is not None and result.report is not None:
                return ChangeReport.of(result.report)
        with self.write_session(partition) as session:
            with session.writer(schema=target) as writer:
                for batch in marked.batches:
                    writer.write(batch)
            report = session.commit(if_version=if_version, idempotency_key=idempotency_key)
        return ChangeReport(-1) if report is None else report

    def enforce_primary_key(
        self,
        *,
        keep_last: bool = False,
        if_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> ChangeReport:
        """Keeps a primary key unique from now on that was only declared so far.

        Tables of releases before keys were kept unique stay as they were until this is called. All
        rows are written anew; older versions stay readable. A table that keeps its key unique
        already is left as it is.

        Args:
            keep_last: of rows with one key keep the last, and delete the others.
            if_version: as for `delete`.
            idempotency_key: as for `delete`.

        Raises:
            InvalidArgumentError: the table declares no key, a key is null or of a type that none
                can have, or rows have the same key and ``keep_last`` is not given.
            ConflictError, ServiceError, TransportError: as for `delete`.
        """
        key = self._new_key(idempotency_key)
        report = self._changed(
            messages.EnforceKey(
                table=self.full_name,
                keep_last=keep_last,
                if_version=if_version,
                idempotency_key=key,
            )
        )
        self.reload()
        return report

    def _merged(
        self,
        data: object,
        partition: PartitionLike | None,
        request: Callable[[str, str], ChangeRequest[Changed]],
        idempotency_key: str | None,
        *,
        columns: Collection[str] | None,
        progress: ProgressLike = None,
    ) -> ChangeReport:
        """Writes rows into a session, which a request then takes."""
        key = self._new_key(idempotency_key)
        wanted = None if columns is None else {name.casefold() for name in columns}
        with metered(progress, self.name) as meter, self.write_session(partition) as session:
            schema = None
            if wanted is not None:
                bound = {name.casefold() for name, _ in PartitionSpec.parse(partition).items}
                wanted |= {name.casefold() for name in self.partition_columns} - bound
                wanted -= bound
                schema = pa.schema([f for f in self.schema if f.name.casefold() in wanted])
            with session.writer(schema=schema) as writer:
                rows = self.with_uploads(session, data, partition)
                rows = rows if schema is None else only_columns(rows, schema)
                writer.write(rows if meter is None else meter.data(rows, writer.schema))
            return ChangeReport.of(session.end_with(request(session.id, key)))

    def overwrite(
        self,
        data: object,
        partition: PartitionLike | None = None,
        *,
        streams: int = 1,
        where: Condition | None = None,
        if_version: int | None = None,
        idempotency_key: str | None = None,
        progress: ProgressLike = None,
    ) -> ChangeReport:
        """Replaces rows in one step; returns how many there are now. Else as `append`.

        What is replaced: the rows for which ``where`` is true, which must be true of all the new
        rows, too; without it the partition's rows; with dynamic partitions those of every partition
        that the data has; on a table without partitions all.
        """
        condition = filter_text(where, "where")
        if condition is not None:
            key = self._new_key(idempotency_key)
            with metered(progress, self.name) as meter, self.write_session(partition) as session:
                append_rows(session, self.with_uploads(session, data, partition), streams, meter)
                changed = session.end_with(
                    messages.ReplaceRows(
                        table=self.full_name,
                        session_id=session.id,
                        where=condition,
                        if_version=if_version,
                        idempotency_key=key,
                    )
                )
            return ChangeReport.of(changed, count=changed.rows_inserted + changed.rows_updated)
        with (
            metered(progress, self.name) as meter,
            self.write_session(partition, overwrite=True) as session,
        ):
            rows = append_rows(session, self.with_uploads(session, data, partition), streams, meter)
            return ChangeReport.of(
                session.commit(if_version=if_version, idempotency_key=idempotency_key), count=rows
            )

    def truncate(
        self,
        partition: str | PartitionSpec | Mapping[str, object] | None = None,
        *,
        if_version: int | None = None,
        idempotency_key: str | None = None,
    ) -> ChangeReport:
        """Deletes every row, or those of one partition or of all that a leading part names.

        Arguments and errors otherwise as `delete`.
        """
        key = self._new_key(idempotency_key)
        return self._changed(
            messages.TruncateTable(
                table=self.full_name,
                partition=PartitionSpec.parse(partition),
                if_version=if_version,
                idempotency_key=key,
            )
        )

    # --- columns, name, properties ---------------------------------------------------------------

    def _evolved(self, request: Request) -> Self:
        self.channel.call(request)
        return self.reload()

    def drop_columns(self, names: Iterable[str], *, if_version: int | None = None) -> Self:
        """Drops data columns; older versions keep them. Returns the table, reloaded.

        Raises:
            InvalidArgumentError: one is unknown or part of the primary key, or none would be left.
        """
        return self._evolved(
            messages.DropColumns(
                table=self.full_name,
                names=names_of("names", names),
                if_version=if_version,
                idempotency_key=self._new_key(None),
            )
        )

    def rename_column(self, name: str, new_name: str, *, if_version: int | None = None) -> Self:
        """Gives a data column another name; older versions keep the old one.

        Raises:
            InvalidArgumentError: it is unknown, or the new name is taken.
        """
        return self._evolved(
            messages.RenameColumn(
                table=self.full_name,
                name=name,
                new_name=new_name,
                if_version=if_version,
                idempotency_key=self._new_key(None),
            )
        )

    def alter_column(
        self,
        name: str,
        *,
        type: str | None = None,  # noqa: A002 - the word of SQL
        nullable: bool | None = None,
        comment: str | None = None,
        after: str | None = None,
        if_version: int | None = None,
    ) -> Self:
        """Changes a data column; returns the table, reloaded. Nothing that is stored changes.

        Args:
            name: the column.
            type: a wider type: integers with more bits, DOUBLE for FLOAT, decimals of more digits,
                longer texts.
            nullable: True lets it be null; the reverse is not possible.
            comment: its comment; empty removes it.
            after: put it behind this column; empty puts it first.
            if_version: as for `delete`.

        Raises:
            InvalidArgumentError: it is unknown, or cannot be changed so.
        """
        return self._evolved(
            messages.AlterColumn(
                table=self.full_name,
                name=name,
                type=type,
                nullable=nullable,
                comment=comment,
                after=after,
                if_version=if_version,
                idempotency_key=self._new_key(None),
            )
        )

    def rename(self, new_name: str) -> Self:
        """Gives the table another name in its schema; returns the table under it.

        Raises:
            InvalidArgumentError: it is no name.
            AlreadyExistsError: the name is taken.
        """
        self._new_key(None)
        info = self.channel.call(messages.RenameTable(table=self.full_name, new_name=new_name))
        self.full_name = info.table
        self._set(info)
        return self

    @property
    def properties(self) -> dict[str, str]:
        """The table's properties, as of when the object was made, or of the last `reload`."""
        return dict(self.info.properties)

    def set_properties(self, properties: Mapping[str, object]) -> Self:
        """Sets properties; others stay. ``acid.data.retain.hours`` says how long history is kept.

        Raises:
            InvalidArgumentError: a value that means nothing.
            UsageError: a value that has no text, such as None: `remove_properties` removes.
        """
        self._new_key(None)
        given = properties_of(properties)
        return self._evolved(messages.AlterTable(table=self.full_name, set_properties=given))

    def remove_properties(self, names: Iterable[str]) -> Self:
        """Removes properties; those that are not there do not matter."""
        self._new_key(None)
        return self._evolved(
            messages.AlterTable(table=self.full_name, remove_properties=names_of("names", names))
        )
