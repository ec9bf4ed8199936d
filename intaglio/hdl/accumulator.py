"""What an accumulator is: its width, and what happens when that is too narrow."""

from dataclasses import dataclass

from intaglio.fixed import Overflow, SaturateAt


@dataclass(frozen=True)
class Accumulator:
    """bits: signed width that neither the sum nor any partial sum leaves, as proved.

    forced: a narrower signed width that the arithmetic prescribes, or None. It then wraps, or
    saturates at the "end" of the exact sum or after every multiply-accumulate ("mac", which needs
    SIMD = 1: products in the order ky, kx, input channel).
    """

    bits: int
    forced: int | None = None
    overflow: Overflow = "wrap"
    saturate_at: SaturateAt = "end"
