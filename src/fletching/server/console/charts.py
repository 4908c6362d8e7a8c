"""Charts as SVG: drawn here, coloured by the style sheet, no script and no inline style.

Every number that a chart shows is escaped or formatted here, so that the result may stand in a page as
it is. A chart is a picture with a sentence for those who do not see it; what it shows also stands in
the page's JSON twin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

__all__ = ["bars", "lines", "meter", "shares"]

WIDTH, HEIGHT = 340, 100
_TOP, _BOTTOM = 14, 18


def _number(value: float) -> str:
    return f"{value:.4g}" if value < 1000 else f"{value:,.0f}"


def _svg(
    label: str, inner: str, width: int = WIDTH, height: int = HEIGHT, kind: str = "chart drawn"
) -> Markup:
    # The parts were escaped or formatted by whoever drew them.
    return Markup(  # noqa: S704
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f"{inner}</svg>"
    )


def lines(
    label: str,
    series: Sequence[tuple[str, Sequence[float | None]]],
    *,
    form: Callable[[float], str] = _number,
    span: str = "",
) -> Markup:
    """Series over time, newest at the right, on one scale from 0.

    Args:
        label: what it shows, in a sentence.
        series: names, and values of equal number; None where there is none.
        form: a value as text.
        span: how long ago the first value was.
    """
    most = max((v for _, values in series for v in values if v is not None), default=0) or 1
    height = HEIGHT - _TOP - _BOTTOM
    parts = [f'<line class="axis" x1="0" x2="{WIDTH}" y1="{_TOP}" y2="{_TOP}"/>']
    parts.append(
        f'<line class="axis" x1="0" x2="{WIDTH}" y1="{HEIGHT - _BOTTOM}" y2="{HEIGHT - _BOTTOM}"/>'
    )
    for index, (name, values) in enumerate(series):
        step = WIDTH / max(1, len(values) - 1)
        runs: list[list[str]] = [[]]
        for number, value in enumerate(values):
            if value is None:
                runs.append([])
            else:
                y = HEIGHT - _BOTTOM - height * min(value, most) / most
                runs[-1].append(f"{number * step:.1f},{y:.1f}")
        title = f"<title>{escape(name)}</title>"
        for run in runs:
            if len(run) == 1:
                across, down = run[0].split(",")
                parts.append(
                    f'<circle class="s{index}" cx="{across}" cy="{down}" r="2">{title}</circle>'
                )
            elif run:
                parts.append(
                    f'<polyline class="s{index}" points="{" ".join(run)}">{title}</polyline>'
                )
    parts.append(f'<text x="2" y="{_TOP - 3}">{escape(form(most))}</text>')
    if span:
        parts.append(f'<text x="2" y="{HEIGHT - 4}">{escape(span)} ago</text>')
        parts.append(f'<text class="end" x="{WIDTH - 2}" y="{HEIGHT - 4}">now</text>')
    return _svg(label, "".join(parts))


def bars(
    label: str, values: Sequence[tuple[str, float]], *, lower: str = "", upper: str = ""
) -> Markup:
    """A histogram: bars side by side, and what stands at both ends of the axis."""
    most = max((value for _, value in values), default=0) or 1
    height = HEIGHT - _TOP - _BOTTOM
    step = WIDTH / max(1, len(values))
    parts = [
        f'<line class="axis" x1="0" x2="{WIDTH}" y1="{HEIGHT - _BOTTOM}" y2="{HEIGHT - _BOTTOM}"/>'
    ]
    for index, (name, value) in enumerate(values):
        size = height * value / most
        # What is there is seen, however little it is.
        size = max(size, 1.0) if value else 0.0
        parts.append(
            f'<rect class="s0" x="{index * step + 1:.1f}" y="{HEIGHT - _BOTTOM - size:.1f}" '
            f'width="{max(step - 2, 1):.1f}" height="{size:.1f}"><title>{escape(name)}: '
            f"{value:,.0f}</title></rect>"
        )
    parts.append(f'<text x="2" y="{_TOP - 3}">{most:,.0f}</text>')
    parts.append(f'<text x="2" y="{HEIGHT - 4}">{escape(lower)}</text>')
    parts.append(f'<text class="end" x="{WIDTH - 2}" y="{HEIGHT - 4}">{escape(upper)}</text>')
    return _svg(label, "".join(parts))


def meter(label: str, value: float, limit: float) -> Markup:
    """How much of a limit is used."""
    share = min(1.0, value / limit) if limit > 0 else 0.0
    kind = "full" if share >= 0.9 else "s0"
    return _svg(
        label,
        '<rect class="ground" x="0" y="0" width="160" height="10" rx="2"/>'
        f'<rect class="{kind}" x="0" y="0" width="{160 * share:.1f}" height="10" rx="2"/>',
        160,
        10,
        "chart meter",
    )


def shares(label: str, value: float, most: float, second: float = 0.0) -> Markup:
    """A bar beside others, ``most`` being the longest; with ``second`` in another colour behind it."""
    scale = 120 / most if most > 0 else 0.0
    first, rest = value * scale, second * scale
    return _svg(
        label,
        f'<rect class="s0" x="0" y="0" width="{first:.1f}" height="10"/>'
        f'<rect class="s1" x="{first:.1f}" y="0" width="{rest:.1f}" height="10"/>',
        120,
        10,
        "chart",
    )
