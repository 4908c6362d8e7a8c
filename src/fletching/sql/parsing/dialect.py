"""MaxCompute's SQL for sqlglot: Hive's grammar with our types, ``LIFECYCLE`` and ``TBLPROPERTIES``.

The only module that knows sqlglot's grammar classes, and long because a grammar is one class of theirs. Column types are read by
`odps_types.TypeScanner` from the statement's own text, so that SQL and the storage API
agree about every type; sqlglot's tokens are then skipped up to where the type ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fletching.errors import MissingExtraError, SqlSyntaxError, UsageError
from fletching.protocol.types.odps_types import TypeScanner
from fletching.sql.parsing.long_lists import without_long_lists
from fletching.sql.parsing.syntax_errors import check_tokens, location_of_token, syntax_error

if TYPE_CHECKING:
    from sqlglot.tokenizer_core import Token

try:
    import sqlglot
    from sqlglot import exp
    from sqlglot.dialects.hive import Hive
    from sqlglot.errors import SqlglotError
    from sqlglot.parsers.hive import HiveParser
    from sqlglot.tokenizer_core import TokenType
except ImportError as exc:  # pragma: no cover - the test environment has every extra
    raise MissingExtraError(
        "SQL statements and filters need sqlglot: pip install 'fletching[server]'"
    ) from exc

__all__ = [
    "LITERALS",
    "MAX_SQL_TEXT",
    "ODPS_TYPE",
    "RANGE",
    "Parsed",
    "equal",
    "exp",
    "parse_all",
    "parse_one",
    "parse_predicate",
    "sql_text",
]

MAX_SQL_TEXT = 8 * 1024 * 1024
"""Longest statement, in characters: room for a table of many columns, or a long list."""

LITERALS = "literals"
"""Key in the ``meta`` of an IN with a long list: (text, whether it is quoted) of each literal."""

_LONG_CHAIN = 16
"""Conditions that AND or OR joins from which their tree is made flat."""

_LONG_LIST = 32
"""Entries from which an IN list is read without a tree node for each."""

ODPS_TYPE = "odps_type"
"""Key in the ``meta`` of a column's ``DataType``: the `OdpsType` that was read."""

RANGE = "range"
"""Key in the ``meta`` of a CLUSTERED BY with RANGE before it."""


_INTERVALS = {
    "interval_day_time": ("DAY", "TO", "SECOND"),
    "interval_year_month": ("YEAR", "TO", "MONTH"),
}


