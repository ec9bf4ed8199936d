"""Steps behind a Program that its host takes, as an imported file has them: softmax of 8-bit codes.

They are described in `meta["host"]`, a list of objects, so that a file's own last outputs can be
given to the bit. Arithmetic is that of TFLite's reference kernel, 32-bit fixed point (gemmlowp's
`fixedpoint.h` has its constants and iterations): exp of differences from the largest code, their
sum, its reciprocal by three Newton steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.errors import ModelError
from intaglio.fixed import rnd, rnd_inf
from intaglio.forms import quantized_multiplier
from intaglio.ops import Ints
from intaglio.program import Program

TOP = (1 << 31) - 1
INTEGER_BITS = 5  # of the differences that exp is taken of
SUM_BITS = 12  # of the sum of exponentials: at most 4096 codes
# exp(-2^k) for k = -2 ... 4, with 31 fractional bits.
POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
EIGHTH, THIRD = 1895147668, 715827883  # exp(-1/8), 1/3
NEWTON = 1515870810, -1010580540  # 48/17 and -32/17, with 29 fractional bits


@dataclass(frozen=True)
class Softmax:
    """The softmax over the channels of the output `input`, whose codes have `scale`, times `beta`.
    Its codes count 1/256 from the lowest of 8 bits, `lowest`; `output` is the file's own name."""

    input: str
    output: str
    scale: float
    beta: float
    lowest: int

    def to_meta(self) -> dict[str, Any]:
        """As an object of `meta["host"]`."""
        return {"kind": "softmax"} | asdict(self)


def steps_of(program: Program) -> tuple[Softmax, ...]:
    """Those of `meta["host"]`. Raises ModelError for what is none."""
    found = []
    for entry in program.meta.get("host", ()):
        try:
            fields = dict(entry)
            kind = fields.pop("kind")
            step = Softmax(**fields)
            shape = {t.name: t.shape for t in program.outputs}[step.input]
            good = kind == "softmax" and shape[0] <= 1 << SUM_BITS and step.scale * step.beta > 0
        except (TypeError, ValueError, KeyError):
            good = False
        if not good:
            raise ModelError(
                'meta["host"] must hold steps as import writes them, of outputs of the Program;'
                " import the file anew."
            )
        found.append(step)
    return tuple(found)


def finished(program: Program, maps: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The Program's maps (N, C, H, W) and what the host's steps make of them."""
    made = dict(maps)
    for step in steps_of(program):
        codes = np.moveaxis(maps[step.input], 1, -1).astype(np.int64)
        made[step.output] = np.moveaxis(softmax(codes, step), -1, 1).astype(
            np.int8 if step.lowest < 0 else np.uint8
        )
    return made


def softmax(codes: Ints, step: Softmax) -> Ints:
    """Codes (..., C) to codes (..., C)."""
    factor = min(step.beta * step.scale * (1 << 31 - INTEGER_BITS), TOP)
    multiplier, shift = quantized_multiplier(factor)
    left = 31 - shift
    reach = int(np.floor(((1 << INTEGER_BITS) - 1) * (1 << 31 - INTEGER_BITS) / (1 << left)))
    differences = codes - codes.max(axis=-1, keepdims=True)
    counted = differences >= -reach
    scaled = high(np.where(counted, differences, 0) << left, np.int64(multiplier))
    powers = np.where(counted, exponential(scaled), 0)
    total = rnd_inf(powers, SUM_BITS).sum(axis=-1, keepdims=True)
    bits = np.frexp(total.astype(np.float64))[1]  # exact: totals have at most 32 bits
    reciprocal = one_over(((total << (32 - bits)) - (1 << 31)).astype(np.int64))
    over = SUM_BITS - (32 - bits.astype(np.int64))
    shares = rnd_inf(high(reciprocal, powers), over + 31 - 8)
    found: Ints = np.where(counted, np.clip(shares, 0, 255), 0) + step.lowest
    return found


def high(a: Any, b: Any) -> Ints:
    """The doubled high word of a 32-bit product, saturating."""
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    found: Ints = np.minimum(rnd(product, 31), TOP)
    return found


def shifted(x: Ints, exponent: int) -> Ints:
    """x * 2^exponent within 32 bits."""
    found: Ints = np.clip(x << exponent, -TOP - 1, TOP)
    return found


def exponential(x: Ints) -> Ints:
    """exp of x <= 0 with INTEGER_BITS bits before the point, as a fraction of 31 bits."""
    fraction = 31 - INTEGER_BITS
    quarter = 1 << fraction - 2
    part = (x & quarter - 1) - quarter
    rest = part - x
    found = near_zero(shifted(part, INTEGER_BITS))
    for k, power in zip(range(-2, INTEGER_BITS), POWERS, strict=True):
        found = np.where(rest & 1 << fraction + k, high(found, power), found)
    return np.where(x == 0, TOP, found)


def near_zero(x: Ints) -> Ints:
    """exp of -1/4 <= x < 0, by four terms around -1/8; fractions of 31 bits."""
    y = x + (1 << 28)
    square = high(y, y)
    cube, fourth = high(square, y), high(square, square)
    terms = high(rnd_inf(fourth, 2) + cube, THIRD) + square
    found: Ints = EIGHTH + high(EIGHTH, y + rnd_inf(terms, 1))
    return found


def one_over(x: Ints) -> Ints:
    """1 / (1 + x) of fractions 0 <= x < 1 of 31 bits."""
    half = (x + TOP + 1) >> 1
    found = NEWTON[0] + high(half, NEWTON[1])
    for _ in range(3):
        error = (1 << 29) - high(half, found)
        found = found + shifted(high(found, error), 2)
    return shifted(found, 1)
