"""MaxCompute's functions of texts and bytes.

The module is long because it is one list, and the forms that texts take are shared by its entries.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

from fletching.errors import InvalidArgumentError
from fletching.sql.functions.duck_forms import joined_list, let, map_of_entries, quoted
from fletching.sql.functions.function_calls import (
    MAX_TEXT_BYTES,
    Call,
    Function,
    or_nothing,
    unless_large,
)
from fletching.sql.functions.sql_types import BIGINT, STRING, SqlType, array_of, map_of

__all__ = ["SHA2_PREFIX", "TEXT_FUNCTIONS"]

SHA2_PREFIX = "fletching_sha2_"
"""What the functions are called, with their bits behind it, that whoever runs statements lends to DuckDB."""

_TEXTS = array_of(STRING)


def _same(*names: str, least: int = 1, most: int | None = 1) -> dict[str, Function]:
    """Functions of texts that DuckDB has by the same name."""
    return {name: Function(least, most, f"{name}({{*}})", "text", "t") for name in names}


def _texts_of(_types: Sequence[SqlType]) -> SqlType:
    return _TEXTS


# --- joining and cutting ---------------------------------------------------------------------


def _concat(call: Call) -> str:
    kinds = {call.kind(i) for i in range(len(call))}
    if "array" in kinds:
        return f"list_concat({', '.join(call.arguments)})"
    return "(" + " || ".join(call.text(i) for i in range(len(call))) + ")"


def _concat_type(types: Sequence[SqlType]) -> SqlType:
    arrays = [item for item in types if item.kind == "array"]
    return arrays[0] if arrays else STRING


def _concat_ws(call: Call) -> str:
    separator = call.text(0)
    parts = [
        joined_list(call.texts(i), separator) if call.kind(i) == "array" else call.text(i)
        for i in range(1, len(call))
    ]
    return f"concat_ws({separator}, {', '.join(parts)})"


def _substr(call: Call) -> str:
    """The place counts from 1, from the end if it is negative; 0 is the beginning."""
    text, start = call.text(0), call[1]
    length = ""
    if len(call) == 3:
        # DuckDB counts a negative length to the left.
        number = call[2]
        length = (
            number if number.isdecimal() else f"CASE WHEN {number} < 0 THEN 0 ELSE {number} END"
        )
        length = f", {length}"
    if re.fullmatch(r"[1-9]\d*", start):
        return f"substring({text}, {start}{length})"
    # Before the beginning there is nothing, where DuckDB starts at it.
    index = (
        "CASE WHEN p_ = 0 THEN 1 WHEN p_ >= 0 THEN p_ WHEN -p_ > length(t_) THEN length(t_) + 1"
        " ELSE length(t_) + p_ + 1 END"
    )
    return let(["t_", "p_"], [text, start], f"substring(t_, {index}{length})")


def _substring_index(call: Call) -> str:
    text, separator, count = call.arguments
    parts = f"string_split({text}, {separator})"
    first = joined_list(f"list_slice({parts}, 1, {count})", separator)
    last = joined_list(f"list_slice({parts}, -least(-({count}), len({parts})), -1)", separator)
    return f"CASE WHEN {count} = 0 THEN '' WHEN {count} > 0 THEN {first} ELSE {last} END"


def _trim(call: Call) -> str:
    """Without letters it takes blanks alone, where DuckDB takes every space of Unicode."""
    letters = call[1] if len(call) == 2 else "' '"
    return f"{call.name.lower().removeprefix('b')}({call[0]}, {letters})"


def _backwards(text: str) -> str:
    """Its characters from the last to the first; DuckDB's own keeps accents behind their letters."""
    return f"array_to_string(list_reverse(string_split({text}, '')), '')"


_LENGTHS = "(list_sum(list_transform(list_slice({}, 1, n_), lambda q_: length(q_))) + (n_ - 1) * length(w_))"


