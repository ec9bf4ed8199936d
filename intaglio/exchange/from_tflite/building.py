"""What a tensor of the file is in the Program, and what every operator's translation shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from intaglio.exchange.from_tflite.flat import CODES, LARGEST, File, Flat, Operator
from intaglio.fixed import TFLITE, IntType
from intaglio.forms import Real, quantized_multiplier
from intaglio.ops import Input, Op, Padding, Pair, Requant, Select, Shape
from intaglio.program import Builder
from intaglio.views import Chosen, View, moves, view_of

Activation = schema.ActivationFunctionType
LAYOUTS = ("nhwc", "nchw")
AS_THEY_COME = (  # operators that do so whatever the axes mean
    "QUANTIZE", "STRIDED_SLICE", "SLICE", "SPLIT", "SPLIT_V", "CONCATENATION", "PAD", "PADV2",
    "MUL", "ADD", "SUB", "LOGISTIC",
)  # fmt: skip
# Between which reals a fused activation keeps a result.
REALS: dict[int, tuple[float | None, float | None]] = {
    Activation.NONE: (None, None),
    Activation.RELU: (0, None),
    Activation.RELU6: (0, 6),
    Activation.RELU_N1_TO_1: (-1, 1),
}


@dataclass(frozen=True)
class Held:
    """The Program's tensor (C, H, W) behind a tensor of the file, and how the file sees it."""

    name: str
    view: View

    @property
    def shape(self) -> tuple[int, ...]:
        """As the file has it."""
        return self.view.sides


