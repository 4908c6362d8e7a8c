"""Statements: what each of them does, with the engine's verbs and the query runner."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping

import msgspec

from fletching.engine.query.complaint_locations import with_near_tables
from fletching.engine.query.looking import Looking
from fletching.engine.query.partition_statements import (
    drop_partition,
    drop_partitions,
    merge_partitions,
    rename_partition,
)
from fletching.engine.query.query_runner import Authorize, QueryRunner
from fletching.engine.query.row_statements import change, insert, with_key
from fletching.engine.query.row_writing import Writes
from fletching.engine.query.script_run import Outcome, ScriptRun, Store, Watched, changed_rows
from fletching.engine.query.script_values import with_values
from fletching.engine.query.table_statements import (
    add_missing,
    clone,
    create_as,
    create_like,
    create_view,
    drop_view,
)
from fletching.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NoSuchTableError,
    NotFoundError,
)
from fletching.protocol.messages.admin import DescribeTable, DropPartition, TablePage
from fletching.sql.functions.time_zones import TIME_ZONE, checked_time_zone, time_zone_of
from fletching.sql.parsing.dialect import exp
from fletching.sql.parsing.statement_locations import StatementLocation
from fletching.sql.statements.statement_kinds import (
    AddMissingColumns,
    Assignment,
    Changes,
    Clone,
    ComputedChange,
    CreateAs,
    CreateLike,
    CreateView,
    DropPartitions,
    DropView,
    Explanation,
    Insertion,
    MergePartitions,
    Namespace,
    QueryStatement,
    RenamePartition,
    RowChange,
    Setting,
    Statement,
    Use,
    namespace_after,
)

__all__ = ["CHANGE_NOTHING", "Outcome", "StatementRunner", "Watched"]


class StatementRunner:
    """Runs statements one after the other. Thread-safe; blocks."""

    def __init__(self, queries: QueryRunner, verbs: Writes) -> None:
        self._queries = queries
        self._verbs = verbs

    def run(
        self,
        statements: list[tuple[Statement, StatementLocation]],
        namespace: Namespace,
        *,
        authorize: Authorize,
        visible: Callable[[TablePage], TablePage],
        store: Store,
        watched: Watched,
        run_id: str,
        text: str,
        flags: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Runs statements until one fails.

        Args:
            statements: in order, each with its location.
            namespace: where names without project or schema belong.
            authorize: asked before each request is executed.
            visible: leaves out of a reply what the caller may not know of.
            store: takes the rows of a query.
            watched: follows the run.
            run_id: of a repetition the same as of the first run: what that has changed is not changed again.
            text: the statements as they were sent; a repetition has the same.
            flags: what is set before the first statement, as by SET.

        Raises:
            FletchingError: the first failure; what ran before it stays done.
        """
        run = ScriptRun(
            self._queries,
            self._verbs,
            namespace,
            authorize,
            visible,
            store,
            watched,
            text,
            flags=dict(flags or {}),
            run_id=run_id,
        )
        time_zone_of(run.flags)
        if not all(isinstance(statement, CHANGE_NOTHING) for statement, _ in statements):
            run.made = self._verbs.reports_of_run(run_id, text)
        outcome = Outcome()
        for number, (statement, location) in enumerate(statements):
            run.begin(number)
            try:
                result = _done_before(run, statement) or _done(run, statement)
            except NoSuchTableError as error:
                raise location.located(with_near_tables(error, run)) from error
            except (InvalidArgumentError, NotFoundError, AlreadyExistsError) as error:
                raise location.located(error) from error
            outcome = result or outcome
        return outcome

    def cost(
        self, statements: list[Statement], namespace: Namespace, *, authorize: Authorize
    ) -> Outcome:
        """What statements would read, printed in the form that clients take it from; runs nothing.

        Raises:
            FletchingError: a table does not exist, or may not be read.
        """
        variables = {item.name: item.tree for item in statements if isinstance(item, Assignment)}
        trees = [tree for statement in statements for tree in _trees(statement)]
        tables = {
            name: None
            for tree in trees
            for name in self._queries.tables(tree, namespace, authorize, variables)
        }
        size = 0
        for name in tables:
            info = self._verbs.call(DescribeTable(table=name))
            size += info.bytes
        cost = {"UDF": 0, "Complexity": _complexity(trees), "Input": size}
        return Outcome(printed=json.dumps({"Cost": {"SQL": cost}}))


