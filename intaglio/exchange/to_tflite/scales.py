"""Which float32 scales of a file give a Program's multipliers, and which clamp is an activation."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from intaglio.exchange.from_tflite.building import activation_ends
from intaglio.fixed import IntType
from intaglio.forms import Real, quantized_multiplier

I8 = IntType(8, True)
Activation = schema.ActivationFunctionType
ACTIVATIONS = (Activation.NONE, Activation.RELU, Activation.RELU6, Activation.RELU_N1_TO_1)


def snapped(scale: float) -> float:
    """The nearest float32: what a file can hold."""
    return float(np.float32(scale))


def weight_scale(m: int, shift: int, read: Real, made: Real) -> float | None:
    """The float32 sw with quantized_multiplier(sx * sw / sy) == (m, shift), computed in double as
    TFLite does; None where no float32 has that."""
    wanted = np.float32(m * 2.0**-shift * made.scale / read.scale)
    if not np.isfinite(wanted) or wanted <= 0:
        return None
    for near in (
        wanted,
        np.nextafter(wanted, np.float32(0)),
        np.nextafter(wanted, np.float32(9e9)),
    ):
        factor = read.scale * float(near) / made.scale
        if factor > 0 and quantized_multiplier(factor) == (m, shift):
            return float(near)
    return None


def activation(lo: int, hi: int, real: Real) -> tuple[int, bool, bool]:
    """The fused activation that clamps codes to [lo, hi] as far as one does, and whether the lower
    and the upper end then want an operator of their own. Without one codes are clamped to int8."""
    lo, hi = max(lo, I8.lo), min(hi, I8.hi)
    best: tuple[int, int, bool, bool] | None = None
    for kind in ACTIVATIONS:
        low, high = activation_ends(kind, I8, real)
        if low > lo or high < hi:
            continue
        found = (low < lo) + (high > hi), kind, low < lo, high > hi
        best = min(best, found) if best else found
    assert best is not None
    return best[1:]
