"""One operation in TOSA's reference model, and whole networks as `intaglio export` writes them.

The graphs of one operation are written here from what a case says, not by the exporter.
"""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from conformance_cases import Array, Case

from intaglio.exchange.to_tosa.file import DOUBLE_ROUND, INT32, NEAREST, SINGLE_ROUND, Graph
from intaglio.exchange.to_tosa.run import ReferenceModel, run_tosa
from intaglio.exchange.to_tosa.tosa import to_tosa
from intaglio.fixed import IntType
from intaglio.forms import PRE_SHIFT, quantized_multiplier
from intaglio.ops import Add, Lookup, Padding, Requant, Upsample

PYTHON = Path(__file__).resolve().parent.parent.parent / ".venv-tosa/bin/python"
UNITY = 1 << 30  # with a shift of 30


@cache
def model() -> ReferenceModel:
    """The reference model, running until this program ends. Raises ToolError without it."""
    started = ReferenceModel(PYTHON).__enter__()
    atexit.register(started.__exit__, None, None, None)
    return started


class Made(Graph):
    """A graph of few operators whose result is "y"."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        self.double = case.program.arithmetic.rounding == "DOUBLE"

    def fed(self, name: str, images: Array) -> str:
        """An input for images (1, C, H, W)."""
        return self.input(name, images.dtype, nhwc(images).shape[1:])

    def scalar(self, value: int, dtype: Any) -> str:
        """A constant of one element."""
        return self.constant(f"{np.dtype(dtype)}/{value}", [value], dtype)

    def rescale(
        self, x: str, output: str, dtype: Any, m: Sequence[int], s: Sequence[int],
        zeros: tuple[int, int] = (0, 0),
    ) -> str:  # fmt: skip
        """RESCALE by m / 2^s, one for all channels or one for each."""
        edge = self.edges[x]
        inputs = [
            x, self.constant(f"{output}.m", m, np.int32), self.constant(f"{output}.s", s, np.int8),
            self.scalar(zeros[0], edge.dtype), self.scalar(zeros[1], dtype),
        ]  # fmt: skip
        return self.add(
            "RESCALE", inputs, output, dtype, edge.shape, scale32=True,
            rounding_mode=DOUBLE_ROUND if self.double else SINGLE_ROUND, per_channel=len(m) > 1,
            input_unsigned=False, output_unsigned=False,
        )  # fmt: skip

    def run(self, *inputs: Array) -> Array:
        """The result (1, C, H, W) for images (1, C, H, W)."""
        self.outputs.append("y")
        (result,) = model().run(self.serialised(), [nhwc(x) for x in inputs])
        return result[:, 0].transpose(0, 3, 1, 2)


def nhwc(images: Array) -> Array:
    """(1, C, H, W) as one run of (1, H, W, C)."""
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))[None]


def scaling(case: Case, reach: int) -> tuple[list[int], list[int]]:
    """|M| and S of the case's Requant, both raised so that RESCALE takes values below `reach`."""
    (op,) = case.program.of_kind(Requant)
    m = np.abs(case.program.constants[op.multiplier].array).reshape(-1)
    pairs = zip(*(np.broadcast_arrays(m, np.array(op.shift))), strict=True)
    raised = [lifted(int(a), int(s), reach) for a, s in pairs]
    return [a for a, _ in raised], [s for _, s in raised]


def lifted(m: int, s: int, reach: int) -> tuple[int, int]:
    """m / 2^s at an s with reach <= 2^(s - 1)."""
    more = max(0, 2 - s, (reach - 1).bit_length() + 1 - s)
    return m << more, s + more


def result_zero(case: Case) -> int:
    """Zero point of the Requant's result, all of which is its offset."""
    (op,) = case.program.of_kind(Requant)
    return op.offset


def requantise(case: Case) -> Array:
    """RESCALE of integers of up to 32 bits."""
    (x,), (y,) = case.program.inputs, case.program.outputs
    g = Made(case)
    images = case.images.astype(width(x.type))
    zero = case.reals[0].zero
    m, s = scaling(case, max(zero - x.lo, x.hi - zero + 1))
    g.rescale(g.fed("x", images), "y", width(y.type), m, s, (zero, result_zero(case)))
    return g.run(images)


def width(type: IntType) -> Any:
    """int8, int16 or int32."""
    return np.dtype(f"int{next(n for n in (8, 16, 32) if type.bits <= n)}")


def conv(case: Case) -> Array:
    """CONV2D or DEPTHWISE_CONV2D, and RESCALE."""
    assert case.weight is not None
    assert case.bias is not None
    g, (images, padding) = Made(case), used(case)
    weight, bias = case.weight, case.bias
    depthwise = case.groups > 1
    laid = weight.transpose(2, 3, 0, 1) if depthwise else weight.transpose(0, 2, 3, 1)
    inputs = [
        g.fed("x", images), g.constant("w", laid, np.int8), g.constant("b", bias, np.int32),
        g.scalar(case.reals[0].zero, np.int8), g.scalar(0, np.int8),
    ]  # fmt: skip
    g.add(
        "DEPTHWISE_CONV2D" if depthwise else "CONV2D", inputs, "acc", np.int32,
        (1, *case.size, len(weight)), pad=padding, stride=case.stride, dilation=(1, 1),
        local_bound=False, acc_type=INT32,
    )  # fmt: skip
    reach = int((np.abs(weight.astype(np.int64)).sum(axis=(1, 2, 3)) * 255 + np.abs(bias)).max())
    g.rescale("acc", "y", np.int8, *scaling(case, reach + 1), (0, result_zero(case)))
    return g.run(images)