def _instr(call: Call) -> str:
    """The place of the nth occurrence, searched from a place; from a negative one backwards."""
    text, wanted = call[0], call[1]
    if len(call) == 2:
        return f"CAST(instr({text}, {wanted}) AS BIGINT)"
    start = call[2]
    nth = call[3] if len(call) == 4 else "1"
    forward = (
        "CASE WHEN n_ < 1 OR s_ = 0 THEN NULL WHEN len(string_split(substring(t_, s_), w_)) <= n_ THEN 0"
        f" ELSE s_ + {_LENGTHS.format('string_split(substring(t_, s_), w_)')} END"
    )
    if nth == "1":
        forward = (
            "CASE WHEN s_ = 0 THEN NULL WHEN instr(substring(t_, s_), w_) = 0 THEN 0"
            " ELSE instr(substring(t_, s_), w_) + s_ - 1 END"
        )
    before = "substring(t_, 1, length(t_) + s_ + length(w_))"
    parts = f"string_split({_backwards(before)}, {_backwards('w_')})"
    backward = (
        f"CASE WHEN len({parts}) <= n_ THEN 0 ELSE length({before})"
        f" - {_LENGTHS.format(parts)} - length(w_) + 1 END"
    )
    if re.fullmatch(r"\d+", start):
        body = forward
    elif re.fullmatch(r"-\s*\d+", start):
        body = backward
    else:
        body = f"CASE WHEN s_ < 0 THEN {backward} ELSE {forward} END"
    return f"CAST({let(['t_', 'w_', 's_', 'n_'], [text, wanted, start, nth], body)} AS BIGINT)"


def _locate(call: Call) -> str:
    wanted, text, *rest = call.arguments
    return _instr(dataclasses.replace(call, arguments=[text, wanted, *rest]))


def _split(call: Call) -> str:
    """Empty texts at the end are left out, unless the third argument is false."""
    parts = f"string_split_regex({call[0]}, {call[1]})"
    if len(call) == 3 and call[2].upper() == "FALSE":
        return parts
    last = "list_max(list_transform(range(1, len(p_) + 1), lambda i_: CASE WHEN p_[i_] <> '' THEN i_ ELSE 0 END))"
    kept = f"CASE WHEN p_ IS NULL THEN NULL ELSE list_slice(p_, 1, {last}) END"
    if len(call) == 3:
        kept = f"CASE WHEN {call[2]} THEN {kept} ELSE p_ END"
    return let(["p_"], [parts], kept)


def _split_part(call: Call) -> str:
    if len(call) == 3:
        return f"split_part({call[0]}, {call[1]}, {call[2]})"
    text, separator, first, last = call.arguments
    parts = f"list_slice(string_split({text}, {separator}), {first}, {last})"
    return joined_list(parts, separator)


def _str_to_map(call: Call) -> str:
    first = call[1] if len(call) > 1 else "','"
    second = call[2] if len(call) > 2 else "':'"
    pair = f"string_split(p_, {second})"
    rest = f"CASE WHEN len({pair}) > 1 THEN {joined_list(f'{pair}[2:]', second)} END"
    entries = f"list_transform(string_split({call[0]}, {first}), lambda p_: {{'k': {pair}[1], 'v': {rest}}})"
    return map_of_entries(entries)


def _key_value(call: Call) -> str:
    """The value of a key in a text of pairs: ``keyvalue('a:1;b:2', ';', ':', 'b')``."""
    if len(call) not in {2, 4}:
        raise InvalidArgumentError("keyvalue takes a text, optionally two separators, and a key")
    text, key = call[0], call[-1]
    first, second = (call[1], call[2]) if len(call) == 4 else ("';'", "':'")
    pair = f"string_split(p_, {second})"
    result = f"list_filter(string_split({text}, {first}), lambda p_: {pair}[1] = {key})"
    return f"list_transform({result}, lambda p_: {joined_list(f'{pair}[2:]', second)})[1]"


