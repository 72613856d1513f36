"""Plots as SVG inside the page: cost against quality, and published values of one method side by side.

Colours are classes of the style sheet, so that they follow the colours of the page. Every plot has a text alternative.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape

from .rules import front
from .sentences import amount, of_front
from .types import COSTS, Quality, Section

WIDTH, HEIGHT = 420, 280
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 40


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return round numbers between two numbers, about as many as wanted."""
    step = 10 ** math.floor(math.log10((high - low) / wanted))
    step *= min((1, 2, 5, 10), key=lambda factor: abs((high - low) / (step * factor) - wanted))
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two positive numbers, about evenly apart on a logarithmic axis."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [m * 10.0**p for p in powers for m in (1, 1.5, 2, 3, 5, 7) if low <= m * 10.0**p <= high]


def pareto(section: Section, quality: Quality) -> str:
    """Plot cost against a metric, better values upwards, with intervals and the Pareto front; "" with nothing to plot.

    The axis ends at the worst of the better three quarters, so that a few bad methods do not hide what separates the
    good ones. Methods below its end are triangles there, with their value.
    """
    name, sign = quality.name, 1 if quality.higher_is_better else -1
    shown = []
    for k in section.ranked:
        score, cost = section.methods[k].scores.get(name, {}), section.cost_of(k)
        if "value" in score and cost:
            low, high = (score[end] if score[end] is not None else score["value"] for end in ("low", "high"))
            shown.append((k, cost, score["value"], low, high))
    if len(shown) < 2:
        return ""
    costs, values = [cost for _, cost, *_ in shown], sorted((sign * value for _, _, value, *_ in shown), reverse=True)
    bottom, top = values[min(len(values) - 1, max(3, 3 * len(values) // 4))], values[0]
    pad = 0.1 * (top - bottom) or 1.0
    bottom, top = bottom - pad, top + pad
    ends = min(costs) / 1.15, max(costs) * 1.15
    across = _scale(*ends, log=True)

    def x(cost: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * across(cost), 1)

    def y(value: float) -> float:
        inside = min(max(sign * value, bottom), top)
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (inside - bottom) / (top - bottom), 1)

    best = front(section, name, quality.higher_is_better)
    place = {k: (x(cost), y(value)) for k, cost, value, _, _ in shown}
    body = _frame(section, quality, [(x(v), f"{v:g}") for v in log_ticks(*ends)])
    for value in ticks(*sorted((sign * bottom, sign * top))):
        body.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value)}" y2="{y(value)}"/>')
        body.append(f'<text class="tick" x="{LEFT - 6}" y="{y(value) + 3.5:.1f}" text-anchor="end">{value:.4g}</text>')
    line: list[tuple[float, float]] = []
    for k in best:  # a step: between two methods of the front, the cheaper one is what there is
        line += [(place[k][0], line[-1][1])] if line else []
        line.append(place[k])
    line.append((WIDTH - RIGHT, place[best[-1]][1]))
    body.append(f'<polyline class="front" points="{" ".join(f"{a},{b}" for a, b in line)}"/>')
    below = []
    for k, cost, value, low, high in sorted(shown, key=lambda item: item[0] in best):
        kind, (px, py) = "on" if k in best else "off", place[k]
        label = escape(f"{section.methods[k].label}: {amount(cost)} {COSTS[section.cost]}, {value:.4g}")
        if sign * value < bottom:
            below.append(f"{section.methods[k].label} {value:.4g}")
            body.append(f'<path class="dot {kind}" d="M{px - 4} {py - 8}h8l-4 7z"><title>{label}</title></path>')
            continue
        body.append(f'<line class="bar {kind}" x1="{px}" x2="{px}" y1="{y(low)}" y2="{y(high)}"/>')
        body.append(f'<circle class="dot {kind}" cx="{px}" cy="{py}" r="4"><title>{label}</title></circle>')
    body += _labels([(place[k], section.methods[k].label) for k in best], list(place.values()))
    said = of_front(section, best) + (f" Below the axis (triangles): {', '.join(below)}." if below else "")
    title = f"{quality.title} against {COSTS[section.cost]}, {section.title}"
    return _svg(title, said, "\n".join(body), WIDTH, HEIGHT)


def _frame(section: Section, quality: Quality, marks: list[tuple[float, str]]) -> list[str]:
    arrow = "up is better" if quality.higher_is_better else "axis turned: up is better"
    unit = f", {quality.unit}" if quality.unit else ""
    found = [
        f'<text class="tick" x="{place}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">{text}</text>'
        for place, text in marks
    ]
    middle, base = (LEFT + WIDTH - RIGHT) / 2, HEIGHT - BOTTOM
    found.append(f'<text class="name" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{COSTS[section.cost]}</text>')
    found.append(
        f'<text class="name" transform="translate(12 {(TOP + base) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(quality.title)}{escape(unit)} ({arrow})</text>"
    )
    found.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    return found