class Building:
    """The Program so far, and the file's tensors in it by number."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.builder = Builder(TFLITE)
        self.held: dict[int, Held] = {}
        self.names: set[str] = set()
        self.weights: dict[tuple[Any, ...], str] = {}
        self.settled: dict[tuple[str, View, str], str] = {}  # maps that views were made to
        self.whole = ""  # the Input, where the file has several
        self.fed: dict[int, range] = {}  # channels of the Program's Input, by inputs of the file

    # --- the file's side ---

    def flat(self, number: int) -> Flat:
        return self.file.tensors[number]

    def input(self, op: Operator, place: int = 0) -> Held:
        """An activation that an operator reads; the graph's input becomes the Program's here, in
        the shape that its first reader sees."""
        if place >= len(op.inputs) or op.inputs[place] < 0:
            raise op.refuse(f"it must have at least {place + 1} inputs; convert the model anew.")
        number = op.inputs[place]
        if number not in self.held and number in self.file.inputs:
            self.enter(op, number, self.flat(number).shape)
        if number not in self.held:
            raise op.refuse(
                f"its input {number} must be an activation, not a constant; convert the model with"
                " constants folded."
            )
        return self.held[number]

    def enter(self, op: Operator, number: int, shape: tuple[int, ...]) -> None:
        """The Program's Input, for the graph's."""
        flat = self.codes(op, number)
        layout = layout_of(self.file, number) if len(shape) == 4 else "nhwc"
        rest = shape[1:] if len(shape) in (2, 4) else ()
        if not rest or shape[0] != 1 or not all(1 <= side <= LARGEST for side in rest):
            raise op.refuse(
                f"the file's input must be 1 x H x W x C or 1 x C, each of 1 to {LARGEST}, not"
                f" {list(shape)}; convert the model for one image."
            )
        sides = dict(zip(layout[1:], (1, 1, *rest) if len(rest) == 1 else rest, strict=True))
        c, h, w = (sides[name] for name in "chw")
        if len(self.file.inputs) == 1:
            assert flat.type is not None
            made = Input(output=self.unique(flat.name), shape=(c, h, w), type=flat.type)
            name = self.builder.add(made, flat.type, flat.scale, (flat.zero,))
            self.fed[number] = range(c)
        else:
            name = self.among(op, number, (c, h, w))
        whole = view_of(self.builder.tensors[name].shape, layout).reshaped(shape)
        assert whole is not None
        self.held[number] = Held(name, whole)

    def among(self, op: Operator, number: int, shape: Shape) -> str:
        """One of several inputs: a part of the channels of the Program's, which has them all one
        after the other."""
        flat = self.flat(number)
        if not self.fed:
            first = 0
            for n in self.file.inputs:
                _, *sides = self.flat(n).shape
                axis = 2 if layout_of(self.file, n) == "nhwc" else 0
                self.fed[n] = range(first, first + sides[axis % len(sides)] if sides else first)
                first = self.fed[n].stop
            assert flat.type is not None
            self.whole = self.unique("inputs")
            joint = Input(output=self.whole, shape=(first, *shape[1:]), type=flat.type)
            self.builder.add(joint, flat.type)
        x = self.builder.tensors[self.whole]
        channels = self.fed[number]
        if (len(channels), *x.shape[1:], x.type) != (*shape, flat.type):
            raise op.refuse(
                "the file's inputs must be of one type, height and width, which are then the"
                " channels of one image; convert the model for such."
            )
        part = Select(output=self.unique(flat.name), input=x.name, channels=tuple(channels))
        return self.add(part, flat)

    def codes(self, op: Operator, number: int) -> Flat:
        """An activation's tensor: of 8 or 16 bits, with one scale."""
        flat = self.flat(number)
        if flat.kind not in CODES:
            raise op.refuse(
                f"its tensor {number} must be int8, uint8 or int16, not {flat.kind.lower()};"
                " convert the model with full integer quantisation."
            )
        if len(flat.scales) != 1:
            raise op.refuse(f"its tensor {number} must have one scale, not {len(flat.scales)}.")
        return flat

    def constant(self, op: Operator, place: int) -> Flat:
        """A constant that an operator reads."""
        number = op.inputs[place] if place < len(op.inputs) else -1
        if number < 0 or self.flat(number).data is None:
            raise op.refuse(f"its input {place} must be a constant; convert the model anew.")
        return self.flat(number)

    def numbers(self, op: Operator, place: int) -> list[int]:
        """The whole numbers of a constant."""
        data = self.constant(op, place).data
        assert data is not None
        return [int(v) for v in data.reshape(-1)]

    # --- the Program's side ---

    def unique(self, name: str) -> str:
        """A name that no tensor of the Program has."""
        name = name or "tensor"
        found, n = name, 1
        while found in self.names:
            n += 1
            found = f"{name}.{n}"
        self.names.add(found)
        return found

    def shape(self, held: Held) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.builder.tensors[held.name].shape

    def map(self, op: Operator, place: int = 0) -> Held:
        """An activation as a map, channels last."""
        return self.settle(op, self.input(op, place), "nhwc")

    def laid(self, op: Operator, place: int = 0) -> tuple[Held, str]:
        """An activation as a map, in the layout that it has or, if it has none, that costs less."""
        held = self.input(op, place)
        layout = held.view.laid(*LAYOUTS)
        if layout is None:
            layout = min(LAYOUTS, key=lambda k: len(self.moves(op, held, k)))
            held = self.settle(op, held, layout)
        return held, layout

    def moves(self, op: Operator, held: Held, layout: str, output: str = "") -> list[Chosen]:
        """The operations that make a view a map in a layout."""
        if len(held.view.axes) != 4 or held.view.axes[0]:
            raise op.refuse(
                f"its input must be 1 x H x W x C, not {list(held.shape)}; cut the model before it."
            )
        return moves(held.view, layout).ops(self.shape(held), held.name, output)

    def settle(self, op: Operator, held: Held, layout: str) -> Held:
        """A view made a map in a layout; made once."""
        if held.view.laid(layout):
            return held
        key = held.name, held.view, layout
        if key not in self.settled:
            name = held.name
            for step in self.moves(op, held, layout, self.unique(f"{held.name}.{layout}")):
                x = self.builder.tensors[name]
                name = self.builder.add(step, x.type)
            self.settled[key] = name
        made = self.settled[key]
        return Held(made, view_of(self.builder.tensors[made].shape, layout))

    def keep(self, op: Operator, made: str | Held, place: int = 0) -> Held:
        """The operator's result: a map, channels last, or a view."""
        flat = self.flat(op.outputs[place])
        if isinstance(made, str):
            shape = self.builder.tensors[made].shape
            whole = view_of(shape, "nhwc").reshaped(flat.shape)
            made = Held(made, whole or view_of(shape, "nhwc"))
        if made.shape != flat.shape:
            raise op.refuse(
                f"its result must be of the shape {list(made.shape)}, not {list(flat.shape)};"
                " convert the model anew."
            )
        self.held[flat.index] = made
        return made

    def add(self, op: Op, flat: Flat) -> str:
        """An operation that makes the codes of one of the file's tensors."""
        assert flat.type is not None
        return self.builder.add(op, flat.type, flat.scale, (flat.zero,))

    def multiplier(self, op: Operator, factor: float) -> tuple[int, int]:
        """TFLite's (M, S) of a factor."""
        m, s = quantized_multiplier(factor)
        if s < TFLITE.shift_range[0]:
            raise op.refuse(
                f"its scales must make a factor below 2^30, not {factor:.3g}; convert the model"
                " anew."
            )
        return m, s

    def ends(self, op: Operator, flat: Flat) -> tuple[int, int]:
        """The clamp of a fused activation in codes: CalculateActivationRangeQuantized."""
        assert flat.type is not None
        kind = op.options.fusedActivationFunction
        if kind not in REALS:
            raise op.refuse(
                f"its fused activation must be none, RELU, RELU6 or RELU_N1_TO_1, not number"
                f" {kind}."
            )
        return activation_ends(kind, flat.type, Real(flat.scale, flat.zero))

    def clamped(self, op: Operator, name: str, flat: Flat) -> str:
        """`name` itself, or its codes within a fused activation."""
        lo, hi = self.ends(op, flat)
        tensor = self.builder.tensors[name]
        if lo <= tensor.lo and tensor.hi <= hi:
            return name
        made = Requant(
            output=self.unique(f"{name}.clamped"), input=name, lo=lo, hi=hi, shift=(1,),
            multiplier=self.builder.constant(f"{name}.two", [2]),
            bias=self.builder.constant(f"{name}.none", [0]),
        )  # fmt: skip
        return self.add(made, flat)


