"""One self-contained page that draws an `Inspection` to scale: every byte of the input has its place.

The map is a strip cut into rows of equal length, like the lines of a page: one unit of width is the
same number of bytes everywhere. No script, no font and no picture is fetched from anywhere, and nothing
has a style of its own, so that a page may stand under a policy that allows only its one style sheet.
Spans that are wide enough bear their name; what a span is shows when it is pointed at, touched, or
reached by the keyboard.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from fletching.human_figures import human_bytes, human_count

if TYPE_CHECKING:
    from fletching.ipc.reports import Inspection, MessageReport, PartReport

__all__ = ["page"]

_WIDTH = 1200
_ROW_HEIGHT = 22
_ROW_GAP = 6
_MAX_ROWS = 40
_MAX_SPANS = 6000
"""Spans drawn one by one; beyond that a message's columns are drawn as one span each."""

_MAX_STOPS = 1500
"""Spans that the keyboard stops at: the widest ones."""

_TIP_HEIGHT = 26
_LABEL_WIDTH = 46
"""A span narrower than this bears no name."""
_CHARACTER = 6.2

# Hues for columns, far enough apart to tell neighbours, in an order that separates them.
_HUES = (212, 24, 145, 280, 48, 340, 180, 95, 255, 10, 165, 310)

_STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf8; --ink: #1d1b18; --dim: #6d675f; --line: #ddd7cd;
  --card: #fff; --schema: #8a8378; --meta: #b9b1a4; --pad: #e9e4db; --other: #c43a36; --good: #1f7a45; --footer: #57534c;
  --eos: #1d1b18; --dictionary: #2f6f73; --lightness: 58%; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #e9e6e1; --dim: #9a958c;
  --line: #34373c; --card: #1e2125; --schema: #8f897f; --meta: #5d5a55; --pad: #2a2d31; --other: #f08a85; --good: #6bcf8e;
  --footer: #a8a298; --eos: #fff; --dictionary: #6fb3b8; --lightness: 52%; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; }
main { max-width: 1280px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 22px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 36px 0 10px; }
p { margin: 4px 0; color: var(--dim); }
.facts { display: flex; flex-wrap: wrap; gap: 10px; margin: 20px 0 0; }
.fact { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 8px 14px; }
.fact b { display: block; font-size: 18px; font-variant-numeric: tabular-nums; }
.fact span { color: var(--dim); font-size: 13px; }
.ok b { color: var(--good); } .bad b { color: var(--other); }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 14px; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--dim); font: 11px ui-monospace, Menlo, Consolas, monospace; }
rect.schema { fill: var(--schema); } rect.meta { fill: var(--meta); } rect.pad { fill: var(--pad); }
rect.other { fill: var(--other); } rect.footer { fill: var(--footer); } rect.eos { fill: var(--eos); }
rect.column { fill: var(--c); } .cd { --c: var(--dictionary); }
rect.damage { fill: var(--other); fill-opacity: .35; stroke: var(--other); stroke-width: 2; stroke-dasharray: 5 3;
  pointer-events: none; }
rect:hover, g:focus > rect { stroke: var(--ink); stroke-width: 1.5; } g:focus { outline: none; }
g:focus-visible > rect { stroke-width: 3; }
svg text.label { fill: #fff; font-size: 10.5px; pointer-events: none; paint-order: stroke; stroke: #0009;
  stroke-width: 2.4px; }
svg text.tip { visibility: hidden; fill: var(--ink); font-size: 12px; paint-order: stroke; stroke: var(--card);
  stroke-width: 7px; stroke-linejoin: round; pointer-events: none; }
