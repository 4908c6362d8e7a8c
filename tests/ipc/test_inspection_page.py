"""The page that draws Arrow data: what the command's own test does not look at."""

from __future__ import annotations

import io
import re

import pyarrow as pa
import pytest

from fletching import ipc
from fletching.ipc.inspection_page import page


def stream(rows: int = 2000) -> bytes:
    sink = io.BytesIO()
    batch = pa.record_batch({"amount": range(rows), "a rather long name": ["x"] * rows})
    ipc.write_stream(batch, sink)
    return sink.getvalue()


def test_wide_pieces_bear_their_names_and_are_reached_by_the_keyboard() -> None:
    text = page(ipc.inspect_bytes(stream()), "x")
    assert '<text class="label"' in text
    assert ">amount</text>" in text
    stops = re.findall(r'<g[^>]* tabindex="0" role="img" aria-label="([^"]*)"', text)
    assert any(label.startswith("message 1: record batch, 2,000 rows") for label in stops)
    assert text.count('class="tip"') == len(stops)
    assert "style=" not in text


def test_damaged_bodies_are_drawn_as_damaged() -> None:
    data = stream()
    assert 'class="damage"' not in page(ipc.inspect_bytes(data, verify=True), "x")
    report = ipc.inspect_bytes(data)
    message = report.parts[0].messages[1]
    offsets = message.columns[1].buffers
    broken = bytearray(data)
    start = next(each.offset for each in offsets if each.length > 4000)
    broken[start + 4 : start + 8] = b"\xff\xff\xff\x7f"  # an offset behind all text
    result = ipc.inspect_bytes(bytes(broken), verify=True)
    assert not result.ok
    text = page(result, "x")
    drawn = re.findall(r'<rect class="damage" x="([\d.]+)" y="\d+" width="([\d.]+)"', text)
    per_row = int(re.search(r"([\d,]+) bytes to a row", text)[1].replace(",", ""))  # type: ignore[index]  # it is there
    size = sum(float(width) for _, width in drawn) * per_row / 1200
    assert size == pytest.approx(message.body_length, rel=0.02)


def test_messages_beyond_a_bound_are_counted() -> None:
    def listed(batches: int) -> str:
        sink = io.BytesIO()
        batch = pa.record_batch({"n": [1]})
        ipc.write_stream([batch] * batches, sink, schema=batch.schema)
        return page(ipc.inspect_bytes(sink.getvalue()), "x")

    # The schema is a message, too.
    assert " more</td>" not in listed(499)
    assert ">1 more</td>" in listed(500)


def test_a_page_under_a_policy_names_its_style_and_leads_back() -> None:
    text = page(ipc.inspect_bytes(stream()), "x", nonce='n"1', back=("/back?a&b", "<back>"))
    assert '<style nonce="n&quot;1">' in text
    assert '<a href="/back?a&amp;b">&lt;back&gt;</a>' in text