def layout_of(file: File, number: int) -> str:
    """Where an image has its channels: first, where it is transposed to have them last before a
    layer reads it."""
    reached = {number}
    for op in file.operators:
        if not reached.intersection(op.inputs):
            continue
        if op.kind == "TRANSPOSE":
            order = file.tensors[op.inputs[1]].data
            first = order is not None and order.reshape(-1).tolist() == [0, 2, 3, 1]
            return "nchw" if first else "nhwc"
        if op.kind not in AS_THEY_COME:
            break
        reached.update(op.outputs)
    return "nhwc"


def window_of(op: Operator, size: Pair, kernel: Pair) -> dict[str, Any]:
    """Stride, dilation and padding of a window over (H, W), as TFLite computes SAME and VALID."""
    o = op.options
    stride = (o.strideH, o.strideW)
    dilation = (getattr(o, "dilationHFactor", 1), getattr(o, "dilationWFactor", 1))
    if min(*stride, *dilation, *kernel) < 1 or max(*stride, *dilation, *kernel) > LARGEST:
        raise op.refuse(f"its strides, dilations and window must be 1 to {LARGEST}.")
    pads: Padding = (0, 0, 0, 0)
    if o.padding == schema.Padding.SAME:
        pads = same_padding(size, kernel, stride, dilation)
    for side, k, d in zip(size, kernel, dilation, strict=True):
        reach = (k - 1) * d + 1
        if o.padding != schema.Padding.SAME and reach > side:
            raise op.refuse(f"its window must be at most {side} pixels, not {reach}.")
    return {"stride": stride, "dilation": dilation, "padding": pads}


def same_padding(size: Pair, kernel: Pair, stride: Pair, dilation: Pair) -> Padding:
    """(top, bottom, left, right) of TFLite's SAME."""
    pads: list[int] = []
    for side, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((-(-side // s) - 1) * s + (k - 1) * d + 1 - side, 0)
        pads += [total // 2, total - total // 2]
    return pads[0], pads[1], pads[2], pads[3]


def activation_ends(kind: int, type: IntType, real: Real) -> Pair:
    """The clamp of a fused activation in codes: CalculateActivationRangeQuantized."""

    def code(value: float) -> int:
        ratio = float(np.float32(value) / np.float32(real.scale))
        return real.zero + int(np.floor(abs(ratio) + 0.5) * np.sign(ratio))

    low, high = REALS[kind]
    return (
        type.lo if low is None else max(type.lo, code(low)),
        type.hi if high is None else min(type.hi, code(high)),
    )