class Odps(Hive):
    """MaxCompute's dialect."""

    INTERSECT_BINDS_TIGHTER_THAN_UNION_AND_EXCEPT = True

    class Tokenizer(Hive.Tokenizer):
        """Hive's tokens; SHOW is parsed instead of passed through."""

        COMMANDS = Hive.Tokenizer.COMMANDS - {TokenType.SHOW}
        KEYWORDS = {**Hive.Tokenizer.KEYWORDS, "EXPLAIN": TokenType.VAR, "&&": TokenType.AND}  # noqa: RUF012
        HEX_STRINGS = [("X'", "'"), ("x'", "'")]  # noqa: RUF012 - a class attribute by sqlglot's design

    class Parser(HiveParser):
        """Hive's parser with MaxCompute's column types and table properties."""

        # Functions keep their names: what they mean is ours to say (`sql.functions`), not Hive's.
        ARRAY_CONSTRUCTORS = {}  # noqa: RUF012
        FUNCTIONS = {}  # noqa: RUF012
        FUNCTION_PARSERS = {  # noqa: RUF012
            name: HiveParser.FUNCTION_PARSERS[name]
            for name in ("CAST", "TRY_CAST", "EXTRACT", "TRIM")
        }
        NO_PAREN_FUNCTIONS = {  # noqa: RUF012
            kind: node
            for kind, node in HiveParser.NO_PAREN_FUNCTIONS.items()
            if kind in {TokenType.CURRENT_DATE, TokenType.CURRENT_TIMESTAMP}
        }
        # TRANSFORM is a function of arrays here, no script.
        NO_PAREN_FUNCTION_PARSERS = {  # noqa: RUF012
            name: parser
            for name, parser in HiveParser.NO_PAREN_FUNCTION_PARSERS.items()
            if name != "TRANSFORM"
        }
        PROPERTY_PARSERS = {  # noqa: RUF012
            **HiveParser.PROPERTY_PARSERS,
            "LIFECYCLE": lambda self: self.expression(
                exp.Property(this=exp.var("LIFECYCLE"), value=self._parse_number())
            ),
            "INTO": lambda self: self._parse_shards(),
            "AUTO": lambda self: self._parse_auto_partitioned_by(),
            "PARTITIONED": lambda self: self._parse_view_partitions(),
            "DISABLE": lambda self: self._parse_view_word("DISABLE", "REWRITE"),
            "BUILD": lambda self: self._parse_view_word("BUILD", "DEFERRED"),
            "RANGE": lambda self: self._parse_range_clustered_by(),
            "HUBLIFECYCLE": lambda self: self.expression(
                exp.Property(this=exp.var("HUBLIFECYCLE"), value=self._parse_number())
            ),
        }

        def _parse_interval(self, *args: Any, **kwargs: Any) -> Any:
            """INTERVAL; with two units it is a constant, which the functions of its types make."""
            index = self._index
            if self._match(TokenType.INTERVAL) and (text := self._parse_string()) is not None:
                for name, units in _INTERVALS.items():
                    if self._match_text_seq(*units):
                        return self.expression(exp.Anonymous(this=name, expressions=[text]))
            self._retreat(index)
            return super()._parse_interval(*args, **kwargs)

        def _parse_auto_partitioned_by(self) -> exp.Expr:
            """AUTO PARTITIONED BY (expression [AS] name [COMMENT '..'])."""
            if not self._match(TokenType.PARTITION_BY):
                self.raise_error("expected PARTITIONED BY behind AUTO")
            columns = self._parse_wrapped_csv(self._parse_generated_column)
            return self.expression(
                exp.PartitionedByProperty(this=self.expression(exp.Schema(expressions=columns)))
            )

        def _parse_view_partitions(self) -> exp.Expr:
            """PARTITIONED ON (names) of a materialized view."""
            if not self._match(TokenType.ON):
                self.raise_error("expected BY or ON behind PARTITIONED")
            names = self._parse_wrapped_csv(self._parse_id_var)
            return self.expression(exp.ViewAttributeProperty(this=exp.Tuple(expressions=names)))

        def _parse_view_word(self, first: str, second: str) -> exp.Expr:
            """A clause of two words."""
            if not self._match_text_seq(second):
                self.raise_error(f"expected {second} behind {first}")
            return self.expression(exp.ViewAttributeProperty(this=exp.var(f"{first} {second}")))

        def _parse_generated_column(self) -> exp.Expr:
            call = self._parse_function()
            self._match(TokenType.ALIAS)
            name = self._parse_id_var(any_token=False)
            if call is None or name is None:
                self.raise_error("expected a function, AS and a name in AUTO PARTITIONED BY")
            node = self.expression(exp.Alias(this=call, alias=name))
            if self._match_text_seq("COMMENT"):
                node.set("comment", self._parse_string())
            return node

        def _parse_shards(self) -> exp.Expr:
            """INTO n SHARDS."""
            number = self._parse_number()
            if not self._match_text_seq("SHARDS"):
                self.raise_error("expected SHARDS behind INTO and a number")
            return self.expression(exp.Property(this=exp.var("SHARDS"), value=number))

        def _parse_range_clustered_by(self) -> exp.Expr:
            """RANGE CLUSTERED BY (..), else as any CLUSTERED BY."""
            if not self._match_text_seq("CLUSTERED"):
                self.raise_error("expected CLUSTERED BY behind RANGE")
            node = self._parse_clustered_by()
            node.meta[RANGE] = True
            return node

        def _parse_clustered_by(self) -> exp.ClusteredByProperty:
            """BY (..) [SORTED BY (..)] [INTO n BUCKETS]; sqlglot takes none without a number."""
            if not self._match_text_seq("BY"):
                self.raise_error("expected BY behind CLUSTERED")
            columns = self._parse_wrapped_csv(self._parse_column)
            ordered = None
            if self._match_text_seq("SORTED", "BY"):
                ordered = self._parse_wrapped_csv(self._parse_ordered)
            buckets = None
            if self._match(TokenType.INTO):
                buckets = self._parse_number()
                if not self._match_text_seq("BUCKETS"):
                    self.raise_error("expected a number and BUCKETS behind INTO")
            return exp.ClusteredByProperty(expressions=columns, sorted_by=ordered, buckets=buckets)

        def _parse_alter_table_change(self) -> exp.Expr | None:
            """Also ``CHANGE COLUMN a RENAME TO b``, which gives no type."""
            index = self._index
            self._match(TokenType.COLUMN)
            column = self._parse_field(any_token=True)
            if self._match_text_seq("RENAME", "TO"):
                new = self._parse_field(any_token=True)
                return self.expression(exp.RenameColumn(this=column, to=new))
            self._retreat(index)
            return super()._parse_alter_table_change()

        def _parse_in(self, this: exp.Expr | None, alias: bool = False) -> exp.In:
            """Long lists of plain literals without a node for each: a tenth of the time."""
            tokens = self._tokens
            end = self._index + 1
            if self._curr and self._curr.token_type == TokenType.L_PAREN:
                size = len(tokens)
                while end + 1 < size and tokens[end].token_type in _PLAIN:
                    end += 2
                    if tokens[end - 1].token_type != TokenType.COMMA:
                        break
                count = (end - self._index) // 2
                if count >= _LONG_LIST and tokens[end - 1].token_type == TokenType.R_PAREN:
                    listed = tokens[self._index + 1 : end : 2]
                    self._advance(end - self._index)
                    node = self.expression(exp.In(this=this))
                    node.meta[LITERALS] = [
                        (token.text, token.token_type == TokenType.STRING) for token in listed
                    ]
                    return node
            return super()._parse_in(this, alias)

        def _warn_unsupported(self) -> None:
            """Says nothing: a statement that is not understood is refused with an error."""

        def _parse_types(
            self,
            check_func: bool = False,
            schema: bool = False,
            allow_identifiers: bool = True,
            with_collation: bool = False,
        ) -> exp.Expr | None:
            """Reads a column's type ourselves; types inside expressions are sqlglot's."""
            named_only = schema and self._curr and self._curr.token_type in _AFTER_NAME
            if named_only or (self._curr and self._curr.text.upper() == "COMMENT"):
                return None  # a list of names: of VALUES, of an INSERT, of a view
            constructor = (
                not schema
                and self._curr
                and self._curr.token_type in _CONSTRUCTORS
                and self._next
                and self._next.token_type == TokenType.L_PAREN
            )
            if constructor:
                return None  # array(1, 2) is a value, array<int> a type
            if not schema or not self._curr:
                # Past Hive's own, for which VARCHAR(3) in a CAST is text of any length.
                return super(HiveParser, self)._parse_types(
                    check_func, schema, allow_identifiers, with_collation
                )
            # The scanner knows no ';': it sees nothing behind the statement.
            end = self._tokens[-1].end + 1
            text = self.sql if end >= len(self.sql) else self.sql[:end]
            try:
                scanner = TypeScanner(text, self._curr.start, max_length=MAX_SQL_TEXT)
                odps_type = scanner.type()
            except UsageError as error:
                token = self._curr
                column = token.col - (token.end - token.start)
                raise SqlSyntaxError(
                    f"the statement cannot be parsed: {token.text[:40]!r} is no type, at line"
                    f" {token.line}, column {column}"
                ) from error
            # The scanner stands on the token behind the type.
            while self._curr and self._curr.start < scanner.token_start:
                self._advance()
            node = exp.DataType(this=exp.DataType.Type.USERDEFINED, kind=str(odps_type))
            node.meta[ODPS_TYPE] = odps_type
            return node


