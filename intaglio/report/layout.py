"""Places for the boxes of a layered drawing: rows by longest path, few crossings, short edges.

After Sugiyama, Tagawa, Toda (1981): edges that span several rows get a bend in each of them; rows
are ordered by the mean of their neighbours; positions then move towards the neighbours' mean as far
as the distances within the row allow, which is least squares under an order: pool adjacent
violators.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

Edge = tuple[int, int]
SWEEPS = 12
BEND = 14.0  # width that an edge takes when it passes a row
STRAIGHT = 8.0  # how much more a bend minds being moved than a box


@dataclass(frozen=True)
class Layout:
    """Per box its row and the middle of it; per edge the rows and places where it passes others.

    Distances are in the unit of the widths; the drawing begins at 0 and is `width` wide.
    """

    rows: tuple[int, ...]
    middles: tuple[float, ...]
    bends: tuple[tuple[tuple[int, float], ...], ...]
    width: float


def arrange(widths: Sequence[float], edges: Sequence[Edge], gap: float) -> Layout:
    """Lay out boxes of these widths, `gap` apart; edges lead from earlier boxes to later rows.

    The graph must have no circle. Equal arguments give equal layouts.
    """
    rows = longest_paths(len(widths), edges)
    sizes = list(widths)
    above: list[list[int]] = [[] for _ in widths]
    chains: list[list[int]] = []
    row_of = list(rows)
    for a, b in edges:
        chain = [a]
        for row in range(rows[a] + 1, rows[b]):
            sizes.append(BEND)
            row_of.append(row)
            above.append([chain[-1]])
            chain.append(len(sizes) - 1)
        above[b].append(chain[-1])
        chains.append(chain[1:])
    below: list[list[int]] = [[] for _ in sizes]
    for node, parents in enumerate(above):
        for parent in parents:
            below[parent].append(node)
    order = ordered(row_of, above, below)
    x = placed(order, sizes, above, below, len(widths), gap)
    left = min(x[i] - sizes[i] / 2 for i in range(len(sizes)))
    right = max(x[i] + sizes[i] / 2 for i in range(len(sizes)))
    return Layout(
        tuple(rows),
        tuple(round(x[i] - left, 1) for i in range(len(widths))),
        tuple(tuple((row_of[i], round(x[i] - left, 1)) for i in chain) for chain in chains),
        round(right - left, 1),
    )


def longest_paths(count: int, edges: Sequence[Edge]) -> list[int]:
    """The row of each box: one below the lowest that it follows."""
    rows = [0] * count
    for _ in range(count):
        moved = False
        for a, b in edges:
            if rows[b] <= rows[a]:
                rows[b], moved = rows[a] + 1, True
        if not moved:
            break
    return rows


def ordered(
    row_of: Sequence[int], above: Sequence[Sequence[int]], below: Sequence[Sequence[int]]
) -> list[list[int]]:
    """Each row from left to right, with the fewest crossings that the sweeps found."""
    order: list[list[int]] = [[] for _ in range(max(row_of) + 1)]
    for node, at_row in enumerate(row_of):
        order[at_row].append(node)
    best, fewest = [list(line) for line in order], crossings(order, below)
    for sweep in range(2 * SWEEPS):
        if not fewest:
            break
        down = sweep % 2 == 0
        for row in order[1:] if down else order[-2::-1]:
            at = {node: n for line in order for n, node in enumerate(line)}
            near = above if down else below
            centre = {i: mean([at[j] for j in near[i]], at[i]) for i in row}
            row.sort(key=centre.__getitem__)
        found = crossings(order, below)
        if found < fewest:
            best, fewest = [list(line) for line in order], found
    return best


def mean(values: Sequence[float], otherwise: float) -> float:
    """The mean of some numbers, `otherwise` of none."""
    return sum(values) / len(values) if values else otherwise


def crossings(order: Sequence[Sequence[int]], below: Sequence[Sequence[int]]) -> int:
    """Pairs of edges between neighbouring rows that cross."""
    total = 0
    for upper, lower in pairwise(order):
        at = {node: n for n, node in enumerate(lower)}
        ends = [at[j] for i in upper for j in sorted(below[i], key=at.__getitem__)]
        total += sum(a > b for n, a in enumerate(ends) for b in ends[n + 1 :])
    return total


def placed(
    order: Sequence[Sequence[int]],
    sizes: Sequence[float],
    above: Sequence[Sequence[int]],
    below: Sequence[Sequence[int]],
    boxes: int,
    gap: float,
) -> list[float]:
    """The middle of every box and bend."""
    x = [0.0] * len(sizes)
    for sweep in range(2 * SWEEPS):
        down = sweep % 2 == 0
        for row in order if down else reversed(order):
            near = [(above[i] or below[i]) if down else (below[i] or above[i]) for i in row]
            wanted = [mean([x[j] for j in some], x[i]) for i, some in zip(row, near, strict=True)]
            weights = [1.0 if i < boxes else STRAIGHT for i in row]
            for i, place in zip(row, apart(wanted, [sizes[i] for i in row], weights, gap),
                                strict=True):  # fmt: skip
                x[i] = place
    return x


def apart(
    wanted: Sequence[float], sizes: Sequence[float], weights: Sequence[float], gap: float
) -> list[float]:
    """Places in this order, `gap` apart, with the least squared distance from those wanted."""
    offsets = [0.0]
    for a, b in pairwise(sizes):
        offsets.append(offsets[-1] + (a + b) / 2 + gap)
    blocks: list[tuple[float, float, int]] = []  # place, weight, how many
    for place, weight, offset in zip(wanted, weights, offsets, strict=True):
        blocks.append((place - offset, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (p, v, m), (q, w, n) = blocks[-2:]
            blocks[-2:] = [((p * v + q * w) / (v + w), v + w, m + n)]
    flat = [place for place, _, count in blocks for _ in range(count)]
    return [place + offset for place, offset in zip(flat, offsets, strict=True)]