def _pad(call: Call) -> str:
    side = call.name.lower()
    padding = call[2] if len(call) == 3 else "' '"
    length = f"CAST({or_nothing(call[1], MAX_TEXT_BYTES)} AS INTEGER)"
    made = f"{side}({call[0]}, {length}, {padding})"
    if len(call) == 3:
        # Nothing to fill with: what is there is cut and stays short, where DuckDB fails.
        if padding == "''":
            made = f"left({call[0]}, greatest({length}, 0))"
        elif not padding.startswith("'"):
            made = f"CASE WHEN {padding} = '' THEN left({call[0]}, greatest({length}, 0)) ELSE {made} END"
    return unless_large(call[1], MAX_TEXT_BYTES, f"{side} would make a text too long", made)


def _repeat(call: Call) -> str:
    text, count = (call[0], call[1]) if len(call) == 2 else ("' '", call[0])
    size = f"greatest(octet_length(encode({text})), 1)"
    most = f"{MAX_TEXT_BYTES} // {size}"
    whole = f"CASE WHEN {count} < 0 THEN 0 ELSE {or_nothing(count, most)} END"
    made = f"repeat({text}, {whole})"
    # Divided, as a product of both might not be a BIGINT.
    over = f"CASE WHEN {count} > {most} THEN {MAX_TEXT_BYTES} + 1 ELSE 0 END"
    return unless_large(
        over, MAX_TEXT_BYTES, f"{call.name.lower()} would make a text of too many bytes", made
    )


def _match_count(call: Call) -> str:
    return (
        f"CAST(len(list_filter(string_split({call[0]}, ''), lambda c_: c_ <> ''"
        f" AND contains({call[1]}, c_))) AS BIGINT)"
    )


# --- regular expressions ---------------------------------------------------------------------


_TOO_LONG = "{} would make a text of too many bytes"


def _grown(name: str, text: str, by: str, made: str, size: str) -> str:
    """What replacing makes of a text, unless that would be longer than a text may be.

    Args:
        name: the function.
        text: what it is given.
        by: what it puts in.
        made: the call, of k_ and b_.
        size: at least the bytes of what it makes of t_ and b_; computed only where their own sizes do not
            rule out that it is too much.
    """
    rough = "(strlen(t_) + 1) * (strlen(b_) + 1) * 2"
    bytes_ = f"CASE WHEN {rough} > {MAX_TEXT_BYTES} THEN {size} ELSE 0 END"
    kept = f"CASE WHEN {bytes_} > {MAX_TEXT_BYTES} THEN '' ELSE t_ END"
    checked = unless_large(bytes_, MAX_TEXT_BYTES, _TOO_LONG.format(name), made)
    return let(["t_", "b_"], [text, by], let(["k_"], [kept], checked))


def _replace(call: Call) -> str:
    text, old, new = call.arguments
    constant = all(map(_CONSTANT_TEXT.fullmatch, (old, new)))
    if constant and len(new.encode()) <= len(old.encode()):
        return f"replace({text}, {old}, {new})"  # never longer
    result = f"(strlen(t_) - strlen(replace(t_, {old}, ''))) // greatest(strlen({old}), 1)"
    size = f"strlen(t_) + ({result}) * strlen(b_)"
    return _grown("replace", text, new, f"replace(k_, {old}, b_)", size)


_CONSTANT_TEXT = re.compile(r"'(?:[^']|'')*'")


def _regexp_replace(call: Call) -> str:
    text, pattern, by = call.arguments[:3]
    nth = call.number(3, "occurrence") if len(call) == 4 else 0
    if nth < 0:
        raise InvalidArgumentError(
            "regexp_replace replaces all occurrences (0), or the one with a number"
        )
    if nth == 0:
        if by == "''":
            return f"regexp_replace({text}, {pattern}, '', 'g')"
        # Each mention of a group may bring all that was found once more.
        groups = "strlen(t_) * (strlen(b_) - strlen(replace(b_, '\\', '')))"
        result = f"len(regexp_extract_all(t_, {pattern}))"
        size = f"strlen(t_) + {result} * strlen(b_) + {groups}"
        made = f"regexp_replace(k_, {pattern}, b_, 'g')"
        return _grown("regexp_replace", text, by, made, size)
    if nth == 1:
        return f"regexp_replace({text}, {pattern}, {by})"
    before = f"array_to_string(list_transform(range(1, {nth}), lambda i_: p_[i_] || m_[i_]), '')"
    after = f"array_to_string(list_transform(range({nth + 1}, len(m_) + 1), lambda i_: p_[i_] || m_[i_]), '')"
    made = f"{before} || p_[{nth}] || regexp_replace(m_[{nth}], x_, {by}) || {after} || p_[len(p_)]"
    return let(
        ["t_", "x_"],
        [text, pattern],
        let(
            ["p_", "m_"],
            ["string_split_regex(t_, x_)", "regexp_extract_all(t_, x_)"],
            f"CASE WHEN len(m_) < {nth} THEN t_ ELSE {made} END",
        ),
    )