def used(case: Case) -> tuple[Array, Padding]:
    """Images and padding without rows and columns that no window reaches, which TOSA refuses."""
    ends, after = [], []
    sides = zip(case.size, case.stride, case.kernel, case.padding[::2], strict=True)
    for (count, stride, kernel, before), n in zip(sides, case.images.shape[2:], strict=True):
        end = (count - 1) * stride + kernel - before
        ends.append(min(end, n))
        after.append(max(0, end - n))
    images = np.ascontiguousarray(case.images[:, :, : ends[0], : ends[1]])
    return images, (case.padding[0], after[0], case.padding[2], after[1])


def pool(case: Case, kind: str, inputs: Sequence[str], g: Made, **attributes: Any) -> Array:
    """A pool of images as they are used."""
    images, padding = used(case)
    g.add(
        kind, [g.fed("x", images), *inputs], "y", np.int8, (1, *case.size, images.shape[1]),
        kernel=case.kernel, stride=case.stride, pad=padding, **attributes,
    )  # fmt: skip
    return g.run(images)


def max_pool(case: Case) -> Array:
    """MAX_POOL2D."""
    return pool(case, "MAX_POOL2D", [], Made(case), nan_mode=1)


def average(case: Case) -> Array:
    """AVG_POOL2D from one zero point to another."""
    g = Made(case)
    zeros = [g.scalar(real.zero, np.int8) for real in case.reals]
    return pool(case, "AVG_POOL2D", zeros, g, acc_type=INT32)


def raw_average(case: Case) -> Array:
    """AVG_POOL2D of raw codes."""
    g = Made(case)
    return pool(case, "AVG_POOL2D", [g.scalar(0, np.int8)] * 2, g, acc_type=INT32)


def channels(case: Case) -> tuple[Array, Array]:
    """The operands of a sum."""
    a, b = (np.ascontiguousarray(case.images[:, i : i + 1]) for i in (0, 1))
    return a, b


def add(case: Case) -> Array:
    """Each operand by its multiplier, exactly; ADD; RESCALE."""
    (op,) = case.program.of_kind(Add)
    g, pair = Made(case), channels(case)
    parts = []
    factors = (op.multiplier_a, op.multiplier_b)
    for name, images, real, factor in zip("ab", pair, case.reals, factors, strict=False):
        m, s = lifted(factor, 0, 256)
        x = g.fed(name, images)
        parts.append(g.rescale(x, f"{name}.wide", np.int32, [m], [s], (real.zero, 0)))
    g.add("ADD", parts, "sum", np.int32, g.edges[parts[0]].shape)
    m, s = lifted(1, op.shift, 255 * sum(factors) + 1)
    g.rescale("sum", "y", np.int8, [m], [s], (0, case.reals[2].zero))
    return g.run(*pair)


def gemmlowp_add(case: Case) -> Array:
    """TFLite's sum as its compiler writes it in TOSA: 20 bits more, both at twice the larger scale,
    ADD, and the result's scale; every RESCALE in two steps."""
    a, b, y = case.reals
    twice = 2 * max(a.scale, b.scale)
    g, pair = Made(case), channels(case)
    parts = []
    for name, images, real in zip("ab", pair, case.reals, strict=False):
        x = g.fed(name, images)
        more = 30 - PRE_SHIFT
        x = g.rescale(x, f"{name}.wide", np.int32, [UNITY], [more], (real.zero, 0))
        m, s = quantized_multiplier(real.scale / twice)
        parts.append(g.rescale(x, f"{name}.part", np.int32, [m], [s]))
    g.add("ADD", parts, "sum", np.int32, g.edges[parts[0]].shape)
    m, s = quantized_multiplier(twice / ((1 << PRE_SHIFT) * y.scale))
    g.rescale("sum", "y", np.int8, [m], [s], (0, y.zero))
    return g.run(*pair)


def table(case: Case) -> Array:
    """TABLE."""
    (op,) = case.program.of_kind(Lookup)
    g = Made(case)
    x = g.fed("x", case.images)
    entries = g.constant("t", case.program.constants[op.table].array, np.int8)
    g.add("TABLE", [x, entries], "y", np.int8, g.edges[x].shape)
    return g.run(case.images)


def resize(case: Case) -> Array:
    """RESIZE to the nearest pixel: for in / out = p / q the one next to (2p * i - q) / 2q."""
    (op,) = case.program.of_kind(Upsample)
    g = Made(case)
    x = g.fed("x", case.images)
    scale, offset, border = [], [], []
    for new, old in zip(op.size, case.images.shape[2:], strict=True):
        q, p = new // np.gcd(new, old), old // np.gcd(new, old)
        scale += [2 * q, 2 * p]
        offset.append(-q)
        border.append((new - 1) * 2 * p - (old - 1) * 2 * q - q)
    inputs = [x, *(g.shape([int(v) for v in values]) for values in (scale, offset, border))]
    g.add("RESIZE", inputs, "y", np.int8, (1, *op.size, case.images.shape[1]), mode=NEAREST)
    return g.run(case.images)


def network(case: Case) -> Array:
    """The exported network; all its results in one row."""
    found = run_tosa(model(), case.program, to_tosa(case.program), case.images)
    return flat(found)


def flat(outputs: dict[str, Array]) -> Array:
    """All integers of several maps."""
    return np.concatenate([array.reshape(-1).astype(np.int64) for array in outputs.values()])
