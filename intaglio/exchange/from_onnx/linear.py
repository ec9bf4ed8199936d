"""onnxruntime's sums and products on codes (x86 with AVX2 and FMA), code by code: QLinearAdd and
QLinearMul, for tables of what one tensor or two make."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from intaglio.exchange.from_onnx.values import Array, Grid, Operand
from intaglio.fixed import IntType, rnd_conv, summed_single
from intaglio.forms import onnxruntime_product
from intaglio.multiplier import Term, scaling_single


def run_as(type: IntType, codes: Array, grid: Grid) -> Operand:
    """int8 as the runtime runs it where it has made uint8 of it."""
    if grid.type.signed == type.signed:
        return codes, grid
    return codes + 128, replace(grid, type=type, zero=grid.zero + 128)


def rounded_sum(type: IntType, a: Operand, b: Operand, grid: Grid) -> Array:
    """onnxruntime's QLinearAdd (x86 with AVX2 and FMA) in codes of `type`, code by code."""
    less, run = run_as(type, np.zeros(1, np.int64), grid)
    return sum_of_codes(run_as(type, *a), run_as(type, *b), run) - less


def rounded_product(type: IntType, a: Operand, b: Operand, grid: Grid) -> Array:
    """onnxruntime's QLinearMul (x86) in codes of `type`, code by code."""
    less, run = run_as(type, np.zeros(1, np.int64), grid)
    return product_of_codes(run_as(type, *a), run_as(type, *b), run) - less


def sum_of_codes(a: Operand, b: Operand, grid: Grid) -> Array:
    """RNE(fma(a, ratio a, fma(b, ratio b, fixed part)))."""
    ratios = tuple(Fraction(float(np.float32(g.scale / grid.scale))) for _, g in (a, b))
    reach = tuple(int(np.abs(codes).max()) for codes, _ in (a, b))
    term = Term(ratios, (a[1].zero, b[1].zero), reach, Fraction(0))
    found = scaling_single(term, grid.zero, "QLinearAdd")
    ma, mb = found.multipliers
    t = summed_single(a[0].astype(np.int64), b[0].astype(np.int64), ma, mb, found.bias[0])
    near: Array = np.clip(rnd_conv(t, found.shift), grid.type.lo, grid.type.hi)
    return near


def product_of_codes(a: Operand, b: Operand, grid: Grid) -> Array:
    """`forms.onnxruntime_product`, clamped."""
    whole = (a[0] - a[1].zero).astype(np.int64) * (b[0] - b[1].zero)
    ratio = np.float32(np.float32(a[1].scale * b[1].scale) / grid.scale)
    near = onnxruntime_product(whole, ratio, grid.zero)
    made: Array = np.clip(near, grid.type.lo, grid.type.hi).astype(np.int64)
    return made
