"""ONNX files of one operator, drawn for every version of every operator that the importer reads.

A case is x -> QuantizeLinear -> DequantizeLinear -> the operator -> QuantizeLinear. Scales are
powers of two, so that onnxruntime's float32 is exact wherever the operator's arithmetic is. `draw`
makes a valid case of numbers from one generator; tests change single attributes and inputs of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.random import Generator
from onnx import TensorProto, helper, numpy_helper

from intaglio.exchange.from_onnx.operators import MICROSOFT, STANDARD, TABLE

Array = Any
ROWS = [(r, v) for r in TABLE if not r.refused for v in r.versions]


@dataclass(frozen=True)
class Act:
    """An activation: 0 is what the image's codes stand for, others are made of it, coarser."""

    number: int = 0


@dataclass(frozen=True)
class Raw:
    """The image's codes."""

    number: int = 0


@dataclass(frozen=True)
class Weight:
    """Constant codes behind DequantizeLinear; `real`: floats near them, quantised in the file."""

    codes: Array
    scale: Array
    zero: Array | None = None
    axis: int = 0
    real: bool = False


Operand = Any  # Act, Raw, Weight, an array, or None where it is left out


@dataclass(frozen=True)
class Case:
    """One node and what surrounds it. `made` is the type of what it makes."""

    kind: str
    opset: int
    inputs: tuple[Operand, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    domain: str = STANDARD
    shape: tuple[int, int, int] = (3, 6, 5)
    scale: float = 2.0**-4
    zero: int = 128
    out_scale: float = 2.0**-4
    out_zero: int = 128
    made: str = "float"  # or "codes"
    then: tuple[tuple[str, tuple[Operand, ...], dict[str, Any]], ...] = ()  # nodes behind it
    feeds: str = ""  # the node that reads the first activation and the result
    flat: bool = False  # the operator reads N x C

    def model(self, real: bool = False) -> bytes:
        """The file. Its input is x and its output y; `real` adds what y is quantised of."""
        return Writer(self).model(real).SerializeToString()


class Writer:
    """Writes a case down."""

    def __init__(self, case: Case) -> None:
        self.case, self.nodes, self.constants = case, [], []
        self.old = case.opset < 10  # the quantisers are in the runtime's own domain then
        self.acts: dict[Any, str] = {}

    def constant(self, value: Any) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, domain: str = "", **a: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], domain=domain, name=output, **a))
        return output

    def grid(self, n: int) -> list[str]:
        c = self.case
        return [self.constant(np.float32(c.scale * 2**n)), self.constant(np.uint8(c.zero))]

    def act(self, n: int) -> str:
        """The n-th activation; those above 0 are bounds of the first on a coarser scale."""
        domain = MICROSOFT if self.old else ""
        if n not in self.acts:
            source = "x" if n == 0 else self.node("Relu", [self.act(0)], f"relu{n}")
            grid = self.grid(n)
            q = self.node("QuantizeLinear", [source, *grid], f"q{n}", domain)
            self.acts["raw", n] = q
            self.acts[n] = self.node("DequantizeLinear", [q, *grid], f"a{n}", domain)
        return self.acts[n]

    def operand(self, value: Operand) -> str:
        if value is None:
            return ""
        if isinstance(value, (Act, Raw)):
            real = self.act(value.number)
            name = real if isinstance(value, Act) else self.acts["raw", value.number]
            return self.node("Flatten", [name], f"flat.{name}") if self.case.flat else name
        if isinstance(value, Weight):
            scale = self.constant(np.asarray(value.scale, np.float32))
            zero = value.zero
            if value.real and zero is None:
                zero = np.zeros(np.shape(value.scale), value.codes.dtype)
            tail = [scale] if zero is None else [scale, self.constant(zero)]
            axis = {"axis": value.axis} if np.size(value.scale) > 1 else {}
            old = self.case.opset < 13
            codes = self.constant(value.codes)
            if value.real:
                lines = [1] * value.codes.ndim
                if axis:
                    lines[value.axis] = -1
                gaps = np.resize([0.4, -0.5, 0.5, 0.25, 200], value.codes.shape)
                reals = (value.codes + gaps) * np.reshape(value.scale, lines)
                reals = reals.astype(np.float32)
                codes = self.node(
                    "QuantizeLinear", [self.constant(reals), *tail], f"w{len(self.nodes)}",
                    MICROSOFT if old else "", **axis,
                )  # fmt: skip
            names = [codes, *tail]
            return self.node(
                "DequantizeLinear", names, f"w{len(self.nodes)}", MICROSOFT if old else "", **axis
            )
        return self.constant(value)

    def model(self, real: bool) -> Any:
        case = self.case
        names = [self.operand(v) for v in case.inputs]
        if "x" not in {n for node in self.nodes for n in node.input}:
            self.act(0)
        then = case.then
        if case.feeds:
            then = ((case.feeds, (Act(),), {}), *then)
        last = "y.real" if case.made == "float" else "y"
        made = [*(f"between{n}" for n in range(len(then))), last]
        self.nodes.append(
            helper.make_node(
                case.kind, names, made[:1], domain=case.domain, name="it", **case.attributes
            )
        )
        for n, (kind, more, fields) in enumerate(then):
            others = [self.operand(v) for v in more]
            first = [*others, made[n]] if case.feeds and n == 0 else [made[n], *others]
            self.node(kind, first, made[n + 1], **fields)
        results = ["y"]
        if case.made == "float":
            grid = [
                self.constant(np.float32(case.out_scale)),
                self.constant(np.uint8(case.out_zero)),
            ]
            self.node("QuantizeLinear", ["y.real", *grid], "y", MICROSOFT if self.old else "")
        results += ["y.real"] if real and case.made == "float" else []
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *case.shape])],
            [helper.make_empty_tensor_value_info(n) for n in results],
            self.constants,
        )
        sets = [helper.make_opsetid("", case.opset), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=sets, ir_version=10)