_CONSTRUCTORS = frozenset({TokenType.ARRAY, TokenType.MAP, TokenType.STRUCT})
_AFTER_NAME = frozenset({TokenType.COMMA, TokenType.R_PAREN})
_PLAIN = frozenset({TokenType.NUMBER, TokenType.STRING})


@contextlib.contextmanager
def _translated(
    what: str, source: str, before: int = 0, tokens: Sequence[Token] = ()
) -> Iterator[None]:
    """Raises sqlglot's complaints as ours; arguments as `syntax_error`'s."""
    try:
        yield
    except SqlglotError as error:
        raise syntax_error(error, what, source, before, tokens) from error
    except RecursionError as error:
        raise SqlSyntaxError(f"the {what} nests too deeply") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # A grammar of this size has corners where it stumbles over text that is no SQL.
        where = f", at {location_of_token(tokens[0])}" if tokens else ""
        raise SqlSyntaxError(f"the {what} cannot be parsed{where}") from error


def _check_length(text: str, what: str, limit: int) -> None:
    if len(text) > limit:
        raise SqlSyntaxError(f"the {what} has {len(text)} characters, above the limit of {limit}")


@dataclasses.dataclass(frozen=True, slots=True)
class Parsed:
    """One statement of a text.

    Attributes:
        node: its tree.
        variable: the variable of script mode that it is assigned to, or an empty text.
        explained: whether EXPLAIN stood before it.
        text: as written.
        where: of DELETE and UPDATE, the condition as written.
        line, column: where it begins.
        tokens: of a statement that is read word by word, its tokens; it has no tree then.
        source: the whole text that the tokens stand in.
    """

    node: exp.Expr | None
    variable: str = ""
    explained: bool = False
    text: str = ""
    where: str = ""
    tokens: tuple[Token, ...] = ()
    source: str = ""
    line: int = 1
    column: int = 1