def _scale(low: float, high: float, log: bool = False):
    turn = math.log if log else float
    return lambda value: (turn(value) - turn(low)) / (turn(high) - turn(low))


def _labels(points: list[tuple[tuple[float, float], str]], dots: list[tuple[float, float]]) -> list[str]:
    """Write each name beside its point where it hides no other name and as few points as possible."""
    taken: list[tuple[float, float, float, float]] = []
    found = []
    for (px, py), name in points:
        text = name if len(name) <= 24 else name[:23] + "…"
        width = 6.4 * len(text)
        places = [(px + 8, py - 8), (px - 8 - width, py - 8), (px + 8, py + 16), (px - 8 - width, py + 16)]
        places += [(px - width / 2, py - 14), (px - width / 2, py + 24), (px + 8, py + 32), (px + 8, py - 24)]

        def crowd(place: tuple[float, float], width: float = width) -> tuple[bool, int, int]:
            left, base = place
            box = (left, base - 11, left + width, base + 3)
            out = left < LEFT or left + width > WIDTH or base - 11 < 0 or base + 3 > HEIGHT - BOTTOM
            over = sum(box[0] < o[2] and o[0] < box[2] and box[1] < o[3] and o[1] < box[3] for o in taken)
            hidden = sum(box[0] - 4 < dx < box[2] + 4 and box[1] - 4 < dy < box[3] + 4 for dx, dy in dots)
            return out, over, hidden

        left, base = min(places, key=crowd)  # of equal ones the first
        taken.append((left, base - 11, left + width, base + 3))
        found.append(f'<text class="label" x="{left:.1f}" y="{base:.1f}">{escape(text)}</text>')
    return found


def spread(title: str, rows: list[tuple[str, list[tuple[str, float, str]]]], papers: list[str]) -> str:
    """Plot values of several papers, a row for each method: `rows` are (method, [(paper, value, as printed)])."""
    values = [value for _, items in rows for _, value, _ in items]
    pad = 0.05 * (max(values) - min(values)) or 1.0
    low, high, left, step = min(values) - pad, max(values) + pad, 150, 20
    width, height = WIDTH + 60, 16 + step * len(rows) + 24
    place = _scale(low, high)

    def x(value: float) -> float:
        return round(left + (width - left - RIGHT) * place(value), 1)

    body = []
    for value in ticks(low, high, 4):
        body.append(f'<line class="grid" x1="{x(value)}" x2="{x(value)}" y1="8" y2="{height - 20}"/>')
        body.append(f'<text class="tick" x="{x(value)}" y="{height - 6}" text-anchor="middle">{value:.4g}</text>')
    for k, (method, items) in enumerate(rows):
        y = 16 + step * k + step / 2 - 4
        own = [value for _, value, _ in items]
        name = method if len(method) <= 22 else method[:21] + "…"
        body.append(f'<text class="tick" x="{left - 8}" y="{y + 3.5}" text-anchor="end">{escape(name)}</text>')
        body.append(f'<line class="range" x1="{x(min(own))}" x2="{x(max(own))}" y1="{y}" y2="{y}"/>')
        for paper, value, text in items:
            what = escape(f"{method}, {paper}: {text}")
            body.append(marker(papers.index(paper), x(value), y, what))
    said = "; ".join(
        f"{method}: {', '.join(f'{text} ({paper})' for paper, _, text in items)}" for method, items in rows
    )
    return _svg(title, said, "\n".join(body), width, height)


def marker(k: int, x: float, y: float, title: str = "") -> str:
    """Return the mark of the k-th paper: its own colour and shape."""
    shapes = (
        "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z",
        "M-4-4h8v8h-8z",
        "M0-5.5L5 4H-5z",
        "M0-5.5L5.5 0 0 5.5-5.5 0z",
    )
    inner = f"<title>{title}</title>" if title else ""
    shape = shapes[(k + k // 8) % len(shapes)]
    return f'<path class="p{k % 8}" transform="translate({x} {y})" d="{shape}">{inner}</path>'


def _svg(title: str, description: str, body: str, width: float, height: float) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img">\n<title>{escape(title)}</title>\n'
        f"<desc>{escape(description)}</desc>\n{body}\n</svg>"
    )


def names_of(papers: Iterable[str]) -> list[str]:
    """Return the papers in one order, so that a paper has the same mark in every plot."""
    return sorted(set(papers), key=str.lower)