g:hover > .tip, g:focus > .tip { visibility: visible; }
a { color: inherit; }
.legend { display: flex; flex-wrap: wrap; gap: 6px 16px; margin: 12px 0 0; font-size: 13px; color: var(--dim); }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 2px; margin-right: 6px; background: var(--c); }
.k-schema { --c: var(--schema); } .k-meta { --c: var(--meta); } .k-pad { --c: var(--pad); }
.k-footer { --c: var(--footer); } .k-eos { --c: var(--eos); } .k-other { --c: var(--other); }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 12px; border-bottom: 1px solid var(--line); white-space: nowrap; }
tr:last-child td { border-bottom: 0; }
th { color: var(--dim); font-weight: 600; } .n { text-align: right; }
td.type { max-width: 28em; overflow: hidden; text-overflow: ellipsis; }
td.share { width: 40%; } .bar { display: inline; width: 100%; height: 9px; } .bar line { stroke: var(--c); stroke-width: 9; }
@media (max-width: 40rem) { main { padding: 16px 12px 40px; } figure { overflow-x: auto; } figure > svg { min-width: 900px; } }
ul { margin: 0; padding-left: 18px; } .error { color: var(--other); font-weight: 600; } .warning { color: #b8860b; }
"""


class _Span(NamedTuple):
    """A run of bytes with one meaning: its class, the words shown for it, the name that it bears."""

    start: int
    end: int
    kind: str
    title: str
    color: str = ""
    """The class of its colour."""
    label: str = ""


def page(
    report: Inspection, name: str, *, nonce: str = "", back: tuple[str, str] | None = None
) -> str:
    """The page as text.

    Args:
        report: what is drawn.
        name: of the input.
        nonce: of the style sheet, for a page that is served under a policy.
        back: address and text of a link to where the page belongs.
    """
    title = html.escape(name)
    leads = f'<p><a href="{html.escape(back[0])}">{html.escape(back[1])}</a></p>' if back else ""
    marked = f' nonce="{html.escape(nonce)}"' if nonce else ""
    body = "\n".join(
        part
        for part in (
            leads,
            f"<h1>{title}</h1>",
            _INTRODUCTION,
            _summary(report),
            _problems(report),
            _map(report),
            *(_part(part, index, len(report.parts)) for index, part in enumerate(report.parts)),
        )
        if part
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}: Arrow IPC map</title>\n<style{marked}>{_STYLE}{_colors()}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


_SHADES = 3
_INTRODUCTION = (
    "<p>Arrow IPC data, drawn to scale. Point at a span, touch it, or go to it with the keyboard to "
    "see what it is.</p>"
)


def _color(index: int) -> str:
    """The class of a column's colour."""
    return f"c{index % (len(_HUES) * _SHADES)}"


def _colors() -> str:
    rules = []
    for index in range(len(_HUES) * _SHADES):
        hue, saturation = _HUES[index % len(_HUES)], 62 - 14 * (index // len(_HUES))
        rules.append(f".c{index} {{ --c: hsl({hue} {saturation}% var(--lightness)); }}")
    return "\n".join(rules) + "\n"


def _summary(report: Inspection) -> str:
    errors = sum(problem.severity == "error" for problem in report.problems)
    state = "sound" if report.ok else f"{errors} error{'s' * (errors != 1)}"
    checked = "contents checked" if report.verified else "contents not read"
    figures = [
        (human_bytes(report.length), f"{human_count(report.length)} bytes", ""),
        (" + ".join(part.kind for part in report.parts[:4]) or "none", "format", ""),
        (human_count(sum(part.batches for part in report.parts)), "record batches", ""),
        (human_count(sum(part.rows for part in report.parts)), "rows", ""),
        (state, checked, " ok" if report.ok else " bad"),
    ]
    cells = "".join(
        f'<div class="fact{style}"><b>{html.escape(big)}</b><span>{html.escape(small)}</span></div>'
        for big, small, style in figures
    )
    return f'<div class="facts">{cells}</div>'


def _problems(report: Inspection) -> str:
    if not report.problems:
        return ""
    items = "".join(
        f'<li><span class="{problem.severity}">{problem.severity}</span>'
        f" at {human_count(problem.offset)}: {html.escape(problem.text)}</li>"
        for problem in report.problems[:200]
    )
    heading = "Remarks" if report.ok else "What is wrong"
    return f"<h2>{heading}</h2><ul>{items}</ul>"


# --- the map -----------------------------------------------------------------------------------------


def _map(report: Inspection) -> str:
    if not report.length:
        return ""
    spans = list(_spans(report, detail=True))
    if len(spans) > _MAX_SPANS:
        spans = list(_spans(report, detail=False))
    rows = max(1, min(_MAX_ROWS, len(spans) // 3))
    per_row = -(-report.length // rows)
    rows = -(-report.length // per_row)
    scale = _WIDTH / per_row
    cut_spans = [
        (span, row, start, end) for span in spans for row, start, end in _cut(span, per_row)
    ]
    widths = sorted((end - start for _, _, start, end in cut_spans), reverse=True)
    least = widths[_MAX_STOPS] if len(widths) > _MAX_STOPS else 0
    rects = [
        _rect(span, row, start, end, scale, per_row=per_row, stops=end - start > least)
        for span, row, start, end in cut_spans
    ]
    rects += [
        _damage(row, start, end, scale, per_row)
        for span in _damaged(report)
        for row, start, end in _cut(span, per_row)
    ]
    labels = "".join(
        f'<text x="{_WIDTH + 8}" y="{row * (_ROW_HEIGHT + _ROW_GAP) + 15}">'
        f"{human_count(row * per_row)}</text>"
        for row in range(rows)
    )
    height = rows * (_ROW_HEIGHT + _ROW_GAP)
    return (
        "<h2>Map</h2><figure>"
        f'<svg viewBox="0 {-_TIP_HEIGHT} {_WIDTH + 110} {height + _TIP_HEIGHT}" role="group"'
        ' aria-label="the bytes of the input">'
        f"{''.join(rects)}{labels}</svg>{_legend(report)}"
        f"<p>{human_count(per_row)} bytes to a row; the number at its end is where it starts.</p>"
        "</figure>"
    )


def _cut(span: _Span, per_row: int) -> Iterator[tuple[int, int, int]]:
    start = span.start
    while start < span.end:
        row = start // per_row
        end = min(span.end, (row + 1) * per_row)
        yield row, start, end
        start = end


def _rect(
    span: _Span, row: int, start: int, end: int, scale: float, *, per_row: int, stops: bool
) -> str:
    x = (start - row * per_row) * scale
    width = (end - start) * scale
    y = row * (_ROW_HEIGHT + _ROW_GAP)
    title = html.escape(span.title)
    color = f' class="{span.color}"' if span.color else ""
    attributes = f' tabindex="0" role="img" aria-label="{html.escape(span.title, quote=True)}"'
    rect = (
        f'<rect class="{span.kind}" x="{x:.2f}" y="{y}" width="{width:.2f}"'
        f' height="{_ROW_HEIGHT}"><title>{title}</title></rect>'
    )
    if not stops:
        return f"<g{color}>{rect}</g>"
    label = ""
    if span.label and width >= _LABEL_WIDTH:
        most = int((width - 8) / _CHARACTER)
        text = span.label if len(span.label) <= most else span.label[: most - 1] + "…"
        label = f'<text class="label" x="{x + 4:.2f}" y="{y + 15}">{html.escape(text)}</text>'
    spoken = html.escape(" · ".join(span.title.splitlines()))
    # In a line of its own above the map, where nothing that is drawn later covers it.
    tip = f'<text class="tip" x="0" y="-9">{spoken}</text>'
    return f"<g{color}{attributes}>{rect}{label}{tip}</g>"


def _damage(row: int, start: int, end: int, scale: float, per_row: int) -> str:
    x, width = (start - row * per_row) * scale, max((end - start) * scale, 3.0)
    y = row * (_ROW_HEIGHT + _ROW_GAP)
    return (
        f'<rect class="damage" x="{x:.2f}" y="{y + 1}" width="{width:.2f}"'
        f' height="{_ROW_HEIGHT - 2}"/>'
    )


def _damaged(report: Inspection) -> Iterator[_Span]:
    """The spans that errors lie in: bodies whose contents are wrong, metadata that is."""
    wrong = sorted(problem.offset for problem in report.problems if problem.severity == "error")
    for part in report.parts:
        for message in part.messages:
            body = message.offset + message.metadata_length
            result = [offset for offset in wrong if message.offset <= offset < message.end]
            if message.verified is False or any(offset >= body for offset in result):
                yield _Span(body, message.end, "damage", "damaged")
            elif result:
                # Said of the message as a whole, by where it begins.
                yield _Span(message.offset, message.end, "damage", "damaged")


def _spans(report: Inspection, *, detail: bool) -> Iterator[_Span]:
    for start, end in report.other:
        yield _Span(
            start,
            end,
            "other",
            f"{human_count(end - start)} bytes that are no Arrow data",
            label="no Arrow data",
        )
    for part in report.parts:
        if part.kind == "file":
            yield _Span(
                part.start, part.start + 8, "footer", "ARROW1: the file's magic", label="ARROW1"
            )
        for number, message in enumerate(part.messages):
            yield from _message_spans(number, message, detail=detail)
        if part.marker is not None:
            offset, length = part.marker
            yield _Span(offset, offset + length, "eos", f"end-of-stream marker, {length} bytes")
        if part.footer is not None:
            offset, length = part.footer
            yield _Span(
                offset,
                offset + length,
                "footer",
                f"footer, {human_count(length)} bytes with magic",
                label="footer",
            )


def _message_spans(number: int, message: MessageReport, *, detail: bool) -> Iterator[_Span]:
    rows = "" if message.rows is None else f", {human_count(message.rows)} rows"
    head = f"message {number}: {message.type}{rows}"
    body = message.offset + message.metadata_length
    kind = "schema" if message.type == "schema" else "meta"
    yield _Span(
        message.offset,
        body,
        kind,
        f"{head}\nmetadata, {human_count(message.metadata_length)} bytes",
        label=message.type if kind == "schema" else "metadata",
    )
    if message.body_length:
        # Underneath: what no buffer covers is padding.
        yield _Span(
            body,
            message.end,
            "pad",
            f"{head}\npadding, {human_count(message.padding)} bytes in all",
        )
    for index, column in enumerate(message.columns):
        color = _color(index) if message.dictionary_id is None else "cd"
        title = (
            f"{head}\n{column.name}: {column.type}\n{human_count(column.stored_bytes)} bytes"
            + (f", {column.ratio:.2f} : 1" if message.codec else "")
            + (f", {human_count(column.nulls)} nulls" if column.nulls else "")
        )
        present = [buffer for buffer in column.buffers if buffer.length]
        if not detail and present:
            yield _Span(
                present[0].offset,
                present[-1].offset + present[-1].length,
                "column",
                title,
                color,
                column.name,
            )
            continue
        for buffer in present:
            yield _Span(
                buffer.offset,
                buffer.offset + buffer.length,
                "column",
                f"{title}\nthis buffer: {human_count(buffer.length)} bytes at {human_count(buffer.offset)}",
                color,
                column.name,
            )


def _legend(report: Inspection) -> str:
    entries = [
        ("k-schema", "schema"),
        ("k-meta", "metadata"),
        ("k-pad", "padding"),
        ("cd", "dictionary"),
        ("k-footer", "magic and footer"),
        ("k-eos", "end of stream"),
    ]
    if report.other:
        entries.append(("k-other", "no Arrow data"))
    if len(report.parts) == 1:
        names = [name for name, _ in report.parts[0].schema]
        entries += [(_color(index), name) for index, name in enumerate(names[:24])]
    items = "".join(
        f'<span><i class="{color}"></i>{html.escape(text)}</span>' for color, text in entries
    )
    return f'<div class="legend">{items}</div>'


# --- the tables ----------------------------------------------------------------------------------------


def _part(part: PartReport, index: int, count: int) -> str:
    which = f" {index + 1} of {count}" if count > 1 else ""
    head = (
        f"<h2>{part.kind.capitalize()}{which}: {human_count(part.start)} to {human_count(part.end)},"
        f" {part.endianness}-endian</h2>"
    )
    return head + _column_table(part) + "<h2>Messages</h2>" + _message_table(part)


def _column_table(part: PartReport) -> str:
    batches = [m for m in part.messages if m.columns and m.dictionary_id is None]
    stored = [0] * len(part.schema)
    uncompressed = [0] * len(part.schema)
    nulls = [0] * len(part.schema)
    for message in batches:
        for index, column in enumerate(message.columns):
            stored[index] += column.stored_bytes
            uncompressed[index] += column.uncompressed_bytes
            nulls[index] += column.nulls
    largest = max(stored, default=0) or 1
    rows = "".join(
        f'<tr><td>{html.escape(name)}</td><td class="type">{html.escape(data_type)}</td>'
        f'<td class="n">{human_count(nulls[index])}</td>'
        f'<td class="n">{human_count(stored[index])}</td>'
        f'<td class="n">{f"{uncompressed[index] / stored[index]:.2f}" if stored[index] else "-"}</td>'
        f'<td class="share"><svg class="bar {_color(index)}" viewBox="0 0 100 9" preserveAspectRatio="none"'
        f' aria-hidden="true"><line x1="0" x2="{100 * stored[index] / largest:.2f}" y1="4.5" y2="4.5"/>'
        "</svg></td></tr>"
        for index, (name, data_type) in enumerate(part.schema)
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Table"><table><thead><tr><th>column</th><th>type</th><th class="n">nulls</th>'
        '<th class="n">bytes</th><th class="n">ratio</th><th>share</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _message_table(part: PartReport) -> str:
    shown = part.messages[:500]
    rows = "".join(_message_row(message) for message in shown)
    if len(shown) < len(part.messages):
        rows += f'<tr><td colspan="9">{len(part.messages) - len(shown)} more</td></tr>'
    if part.marker is not None:
        rows += _plain_row(*part.marker, "end of stream")
    if part.footer is not None:
        rows += _plain_row(*part.footer, "footer")
    headings = (
        '<th class="n">offset</th><th>message</th><th class="n">rows</th><th class="n">metadata</th>'
        '<th class="n">body</th><th>codec</th><th class="n">padding</th><th class="n">alignment</th>'
        "<th>zero-copy</th>"
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="Table"><table><thead><tr>{headings}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _plain_row(offset: int, length: int, name: str) -> str:
    return (
        f'<tr><td class="n">{human_count(offset)}</td><td>{name}</td><td></td>'
        f'<td class="n">{human_count(length)}</td><td colspan="5"></td></tr>'
    )


def _message_row(message: MessageReport) -> str:
    name = message.type
    if message.dictionary_id is not None:
        name += f" {message.dictionary_id}" + (" (delta)" if message.is_delta else "")
    has_arrays = message.zero_copy is not None
    cells = [
        ("n", human_count(message.offset)),
        ("", name),
        ("n", "" if message.rows is None else human_count(message.rows)),
        ("n", human_count(message.metadata_length)),
        ("n", human_count(message.body_length)),
        ("", message.codec or ("none" if has_arrays else "")),
        ("n", human_count(message.padding) if has_arrays else ""),
        ("n", "" if message.alignment is None else str(message.alignment)),
        ("", ("yes" if message.zero_copy else "no") if has_arrays else ""),
    ]
    return (
        "<tr>"
        + "".join(f'<td class="{style}">{html.escape(text)}</td>' for style, text in cells)
        + "</tr>"
    )