def parse_all(text: str) -> list[Parsed]:
    """Parses statements with ``;`` between them; empty ones are left out.

    Raises:
        SqlSyntaxError: one is none that the dialect knows, or the text is too long.
    """
    _check_length(text, "statement", MAX_SQL_TEXT)
    result: list[Parsed] = []
    dialect = Odps()
    with _translated("statement", text):
        tokens = dialect.tokenize(text)
    chunk: list[Token] = []
    for token in [*tokens, None]:
        if token is not None and token.token_type != TokenType.SEMICOLON:
            chunk.append(token)
            continue
        if chunk:
            first = chunk[0]
            column = first.col - (first.end - first.start)
            with _translated("statement", text, tokens=chunk):
                parsed = _parsed(dialect, chunk, text)
            result.append(dataclasses.replace(parsed, line=first.line, column=column))
        chunk = []
    return result


def _parsed(dialect: Odps, chunk: list[Token], text: str) -> Parsed:
    """The statement of some tokens, with what stands before it in script mode or for EXPLAIN."""
    written = text[chunk[0].start : chunk[-1].end + 1]
    if chunk[0].token_type == TokenType.SET:
        # What a flag is set to is no expression: Asia/Shanghai, 256M, a.py,b.py.
        return Parsed(exp.Set(), text=written)
    check_tokens(chunk, text)
    explained = False
    if chunk[0].token_type == TokenType.PARAMETER:
        return _assignment(dialect, chunk, text, written)
    if chunk[0].text.upper() == "EXPLAIN":
        explained, chunk = True, chunk[1:]
        if not chunk:
            raise SqlSyntaxError("EXPLAIN needs a statement, at line 1")
        check_tokens(chunk, text)
    words = [token.text.upper() for token in chunk[:2]]
    if words[0] in _BY_WORDS or (words[0] in {"CREATE", "DROP"} and words[1:] == ["SCHEMA"]):
        return Parsed(None, "", explained, written, tokens=tuple(chunk), source=text)
    node = _tree(dialect, _without_zorder(chunk), text)
    where = _condition(chunk, text) if isinstance(node, exp.Delete) else ""
    return Parsed(node, "", explained, written, where)


def _tree(dialect: Odps, chunk: list[Token], text: str) -> exp.Expr:
    nodes = dialect.parser().parse(chunk, text)
    if len(nodes) != 1 or nodes[0] is None:
        raise SqlSyntaxError(f"expected one statement, got {len(nodes)}")
    return _balanced(nodes[0])


