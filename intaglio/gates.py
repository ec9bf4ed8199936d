"""Two maps of different shapes that are multiplied, as NumPy repeats them: which is the first
operand of a `Multiply`, and what must be enlarged before."""

from __future__ import annotations

from dataclasses import dataclass

from intaglio.ops import Pair, Shape


@dataclass(frozen=True)
class Gated:
    """shape    of the product
    swapped  whether the second map is the first operand
    sizes      (H, W) to which each operand, in its place, is enlarged by an Upsample before; None
               where it stays as it is
    """

    shape: Shape
    swapped: bool
    sizes: tuple[Pair | None, Pair | None]


def gated(a: Shape, b: Shape) -> Gated | None:
    """For maps (C, H, W); None where they do not fit each other."""
    if any(m != n and 1 not in (m, n) for m, n in zip(a, b, strict=True)):
        return None
    channels, height, width = (max(m, n) for m, n in zip(a, b, strict=True))
    size = (height, width)
    # What has all channels comes first: they cannot be repeated, and pixels can.
    swapped = (a[0] < channels) or (a[0] == b[0] and a[1:] != size and b[1:] == size)
    first, gate = (b, a) if swapped else (a, b)
    return Gated(
        (channels, height, width),
        swapped,
        (None if first[1:] == size else size, None if gate[1:] in (size, (1, 1)) else size),
    )
