"""The buffers of one image on its way through a Program, and the steps that run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ctypes import addressof, c_char
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from intaglio.fixed import IntType
from intaglio.ops import (
    Add,
    Concat,
    Conv2d,
    Crop,
    DepthToSpace,
    Input,
    Interpolate,
    Ints,
    Lookup,
    MaxPool2d,
    Multiply,
    Output,
    Pad,
    Requant,
    Select,
    SpaceToDepth,
    SumPool2d,
    Upsample,
)
from intaglio.ops.choosing import upsampled
from intaglio.ops.interpolation import both
from intaglio.sim import kernels, steps
from intaglio.sim.buffers import given, view
from intaglio.sim.convolutions import Convolutions
from intaglio.sim.kernels import Scaling
from intaglio.sim.plan import Array, Node, Plan
from intaglio.sim.steps import Steps
from intaglio.sim.vector import lookups, turning

ADDRESS = 4  # place of an array's address among its words
MAP = 11  # words of an array of three dimensions


class Batch(NamedTuple):
    """Where an array (N, C, H, W), contiguous and of the stored type, begins, and the bytes from
    image to image; whoever has it keeps the array."""

    first: int
    stride: int

    @staticmethod
    def of(array: Array) -> Batch:
        """An array's. Its memory says its address in a sixth of the time that `array.ctypes` takes
        for that, which of nine maps is a tenth of a small network; unless it is read-only."""
        if not (array.size and array.flags.writeable):
            return Batch(array.ctypes.data, array.strides[0])
        return Batch(addressof(c_char.from_buffer(array.data)), array.strides[0])


@dataclass(frozen=True)
class Workspace:
    """arrays     every stored tensor (H, W, C)
    overflows  (Conv2ds in order, workers): how many sums did not fit
    steps      from an image to the results
    image      the place of the image's address among the steps' words
    results    those of the results' addresses
    kept       the memory that the steps know by addresses
    """

    arrays: dict[str, Array]
    overflows: Ints
    steps: Steps
    image: int
    results: list[int]
    kept: tuple[Any, ...]

    def begin(self, images: Batch, n: int, results: Sequence[Batch]) -> None:
        """Point the steps at image n of the images, and at its place in each of the results."""
        self.overflows[:] = 0
        self.steps.begin()
        words = self.steps.words
        words[self.image] = images.first + n * images.stride
        for place, batch in zip(self.results, results, strict=True):
            words[place] = batch.first + n * batch.stride


def make_workspace(plan: Plan, wanted: Mapping[str, np.dtype[Any]], workers: int = 1) -> Workspace:
    """Fresh buffers, and steps for `workers` threads that share an image; the `wanted` tensors are
    the results, in these types."""
    binder = Binder(plan, workers)
    (image,) = plan.program.inputs
    x = np.empty(image.shape, dtype=given(image.type))
    to = binder.arrays[image.name]
    pixels = steps.pixels_of_three if image.shape[0] == 3 else steps.pixels
    binder.call(pixels, x, binder.lowest(image.name), to, size=image.shape[1])
    for node in plan.nodes:
        binder.bind(node)
    first = len(binder.steps)
    behind = []  # words before a result's array
    for name, dtype in wanted.items():
        codes = binder.arrays[name]
        height, width, channels = codes.shape
        out = np.empty((channels, height * width), dtype)
        lowest = binder.lowest(name)
        if plan.isa != "generic" and codes.itemsize == dtype.itemsize <= 2:
            turn = turning.pointer(codes.itemsize)
            binder.call(steps.planes_turned, turn, codes, lowest, out, size=height)
            behind.append(MAP + 2)
        else:
            binder.call(steps.planes, codes, lowest, out, size=height)
            behind.append(MAP + 1)
    made, places = steps.make_steps(binder.steps)
    results = [places[first + i] + more + ADDRESS for i, more in enumerate(behind)]
    kept = (plan, *binder.scratch.values(), *binder.kept)
    return Workspace(binder.arrays, binder.overflows, made, places[0] + ADDRESS, results, kept)


class Binder(Convolutions):
    """Turns the plan's nodes into steps on the arrays of one workspace."""

    def bind(self, node: Node) -> None:
        """Append the steps of one node."""
        op, out = node.op, self.arrays[node.output]
        rows = {"size": len(out)}
        match op:
            case Input() | Output():
                pass
            case Conv2d():
                self.conv(op, node)
            case Requant():
                scaling = self.scaling(op)
                truncated = scaling.rounding == kernels.TRN
                kernel = steps.requant_trn if truncated else steps.requant
                self.call(kernel, self.arrays[op.input], scaling, out, **rows)
            case Add():
                operands = (self.arrays[op.a], self.arrays[op.b])
                scaling = self.sum_scaling(op)
                narrow = scaling.rounding == kernels.NARROW
                kernel = steps.add_narrow if narrow else steps.add
                self.call(kernel, *operands, scaling, out, **rows)
            case Multiply():
                self.multiply(op, node, out)
            case MaxPool2d() | SumPool2d():
                x = self.bordered(op, self.arrays[op.input].dtype, self.lowest(op.input))
                walk = (*op.kernel, *op.stride, *op.dilation)
                if isinstance(op, SumPool2d):
                    begin = prod(op.kernel) * self.lowest(op.input) - self.lowest(op.output)
                    self.call(steps.sumpool, x, *walk, begin, out, **rows)
                    return
                lines = view(self.scratch["columns"], (self.workers, 2, x[0].size), x.dtype)
                change = self.change(op.input, op.output)
                self.call(steps.maxpool, x, *walk, lines, change, out, **rows)
            case Upsample():
                x = self.arrays[op.input]
                places = (upsampled(x.shape[i], op.size[i]) for i in (0, 1))
                change = self.change(op.input, op.output)
                self.call(steps.picked, x, *places, change, out, **rows)
            case Crop():
                x, change = self.arrays[op.input], self.change(op.input, op.output)
                places = (np.arange(*span) for span in (op.rows, op.columns))
                self.call(steps.picked, x, *places, change, out, **rows)
            case Select():
                x, change = self.arrays[op.input], self.change(op.input, op.output)
                channels = np.array(op.channels, dtype=np.int64)
                own = op.value - self.lowest(op.output)
                self.call(steps.selected, x, channels, own, change, out, **rows)
            case SpaceToDepth():
                x, change = self.arrays[op.input], self.change(op.input, op.output)
                self.call(steps.deepened, x, op.block[0], change, out, **rows)
            case DepthToSpace():
                x, change = self.arrays[op.input], self.change(op.input, op.output)
                self.call(steps.spread, x, op.block[0], change, out, **rows)
            case Interpolate():
                self.interpolate(op, out)
            case Concat():
                first = 0
                for part in op.parts:
                    change = self.change(part, op.output)
                    self.call(steps.place, self.arrays[part], first, change, out, **rows)
                    first += self.arrays[part].shape[2]
            case Pad():
                value = np.full(out[0].size, op.value - self.lowest(op.output), dtype=out.dtype)
                top, _, left, _ = op.padding
                x, change = self.arrays[op.input], self.change(op.input, op.output)
                self.call(steps.border, x, top, left, value, change, out, **rows)
            case Lookup():
                self.lookup(op, out)
            case _:
                raise TypeError(f"The fast engine has no kernel for {type(op).__name__}.")

    def multiply(self, op: Multiply, node: Node, out: Array) -> None:
        """Products, and the Requant behind them."""
        zeros = (op.zero_a - self.lowest(op.a), op.zero_b - self.lowest(op.b))
        operands = (self.arrays[op.a], self.arrays[op.b], zeros)
        if node.requant is None:
            self.call(steps.product, *operands, out, size=len(out))
        else:
            scaling = self.scaling(node.requant)
            made = self.program.tensors[op.output]
            small = IntType(32, True).holds(made.lo, made.hi) and scaling.m.dtype == np.int32
            narrow = small and scaling.rounding == kernels.TRN
            kernel = steps.multiply_narrow if narrow else steps.multiply
            self.call(kernel, *operands, scaling, out, size=len(out))

    def interpolate(self, op: Interpolate, out: Array) -> None:
        """Sums of four pixels; of a nearest neighbour, pixels in their places."""
        x, size = self.arrays[op.input], len(out)
        rows, columns = (both(taps, x.shape[n]) for n, taps in enumerate((op.rows, op.columns)))
        if op.unit == 1:
            places = (taps[:, 0] for taps in (rows, columns))
            self.call(steps.picked, x, *places, self.change(op.input, op.output), out, size=size)
            return
        base, tensor = self.lowest(op.input), self.program.tensors[op.input]
        lowest = self.lowest(op.output) - op.unit * base
        reach = op.unit * max(abs(tensor.lo - base), abs(tensor.hi - base)) + abs(lowest)
        self.call(
            steps.interpolated, x, rows, columns, int(reach < 1 << 31), lowest, out, size=size
        )

    def lookup(self, op: Lookup, out: Array) -> None:
        """The table, or each channel's, turned so that a code's low byte or word is its place."""
        x, type = self.arrays[op.input], self.program.tensors[op.input].type
        places = np.arange(type.lo, type.hi + 1) - self.lowest(op.input)
        values = self.program.constants[op.table].array - self.lowest(op.output)
        bits = max(8, type.bits)
        fits = x.itemsize == (bits + 7) // 8 and out.dtype == np.uint8 and bits <= lookups.WIDEST
        vector = fits and values.ndim == 1 and lookups.runs(self.plan.isa)
        size = 1 << (bits if vector or bits == 8 else 16)
        table = np.zeros((*values.shape[:-1], size), dtype=out.dtype)
        table[..., places & (size - 1)] = values
        rows = {"size": len(out)}
        if vector:
            self.call(steps.lookup_bytes, lookups.pointer(bits), x, table, out, **rows)
        elif values.ndim > 1:
            self.call(steps.lookup_by_channel, x, table, out, **rows)
        else:
            self.call(steps.lookup, x, table, out, **rows)

    def sum_scaling(self, op: Add) -> Scaling:
        """Of codes as they are stored: what they are counted from joins the bias."""
        m, single = (op.multiplier_a, op.multiplier_b), self.program.arithmetic.product == "single"
        more = [self.lowest(name) * factor for name, factor in zip(op.inputs, m, strict=True)]
        biases = [op.bias + more[1], more[0]] if single else [op.bias + sum(more)]
        scaling = self.scale(op, m, biases, [op.shift])
        if scaling.rounding != kernels.TRN:
            return scaling
        (bias,), (shift,) = scaling.b.tolist(), scaling.s.tolist()
        reach = abs(bias)
        for name, factor in zip(op.inputs, m, strict=True):
            tensor, base = self.program.tensors[name], self.lowest(name)
            reach += abs(factor) * max(abs(tensor.lo - base), abs(tensor.hi - base))
        ends = abs(scaling.offset), abs(scaling.lo), abs(scaling.hi), (reach >> shift) + 1
        if max(reach, abs(scaling.offset) + ends[3], *ends) < 1 << 31 and shift < 32:
            return scaling._replace(rounding=kernels.NARROW)
        return scaling