def _balanced(tree: exp.Expr) -> exp.Expr:
    """The tree with long chains of AND, or of OR, halved and halved again, so that they are not deep.

    A chain is as deep as it is long when it is parsed, and whatever looks at a tree goes into its depth.
    """
    tops = [
        node
        for node in tree.find_all(exp.And, exp.Or)
        if type(node.parent) is not type(node) and isinstance(node.this, type(node))
    ]
    for top in tops:
        members: list[exp.Expr] = []
        left: exp.Expr = top
        while type(left) is type(top):
            members.append(left.expression)
            left = left.this
        members.append(left)
        if len(members) > _LONG_CHAIN:
            members.reverse()
            while len(members) > 2:
                pairs = (members[at : at + 2] for at in range(0, len(members), 2))
                members = [
                    type(top)(this=pair[0], expression=pair[1]) if len(pair) == 2 else pair[0]
                    for pair in pairs
                ]
            top.set("this", members[0])
            top.set("expression", members[1])
    return tree


def _assignment(dialect: Odps, chunk: list[Token], text: str, written: str) -> Parsed:
    """``@name [TYPE] := query or value``, of script mode."""
    at = location_of_token(chunk[0])
    index = next((i for i, token in enumerate(chunk) if token.text == ":="), 0)
    if index < 2:
        raise SqlSyntaxError(
            f"the statement cannot be parsed: a variable is given a value by @name := .., at {at}"
        )
    name, kind, chunk = chunk[1].text.casefold(), chunk[2:index], chunk[index + 1 :]
    if not chunk:
        raise SqlSyntaxError(f"@{name} := needs a query or a value, at {at}")
    inner = next((item for item in chunk if item.token_type != TokenType.L_PAREN), chunk[0])
    first = inner.text.upper()
    if first in _STATEMENTS and inner.token_type not in {TokenType.STRING, TokenType.IDENTIFIER}:
        check_tokens(chunk, text)
        if first not in {"SELECT", "WITH", "FROM", "VALUES"}:
            raise SqlSyntaxError(f"@{name} := takes a query or a value, not {first}, at {at}")
        node = _tree(dialect, chunk, text)
        if kind and kind[0].text.upper() == "TABLE":
            node = _as_table(node, text[kind[0].start : kind[-1].end + 1])
            kind = []
    else:
        select = dialect.tokenize("SELECT")[0]
        select.line, select.col = chunk[0].line, chunk[0].col
        node = _tree(dialect, [select, *chunk], text)
    if kind:
        wanted = text[kind[0].start : kind[-1].end + 1]
        value = node.expressions[0] if isinstance(node, exp.Select) else None
        if value is None or len(node.expressions) != 1:
            raise SqlSyntaxError(f"@{name} {wanted[:40]} := takes one value, at {at}")
        node.set("expressions", [exp.cast(value.copy(), wanted, dialect=Odps)])
    return Parsed(node, name, text=written)


def _as_table(query: exp.Expr, written: str) -> exp.Expr:
    """A query with the columns of ``TABLE (name TYPE, ..)``."""
    wanted = sqlglot.parse_one(f"CREATE {written[:5]} t {written[5:]}", read=Odps).this.expressions
    names = [exp.to_identifier(item.name, quoted=True) for item in wanted]
    alias = exp.TableAlias(this=exp.to_identifier("given", quoted=True), columns=names)
    items = [
        exp.alias_(
            exp.cast(exp.column(name.copy()), item.args["kind"].args["kind"], dialect=Odps),
            name.copy(),
        )
        for name, item in zip(names, wanted, strict=True)
    ]
    return exp.Select(expressions=items, from_=exp.From(this=exp.Subquery(this=query, alias=alias)))


def _without_zorder(chunk: list[Token]) -> list[Token]:
    """An INSERT without the ZORDER BY at its end, which is a wish about files and chooses no row."""
    words = [token.text.upper() for token in chunk]
    if words[0] != "INSERT" or "ZORDER" not in words:
        return chunk
    index = len(words) - 1 - words[::-1].index("ZORDER")
    if words[index + 1 : index + 2] != ["BY"] or len(words) < index + 3:
        return chunk
    start = index - (words[index - 1] in {"LOCAL", "GLOBAL"})
    behind = chunk[index + 2 :]
    plain = all(
        (token.token_type in {TokenType.VAR, TokenType.IDENTIFIER}) is not bool(i % 2)
        and (not i % 2 or token.token_type == TokenType.COMMA)
        for i, token in enumerate(behind)
    )
    return chunk[:start] if plain else chunk


