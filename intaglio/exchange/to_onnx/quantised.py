"""A Program as an ONNX graph of quantised operators: QLinear ones, or Q/DQ pairs around float ones.

onnxruntime requantises by RNE(clamp(float32(acc + bias) * scale)) + zp. A Requant is that where the
arithmetic says so (`product` "single"), and also with RND_CONV, M a power of two, B a multiple of
M and sums below 2^24, because then float32 is exact. Zero points of operands are free: the sum of a
convolution takes them from its bias. What has no quantised operator is written as in `integer`.

Scales are those of the Program's tensors where a weight scale exists that makes the runtime's
float32 product the Program's; else 1 for both tensors. Either way the codes are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import onnx

from intaglio.exchange.to_onnx.graph import MICROSOFT, Array
from intaglio.exchange.to_onnx.integer import Writer, storage
from intaglio.fixed import IntType, round_shift
from intaglio.multiplier import Scaling, Term, scaling
from intaglio.ops import (
    Add,
    Conv2d,
    Interpolate,
    Multiply,
    Op,
    Padding,
    Requant,
    SumPool2d,
    rounding_of,
)
from intaglio.program import Program
from intaglio.sim.reference import narrowed

FLOAT_EXACT = 1 << 24
I8, U8, I32 = IntType(8, True), IntType(8, False), IntType(32, True)


def to_quantised(program: Program, *, qdq: bool) -> onnx.ModelProto:
    """The checked model of `qdq`, or of QLinear operators.

    Raises ProgramError naming the operation that the runtime cannot do on the same integers.
    """
    writer = QuantisedWriter(program, qdq)
    for op in program.ops:
        writer.add(op)
    return writer.graph.model(program, "qdq" if qdq else "qlinear")


class QuantisedWriter(Writer):
    """Requants together with the sums they read, as one quantised operator."""

    def __init__(self, program: Program, qdq: bool) -> None:
        super().__init__(program)
        self.qdq = qdq
        self.single = getattr(program.arithmetic, "product", "exact") == "single"

    def add(self, op: Op) -> None:
        """Sums and products that only Requants read are written with those."""
        readers = self.program.consumers[op.output]
        sums = isinstance(op, (Conv2d, SumPool2d, Multiply))
        part = sums and all(isinstance(r, Requant) for r in readers)
        if isinstance(op, Requant):  # the product in float32 before its zero point
            part = all(self.product_of(r) is not None for r in readers)
        if not (part and readers):
            super().add(op)

    def refuse(self, op: Op, reason: str) -> Exception:
        return op.refuse(f"{reason}; use --form integer, or quantise with arithmetic onnxruntime.")

    # --- Requant ---

    def requant(self, op: Requant) -> None:
        source = self.program.producer[op.input]
        if isinstance(source, Interpolate):
            self.rounded_sum(op)
            return
        channels = self.program.tensors[op.input].shape[0]
        fields: dict[str, Any] = {"group": channels}
        weight, x = np.ones((channels, 1, 1, 1), dtype=np.int64), op.input
        outside: tuple[int, ...] = (0,)
        pads: Padding = (0, 0, 0, 0)
        if isinstance(source, Conv2d) and narrowed(source, self.program) is not None:
            raise self.refuse(source, "its accumulator must be as wide as proved")
        if isinstance(source, (Conv2d, SumPool2d)):
            x, pads, kernel = source.input, source.padding, self.program.kernel(source)
            weight, outside = kernel.array, source.outside(self.program.tensors[x])
            fields = {
                "group": kernel.groups,
                "strides": source.stride,
                "dilations": source.dilation,
            }
        if isinstance(source, Multiply):
            raise self.refuse(op, "a product of two maps must have one factor and no summand")
        if self.program.tensors[x].type.bits > 8:
            raise self.refuse(op, "its operand must have at most 8 bits")
        if any(pads) and len(set(outside)) > 1:
            x_padded = self.pad(x, pads, outside, f"{op.output}.padded")
            self.quantised_conv(op, x, x_padded, weight, (0, 0, 0, 0), 0, fields)
        else:
            self.quantised_conv(op, x, x, weight, pads, outside[0] if any(pads) else None, fields)

    def rounded_sum(self, op: Requant) -> None:
        """The sum of a resize, which no operator of codes has: integers to the bias, float32 to the
        code; as exact integers where products are not in float32."""
        if not self.single:
            super().requant(op)
            return
        graph, out, constants = self.graph, op.output, self.program.constants
        channels = self.program.tensors[op.input].shape[0]
        m, b, s = (
            np.resize(np.asarray(v).reshape(-1), channels)
            for v in (constants[op.multiplier].array, constants[op.bias].array, op.shift)
        )
        wide = self.wide(op.input, f"{out}.wide")
        total = self.plus(wide, f"{out}.sum", b)
        real = self.cast(total, np.dtype(np.float32), f"{out}.float")
        factor = (m / 2.0**s).astype(np.float32)[None, :, None, None]
        scale = graph.constant(f"{out}.factor", factor, np.float32)
        product = graph.node("Mul", [real, scale], f"{out}.real")
        near = graph.node("Round", [product], f"{out}.near")
        codes = self.cast(near, np.dtype(np.int64), f"{out}.nearest")
        codes = self.plus(codes, f"{out}.offset", np.array([op.offset]))
        ends = [self.scalar(op.lo), self.scalar(op.hi)]
        codes = graph.node("Clip", [codes, *ends], f"{out}.clamped")
        self.cast(codes, storage(self.program.tensors[out].type), out)

    def quantised_conv(
        self,
        op: Requant,
        x: str,
        source: str,
        weight: Array,
        pads: Padding,
        outside: int | None,
        fields: dict[str, Any],
    ) -> None:
        """QLinearConv, or Conv between Q and DQ, and Clip where the clamp is no type's."""
        graph, out, program = self.graph, op.output, self.program
        scale, bias, weight = self.factors(op, weight)
        x_type = storage(program.tensors[x].type)
        zero = program.tensors[x].zero_point[0] if outside is None else outside
        if not (I8 if x_type == np.int8 else U8).holds(zero, zero):
            zero = 0
        bias = bias + zero * weight.sum(axis=(1, 2, 3))
        w_type = U8 if weight.max() > I8.hi and x_type == np.uint8 else I8
        if not w_type.holds(int(weight.min()), int(weight.max())):
            raise self.refuse(op, f"weights must fit into {w_type}")
        if not I32.holds(int(bias.min()), int(bias.max())):
            raise self.refuse(op, "its bias must fit into i32")
        y_type = self.output_type(op)
        moved = int(x_type == np.uint8) * 128 - int(y_type == np.uint8) * 128
        moved = 0 if x_type == y_type else moved  # the runtime has one type for both
        xs, ws, ys = self.scales(x, out, scale)
        kind = np.int8 if w_type == I8 else np.uint8
        names = {
            "w": graph.constant(f"{out}.weight", weight, kind),
            "ws": graph.constant(f"{out}.weight_scale", ws, np.float32),
            "wz": graph.constant(f"{out}.weight_zero", np.zeros(len(ws)), kind),
            "b": graph.constant(f"{out}.bias", bias, np.int32),
            "xs": graph.constant(f"{out}.x_scale", xs, np.float32),
            "xz": graph.constant(f"{out}.x_zero", zero, x_type),
            "ys": graph.constant(f"{out}.scale", ys, np.float32),
            "yz": graph.constant(f"{out}.zero", op.offset + moved, x_type),
        }
        fields = fields | {
            "kernel_shape": weight.shape[2:],
            "pads": [pads[0], pads[2], pads[1], pads[3]],
        }
        whole = IntType(8, y_type == np.int8)
        clip = (op.lo, op.hi) != (whole.lo, whole.hi)
        made = f"{out}.whole" if clip or moved else out
        if self.qdq:
            unit = graph.constant(f"{out}.bias_scale", np.float32(xs) * ws, np.float32)
            none = graph.constant(f"{out}.bias_zero", np.zeros(len(ws)), np.int32)
            parts = [
                self.dequantised([source, names["xs"], names["xz"]], f"{out}.x"),
                self.dequantised([names["w"], names["ws"], names["wz"]], f"{out}.w", 0),
                self.dequantised([names["b"], unit, none], f"{out}.b", 0),
            ]
            y = graph.node("Conv", parts, f"{out}.real", **fields)
            graph.node("QuantizeLinear", [y, names["ys"], names["yz"]], made)
        else:
            inputs = [source, *(names[n] for n in ("xs", "xz", "w", "ws", "wz", "ys", "yz", "b"))]
            graph.node("QLinearConv", inputs, made, **fields)
        if moved:
            made = self.move(made, -moved, y_type, f"{out}.signed" if clip else out)
        if clip:
            self.clip(made, op, y_type)

    def move(self, x: str, distance: int, kind: Any, output: str) -> str:
        """8-bit codes of the other sign: the runtime has one type for operands and result."""
        wide = self.cast(x, np.dtype(np.int64), f"{output}.wide")
        wide = self.plus(wide, f"{output}.shifted", np.array([distance]))
        return self.cast(wide, kind, output)

    def dequantised(self, inputs: Sequence[str], name: str, axis: int = 1) -> str:
        return self.graph.node("DequantizeLinear", inputs, name, axis=axis)

    def clip(self, made: str, op: Requant | Add, kind: Any) -> None:
        ends = [self.graph.constant(f"{kind}/{v}", v, kind) for v in (op.lo, op.hi)]
        self.graph.node("Clip", [made, *ends], op.output)

    def output_type(self, op: Requant | Add) -> Any:
        """The runtime's type of the result."""
        type = self.program.tensors[op.output].type
        kind = storage(type)
        if type.bits > 8:
            raise self.refuse(op, f"its result must have at most 8 bits, not {type}")
        if not IntType(8, type.signed).holds(min(op.offset, op.lo), max(op.offset, op.hi)):
            raise self.refuse(op, "its zero point and clamp must be codes of its result")
        return kind

    def factors(self, op: Requant, weight: Array) -> tuple[Array, Array, Array]:
        """float32 scale above 0, integer bias, and weights of every output channel; negative
        factors go into the weights."""
        program, count = self.program, len(weight)
        m = np.resize(program.constants[op.multiplier].array.reshape(-1), count)
        b = np.resize(program.constants[op.bias].array.reshape(-1), count)
        s = np.resize(np.array(op.shift), count)
        acc = program.tensors[op.input]
        if not self.single:
            if rounding_of(op, program.arithmetic) != "RND_CONV":
                raise self.refuse(op, "the runtime rounds to even (RND_CONV), unlike the Program")
            for mc, bc, sc in zip(m, b, s, strict=True):
                if mc and (abs(int(mc)).bit_count() > 1 or bc % mc):
                    raise self.refuse(op, "M must be a power of two and B a multiple of it")
                if not mc and bc % (1 << int(sc)) and 2 * abs(int(bc)) > 1 << int(sc):
                    raise self.refuse(op, "B must be a whole code where M is 0")
                added = abs(int(bc) // int(mc)) if mc else abs(int(bc) >> int(sc))
                reach = max(abs(acc.lo), abs(acc.hi)) + added
                if reach > FLOAT_EXACT:
                    raise self.refuse(op, f"its sums must be below 2^24, not {reach}")
        sign, pairs = np.sign(m), list(zip(m.tolist(), b.tolist(), s.tolist(), strict=True))
        scale = np.array([abs(mc) / (1 << sc) if mc else 1.0 for mc, _, sc in pairs])
        if self.single:
            bias = b * sign
        else:  # without weights, the bias is the code itself
            bias = np.array(
                [bc // mc * np.sign(mc) if mc else round_shift(bc, sc, "RND_CONV")
                 for mc, bc, sc in pairs]
            )  # fmt: skip
        return scale.astype(np.float32), bias, weight * sign[:, None, None, None]

    def scales(self, x: str, y: str, scale: Array) -> tuple[float, Array, float]:
        """(xs, ws, ys) for which the runtime's float32(float32(xs * ws) / ys) is `scale`."""
        xs, ys = (np.float32(self.program.tensors[n].scale) for n in (x, y))
        if xs > 0 and ys > 0:
            ws = (scale * ys / xs).astype(np.float32)
            bits = ws.view(np.int32)
            with np.errstate(all="ignore"):
                for ulp in range(-4, 5):
                    near = (bits + np.int32(ulp)).view(np.float32)
                    hit = (xs * near).astype(np.float32) / ys == scale
                    ws = np.where(hit, near, ws)
                if np.array_equal((xs * ws).astype(np.float32) / ys, scale) and np.all(ws > 0):
                    return float(xs), ws, float(ys)
        return 1.0, scale, 1.0

    # --- Multiply ---

    def product_of(self, op: Op) -> tuple[Multiply, np.float32, int] | None:
        """The product, ratio and zero point of a sum that is QLinearMul (`onnxruntime_gate`)."""
        program = self.program
        if not isinstance(op, Add) or (op.multiplier_a, op.multiplier_b, op.offset) != (0, 1, 0):
            return None
        scaled = program.producer[op.b]
        product = program.producer[scaled.inputs[0]] if isinstance(scaled, Requant) else None
        if not isinstance(scaled, Requant) or not isinstance(product, Multiply):
            return None
        (m, b), zero = (program.constants[n].array for n in scaled.constants), op.bias >> op.shift
        whole = (m.size, b.size, scaled.shift, zero << op.shift) == (1, 1, (0,), op.bias)
        if not (self.single and whole and not b.any() and m.min() > 0):
            return None
        return product, np.float32(int(m[0]) / (1 << op.shift)), zero

    def multiplied(self, op: Add, product: Multiply, ratio: np.float32, zero: int) -> None:
        """QLinearMul, or Mul between Q and DQ."""
        op = replace(op, offset=zero)
        self.check_pair(op, product.inputs)
        operands = (product.a, ratio, product.zero_a), (product.b, 1, product.zero_b)
        self.paired(op, "Mul", operands, zero)

    # --- Add ---

    def sum(self, op: Add) -> None:
        if (found := self.product_of(op)) is not None:
            self.multiplied(op, *found)
            return
        self.check_pair(op, op.inputs)
        sa, sb, za, zb, zc = self.operands(op)
        self.paired(op, "Add", ((op.a, sa, za), (op.b, sb, zb)), zc)

    def check_pair(self, op: Add, names: Sequence[str]) -> None:
        """Result and operands must be codes of at most 8 bits."""
        self.output_type(op)
        if max(self.program.tensors[n].type.bits for n in names) > 8:
            raise self.refuse(op, "its operands must have at most 8 bits")

    def paired(
        self, op: Add, kind: str, operands: Sequence[tuple[str, Any, int]], zero: int
    ) -> None:
        """QLinearAdd or QLinearMul of two tensors by their scales and zero points, to a result of
        scale 1; or Add or Mul between Q and DQ."""
        graph, out = self.graph, op.output
        y_type = self.output_type(op)
        moved, inputs = (128 if y_type == np.uint8 else -128), []
        for n, (name, factor, point) in zip("ab", operands, strict=True):
            other = storage(self.program.tensors[name].type) != y_type
            source = self.move(name, moved, y_type, f"{out}.{n}_moved") if other else name
            step = graph.constant(f"{out}.{n}_scale", factor, np.float32)
            start = graph.constant(f"{out}.{n}_zero", point + moved * other, y_type)
            inputs.append([source, step, start])
        scale = graph.constant(f"{out}.scale", 1, np.float32)
        end = graph.constant(f"{out}.zero", zero, y_type)
        whole = IntType(8, y_type == np.int8)
        clip = (op.lo, op.hi) != (whole.lo, whole.hi)
        made = f"{out}.whole" if clip else out
        if self.qdq:
            reals = [self.dequantised(i, f"{out}.{n}") for n, i in zip("ab", inputs, strict=True)]
            y = graph.node(kind, reals, f"{out}.real")
            graph.node("QuantizeLinear", [y, scale, end], made)
        else:
            graph.node(f"QLinear{kind}", [*inputs[0], *inputs[1], scale, end], made, MICROSOFT)
        if clip:
            self.clip(made, op, y_type)

    def operands(self, op: Add) -> tuple[float, float, int, int, int]:
        """Scales of both operands and all three zero points, at a result scale of 1."""
        a, b, y = (self.program.tensors[n] for n in (op.a, op.b, op.output))
        ma, mb, one = op.multiplier_a, op.multiplier_b, 1 << op.shift
        sa, sb = ma / one, mb / one
        if min(ma, mb) <= 0:
            raise self.refuse(op, "its factors must be positive")
        if self.single:
            za, zb, zc = a.zero_point[0], b.zero_point[0], y.zero_point[0]
            reach = tuple(max(abs(t.lo), abs(t.hi)) for t in (a, b))
            term = Term((Fraction(sa), Fraction(sb)), (za, zb), reach, Fraction(0))
            if scaling([term], zc, self.program.arithmetic, op.output) == Scaling(
                (ma, mb), (op.bias,), op.shift, op.offset
            ):
                return sa, sb, za, zb, zc
            raise self.refuse(op, "its B must come from the zero points of its tensors")
        if self.program.arithmetic.rounding != "RND_CONV" or op.offset % 2:
            raise self.refuse(op, "it must round to even, with an even offset")
        if ma.bit_count() > 1 or mb.bit_count() > 1 or max(ma, mb) << 8 > FLOAT_EXACT:
            raise self.refuse(op, "its factors must be powers of two")
        total = op.bias + op.offset * one
        sides = [IntType(8, t.type.signed) for t in (a, b, y)]
        for zc in range(sides[2].lo, sides[2].hi + 1):
            for za in range(sides[0].lo, sides[0].hi + 1):
                zb, rest = divmod(zc * one - total - ma * za, mb)
                if not rest and sides[1].holds(zb, zb):
                    return sa, sb, za, zb, zc
        raise self.refuse(op, "its B must come from zero points of its tensors")