def _regexp_extract(call: Call) -> str:
    if len(call) == 3:
        group = call.number(2, "group")
        pattern = call.constants[1]
        if pattern is not None and group > _groups(pattern):
            raise InvalidArgumentError(
                f"{call.name}: the pattern {pattern[:40]!r} has no group {group}"
            )
    else:
        pattern = call.constants[1]
        group = 0 if pattern is not None and not _has_group(pattern) else 1
    return f"regexp_extract({call[0]}, {call[1]}, {group})"


def _groups(pattern: str) -> int:
    """How many groups a pattern has; as many as anybody asks for if it is none of Python's."""
    try:
        return re.compile(pattern).groups
    except re.error:
        return 1000


def _has_group(pattern: str) -> bool:
    return _groups(pattern) > 0


def _regexp_extract_all(call: Call) -> str:
    group = call.number(2, "group") if len(call) == 3 else 1
    pattern = call.constants[1]
    if len(call) == 2 and pattern is not None and not _has_group(pattern):
        group = 0
    return f"regexp_extract_all({call[0]}, {call[1]}, {group})"


def _from_position(call: Call) -> str:
    """The text from the place on that the third argument gives."""
    if len(call) <= 2 or call[2] == "1":
        return call[0]
    return f"substring({call[0]}, {call[2]})"


def _regexp_substr(call: Call) -> str:
    nth = call[3] if len(call) == 4 else "1"
    return f"regexp_extract_all({_from_position(call)}, {call[1]})[{nth}]"


def _regexp_count(call: Call) -> str:
    return f"CAST(len(regexp_extract_all({_from_position(call)}, {call[1]})) AS BIGINT)"


def _regexp_instr(call: Call) -> str:
    start = call[2] if len(call) > 2 else "1"
    nth = call[3] if len(call) > 3 else "1"
    behind = call.number(4, "option") if len(call) > 4 else 0
    if behind not in {0, 1}:
        raise InvalidArgumentError("regexp_instr gives a match's beginning (0) or end (1)")
    index = f"{start} + length(array_to_string(p_[1:{nth}], '')) + length(array_to_string(m_[1:{nth} - 1], ''))"
    if behind:
        index += f" + length(m_[{nth}])"
    parts = f"string_split_regex({_from_position(call)}, {call[1]})"
    matches = f"regexp_extract_all({_from_position(call)}, {call[1]})"
    body = f"CASE WHEN len(m_) < {nth} THEN 0 ELSE {index} END"
    return f"CAST({let(['p_', 'm_'], [parts, matches], body)} AS BIGINT)"


# --- the rest --------------------------------------------------------------------------------


def _soundex(call: Call) -> str:
    letters = f"regexp_replace(upper({call[0]}), '[^A-Z]', '', 'g')"
    codes = (
        "translate(w_[1] || translate(w_[2:], 'HW', ''), 'ABCDEFGHIJKLMNOPQRSTUVWXYZ',"
        " '01230120022455012623010202')"
    )
    for digit in "1234560":
        codes = f"regexp_replace({codes}, '{digit}+', '{digit}', 'g')"
    made = f"CASE WHEN w_ = '' THEN '' ELSE w_[1] || rpad(replace(({codes})[2:], '0', ''), 3, '0')[:3] END"
    return let(["w_"], [letters], made)


