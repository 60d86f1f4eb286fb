"""One self-contained page: no request leaves it."""

import base64
import html
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_STYLE = Path(__file__).with_name("page.css")
_SCRIPT = Path(__file__).with_name("page.js")


def page(title: str, body: str) -> str:
    """Wrap `body` (HTML) into a page with the shared style and script."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE.read_text()}</style></head>"
        f"<body><main>{body}</main><script>{_SCRIPT.read_text()}</script></body></html>\n"
    )


def data_uri(image: Any, *, quality: int = 85) -> str:
    """Embed a picture (uint8 array, height x width x 3) as a JPEG data URI."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def slider(before: str, after: str, *, caption: str) -> str:
    """Before/after slider of two data URIs of equal size; works by mouse, touch and keyboard."""
    text = html.escape(caption)
    return (
        f'<figure class="slider"><div class="frame"><img src="{after}" alt="After: {text}">'
        f'<div class="before"><img src="{before}" alt="Before: {text}"></div>'
        '<span class="tag left">before</span><span class="tag right">after</span>'
        '<input type="range" min="0" max="100" value="50" aria-label="Before and after"></div>'
        f"<figcaption>{text}</figcaption></figure>"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """HTML table that scrolls sideways on a narrow screen; cells are escaped."""
    top = "".join(f"<th>{html.escape(c)}</th>" for c in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows
    )
    head_html, body_html = f"<thead><tr>{top}</tr></thead>", f"<tbody>{body}</tbody>"
    return f'<div class="scroll"><table>{head_html}{body_html}</table></div>'


def line_plot(
    series: Sequence[tuple[str, str, Sequence[tuple[float, float]]]],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    width: int = 460,
    height: int = 300,
) -> str:
    """SVG line plot.

    Args:
        series: (name, CSS colour, points) triples.
        x_label: Below the axis.
        y_label: Beside the axis.
        log_x: Logarithmic abscissa; all x must be > 0.
        width: Of the view box, in pixels.
        height: Of the view box, in pixels.
    """
    points = [p for _, _, line in series for p in line]
    xs = [math.log10(x) if log_x else x for x, _ in points]
    ys = [y for _, y in points]
    x_ticks = _log_ticks(min(xs), max(xs)) if log_x else _ticks(min(xs), max(xs))
    y_ticks = _ticks(min(0.0, *ys), max(ys))
    x0, x1 = min(xs[0], x_ticks[0], *xs), max(x_ticks[-1], *xs)
    y0, y1 = min(y_ticks[0], *ys), max(y_ticks[-1], *ys)
    left, bottom, right, top = 58, 44, 30, 12

    def at(x: float, y: float) -> tuple[float, float]:
        u = left + (x - x0) / (x1 - x0) * (width - left - right)
        v = height - bottom - (y - y0) / (y1 - y0) * (height - bottom - top)
        return round(u, 1), round(v, 1)

    parts = [
        f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{html.escape(y_label)} against {html.escape(x_label)}">'
    ]
    for y in y_ticks:
        _, v = at(x0, y)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{v}" y2="{v}"/>')
        parts.append(f'<text x="{left - 6}" y="{v + 4}" text-anchor="end">{y:g}</text>')
    for x in x_ticks:
        u, _ = at(x, y0)
        label = f"{round(10**x):,}".replace(",", " ") if log_x else f"{x:g}"
        parts.append(
            f'<text x="{u}" y="{height - bottom + 16}" text-anchor="middle">{label}</text>'
        )
    for name, colour, line in series:
        path = " ".join(
            f"{u},{v}" for u, v in (at(math.log10(x) if log_x else x, y) for x, y in line)
        )
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2">'
            f"<title>{html.escape(name)}</title></polyline>"
        )
        if len(line) < 40:
            parts += [
                f'<circle cx="{u}" cy="{v}" r="3" fill="{colour}"/>'
                for u, v in (at(math.log10(x) if log_x else x, y) for x, y in line)
            ]
    middle = (left + width - right) / 2
    parts.append(
        f'<text x="{middle}" y="{height - 6}" text-anchor="middle">{html.escape(x_label)}</text>'
    )
    parts.append(
        f'<text transform="translate(12 {(height - bottom) / 2}) rotate(-90)" '
        f'text-anchor="middle">{html.escape(y_label)}</text></svg>'
    )
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{html.escape(name)}</span>'
        for name, colour, _ in series
    )
    return "".join(parts) + f'<p class="legend">{legend}</p>'


def _ticks(low: float, high: float) -> list[float]:
    """Return round values that cover a range: steps of 1, 2, 2.5 or 5 times a power of ten."""
    span = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(k * power for k in (1, 2, 2.5, 5, 10) if span / (k * power) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(k * step, 10) for k in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return the decimal logarithms of 1, 2, 5 times powers of ten that cover a range."""
    values = [
        math.log10(k * 10.0**d)
        for d in range(math.floor(low) - 1, math.ceil(high) + 1)
        for k in (1, 2, 5)
    ]
    first = max((v for v in values if v <= low + 1e-9), default=low)
    last = min((v for v in values if v >= high - 1e-9), default=high)
    return [v for v in values if first <= v <= last]


def block_map(rows: Sequence[Sequence[bool]], *, causal: bool, caption: str) -> str:
    """Draw which cells an attention head keeps: kept, skipped, and (causal) not there."""
    packed = ["".join("1" if cell else "0" for cell in row) for row in rows]
    data = html.escape(json.dumps({"rows": packed, "causal": causal}), quote=True)
    text = html.escape(caption)
    return (
        f'<figure><canvas class="blocks" role="img" aria-label="{text}" data-map="{data}"></canvas>'
        f"<figcaption>{text}</figcaption></figure>"
    )
