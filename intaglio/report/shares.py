"""How often values and codes are seen, drawn: of each layer its weights and its result, before and
after rounding, with the codes that there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import sqrt
from typing import Any

from intaglio.report.layers import SIDES
from intaglio.report.svg import drawing, width_of, words
from intaglio.system.html import tag

WIDE, HIGH, ROW = 340.0, 46.0, 96.0  # of a plot, and from one layer to the next


def shares(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Two plots a layer: (its name, as `quant.lowering.shares.to_json` has them)."""
    left = 16 + width_of([name for name, _ in rows])
    parts = [words(left + k * (WIDE + 36), 12, title, "name") for k, (_, title) in enumerate(SIDES)]
    for n, (name, found) in enumerate(rows):
        top = 24 + n * ROW
        row = [words(0, top + 14 + HIGH / 2, name)]
        for k, (key, _) in enumerate(SIDES):
            if key in found:
                row.append(plot(found[key], left + k * (WIDE + 36), top))
        parts.append(tag("g", *row, class_="shares"))
    width, height = left + 2 * WIDE + 36 + 4, 24 + ROW * len(rows)
    return drawing(width, height, "distributions of weights and results", *parts)


def plot(found: Mapping[str, Any], x: float, top: float) -> str:
    """Real values as an area, codes as a line, the ends of the codes as dashed lines."""
    real, codes = found["real"], found["codes"]
    least, most = float(min(real["lo"], codes["lo"])), float(max(real["hi"], codes["hi"]))
    span = most - least if most > least else 1.0
    y = top + 16

    def across(value: float) -> float:
        return x + WIDE * (value - least) / span

    caption = f"codes {found['lo']:,} to {found['hi']:,}, step {found['step']:.3g}"
    tops = [max(density(bars), default=0.0) for bars in (real, codes)]
    parts = [
        words(x, top + 10, caption, "faint"),
        words(x + WIDE, top + 10, f"top {100 * max(tops):.2g} %", "faint", "end"),
        tag("rect", x=x, y=y, width=WIDE, height=HIGH, class_="plot"),
        outline(real, across, y, max(tops), "held", closed=True),
        outline(codes, across, y, max(tops), "codes", closed=False),
    ]
    for end in (found["lo"] - 0.5, found["hi"] + 0.5):
        if least <= end <= most:
            parts.append(tag("path", d=f"M{across(end):.1f} {y:.1f}v{HIGH:.1f}", class_="tick"))
    parts += [
        words(x, y + HIGH + 12, f"{round(least):,}", "faint"),
        words(x + WIDE / 2, y + HIGH + 12, "codes", "faint", "middle"),
        words(x + WIDE, y + HIGH + 12, f"{round(most):,}", "faint", "end"),
    ]
    return "".join(parts)


def density(bars: Mapping[str, Any]) -> list[float]:
    """Each bar's part of all, for a code: bars may be wider or narrower than one."""
    total, parts = sum(bars["counts"]), len(bars["counts"])
    width = (bars["hi"] - bars["lo"]) / max(1, parts)
    return [count / total / width for count in bars["counts"]] if total and width else []


def outline(
    bars: Mapping[str, Any],
    across: Callable[[float], float],
    y: float,
    top: float,
    style: str,
    *,
    closed: bool,
) -> str:
    """Bars as one path; heights are square roots of shares, so that seldom values show."""
    parts = density(bars)
    if not parts or not top:
        return ""
    width = (bars["hi"] - bars["lo"]) / len(parts)
    path = f"M{across(bars['lo']):.1f} {y + HIGH:.1f}"
    for n, part in enumerate(parts):
        height, end = HIGH * sqrt(part / top), across(bars["lo"] + (n + 1) * width)
        path += f"V{y + HIGH - height:.1f}H{end:.1f}"
    return tag("path", d=f"{path}V{y + HIGH:.1f}" + "Z" * closed, class_=style)
