"""A small Program for each operation, to see what the exporters make of it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from intaglio import ops, quantize
from intaglio.exchange.to_onnx.integer import to_integer
from intaglio.exchange.to_onnx.quantised import to_quantised
from intaglio.exchange.to_tflite.tflite import to_tflite
from intaglio.exchange.to_tosa.tosa import to_tosa
from intaglio.fixed import PRESETS, IntType
from intaglio.forms import (
    Real,
    gemmlowp_add,
    onnxruntime_gate,
    quantized_multiplier,
    tflite_interpolation,
)
from intaglio.ops.interpolation import between, half_pixel
from intaglio.program import Builder, Program

SHAPE = (4, 6, 8)
U8, I8 = IntType(8, False), IntType(8, True)


def requant(builder: Builder, x: str, output: str) -> str:
    """x / 4 as u8, halves up: an M that is a power of two, as TFLite has it or 1, and no B."""
    tflite = builder.arithmetic.forms == "tflite"
    m, shift = quantized_multiplier(0.25) if tflite else (1, 2)
    table = {"multiplier": builder.constant("m", [m]), "bias": builder.constant("b", [0])}
    op = ops.Requant(output=output, input=x, **table, shift=(shift,), lo=0, hi=255)
    return builder.add(op, U8, scale=4.0 if tflite else 1.0, zero_point=(0,))


def interpolated(builder: Builder, x: str) -> str:
    """Twice the size: in TFLite's form where the arithmetic has it."""
    if builder.arithmetic.forms == "tflite":
        return tflite_interpolation(builder, "made", x, (12, 16), aligned=False, half=True)
    rows, columns = (between(half_pixel(n, 2 * n), n) for n in SHAPE[1:])
    op = ops.Interpolate(output="made", input=x, rows=rows, columns=columns)
    return requant(builder, builder.add(op), "codes")


def appended(builder: Builder, kind: type[ops.Op]) -> str:
    """One operation of this kind behind "image", and the Requant that its sums need."""
    x, shape = "image", {"output": "made", "input": "image"}
    if kind is ops.Conv2d:
        weight = builder.constant("w", np.arange(-72, 72).reshape(4, 4, 3, 3) % 13 - 6, I8)
        x = builder.add(ops.Conv2d(**shape, weight=weight, padding=(1, 1, 1, 1)))
        return requant(builder, x, "codes")
    if kind is ops.SumPool2d:
        x = builder.add(ops.SumPool2d(**shape, kernel=(2, 2), stride=(2, 2)))
        return requant(builder, x, "codes")
    if kind is ops.Multiply:
        x = builder.add(ops.Multiply(output="made", a=x, b=x))
        if builder.arithmetic.product == "single":
            ratio, real = np.float32(0.25), Real(4.0, 0)
            return onnxruntime_gate(builder, "codes", x, ratio, real, 0, 255, type=U8)
        return requant(builder, x, "codes")
    if kind is ops.Interpolate:
        return interpolated(builder, x)
    if kind is ops.Requant:
        return requant(builder, x, "made")
    if kind is ops.Add and builder.arithmetic.forms == "tflite":
        real = Real(1.0, 0)
        return gemmlowp_add(builder, "made", x, x, (real, real, real), 0, 255, type=U8)
    if kind is ops.Add:
        shift = max(1, builder.arithmetic.shift_range[0])
        half = {"multiplier_a": 1 << shift - 1, "multiplier_b": 1 << shift - 1, "shift": shift}
        return builder.add(ops.Add(output="made", a=x, b=x, **half, bias=0, lo=0, hi=255), U8)
    made: dict[type[ops.Op], Callable[[], ops.Op]] = {
        ops.MaxPool2d: lambda: ops.MaxPool2d(**shape, kernel=(2, 2), stride=(2, 2)),
        ops.Upsample: lambda: ops.Upsample(**shape, size=(12, 16)),
        ops.Concat: lambda: ops.Concat(output="made", parts=(x, x)),
        ops.Pad: lambda: ops.Pad(**shape, padding=(1, 1, 1, 1), value=0),
        ops.Lookup: lambda: ops.Lookup(**shape, table=builder.constant("t", range(255, -1, -1))),
        ops.Select: lambda: ops.Select(**shape, channels=(3, -1, 0), value=7),
        ops.Crop: lambda: ops.Crop(**shape, rows=(1, 6, 2), columns=(0, 8, 2)),
        ops.SpaceToDepth: lambda: ops.SpaceToDepth(**shape, block=(2, 2)),
        ops.DepthToSpace: lambda: ops.DepthToSpace(**shape, block=(2, 2)),
    }
    return builder.add(made[kind](), U8) if kind in made else x


def sample(kind: type[ops.Op], preset: str = "intaglio") -> Program:
    """A Program of an Input, one operation and an Output."""
    builder = Builder(PRESETS[preset])
    builder.add(ops.Input(output="image", shape=SHAPE, type=U8))
    builder.add(ops.Output(output="result", input=appended(builder, kind)))
    return builder.build()


@cache
def quantised(preset: str) -> Program:
    """Two convolutions with biases and a ReLU, in 8 bits, in an arithmetic."""
    from torch import nn

    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    rng = np.random.default_rng(0)
    for tensor in net.state_dict().values():
        tensor.copy_(tensor.new_tensor(rng.normal(0, 0.3, tensor.shape)))
    images = rng.integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
    config = {"wbits": 8, "abits": 8, "output_bits": 8, "method": "minmax", "compensate": False}
    return quantize(net.eval(), images, arithmetic=PRESETS[preset], **config)


def names(written: Any) -> Counter[str]:
    """The operators of a graph, and how many there are of each."""
    if hasattr(written, "kinds"):
        return Counter(written.kinds)
    graph = getattr(written, "graph", written)
    nodes = getattr(graph, "node", None) or graph.nodes
    found = [getattr(node, "op_type", None) or node.kind for node in nodes]
    return Counter(name for name in found if name not in ("CONST", "CONST_SHAPE"))


@dataclass(frozen=True)
class Export:
    """A way out, which raises ProgramError for what it cannot say; an arithmetic made for it."""

    title: str
    write: Callable[[Program], Any]
    preset: str


EXPORTS = (
    Export("ONNX `integer`", to_integer, "intaglio"),
    Export("ONNX `qlinear`", lambda program: to_quantised(program, qdq=False), "onnxruntime"),
    Export("ONNX `qdq`", lambda program: to_quantised(program, qdq=True), "onnxruntime"),
    Export("TOSA", to_tosa, "tosa"),
    Export("TFLite", to_tflite, "tflite"),
)