_STATEMENTS = frozenset(
    {
        *("SELECT", "WITH", "FROM", "VALUES", "INSERT", "CREATE", "DROP", "ALTER", "DELETE"),
        *("UPDATE", "MERGE", "TRUNCATE", "SHOW", "DESC"),
    }
)
_BY_WORDS = frozenset({"ALTER", "SHOW", "DESC", "DESCRIBE", "TRUNCATE", "CLONE", "ANALYZE", "USE"})


def _condition(chunk: list[Token], text: str) -> str:
    """WHERE of a DELETE as it is written."""
    depth = 0
    for index, token in enumerate(chunk):
        depth += (token.token_type == TokenType.L_PAREN) - (token.token_type == TokenType.R_PAREN)
        if depth == 0 and token.token_type == TokenType.WHERE and index + 1 < len(chunk):
            return text[chunk[index + 1].start : chunk[-1].end + 1]
    return ""


def parse_one(text: str) -> exp.Expr:
    """Parses one statement; ``SET`` statements before it and a final ``;`` are passed over.

    Raises:
        SqlSyntaxError: it is not one statement that the dialect knows, or too long.
    """
    result = [item.node for item in parse_all(text) if not isinstance(item.node, exp.Set)]
    if len(result) != 1 or result[0] is None:
        raise SqlSyntaxError(f"expected one query, got {len(result)} statements")
    return result[0]


def sql_text(tree: exp.Expr) -> str:
    """A tree as text that parses to it again."""

    def listed(node: exp.Expr) -> exp.Expr:
        plain = node.meta.get(LITERALS) if isinstance(node, exp.In) else None
        if plain:
            node.set(
                "expressions",
                [
                    exp.Literal.string(text) if quoted else exp.Literal.number(text)
                    for text, quoted in plain
                ],
            )
            del node.meta[LITERALS]
        return node

    text: str = tree.copy().transform(listed).sql(dialect=Odps)
    return text


MAX_PREDICATE_TEXT = 4 * 1024 * 1024
"""Longest filter predicate, in characters: room for a list of more than 100,000 values."""

_BEFORE_PREDICATE = "SELECT 1 WHERE "


def _with_long_lists(text: str) -> exp.Expr | None:
    """The parsed condition, its long lists read by themselves; None if it has none, or is wrong."""
    short, lists = without_long_lists(text)
    if not lists:
        return None
    try:
        select = sqlglot.parse_one(f"{_BEFORE_PREDICATE}{short}", read=Odps)
    except (SqlglotError, RecursionError):
        return None  # what is wrong is said of the text as it was sent
    for node in select.find_all(exp.In):
        (stand_in,) = node.expressions if len(node.expressions) == 1 else (None,)
        if isinstance(stand_in, exp.Literal) and stand_in.is_string and stand_in.this in lists:
            node.set("expressions", None)
            node.meta[LITERALS] = lists.pop(stand_in.this)
    return None if lists else select


def parse_predicate(text: str) -> exp.Expr:
    """Parses a condition, as it stands after WHERE.

    Raises:
        SqlSyntaxError: it is not a condition, or too long.
    """
    _check_length(text, "filter", MAX_PREDICATE_TEXT)
    select = _with_long_lists(text)
    if select is None:
        with _translated("filter", text, len(_BEFORE_PREDICATE)):
            select = sqlglot.parse_one(f"{_BEFORE_PREDICATE}{text}", read=Odps)
    where = select.args.get("where")
    extra = {name for name, value in select.args.items() if value} - {"expressions", "where"}
    if where is None or extra or len(select.expressions) != 1:
        raise SqlSyntaxError("the filter is not a single condition")
    return where.this


def equal(name: str, value: str) -> exp.EQ:
    """A column that is equal to a text."""
    return exp.EQ(
        this=exp.column(exp.to_identifier(name, quoted=True)), expression=exp.Literal.string(value)
    )
