"""Drawings as SVG text: the network, and the fillings of queues. Colours come from the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from intaglio.report.layers import Layer
from intaglio.report.layout import Layout, arrange
from intaglio.system.html import tag, text_of

LETTER = 0.61  # of the font size: the width of a letter of the widest usual monospaced font
SMALL = 10.5
SHRUNK = 0.86  # of its width: letters of 10.5 are then of 9 pixels
BOX, GAP, RISE, LINE = 236.0, 22.0, 34.0, 14.0
ROUTING = ("source", "sink", "mux", "demux", "concat", "pad")
WORDS = {"mux": "join levels", "demux": "split levels", "sink": "output", "source": "input",
         "sum": "sum pool", "max": "max pool", "scale": "requantise"}  # fmt: skip
LABEL = 110.0  # least distance of labels
TRACE = (560.0, 26.0)  # of a queue: width and height of its curve


def words(x: float, y: float, text: str, style: str = "", anchor: str | None = None) -> str:
    """A line of text."""
    return tag("text", text_of(text), x=x, y=y, class_=style or None, text_anchor=anchor)


def wrapped(text: str, width: float, size: float) -> list[str]:
    """The text in lines that fit, whole: broken behind a sign between words, if there is one."""
    letters = max(1, int(width / (size * LETTER)))
    lines = []
    while len(text) > letters:
        ends = [n + 1 for n in range(letters) if text[n] in "._-,/ "]
        at = ends[-1] if ends and ends[-1] > letters // 2 else letters
        lines.append(text[:at].rstrip())
        text = text[at:].lstrip()
    return [*lines, text]


def width_of(texts: Sequence[str], size: float = SMALL) -> float:
    """What the longest takes."""
    return size * LETTER * max(map(len, texts), default=0)


def drawing(width: float, height: float, label: str, *parts: str) -> str:
    """The svg element; it may shrink as far as its letters stay legible."""
    return tag(
        "svg", *parts, viewBox=f"0 0 {width:.0f} {height:.0f}", role="img", aria_label=label,
        width=round(width), height=round(height), style=f"min-width:{SHRUNK * width:.0f}px",
    )  # fmt: skip


def network(layers: Sequence[Layer], cycles: int | None = None) -> str:
    """Boxes in rows from the input down. Outputs of one block share a box; with the `cycles` a
    frame of a build, each box has the share of them that it works."""
    boxes = boxes_of(layers)
    index = {layer: n for n, box in enumerate(boxes) for layer in box}
    edges = sorted(
        {
            (index[source], n)
            for n, box in enumerate(boxes)
            for k in box
            for source in layers[k].reads
        }
    )
    layout = arrange([BOX] * len(boxes), edges, GAP)
    margin = 8.0
    texts = [text_in(layers, box) for box in boxes]
    high = 24 + LINE * max(len(names) + len(lines) for names, lines in texts)
    paths = [edge_path(layout, e, margin, high) for e in zip(edges, layout.bends, strict=True)]
    drawn = [
        box_of(layers[box[0]], text, margin + layout.middles[n] - BOX / 2,
               margin + layout.rows[n] * (high + RISE), high, cycles)
        for n, (box, text) in enumerate(zip(boxes, texts, strict=True))
    ]  # fmt: skip
    height = (max(layout.rows) + 1) * (high + RISE) - RISE + 2 * margin
    return drawing(layout.width + 2 * margin, height, "network graph", *paths, *drawn)


def boxes_of(layers: Sequence[Layer]) -> list[tuple[int, ...]]:
    """The layers of each box, by index."""
    groups: dict[object, list[int]] = {}
    for n, layer in enumerate(layers):
        groups.setdefault(("sink", layer.reads) if layer.kind == "sink" else n, []).append(n)
    return [tuple(group) for group in groups.values()]


def edge_path(
    layout: Layout,
    edge: tuple[tuple[int, int], Sequence[tuple[int, float]]],
    margin: float,
    high: float,
) -> str:
    """A curve from the one box's lower edge to the other's upper one, straight past other rows."""
    (a, b), bends = edge

    def top(row: int) -> float:
        return margin + row * (high + RISE)

    x, y = margin + layout.middles[a], top(layout.rows[a]) + high
    path = f"M{x:.1f} {y:.1f}"
    for row, at in (*bends, (layout.rows[b], layout.middles[b])):
        end, middle = margin + at, (y + top(row)) / 2
        path += f"C{x:.1f} {middle:.1f} {end:.1f} {middle:.1f} {end:.1f} {top(row):.1f}"
        x, y = end, top(row) + high
        if row != layout.rows[b]:
            path += f"V{y:.1f}"
    return tag("path", d=path, class_="edge")


def text_in(layers: Sequence[Layer], box: Sequence[int]) -> tuple[list[str], list[str]]:
    """The lines of a box: its name, what it is, and its folding or its work."""
    first, room = layers[box[0]], BOX - 22
    name = ", ".join(layers[k].name for k in box)
    kind = WORDS.get(first.kind, first.kind)
    what = " ".join(filter(None, (kind, first.window)))
    lines = [f"{what}  {first.shape} {first.type}"]
    row = first.hardware
    if len(box) > 1:
        lines[0] = f"{len(box)} outputs, {first.shape} ..."
    elif row is not None and first.kind not in ROUTING:
        folding = f"PE {row['pe']} SIMD {row['simd']}" if first.kind == "conv" else ""
        folding += f" pixels {row['pixels']}" if folding and row["pixels"] > 1 else ""
        folding = folding or f"{row['simd']} lane{'s' if row['simd'] > 1 else ''}"
        lines.append(f"{folding}  {row['cycles']:,} cycles")
    elif first.macs:
        lines.append(f"{first.macs / 1e6:.2f} MMAC  acc {first.acc_bits} bits")
    said = [part for line in lines for part in wrapped(line, room, SMALL)]
    return wrapped(name, room, 11.5), said


def box_of(
    first: Layer, text: tuple[list[str], list[str]], x: float, y: float, high: float,
    cycles: int | None,
) -> str:  # fmt: skip
    """One box."""
    names, lines = text
    row = first.hardware
    parts = [
        tag("title", text_of("\n".join(["".join(names), *lines]))),
        tag("rect", x=x, y=y, width=BOX, height=high, rx=6, class_="box"),
        tag("rect", x=x, y=y + 8, width=4, height=high - 16, class_=f"kind {first.kind}"),
    ]
    parts += [words(x + 12, y + 16 + LINE * n, line, "name") for n, line in enumerate(names)]
    below = y + 16 + LINE * len(names)
    parts += [words(x + 12, below + LINE * n, line) for n, line in enumerate(lines)]
    if row is not None and cycles and first.kind not in ROUTING:
        share = min(1.0, row["cycles"] / cycles)
        bar, at = BOX - 24 - 34, y + high - 12
        parts += [
            tag("rect", x=x + 12, y=at, width=bar, height=4, rx=2, class_="rail"),
            tag("rect", x=x + 12, y=at, width=max(1.0, bar * share), height=4, rx=2,
                class_="fill"),
            words(x + BOX - 12, at + 5, f"{100 * share:.0f}%", "share", "end"),
        ]  # fmt: skip
    return tag("g", *parts, class_="layer")


def fillings(trace: Mapping[str, Any], least: int) -> str:
    """How full each queue of more than `least` places is over time, one above the other; the
    vertical lines are the ends of frames. `trace` is a build's queues.json."""
    width, high = TRACE
    queues = [q for q in trace["queues"] if q["places"] > least]
    queues.sort(key=lambda q: -q["places"] * q["width"])
    left = 14 + width_of([q["layer"] for q in queues])
    step, total = high + 12, max(1, trace["cycles"])
    bottom = 34 + step * len(queues)
    curves, parts, labelled = [], [], 0.0
    for frame, end in enumerate(trace["frame_ends"], 1):
        x = left + width * end / total
        parts.append(tag("path", d=f"M{x:.1f} 30V{bottom - 8:.1f}", class_="tick"))
        if x - labelled > LABEL:
            parts.append(words(x - 3, 27, f"frame {frame} ends", "faint", "end"))
            labelled = x
    heading = "most beats held / places x bits of a beat"
    sizes = [f"{max(q['held'], default=0):,}/{q['places']:,} x {q['width']} bits" for q in queues]
    for n, (queue, size) in enumerate(zip(queues, sizes, strict=True)):
        y = 34 + n * step
        held, places = queue["held"], queue["places"]
        path = f"M{left:.1f} {y + high:.1f}"
        for k, beats in enumerate(held):
            path += f"V{y + high * (1 - min(1.0, beats / places)):.1f}"
            path += f"H{left + width * (k + 1) / len(held):.1f}"
        row = [
            tag("title", text_of(f"{queue['name']}: {size}")),
            words(0, y + 17, queue["layer"]),
            tag("rect", x=left, y=y, width=width, height=high, class_="plot"),
            tag("path", d=f"{path}V{y + high:.1f}Z", class_="held"),
            words(left + width + 10, y + 17, size),
        ]
        curves.append(tag("g", *row))
    whole = left + width + 14 + max(width_of(sizes), 60.0)
    parts.append(words(whole, 11, heading, "faint", "end"))
    for part in range(5):
        x = left + width * part / 4
        side = "start" if part == 0 else "end" if part == 4 else "middle"
        parts.append(words(x, bottom + 6, f"{total * part // 4:,}", "faint", side))
    parts.append(words(left + width / 2, bottom + 22, "cycles from reset", "faint", "middle"))
    return drawing(whole, bottom + 28, "filling of the queues", *curves, *parts)


def depths(rows: Sequence[tuple[str, int]]) -> str:
    """The places of queues as bars: (layer, places)."""
    width, high = TRACE
    left = 14 + width_of([name for name, _ in rows])
    most, step = max(places for _, places in rows), high
    parts = []
    for n, (name, places) in enumerate(rows):
        y = n * step
        parts += [
            words(0, y + 17, name),
            tag("rect", x=left, y=y + 6, width=max(1.0, width * places / most), height=high - 12,
                class_="held"),
            words(left + width * places / most + 8, y + 17, f"{places:,}"),
        ]  # fmt: skip
    end = step * len(rows)
    parts.append(words(left + width / 2, end + 12, "places, a beat each", "faint", "middle"))
    return drawing(left + width + 80, end + 18, "depths of the queues", *parts)
