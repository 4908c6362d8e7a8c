"""MaxCompute's functions of JSON and URLs."""

from __future__ import annotations

import re

from fletching.errors import InvalidArgumentError, UsageError
from fletching.protocol.types.arrow_types import arrow_field
from fletching.protocol.types.odps_types import parse_type
from fletching.sql.functions.duck_forms import let, quoted
from fletching.sql.functions.function_calls import Call, Function
from fletching.sql.functions.sql_types import SqlType, type_of_arrow

__all__ = ["DOCUMENT_FUNCTIONS", "json_element", "json_text", "json_type", "url_part"]

# --- JSON ------------------------------------------------------------------------------------


def _json_path(text: str) -> str:
    """A path as DuckDB writes it: ``$['a b'].c`` has quoted names there."""
    text = text.replace(".[", "[")  # as in the documentation: $.a[1].[2]
    return re.sub(r"\[\s*'([^']*)'\s*\]", lambda match: f'."{match[1]}"', text)


def json_text(value: str, path: str) -> str:
    """What a constant path leads to, as text; JSON that is none gives null."""
    if not path.startswith("$"):
        path = "$." + path
    path = quoted(_json_path(path))
    if "*" in path:
        result = f"CAST(to_json(json_extract(j_, {path})) AS VARCHAR)"
        result = f"CASE WHEN len(json_extract(j_, {path})) = 0 THEN NULL ELSE {result} END"
    else:
        result = f"(j_ ->> {path})"
    return let(["j_"], [value], f"CASE WHEN json_valid(j_) THEN {result} END")


def _json_object(call: Call) -> str:
    path = call.constants[1]
    if path is not None:
        return json_text(call[0], path)
    return let(["j_"], [call[0]], f"CASE WHEN json_valid(j_) THEN (j_ ->> {call[1]}) END")


def _json_extract(call: Call) -> str:
    path = quoted(_json_path(call.constant(1, "path")))
    return let(
        ["j_"],
        [call[0]],
        f"CASE WHEN json_valid(j_) THEN CAST(json_extract(j_, {path}) AS VARCHAR) END",
    )


def _json_exists(call: Call) -> str:
    """Whether a path leads anywhere; ``lax`` and ``strict`` before it say what is said of others."""
    path = re.sub(r"^\s*(?:lax|strict)\s+", "", call.constant(1, "path"), flags=re.IGNORECASE)
    exists = f"json_exists(j_, {quoted(_json_path(path))})"
    if "*" in path:
        exists = f"list_contains({exists}, true)"
    return let(["j_"], [call[0]], f"CASE WHEN json_valid(j_) THEN {exists} END")


_JSON_TYPE = (
    "CASE WHEN json_valid({0}) THEN CASE json_type({0}) WHEN 'VARCHAR' THEN 'string' WHEN 'UBIGINT' THEN 'number'"
    " WHEN 'BIGINT' THEN 'number' WHEN 'HUGEINT' THEN 'number' WHEN 'DOUBLE' THEN 'number'"
    " ELSE lower(json_type({0})) END END"
)


def json_element(value: str, key: str | int) -> str:
    """What a JSON object has by a name, or a JSON array at a place, as JSON."""
    step = str(key).replace("~", "~0").replace("/", "~1")
    pointer = quoted(f"$[{key}]" if isinstance(key, int) else f"/{step}")
    return let(
        ["j_"],
        [value],
        f"CASE WHEN json_valid(j_) THEN CAST(json_extract(j_, {pointer}) AS VARCHAR) END",
    )


def _json_parse(call: Call) -> str:
    wrong = f"error({quoted('json_parse takes a text that is JSON; ask json_valid first')})"
    return let(
        ["j_"],
        [call[0]],
        f"CASE WHEN json_valid(j_) THEN j_ WHEN j_ IS NOT NULL THEN {wrong} END",
    )


def _from_json(call: Call) -> str:
    text = call.constant(1, "type")
    wanted = json_type(text)
    if wanted is None:
        raise InvalidArgumentError(f"from_json: {text[:60]!r} is no type")
    made = f"TRY_CAST(CAST(j_ AS JSON) AS {wanted.duck()})"
    return let(["j_"], [call[0]], f"CASE WHEN json_valid(j_) THEN {made} END")