def _trees(statement: Statement) -> list[exp.Expr]:
    """The queries of a statement."""
    match statement:
        case QueryStatement(tree=tree) | CreateAs(tree=tree) | ComputedChange(tree=tree):
            return [tree]
        case Insertion(targets=targets):
            return [target.tree for target in targets]
    return []


def _complexity(trees: list[exp.Expr]) -> float:
    """MaxCompute's measure: by how many of its expensive words the statements have."""
    kinds = (exp.Join, exp.Group, exp.Order, exp.Distinct, exp.Window)
    words = sum(len(list(tree.find_all(*kinds))) for tree in trees)
    return next(factor for most, factor in _COMPLEXITIES if words <= most)


_COMPLEXITIES = ((3, 1.0), (6, 1.5), (19, 2.0), (math.inf, 4.0))


CHANGE_NOTHING = (QueryStatement, Assignment, Explanation, Setting, Use)
"""Kinds of statements that change nothing that is stored."""

_PREPARES = (Assignment, Setting, Use)


def _done_before(run: ScriptRun, statement: Statement) -> Outcome | None:
    """What a statement came to in an earlier run; None for what is to be run, also in part.

    Each statement was done when the next one changed something. One that makes a single change was done
    with that; another one finds by its keys what it has done.
    """
    if not run.made or isinstance(statement, _PREPARES):
        return None
    last = max(run.made)
    reports = run.made.get(run.number, ())
    if run.number > last or (run.number == last and not _changes_once(statement)):
        return None
    if isinstance(statement, Insertion | CreateAs | Clone):
        return Outcome(affected=sum(each.rows_inserted + each.rows_updated for each in reports))
    if isinstance(statement, ComputedChange | RowChange | RenamePartition | MergePartitions):
        return Outcome(affected=sum(changed_rows(each).affected or 0 for each in reports))
    return Outcome()


def _changes_once(statement: Statement) -> bool:
    match statement:
        case Insertion(targets=several) | Changes(requests=several):
            return len(several) == 1 and not isinstance(several[0], DropPartition)
        case RowChange(more=more):
            return not more
        case DropPartitions():
            return False
    return True


def _done(run: ScriptRun, statement: Statement) -> Outcome | None:
    """What a statement does; None for those that leave nothing to see."""
    match statement:
        case QueryStatement(tree=tree):
            with run.query(tree) as query:
                schema, batches = query.run()
                stored = run.store(schema, batches)
                return Outcome(stored=msgspec.structs.replace(stored, time_zone=run.time_zone))
        case Explanation(tree=tree):
            with run.query(tree) as query:
                return Outcome(printed=query.explain())
        case Insertion(targets=targets):
            return Outcome(affected=insert(run, targets))
        case CreateAs():
            return create_as(run, statement)
        case CreateLike():
            return create_like(run, statement)
        case CreateView():
            return create_view(run, statement)
        case DropView(table=table, if_exists=if_exists):
            return drop_view(run, table, if_exists=if_exists)
        case Changes(requests=requests):
            for request in requests:
                run.authorize(request)
            run.check_tables(requests)
            for request in requests:
                if isinstance(request, DropPartition):
                    drop_partition(run, request)
                else:
                    run.verbs.call(with_key(run, request))
            return Outcome()
        case ComputedChange():
            return change(run, statement)
        case RowChange(request=first, more=more):
            for request in (first, *more):
                run.authorize(request)
            run.check_tables((first, *more))
            reports = [changed_rows(run.verbs.call(with_key(run, each))) for each in (first, *more)]
            return Outcome(affected=sum(report.affected or 0 for report in reports))
        case DropPartitions():
            return drop_partitions(run, statement)
        case MergePartitions():
            return merge_partitions(run, statement)
        case RenamePartition():
            return rename_partition(run, statement)
        case AddMissingColumns():
            return add_missing(run, statement)
        case Clone():
            return clone(run, statement)
        case Assignment(name=name, tree=tree):
            run.variables[name] = with_values(tree, run.variables)
        case Setting(name=name, value=value):
            if name.lower() == TIME_ZONE:
                checked_time_zone(value)
                name = TIME_ZONE
            run.flags[name] = value
            run.namespace = namespace_after(statement, run.namespace)
        case Use(project=project, schema=schema):
            _looking(run).check_namespace(project, schema)
            run.namespace = namespace_after(statement, run.namespace)
        case _:
            return Outcome(printed=_looking(run).printed(statement))
    return None


def _looking(run: ScriptRun) -> Looking:
    return Looking(run.verbs, run.authorize, run.visible, run.flags)
