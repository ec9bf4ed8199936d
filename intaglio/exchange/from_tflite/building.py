"""What a tensor of the file is in the Program, and what every operator's translation shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from intaglio.exchange.from_tflite.flat import LARGEST, File, Flat, Operator
from intaglio.fixed import TFLITE
from intaglio.forms import quantized_multiplier
from intaglio.ops import Input, Op, Pair, Requant
from intaglio.program import Builder

Activation = schema.ActivationFunctionType


@dataclass(frozen=True)
class Held:
    """The Program's tensor (C, H, W) behind a tensor of the file, whose values lie as (1, H, W, C)
    in its memory; `shape` is how the file sees them now."""

    name: str
    shape: tuple[int, ...]


class Building:
    """The Program so far, and the file's tensors in it by number."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.builder = Builder(TFLITE)
        self.held: dict[int, Held] = {}
        self.names: set[str] = set()
        self.weights: dict[tuple[Any, ...], str] = {}

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
        rest = shape[1:] if len(shape) in (2, 4) else ()
        if not rest or shape[0] != 1 or not all(1 <= side <= LARGEST for side in rest):
            raise op.refuse(
                f"the file's input must be 1 x H x W x C or 1 x C, each of 1 to {LARGEST}, not"
                f" {list(shape)}; convert the model for one image."
            )
        h, w, c = (1, 1, *rest) if len(rest) == 1 else rest
        assert flat.type is not None
        made = Input(output=self.unique(flat.name), shape=(c, h, w), type=flat.type)
        self.builder.add(made, flat.type, flat.scale, (flat.zero,))
        self.held[number] = Held(made.output, shape)

    def codes(self, op: Operator, number: int) -> Flat:
        """An activation's tensor: of 8 bits, with one scale."""
        flat = self.flat(number)
        if flat.kind not in ("INT8", "UINT8"):
            raise op.refuse(
                f"its tensor {number} must be int8 or uint8, not {flat.kind.lower()}; convert the"
                " model with full integer quantisation."
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
        """An activation that must be a map as the Program has it."""
        held = self.input(op, place)
        c, h, w = self.shape(held)
        if held.shape != (1, h, w, c):
            raise op.refuse(
                f"its input must be 1 x H x W x C of the map that was made, {[1, h, w, c]}, not"
                f" {list(held.shape)}; cut the model before it."
            )
        return held

    def keep(self, op: Operator, name: str) -> Held:
        """The operator's result."""
        c, h, w = self.builder.tensors[name].shape
        flat = self.flat(op.outputs[0])
        if int(np.prod(flat.shape)) != c * h * w:
            raise op.refuse(
                f"its result must have {c * h * w} values, not the shape {list(flat.shape)}."
            )
        self.held[op.outputs[0]] = made = Held(name, flat.shape)
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
        lo, hi, kind = flat.type.lo, flat.type.hi, op.options.fusedActivationFunction

        def code(value: float) -> int:
            ratio = float(np.float32(value) / np.float32(flat.scale))
            return flat.zero + int(np.floor(abs(ratio) + 0.5) * np.sign(ratio))

        if kind == Activation.NONE:
            return lo, hi
        if kind == Activation.RELU:
            return max(lo, code(0)), hi
        if kind == Activation.RELU6:
            return max(lo, code(0)), min(hi, code(6))
        if kind == Activation.RELU_N1_TO_1:
            return max(lo, code(-1)), min(hi, code(1))
        raise op.refuse(
            f"its fused activation must be none, RELU, RELU6 or RELU_N1_TO_1, not number {kind}."
        )

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


def window_of(op: Operator, size: Pair, kernel: Pair) -> dict[str, Any]:
    """Stride, dilation and padding of a window over (H, W), as TFLite computes SAME and VALID."""
    o = op.options
    stride = (o.strideH, o.strideW)
    dilation = (getattr(o, "dilationHFactor", 1), getattr(o, "dilationWFactor", 1))
    if min(*stride, *dilation, *kernel) < 1 or max(*stride, *dilation, *kernel) > LARGEST:
        raise op.refuse(f"its strides, dilations and window must be 1 to {LARGEST}.")
    pads = []
    for side, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        reach = (k - 1) * d + 1
        total = 0
        if o.padding == schema.Padding.SAME:
            total = max((-(-side // s) - 1) * s + reach - side, 0)
        elif reach > side:
            raise op.refuse(f"its window must be at most {side} pixels, not {reach}.")
        pads += [total // 2, total - total // 2]
    return {"stride": stride, "dilation": dilation, "padding": tuple(pads)}