def json_type(text: str) -> SqlType | None:
    """The type of FROM_JSON: a type of ours, or ``a bigint, b string`` for a STRUCT of these."""
    pairs = [
        re.fullmatch(r"\s*`?(\w+)`?\s*[:\s]\s*(.+?)\s*", item, re.DOTALL) for item in _pieces(text)
    ]
    made = ", ".join(f"{match[1]}:{match[2]}" for match in pairs if match)
    for written in (text, f"struct<{made}>"):
        try:
            result = type_of_arrow(arrow_field("x", parse_type(written)).type)
        except UsageError:
            continue
        return result if result.duck() else None
    return None


def _pieces(text: str) -> list[str]:
    """A list cut at the commas that no bracket holds."""
    result, depth = [""], 0
    for letter in text:
        depth += (letter in "<(") - (letter in ">)")
        if letter == "," and not depth:
            result.append("")
        else:
            result[-1] += letter
    return result


# --- URLs ------------------------------------------------------------------------------------

_URL = r"^(?:([^:/?#]+):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?"
_PARTS = {"PROTOCOL": 1, "AUTHORITY": 2, "PATH": 3, "QUERY": 4, "REF": 5}


def url_part(url: str, part: str, key: str | None = None) -> str:
    """A part of a URL; null if it has none.

    Raises:
        InvalidArgumentError: there is no such part.
    """
    name = part.upper()
    pattern = quoted(_URL)
    if name.startswith("QUERY:"):
        name, key = "QUERY", quoted(part[6:])
    if key is not None and name == "QUERY":
        pairs = f"string_split(regexp_extract({url}, {pattern}, 4), '&')"
        result = f"list_filter({pairs}, lambda p_: string_split(p_, '=')[1] = {key})"
        return f"list_transform({result}, lambda p_: array_to_string(string_split(p_, '=')[2:], '='))[1]"
    if name in _PARTS:
        made = f"regexp_extract({url}, {pattern}, {_PARTS[name]})"
    elif name == "HOST":
        made = f"regexp_extract(regexp_extract({url}, {pattern}, 2), '^(?:[^@]*@)?(\\[[^\\]]*\\]|[^:]*)', 1)"
    elif name == "PORT":
        made = f"regexp_extract(regexp_extract({url}, {pattern}, 2), ':(\\d+)$', 1)"
    elif name == "USERINFO":
        made = f"regexp_extract(regexp_extract({url}, {pattern}, 2), '^([^@]*)@', 1)"
    elif name == "FILE":
        made = f"regexp_extract({url}, '^(?:[^:/?#]+:)?(?://[^/?#]*)?([^#]*)', 1)"
    else:
        raise InvalidArgumentError(
            f"parse_url has no part {part[:40]!r}; HOST, PATH, QUERY, REF, PROTOCOL, AUTHORITY, FILE and"
            " USERINFO are"
        )
    return f"nullif({made}, '')"


def _parse_url(call: Call) -> str:
    return url_part(call[0], call.constant(1, "part"), call[2] if len(call) == 3 else None)


_URL_ENCODE = "replace(replace(replace(url_encode({0}), '%20', '+'), '%2A', '*'), '~', '%7E')"


DOCUMENT_FUNCTIONS: dict[str, Function] = {
    "get_json_object": Function(2, 2, _json_object, "text", "t"),
    "json_extract": Function(2, 2, _json_extract, "text", "t"),
    "json_valid": Function(1, 1, "json_valid({0})", "boolean", "t"),
    "json_exists": Function(2, 2, _json_exists, "boolean", "t"),
    "json_type": Function(1, 1, _JSON_TYPE, "text", "t"),
    "json_array_length": Function(1, 1, "CAST(json_array_length({0}) AS INTEGER)", "int", "t"),
    "json_object": Function(2, None, "CAST(json_object({*}) AS VARCHAR)", "text"),
    "json_array": Function(1, None, "CAST(json_array({*}) AS VARCHAR)", "text"),
    "json_parse": Function(1, 1, _json_parse, "text", "t"),
    "json_format": Function(1, 1, "{0}", "text", "t"),
    "from_json": Function(2, 2, _from_json, lambda _: SqlType(), "t"),
    "to_json": Function(1, 1, "CAST(to_json({0}) AS VARCHAR)", "text"),
    "url_encode": Function(1, 2, _URL_ENCODE, "text", "t"),
    "url_decode": Function(1, 2, "url_decode(replace({0}, '+', ' '))", "text", "t"),
    "parse_url": Function(2, 3, _parse_url, "text", "t"),
}