def _encode(call: Call) -> str:
    _utf8(call)
    return f"encode({call.text(0)})"


def _utf8(call: Call) -> None:
    charset = call.constant(1, "character set")
    if charset.strip().upper().replace("-", "") not in {"UTF8", "USASCII", "ASCII"}:
        raise InvalidArgumentError(f"{call.name} knows UTF-8 alone, not {charset[:40]!r}")


def _crc32(call: Call) -> str:
    """By a table of 256 numbers, a byte at a time."""
    table = ", ".join(map(str, _CRC32_TABLE))
    data = call[0] if call.kind(0) == "binary" else f"encode({call.text(0)})"
    digits = "hex(d_)"
    values = (
        f"list_transform(range(1, length({digits}), 2), lambda i_: CAST(instr('0123456789ABCDEF',"
        f" {digits}[i_]) - 1 AS BIGINT) * 16 + instr('0123456789ABCDEF', {digits}[i_ + 1]) - 1)"
    )
    step = f"xor([{table}][(xor(c_, b_) & 255) + 1], c_ >> 8)"
    folded = f"list_reduce({values}, lambda c_, b_: {step}, CAST(4294967295 AS BIGINT))"
    return let(
        ["d_"],
        [data],
        f"CASE WHEN d_ IS NULL THEN NULL WHEN octet_length(d_) = 0 THEN 0 ELSE xor({folded}, 4294967295) END",
    )


