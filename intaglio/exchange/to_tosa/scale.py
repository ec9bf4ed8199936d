"""M, B and S as TOSA's RESCALE: a bias before the product, a zero point after rounding.

    clamp(round_shift(x * M + B, S) + offset)
        = clamp(round((sign * x + bias) * multiplier / 2^shift) + zero)

holds exactly where B - z * 2^S is a multiple of M for one z, which is the case for what is
quantised with arithmetic "tosa" or "tflite", and where M is a power of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.errors import ProgramError
from intaglio.fixed import IntType, Rounding, round_shift
from intaglio.ops import Op, Requant
from intaglio.program import Program

Array = NDArray[Any]
I32 = IntType(32, True)
MULTIPLIER_LIMIT = 1 << 31
SMALLEST_SHIFT = 2
UNITY = (1 << 30, 30)  # a RESCALE that scales by 1
REMEDY = "quantise the model with --arithmetic tosa"


@dataclass(frozen=True)
class Scale:
    """`sign` (1, -1 or 0), `bias`, `multiplier` and `shift` of every channel; `zero` of all."""

    sign: tuple[int, ...]
    bias: tuple[int, ...]
    multiplier: tuple[int, ...]
    shift: tuple[int, ...]
    zero: int

    @property
    def plain(self) -> bool:
        """Whether the operand keeps its sign, so that `bias` can be part of a convolution."""
        return min(self.sign) == 1


def settle(
    op: Op,
    scaled: Sequence[tuple[int, int, int]],
    rounding: Rounding,
    offset: int,
    zeros: Sequence[int],
    reach: tuple[int, int],
) -> Scale:
    """The Scale of (M, B, S) of every channel, for operands within `reach`.

    `zeros` are the zero points to try, the likeliest first. Raises ProgramError naming `op` where
    no zero point leaves multiples of M, and where RESCALE's operands would leave their widths.
    """
    halves = [(1 << s) >> 1 if rounding == "TRN" else 0 for _, _, s in scaled]
    parts = [(m, b - half, s) for (m, b, s), half in zip(scaled, halves, strict=True)]
    candidates = [offset] if rounding == "DOUBLE" else zeros
    for zero in candidates:
        inside = zero - offset
        if all(m == 0 or (b - (inside << s)) % m == 0 for m, b, s in parts):
            break
    else:
        raise op.refuse(
            "its B must be a multiple of M beside the zero point, because RESCALE adds its bias"
            f" before it multiplies; {REMEDY}."
        )
    double = rounding == "DOUBLE"
    found = [channel(op, part, inside, reach, double) for part in parts]
    sign, bias, multiplier, shift = zip(*found, strict=True)
    return Scale(sign, bias, multiplier, shift, zero)


def channel(
    op: Op, part: tuple[int, int, int], inside: int, reach: tuple[int, int], double: bool
) -> tuple[int, int, int, int]:
    """(sign, bias, multiplier, shift) of one channel."""
    m, b, s = part
    if m == 0:  # a constant
        value = round_shift(b, s, "DOUBLE" if double else "RND") - inside
        return (0, fits(op, value), *lifted(op, *UNITY, abs(value) + 1, double))
    sign, bias = (1 if m > 0 else -1), (b - (inside << s)) // abs(m)
    ends = sorted(sign * end + bias for end in reach)
    fits(op, *ends, *(sign * end for end in reach))
    return (sign, bias, *lifted(op, abs(m), s, max(-ends[0], ends[1] + 1), double))


def fits(op: Op, *values: int) -> int:
    """The first of values that must all be int32."""
    if not I32.holds(min(values), max(values)):
        raise op.refuse(
            f"its sums must fit into 32 bits in TOSA, not reach {max(values, key=abs)}; use"
            " narrower weights or codes."
        )
    return values[0]


def lifted(op: Op, m: int, s: int, top: int, double: bool) -> tuple[int, int]:
    """The same factor at an S for which RESCALE takes every value of [-top, top - 1]: those of
    [-2^(S-1), 2^(S-1) - 1]. DOUBLE rounds alike at two S only up to 31."""
    more = max(0, SMALLEST_SHIFT - s, (top - 1).bit_length() + 1 - s)
    if m << more >= MULTIPLIER_LIMIT or (double and more and s + more > 31):
        raise op.refuse(
            f"its factor must be smaller for sums up to {top} in TOSA, not {m / 2**s:.3g}; use"
            f" wider codes for its operands, or {REMEDY}."
        )
    return m << more, s + more


def spread(values: Array | Sequence[int], channels: int) -> list[int]:
    """One Python integer for each channel."""
    return [int(v) for v in np.resize(np.asarray(values).reshape(-1), channels)]


def refuse_rounding(program: Program) -> None:
    """TOSA has two roundings. Raises ProgramError for a Program with another."""
    arithmetic = program.arithmetic
    if arithmetic.product == "single":
        raise ProgramError(
            f"A Program for TOSA must multiply integers, not in float32 as {arithmetic.name!r}"
            f" does; {REMEDY}."
        )
    own = {op.rounding for op in program.of_kind(Requant) if op.rounding}
    for rounding in (arithmetic.rounding, *sorted(own)):
        if rounding not in ("RND", "TRN", "DOUBLE"):
            raise ProgramError(
                f"A Program for TOSA must round halves up or in two steps (RND, DOUBLE), not by"
                f" {rounding}; {REMEDY}."
            )