def opset(version: int) -> int:
    """A set in which an operator of this version is the newest."""
    return max(version, 7)


def power(r: Generator, low: int = -8, high: int = -3) -> Array:
    """A scale that is a power of two."""
    return np.float32(2.0 ** int(r.integers(low, high, endpoint=True)))


def powers(r: Generator, n: int) -> Array:
    """A scale for each channel, or one."""
    if r.random() < 0.5:
        return power(r)
    return np.array([power(r) for _ in range(n)], np.float32)


def pick(r: Generator, *values: Any) -> Any:
    return values[int(r.integers(len(values)))]


def ints(r: Generator, low: int, high: int, shape: Any, kind: Any) -> Array:
    return r.integers(low, high, shape, endpoint=True).astype(kind)


def steps(r: Generator, case: Case, kernel: tuple[int, int], given: set[str]) -> dict[str, Any]:
    """Random attributes of a window, out of those given."""
    fields: dict[str, Any] = {}
    if r.random() < 0.6:
        fields["strides"] = [int(v) for v in r.integers(1, 3, 2)]
    if "dilations" in given and r.random() < 0.4:
        fields["dilations"] = [int(v) for v in r.integers(1, 2, 2, endpoint=True)]
    if r.random() < 0.3:
        fields["auto_pad"] = pick(r, "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
    elif r.random() < 0.6:
        fields["pads"] = [int(r.integers(0, kernel[n % 2])) for n in range(4)]
    return fields


def conv(kind: str, version: int, r: Generator) -> Case:
    group = pick(r, 1, 1, 2)
    channels, out = 4, 6
    kernel = tuple(int(v) for v in r.integers(1, 3, 2, endpoint=True))
    codes = ints(r, -16, 15, (out, channels // group, *kernel), np.int8)
    zero = int(r.integers(100, 156))
    case = Case(kind, opset(version), (), shape=(channels, 7, 6), zero=zero,
                out_scale=2.0**-2)  # fmt: skip
    a = steps(r, case, kernel, {"dilations"})
    if group > 1:
        a["group"] = group
    if r.random() < 0.5:
        a["kernel_shape"] = list(kernel)
    bias = ints(r, -500, 500, out, np.int32)
    scale = powers(r, out)
    if kind == "Conv":
        weight = Weight(codes, scale, real=r.random() < 0.3)
        inputs: tuple[Operand, ...] = (Act(), weight)
        if r.random() < 0.6:
            real = bias * (np.float32(case.scale) * scale)
            inputs += (real.astype(np.float32),)
        return replace(case, inputs=inputs, attributes=a)
    if kind == "ConvInteger":
        zeros = (np.uint8(zero), np.int8(r.integers(-3, 3)))
        return replace(
            case, inputs=(Raw(), codes, *zeros[: int(r.integers(0, 3))]), attributes=a, made="codes"
        )
    inputs = (Raw(), np.float32(case.scale), np.uint8(zero), codes, scale,
              np.zeros(np.shape(scale), np.int8), np.float32(0.25), np.uint8(r.integers(90, 160)),
              bias)  # fmt: skip
    return replace(
        case, inputs=inputs[: int(r.integers(8, 10))], attributes=a, made="codes", opset=13
    )


def matrix(kind: str, version: int, r: Generator) -> Case:
    channels, out = 6, 5
    zero = int(r.integers(100, 156))
    case = Case(kind, opset(version), (), shape=(channels, 1, 1), zero=zero, out_scale=2.0**-2,
                flat=True)  # fmt: skip
    turned = kind in ("Gemm", "QGemm") and bool(r.integers(0, 2))
    codes = ints(r, -30, 30, (out, channels) if turned else (channels, out), np.int8)
    scale = powers(r, out)
    weight = Weight(codes, scale, None, 0 if turned else 1, r.random() < 0.3)
    if kind == "Gemm":
        a: dict[str, Any] = {"transB": 1} if turned else {}
        if r.random() < 0.3:
            a["alpha"] = pick(r, 0.5, 2.0)
        if r.random() < 0.3:
            a["beta"] = pick(r, 0.5, 2.0, 0.0)
        whole = ints(r, -40, 40, pick(r, (out,), (1, out), (1,), ()), np.int32)
        inputs: tuple[Operand, ...] = (Act(), weight, (whole / 8).astype(np.float32))
        return replace(case, inputs=inputs, attributes=a)
    if kind == "MatMul":
        return replace(case, inputs=(Act(), weight))
    if kind == "MatMulInteger":
        zeros = (np.uint8(zero), np.int8(r.integers(-3, 3)))
        return replace(case, inputs=(Raw(), codes, *zeros[: int(r.integers(0, 3))]), made="codes")
    inputs = (Raw(), np.float32(case.scale), np.uint8(zero), codes, np.float32(power(r)),
              np.int8(r.integers(-3, 3)), np.float32(0.25),
              np.uint8(r.integers(90, 160)))  # fmt: skip
    if kind == "QGemm":
        bias = ints(r, -400, 400, out, np.int32) if r.random() < 0.7 else None
        inputs = (*inputs[:6], bias, *inputs[6:])
        return replace(
            case, inputs=inputs, made="codes", opset=13, domain=MICROSOFT,
            attributes={"transB": 1} if turned else {},
        )  # fmt: skip
    return replace(case, inputs=inputs, made="codes")


def norm(kind: str, version: int, r: Generator) -> Case:
    gain = np.array([pick(r, 0.5, 1, -2, 0.25) for _ in range(3)], np.float32)
    shift = (ints(r, -20, 20, 3, np.int32) / 8).astype(np.float32)
    mean = (ints(r, -8, 8, 3, np.int32) / 4).astype(np.float32)
    var = np.array([pick(r, 0.25, 1, 4) for _ in range(3)], np.float32)
    a: dict[str, Any] = {"epsilon": 0.0} if r.random() < 0.5 else {}
    if r.random() < 0.3:
        a["momentum"] = 0.5
    return Case(kind, opset(version), (Act(), gain, shift, mean, var), a)


def pool(kind: str, version: int, r: Generator) -> Case:
    own = kind.startswith("QLinear")
    case = Case(kind, opset(version), (Act(),), shape=(2, 8, 7), zero=int(r.integers(90, 160)))
    a: dict[str, Any] = {}
    if kind in ("MaxPool", "AveragePool", "QLinearAveragePool"):
        kernel = tuple(int(v) for v in r.integers(1, 3, 2, endpoint=True))
        known = next(x.attributes for x, v in ROWS if x.kind == kind and v == version)
        a = {"kernel_shape": list(kernel)} | steps(r, case, kernel, set(known))
        if "ceil_mode" in known and r.random() < 0.4:
            a["ceil_mode"] = 1
        if "count_include_pad" in known and r.random() < 0.7:
            a["count_include_pad"] = 1
        if kind == "MaxPool" and version >= 12 and r.random() < 0.3:
            return replace(case, inputs=(Raw(),), attributes=a, made="codes")
    if own:
        grids = (np.float32(case.scale), np.uint8(case.zero), np.float32(0.125), np.uint8(99))
        return replace(
            case, inputs=(Raw(), *grids), attributes=a, domain=MICROSOFT, opset=13, made="codes"
        )
    return replace(case, attributes=a)


def mean(kind: str, version: int, r: Generator) -> Case:
    axes = pick(r, [2, 3], [-1, -2], [3, 2])
    a: dict[str, Any] = {} if r.random() < 0.4 else {"keepdims": int(r.integers(0, 2))}
    if version < 18:
        return Case(kind, opset(version), (Act(),), a | {"axes": axes})
    return Case(kind, opset(version), (Act(), np.array(axes, np.int64)), a)


MODES = (
    "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "asymmetric", "asymmetric",
    "half_pixel_symmetric",
)  # fmt: skip


def resize(kind: str, version: int, r: Generator) -> Case:
    shape = (2, int(r.integers(1, 8)), int(r.integers(1, 8)))
    case = Case(kind, opset(version), (), shape=shape)
    whole = r.random() < 0.4
    sides = [float(r.integers(1, 4)) if whole else float(np.float32(r.uniform(1, 4)))
             for _ in range(2)]  # fmt: skip
    scales = np.array([1, 1, *sides], np.float32)
    source: Operand = Act() if r.random() < 0.8 or version < 11 else Raw()
    made = "float" if isinstance(source, Act) else "codes"
    if kind == "Upsample" and version == 7:
        return replace(case, inputs=(source,), attributes={"scales": scales.tolist()})
    if version < 11:
        return replace(case, inputs=(source, scales))
    near = pick(r, "floor", "floor", "floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
    a: dict[str, Any] = {"nearest_mode": near}
    if r.random() < 0.25:
        a["mode"] = "linear"
    mode = pick(r, *MODES[: len(MODES) if version >= 19 else -1])
    a["coordinate_transformation_mode"] = mode
    sizes = np.array([1, 2, *(int(n * s) for n, s in zip(shape[1:], sides, strict=True))], np.int64)
    none = np.zeros(0, np.float32)
    roi = None if version >= 13 else none
    empty = None if version >= 13 else none
    if version >= 18 and r.random() < 0.3:
        a["axes"] = [3, 2]
        scales, sizes = scales[[3, 2]], sizes[[3, 2]]
    tail = (scales,) if r.random() < 0.6 else (empty, sizes)
    return replace(case, inputs=(source, roi, *tail), attributes=a, made=made)


def pad(kind: str, version: int, r: Generator) -> Case:
    case = Case(kind, opset(version), (), shape=(2, 5, 4), zero=int(r.integers(90, 160)))
    sides = [int(v) for v in r.integers(0, 3, 4)]
    pads = [0, 0, *sides[:2], 0, 0, *sides[2:]]
    value = pick(r, 0.0, 0.0, 0.25, 0.3, -100.0, 100.0, -np.inf, np.inf)
    then = (("MaxPool", (), {"kernel_shape": [3, 3]}),)
    case = replace(case, then=pick(r, (), (), then))
    if version < 11:
        return replace(case, inputs=(Act(),), attributes={"pads": pads, "value": float(value)})
    fill: Operand = np.float32(value)
    source: Operand = Act()
    if version >= 13 and r.random() < 0.3:
        source, fill, case = Raw(), np.uint8(r.integers(0, 256)), replace(case, then=())
        case = replace(case, made="codes")
    if version >= 18 and r.random() < 0.6:
        order = [int(v) for v in r.permutation(4)]
        signed = [n - 4 if r.random() < 0.5 else n for n in order]
        moved = [pads[n] for n in order] + [pads[n + 4] for n in order]
        return replace(
            case, inputs=(source, np.array(moved, np.int64), fill, np.array(signed, np.int64))
        )
    return replace(case, inputs=(source, np.array(pads, np.int64), fill))


def arithmetic(kind: str, version: int, r: Generator) -> Case:
    case = Case(kind, opset(version), (), zero=int(r.integers(90, 160)), out_scale=2.0**-3)
    if kind in ("Add", "Sub") and r.random() < 0.4:
        return replace(case, inputs=(Act(0), Act(1)))
    shape = pick(r, (), (1,), (3, 1, 1), (1, 3, 1, 1), (1, 1, 1), (5,), (3,), (6, 5), (1, 1, 1, 1))
    values = pick(r, (0.5, 1, 2, -1), (0.25, 4, 8))
    constant = r.choice(np.array(values, np.float32), shape).astype(np.float32)
    pair = (Act(), constant) if r.random() < 0.8 or kind == "Div" else (constant, Act())
    return replace(case, inputs=pair)


def linear_sum(kind: str, version: int, r: Generator) -> Case:
    grids = (np.float32(2.0**-4), np.uint8(128))
    other = (np.float32(2.0**-3), np.uint8(128))
    inputs = (Raw(), *grids, Raw(1), *other, np.float32(2.0**-3), np.uint8(r.integers(90, 160)))
    return Case(kind, 13, inputs, domain=MICROSOFT, made="codes")


def linear_product(kind: str, version: int, r: Generator) -> Case:
    grid = (np.float32(2.0**-4), np.uint8(128))
    made = (np.float32(2.0**-2), np.uint8(r.integers(90, 160)))
    return Case(kind, 13, (Raw(), *grid, Raw(), *grid, *made), domain=MICROSOFT, made="codes")


def concat(kind: str, version: int, r: Generator) -> Case:
    if kind == "QLinearConcat":
        first = (np.float32(2.0**-3), np.uint8(120))
        inputs = (*first, Raw(), np.float32(2.0**-4), np.uint8(128), Raw(1), np.float32(2.0**-3),
                  np.uint8(128))  # fmt: skip
        return Case(kind, 13, inputs, {"axis": 1}, MICROSOFT, made="codes")
    axis = pick(r, 1, -3) if version >= 11 else 1
    parts = tuple(Act(int(n)) for n in r.integers(0, 3, int(r.integers(1, 4))))
    return Case(kind, opset(version), parts, {"axis": axis})


def bounds(kind: str, version: int, r: Generator) -> Case:
    case = Case(kind, opset(version), (Act(),), zero=int(r.integers(90, 160)))
    if kind == "Relu":
        return case
    low, high = (
        np.float32(pick(r, -np.inf, -3, -1.03, 0, 0.5, 1, 2.7, 6, np.inf)) for _ in range(2)
    )
    if version < 11:
        return replace(case, attributes={"min": float(low), "max": float(high)})
    if version >= 12 and r.random() < 0.3:
        low, high = (np.uint8(r.integers(0, 256)) for _ in range(2))
        return replace(case, inputs=(Raw(), low, high), made="codes")
    ends = pick(r, (low, high), (low,), (None, high), ())
    return replace(case, inputs=(Act(), *ends))


def function(kind: str, version: int, r: Generator) -> Case:
    zero = 0 if kind == "Sqrt" else int(r.integers(90, 160))
    case = Case(kind, opset(version), (Act(),), zero=zero, out_scale=2.0**-5)
    known = next(x.attributes for x, v in ROWS if x.kind == kind and v == version)
    a = {name: pick(r, 0.125, 0.5, 0.25) for name in known if r.random() < 0.6}
    if kind.startswith("QLinear"):
        grids = (np.float32(case.scale), np.uint8(zero), np.float32(2.0**-6), np.uint8(60))
        return replace(
            case, inputs=(Raw(), *grids), attributes=a, domain=MICROSOFT, opset=13, made="codes"
        )
    return replace(case, attributes=a)


def view(kind: str, version: int, r: Generator) -> Case:
    small = r.random() < 0.7
    case = Case(kind, opset(version), (), shape=(4, 1, 1) if small else (4, 2, 3))
    if kind == "Flatten":
        a = {} if r.random() < 0.5 else {"axis": int(r.integers(-4 if version >= 11 else 0, 5))}
        return replace(case, inputs=(Act(),), attributes=a)
    if kind == "Reshape":
        shape = pick(r, [1, 4], [1, -1], [0, -1], [1, 4, 1, 1], [1, 2, 2, 1], [0, 0, 0, 0], [-1, 4],
                     [4, 1], [1, 1, 4], [1, 4, 1], [0, 4, -1, 1], [2, 2])  # fmt: skip
        a = {"allowzero": 1} if version >= 14 and r.random() < 0.3 else {}
        return replace(case, inputs=(Act(), np.array(shape, np.int64)), attributes=a)
    axes = pick(r, [2, 3], [3], [2], [-1] if version >= 11 else [3], [0])
    if kind == "Unsqueeze":
        axes = pick(r, [4], [0], [4, 5], [2])
    if version < 13:
        return replace(case, inputs=(Act(),), attributes={"axes": axes})
    given = () if kind == "Squeeze" and r.random() < 0.2 else (np.array(axes, np.int64),)
    return replace(case, inputs=(Act(), *given))


def transposed(kind: str, version: int, r: Generator) -> Case:
    groups, each = pick(r, 1, 1, 3), int(r.integers(1, 4))
    shape = (3, each, int(r.integers(1, 5)), int(r.integers(1, 5)))
    stride = [int(v) for v in r.integers(1, 4, 2)]
    a: dict[str, Any] = {"strides": stride, "group": groups}
    if r.random() < 0.5:
        a["pads"] = [int(v) for v in r.integers(0, 2, 4)]
    if r.random() < 0.4:
        a["output_padding"] = [int(r.integers(0, s)) for s in stride]
    if r.random() < 0.3:
        a["dilations"] = [1, 2]
    inputs = (Act(), Weight(ints(r, -8, 8, shape, np.int8), power(r)))
    return Case(kind, opset(version), inputs, a, zero=int(r.integers(90, 160)))


def moved(kind: str, version: int, r: Generator) -> Case:
    """Operators that move or choose: any of their arguments, which may not be a map's."""
    case = Case(kind, opset(version), (Act(),), shape=(8, 4, 6))
    if kind == "Transpose":
        order = pick(r, [0, 1, 2, 3], [0, 2, 3, 1], [0, 1, 3, 2], [0, 3, 1, 2])
        back = [int(k) for k in np.argsort(order)] if r.random() < 0.7 else [0, 1, 3, 2]
        then = (("Relu", (), {}), ("Transpose", (), {"perm": back}))
        return replace(case, attributes={"perm": order}, then=then)
    if kind in ("SpaceToDepth", "DepthToSpace"):
        a: dict[str, Any] = {"blocksize": pick(r, 1, 2, 2, 3)}
        if version >= 11 and kind == "DepthToSpace" and r.random() < 0.8:
            a["mode"] = pick(r, "CRD", "DCR")
        return replace(case, attributes=a)
    if kind == "Gather":
        axis = pick(r, 1, 1, 2, -1, -3)
        places = r.integers(0 if version < 11 else -3, 4, pick(r, 1, 2, 5))
        return replace(case, inputs=(Act(), places.astype(np.int64)), attributes={"axis": axis})
    axes = pick(r, [1], [2, 3], [-1, 1], [3, 2, 1], None)
    count = 4 if axes is None else len(axes)
    starts, ends, steps = (
        [int(v) for v in r.integers(low, high, count)] for low, high in ((-5, 5), (-3, 12), (1, 3))
    )
    if axes is None:
        starts[0], ends[0], steps[0] = 0, 9, 1
    if axes == [1] and r.random() < 0.3:
        starts, ends, steps = [-1], [-100], [-pick(r, 1, 2)]
    if version == 1:
        a = {"starts": starts, "ends": ends} | ({} if axes is None else {"axes": axes})
        return replace(case, attributes=a)
    given = [None if v is None else np.array(v, np.int64) for v in (starts, ends, axes, steps)]
    return replace(case, inputs=(Act(), *given))


def same(kind: str, version: int, r: Generator) -> Case:
    case = Case(kind, opset(version), (Act(),))
    if kind == "Dropout" and version >= 12:
        more = (np.float32(0.5), np.bool_(False))
        return replace(case, inputs=(Act(), *more[: int(r.integers(0, 3))]))
    if kind == "Dropout":
        return replace(case, attributes={"ratio": 0.25})
    return case


def quantiser(kind: str, version: int, r: Generator) -> Case:
    """Of activations: the operator is one more quantiser behind the first, or reads its codes."""
    at, domain = (13, MICROSOFT) if version == 1 else (version, STANDARD)
    zero = np.uint8(r.integers(90, 160))
    if kind == "QuantizeLinear":
        inputs = (Act(), np.float32(2.0**-3), zero)
        return Case(kind, at, inputs[: pick(r, 2, 3)], domain=domain, made="codes")
    return Case(kind, at, (Raw(), np.float32(2.0**-3), zero), domain=domain)


def constant(kind: str, version: int, r: Generator) -> Case:
    """Of a factor for each channel, or of the shape that is there."""
    case = Case(kind, opset(version), (), out_scale=2.0**-3)
    if kind == "Shape":
        ends = pick(r, {}, {"start": 0}, {"end": 4}, {"start": -4}) if version >= 15 else {}
        return replace(case, inputs=(Act(),), attributes=ends, feeds="Reshape")
    values = r.choice(np.array([0.5, 1, 2, -1], np.float32), (3, 1, 1))
    value: dict[str, Any] = {"value": numpy_helper.from_array(values)}
    if version >= 12:
        value = pick(r, value, {"value_float": 0.5}, {"value_floats": [2.0]})
    return replace(case, attributes=value, feeds="Mul")


def behind(case: Case, r: Generator) -> Case:
    """One or two more operators on what the first made, unquantised; out of those that keep the
    number of channels."""
    then = list(case.then)
    for _ in range(int(r.integers(1, 3))):
        value = np.float32(pick(r, -3, -1.03, 0, 0.5, 1.5, 2.7))
        channels = case.shape[0]
        gains = r.choice(np.array([0.5, 1, 2, -1], np.float32), (channels, 1, 1))
        weight = Weight(ints(r, -8, 8, (4, channels, 1, 1), np.int8), power(r))
        sides = [0, 0, *(int(v) for v in r.integers(0, 3, 2)), 0, 0, 1, 0]
        pads = np.array(sides, np.int64)
        window = {"kernel_shape": [int(v) for v in r.integers(1, 3, 2)]}
        then.append(
            pick(
                r,
                ("Relu", (), {}),
                ("Clip", (value,), {}),
                ("Clip", (None, value), {}),
                ("Add", (gains,), {}),
                ("Mul", (gains,), {}),
                ("Add", (Act(1),), {}),
                ("Sub", (Act(),), {}),
                ("Concat", (Act(),), {"axis": 1}),
                ("MaxPool", (), window),
                ("AveragePool", (), window),
                ("Pad", (pads, value), {}),
                ("Pad", (pads,), {}),
                ("Conv", (weight,), {}),
                ("GlobalAveragePool", (), {}),
                ("Sigmoid", (), {}),
                ("Flatten", (), {}),
                ("Resize", (None, np.array([1, 1, 2, 1.5], np.float32)),
                 {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
            )
        )  # fmt: skip
    return replace(case, then=tuple(then), opset=max(case.opset, 13))


DRAWN: dict[str, Callable[[str, int, Generator], Case]] = {
    **dict.fromkeys(("Conv", "QLinearConv", "ConvInteger"), conv),
    **dict.fromkeys(("Gemm", "MatMul", "QLinearMatMul", "MatMulInteger"), matrix),
    "QGemm": matrix,
    "BatchNormalization": norm,
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalAveragePool"), pool),
    **dict.fromkeys(("QLinearAveragePool", "QLinearGlobalAveragePool"), pool),
    "ReduceMean": mean,
    **dict.fromkeys(("Resize", "Upsample"), resize),
    "Pad": pad,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), arithmetic),
    "QLinearAdd": linear_sum,
    "QLinearMul": linear_product,
    **dict.fromkeys(("Concat", "QLinearConcat"), concat),
    **dict.fromkeys(("Relu", "Clip"), bounds),
    **dict.fromkeys(("LeakyRelu", "HardSigmoid", "Elu", "Sigmoid", "Tanh", "Exp"), function),
    **dict.fromkeys(("Sqrt", "Abs", "HardSwish", "Softplus"), function),
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu"), function),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), view),
    **dict.fromkeys(("Transpose", "Slice", "Gather", "SpaceToDepth", "DepthToSpace"), moved),
    "ConvTranspose": transposed,
    **dict.fromkeys(("Identity", "Dropout"), same),
    **dict.fromkeys(("Shape", "Constant"), constant),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), quantiser),
}


def draw(kind: str, version: int, r: Generator) -> Case:
    """A case of the operator in this version."""
    return DRAWN[kind](kind, version, r)