def _crc32_entry(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
    return value


_CRC32_TABLE = tuple(map(_crc32_entry, range(256)))


def _format_number(call: Call) -> str:
    digits = call.number(1, "digits")
    if not 0 <= digits <= 30:
        raise InvalidArgumentError("format_number takes 0 to 30 digits")
    if call.kind(0) in {"decimal", "whole"}:
        return f"format('{{:,.{digits}f}}', CAST(round({call[0]}, {digits}) AS DOUBLE))"
    return f"format('{{:,.{digits}f}}', CAST({call[0]} AS DOUBLE))"


def _sha2(call: Call) -> str:
    bits = call.number(1, "bits")
    if bits not in {0, 224, 256, 384, 512}:
        raise InvalidArgumentError(
            "sha2 makes hashes of 224, 256, 384 or 512 bits; 0 stands for 256"
        )
    return f"sha256({call[0]})" if bits in {0, 256} else f"{SHA2_PREFIX}{bits}({call[0]})"


def _hash(call: Call) -> str:
    """Hive's: 31 times what came before, and the value's own, in 32 bits; of null it is 0."""
    made = "0"
    for i in range(len(call)):
        made = f"({made} * 31 + {_value_hash(call, i)})"
        made = _in_32_bits(made)
    return f"CAST({made} AS BIGINT)"


def _in_32_bits(number: str) -> str:
    return f"((({number} + 2147483648) % 4294967296 + 4294967296) % 4294967296 - 2147483648)"


def _value_hash(call: Call, i: int) -> str:
    value = call[i]
    kind = call.kind(i)
    if kind == "null" or value.upper() == "NULL":
        return "0"
    if kind == "whole":
        made = f"CAST({value} AS BIGINT)"
        if call.types[i].name == "BIGINT":
            # The upper half and the lower one.
            made = let(["n_"], [made], _in_32_bits("xor(n_, n_ >> 32)"))
    elif kind == "boolean":
        made = f"CAST({value} AS BIGINT)"
    elif kind == "text":
        # Bytes count as numbers from -128 to 127.
        octets = (
            "list_transform(range(CAST(length(h_) // 2 AS BIGINT)), lambda i_:"
            " (CAST(concat('0x', substring(h_, i_ * 2 + 1, 2)) AS BIGINT) + 128) % 256 - 128)"
        )
        step = _in_32_bits("c_ * 31 + b_")
        folded = f"list_reduce({octets}, lambda c_, b_: {step}, CAST(0 AS BIGINT))"
        made = let(["h_"], [f"hex(encode({value}))"], f"CASE WHEN h_ = '' THEN 0 ELSE {folded} END")
    else:
        raise InvalidArgumentError("hash takes whole numbers, BOOLEAN and STRING")
    return f"coalesce({made}, 0)"


def _mask_hash(call: Call) -> str:
    if call.kind(0) != "text":
        return "CAST(NULL AS VARCHAR)"
    return f"sha256({call[0]})"


def _bytes_or_text(name: str) -> Function:
    """A function that takes texts and bytes alike."""
    return Function(
        1,
        1,
        lambda call: f"{name}({call[0] if call.kind(0) == 'binary' else call.text(0)})",
        "text",
    )


def _hex(call: Call) -> str:
    if call.kind(0) == "whole":
        return f"to_hex(CAST({call[0]} AS BIGINT))"
    return f"hex({call[0] if call.kind(0) == 'binary' else call.text(0)})"


def _length_in_bytes(call: Call) -> str:
    if call.kind(0) == "binary":
        return f"CAST(octet_length({call[0]}) AS BIGINT)"
    return f"CAST(strlen({call.text(0)}) AS BIGINT)"


def _length(call: Call) -> str:
    if call.kind(0) == "binary":
        return f"CAST(octet_length({call[0]}) AS BIGINT)"
    return f"CAST(length({call.text(0)}) AS BIGINT)"


def _reverse(call: Call) -> str:
    return f"list_reverse({call[0]})" if call.kind(0) == "array" else _backwards(call.text(0))


_UPPER = Function(1, 1, "upper({0})", "text", "t")
_LOWER = Function(1, 1, "lower({0})", "text", "t")

TEXT_FUNCTIONS: dict[str, Function] = {
    **_same("translate", least=3, most=3),
    "replace": Function(3, 3, _replace, "text", "t"),
    "concat": Function(1, None, _concat, _concat_type),
    "concat_ws": Function(2, None, _concat_ws, "text"),
    "length": Function(1, 1, _length, "whole"),
    "char_length": Function(1, 1, _length, "whole"),
    "character_length": Function(1, 1, _length, "whole"),
    "lengthb": Function(1, 1, _length_in_bytes, "whole"),
    "octet_length": Function(1, 1, _length_in_bytes, "whole"),
    "bit_length": Function(1, 1, lambda c: f"({_length_in_bytes(c)} * 8)", "whole"),
    "substr": Function(2, 3, _substr, "text", ".ww"),
    "substring": Function(2, 3, _substr, "text", ".ww"),
    "substring_index": Function(3, 3, _substring_index, "text", "ttw"),
    "left": Function(2, 2, "left({0}, greatest({1}, 0))", "text", "tw"),
    "right": Function(2, 2, "right({0}, greatest({1}, 0))", "text", "tw"),
    "upper": _UPPER,
    "toupper": _UPPER,
    "ucase": _UPPER,
    "lower": _LOWER,
    "tolower": _LOWER,
    "lcase": _LOWER,
    "initcap": Function(
        1,
        1,
        "array_to_string(list_transform(string_split({0}, ' '),"
        " lambda w_: upper(w_[1]) || lower(w_[2:])), ' ')",
        "text",
        "t",
    ),
    "trim": Function(1, 2, _trim, "text", "t"),
    "ltrim": Function(1, 2, _trim, "text", "t"),
    "rtrim": Function(1, 2, _trim, "text", "t"),
    "btrim": Function(1, 2, _trim, "text", "t"),
    "lpad": Function(2, 3, _pad, "text", "twt"),
    "rpad": Function(2, 3, _pad, "text", "twt"),
    "repeat": Function(2, 2, _repeat, "text", "tw"),
    "space": Function(1, 1, _repeat, "text", "w"),
    "reverse": Function(1, 1, _reverse, lambda t: t[0] if t[0].kind == "array" else STRING),
    "instr": Function(2, 4, _instr, "whole", "ttww"),
    "position": Function(2, 2, _locate, "whole", "tt"),
    "locate": Function(2, 3, _locate, "whole", "ttw"),
    "find_in_set": Function(
        2,
        3,
        lambda c: (
            f"coalesce(CAST(list_position(string_split({c[1]}, {c[2] if len(c) == 3 else quoted(',')}),"
            f" {c[0]}) AS BIGINT), CASE WHEN {c[0]} IS NOT NULL AND {c[1]} IS NOT NULL THEN 0 END)"
        ),
        "whole",
        "t",
    ),
    "split": Function(2, 3, _split, _texts_of, "ttb"),
    "split_part": Function(3, 4, _split_part, "text", "ttww"),
    "char_matchcount": Function(2, 2, _match_count, "whole", "t"),
    "charmatchcount": Function(2, 2, _match_count, "whole", "t"),
    "encode": Function(2, 2, _encode, "binary"),
    "crc32": Function(1, 1, _crc32, "whole"),
    "keyvalue": Function(2, 4, _key_value, "text", "t"),
    "str_to_map": Function(1, 3, _str_to_map, lambda _: map_of(STRING, STRING), "t"),
    "elt": Function(
        2, None, lambda c: f"[{', '.join(c.text(i) for i in range(1, len(c)))}][{c[0]}]", "text"
    ),
    "regexp_replace": Function(3, 4, _regexp_replace, "text", "ttt."),
    "regexp_extract": Function(2, 3, _regexp_extract, "text", "tt."),
    "regexp_substr": Function(2, 4, _regexp_substr, "text", "ttww"),
    "regexp_extract_all": Function(2, 3, _regexp_extract_all, _texts_of, "tt."),
    "regexp_count": Function(2, 3, _regexp_count, "whole", "ttw"),
    "regexp_instr": Function(2, 5, _regexp_instr, "whole", "ttww."),
    "rlike": Function(2, 2, "regexp_matches({0}, {1})", "boolean", "t"),
    "regexp": Function(2, 2, "regexp_matches({0}, {1})", "boolean", "t"),
    "regexp_like": Function(2, 2, "regexp_matches({0}, {1})", "boolean", "t"),
    "starts_with": Function(2, 2, "starts_with({0}, {1})", "boolean", "t"),
    "startswith": Function(2, 2, "starts_with({0}, {1})", "boolean", "t"),
    "ends_with": Function(2, 2, "ends_with({0}, {1})", "boolean", "t"),
    "endswith": Function(2, 2, "ends_with({0}, {1})", "boolean", "t"),
    "contains": Function(2, 2, "contains({0}, {1})", "boolean", "t"),
    "ascii": Function(1, 1, "CAST(ascii({0}) AS BIGINT)", "whole", "t"),
    "chr": Function(1, 1, "chr(CAST({0} AS INTEGER))", "text", "w"),
    "hash": Function(1, None, _hash, lambda _types: BIGINT),
    "mask_hash": Function(1, 1, _mask_hash, "text"),
    "md5": _bytes_or_text("md5"),
    "sha": _bytes_or_text("sha1"),
    "sha1": _bytes_or_text("sha1"),
    "sha256": _bytes_or_text("sha256"),
    "sha2": Function(2, 2, _sha2, "text", "t."),
    "base64": Function(
        1,
        1,
        lambda c: f"to_base64({c[0] if c.kind(0) == 'binary' else f'encode({c.text(0)})'})",
        "text",
    ),
    "unbase64": Function(1, 1, "from_base64({0})", "binary", "t"),
    "hex": Function(1, 1, _hex, "text"),
    "unhex": Function(1, 1, "unhex({0})", "binary", "t"),
    "soundex": Function(1, 1, _soundex, "text", "t"),
    "levenshtein": Function(2, 2, "CAST(levenshtein({0}, {1}) AS INTEGER)", "int", "t"),
    "unique_id": Function(0, 0, "CAST(uuid() AS VARCHAR) || '_0'", "text"),
    "uuid": Function(0, 0, "CAST(uuid() AS VARCHAR)", "text"),
    "format_number": Function(2, 2, _format_number, "text", "n."),
}
