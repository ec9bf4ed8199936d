"""NVDLA and Vitis DPU a second time, from their published formulas in rational terms: floating
division by exact powers of two, floor and magnitude, where `intaglio.fixed` shifts integers."""

from __future__ import annotations

import numpy as np
from conformance_cases import Array, Case

from intaglio.ops import Requant


def sums(case: Case) -> Array:
    """The convolution and bias, (C, H, W), as a matrix product of patches in float64: exact.
    Zero points are 0, so that a border adds nothing."""
    assert case.weight is not None
    assert case.bias is not None
    top, bottom, left, right = case.padding
    image = np.pad(case.images[0].astype(np.float64), ((0, 0), (top, bottom), (left, right)))
    patches = np.lib.stride_tricks.sliding_window_view(image, case.kernel, (1, 2))
    patches = patches[:, :: case.stride[0], :: case.stride[1]]
    if case.groups > 1:  # one input channel a group
        acc = np.einsum("oyx,ohwyx->ohw", case.weight[:, 0].astype(np.float64), patches)
    else:
        acc = np.tensordot(case.weight.astype(np.float64), patches, axes=([1, 2, 3], [0, 3, 4]))
    return acc + case.bias[:, None, None]


def away(x: Array) -> Array:
    """Nearest, halves away from zero, of float64."""
    return np.copysign(np.floor(np.abs(x) + 0.5), x)


def nvdla_conv(case: Case) -> Array:
    """Output converter: sat8(sat17(RHA(acc * scale16 / 2^shift)))."""
    (op,) = case.program.of_kind(Requant)
    m = case.program.constants[op.multiplier].array[:, None, None]
    wide = np.clip(away(sums(case) * m / 2.0 ** op.shift[0]), -(1 << 16), (1 << 16) - 1)
    return np.clip(wide, -128, 127)[None]


def dpu_conv(case: Case) -> Array:
    """Half up of acc / 2^shift, saturated to int8."""
    (op,) = case.program.of_kind(Requant)
    return np.clip(np.floor(sums(case) / 2.0 ** op.shift[0] + 0.5), -128, 127)[None]


def nvdla_pool(case: Case) -> Array:
    """sat8(RHA(RHA(sum * round(2^16 / width) / 2^16) * round(2^16 / height) / 2^16))."""
    patches = np.lib.stride_tricks.sliding_window_view(case.images[0], case.kernel, (1, 2))
    total = patches[:, :: case.stride[0], :: case.stride[1]].sum(axis=(3, 4), dtype=np.int64)
    for side in case.kernel[::-1]:
        total = away(total * np.round(65536 / side) / 65536)
    return np.clip(total, -128, 127)[None]


def onnxruntime_average(case: Case) -> Array:
    """QLinearAveragePool in the runtime's own order, in float32: reals of the codes, added row by
    row; over n; over the scale; plus the zero point; rounded, ties to even."""
    x, y = case.reals
    kh, kw = case.kernel
    reals = (case.images[0].astype(np.float32) - np.float32(x.zero)) * np.float32(x.scale)
    windows = np.lib.stride_tricks.sliding_window_view(reals, case.kernel, (1, 2))
    windows = windows[:, :: case.stride[0], :: case.stride[1]]
    total = np.zeros(windows.shape[:3], np.float32)
    for i in range(kh * kw):
        total = total + windows[..., i // kw, i % kw]
    near = np.rint(total / np.float32(kh * kw) / np.float32(y.scale) + np.float32(y.zero))
    return np.clip(near, -128, 127)[None]


def litert_logistic(case: Case) -> Array:
    """LOGISTIC of int8 as LiteRT tabulates it in float32: 1 / (1 + e^-x) * 256, halves away from
    zero, less 128."""
    x = case.reals[0]
    reals = np.float32(x.scale) * (case.images.astype(np.float32) - np.float32(x.zero))
    power = np.exp(-reals.astype(np.float64)).astype(np.float32)  # the nearest float32
    y = np.float32(256) * (np.float32(1) / (np.float32(1) + power))
    return np.clip(away(y) - 128, -128, 127)
