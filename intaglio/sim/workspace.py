"""The buffers of one image on its way through a Program, and the steps that run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from intaglio.fixed import ROUNDINGS
from intaglio.ops import (
    Add,
    Concat,
    Conv2d,
    Input,
    Ints,
    Lookup,
    MaxPool2d,
    Output,
    Pad,
    Requant,
    SumPool2d,
    Upsample,
    Windowed,
    rounding_of,
)
from intaglio.sim import kernels, packed, steps, winograd
from intaglio.sim.code.kernel import Kernel
from intaglio.sim.dots import SLACK, blocks_of
from intaglio.sim.isa import Unit, unit_of
from intaglio.sim.kernels import TILE, Forced, Scaling, Window
from intaglio.sim.plan import Array, Node, Plan, pieces, storage, whole
from intaglio.sim.reference import narrowed, nearest, saturates
from intaglio.sim.steps import Step, Steps

Tables = Sequence[int] | Ints
ADDRESS = 4  # place of an array's address among its words
ROW = 256  # values that a vector loop takes at once
MATRIX = 9  # words of an array of two dimensions


@dataclass(frozen=True)
class Workspace:
    """arrays     every stored tensor (H, W, C)
    overflows  (Conv2ds in order, workers): how many sums did not fit
    steps      from an image to the results
    image      the place of the image's address among the steps' words
    results    those of the results' addresses, by name
    """

    arrays: dict[str, Array]
    overflows: Ints
    steps: Steps
    image: int
    results: dict[str, int]

    def begin(self, images: Array, n: int, results: Mapping[str, Array]) -> None:
        """Point the steps at image n of `images` (N, C, H, W), contiguous and of the stored type,
        and at its place in each of the results (N, C, H, W)."""
        self.overflows[:] = 0
        self.steps.begin()
        self.steps.words[self.image] = images.ctypes.data + n * images.strides[0]
        for name, place in self.results.items():
            array = results[name]
            self.steps.words[place] = array.ctypes.data + n * array.strides[0]


def make_workspace(plan: Plan, wanted: Mapping[str, np.dtype[Any]], workers: int = 1) -> Workspace:
    """Fresh buffers, and steps for `workers` threads that share an image; the `wanted` tensors are
    the results, in these types."""
    binder = Binder(plan, workers)
    (image,) = plan.program.inputs
    x = np.empty(image.shape, dtype=storage(image.type, plan.isa))
    binder.call(steps.pixels, x, binder.arrays[image.name], size=image.shape[1])
    for node in plan.nodes:
        binder.bind(node)
    first = len(binder.steps)
    for name, dtype in wanted.items():
        codes = binder.flat(name)
        part = min(256, whole(-(-len(codes) // (2 * workers)), 32))
        binder.call(steps.planes, codes, np.empty(codes.T.shape, dtype), size=len(codes), part=part)
    made, places = steps.make_steps(binder.steps)
    results = {name: places[first + i] + MATRIX + ADDRESS for i, name in enumerate(wanted)}
    return Workspace(binder.arrays, binder.overflows, made, places[0] + ADDRESS, results)


class Binder:
    """Turns the plan's nodes into steps on the arrays of one workspace."""

    def __init__(self, plan: Plan, workers: int) -> None:
        self.plan = plan
        self.program = plan.program
        self.workers = workers
        self.steps: list[Step] = []
        self.convs = {op.output: i for i, op in enumerate(self.program.of_kind(Conv2d))}
        self.overflows = np.zeros((len(self.convs), workers), dtype=np.int64)
        self.arrays = self._arrays()
        self.scratch = {
            kind: np.empty(size + SLACK, np.uint8) for kind, size in self._scratch().items()
        }

    def _arrays(self) -> dict[str, Array]:
        sizes: dict[int, int] = {}
        for name, slot in self.plan.slots.items():
            tensor = self.program.tensors[name]
            size = prod(tensor.shape) * storage(tensor.type, self.plan.isa).itemsize
            sizes[slot] = max(size, sizes.get(slot, 0))
        buffers = {slot: np.empty(size + SLACK, np.uint8) for slot, size in sizes.items()}
        arrays = {}
        for name, slot in self.plan.slots.items():
            tensor = self.program.tensors[name]
            c, h, w = tensor.shape
            arrays[name] = view(buffers[slot], (h, w, c), storage(tensor.type, self.plan.isa))
        return arrays

    def _scratch(self) -> dict[str, int]:
        """Bytes of the buffers that live for one step; memory never touched costs nothing."""
        sizes = {"border": 0, "columns": 0, "sums": 0, "products": 0}
        for op in self.program.ops:
            if isinstance(op, Windowed):
                c, h, w = self.program.tensors[op.input].shape
                top, bottom, left, right = op.padding
                border = 8 * c * (h + top + bottom) * (w + left + right)
                sizes["border"] = max(sizes["border"], border)
                if isinstance(op, MaxPool2d):
                    rows = self.workers * 2 * 8 * c * (w + left + right)
                    sizes["columns"] = max(sizes["columns"], rows)
            if isinstance(op, Conv2d):
                for name, (shape, dtype) in self.shapes(op).items():
                    size = prod(shape) * np.dtype(dtype).itemsize
                    sizes[name] = max(sizes[name], size)
        return sizes

    def shapes(self, op: Conv2d) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Shapes and types of the buffers that a convolution's kernel works in, for every worker:
        see the kernels."""
        sums = self.plan.sums[op.output]
        channels = self.program.tensors[op.output].shape[0]
        n = self.workers
        match sums.kind:
            case "winograd":
                unit = self.unit()
                cin = self.program.tensors[op.input].shape[0]
                count = self.shares(op).chunk
                row = count * whole(cin, 2 * unit.lanes) + winograd.GAP // 2
                return {
                    "columns": ((n, winograd.POINTS, row), np.int16),
                    "products": (
                        (n, winograd.POINTS, count * winograd.GROUP + winograd.GAP // 4),
                        np.int32,
                    ),
                    "sums": ((n, winograd.SIDE**2, winograd.GROUP), np.int32),
                }
            case "bytes" | "pairs":
                return {
                    "columns": ((n, TILE), np.int64),
                    "sums": (
                        (n, *packed.sums_shape(channels, op.groups, self.unit().lanes)),
                        np.int32,
                    ),
                }
            case kind:
                operand, total = (np.int64,) * 2 if kind == "exact" else (np.int16, np.int32)
                return {
                    "columns": ((n, TILE, sums.weight.shape[-1]), operand),
                    "sums": ((n, TILE, channels + 1), total),
                }

    def buffer(self, op: Conv2d, name: str) -> Array:
        """One of `shapes`."""
        shape, dtype = self.shapes(op)[name]
        return view(self.scratch[name], shape, dtype)

    def unit(self) -> Unit:
        """The vector unit that the plan has packed for."""
        unit = unit_of(self.plan.isa)
        assert unit is not None
        return unit

    def flat(self, name: str) -> Array:
        """A tensor as (H * W, C)."""
        array = self.arrays[name]
        return array.reshape(-1, array.shape[2])

    def call(self, kernel: Kernel, *arguments: Any, size: int, part: int | None = None) -> None:
        """Append a step; unless told, a part is one of four for every worker."""
        self.steps.append(Step(kernel, arguments, size, part or -(-size // (4 * self.workers))))

    def bind(self, node: Node) -> None:
        """Append the steps of one node."""
        op = node.op
        out, flat = self.arrays[node.output], self.flat(node.output)
        match op:
            case Input() | Output():
                pass
            case Conv2d():
                self.conv(op, node)
            case Requant():
                scaling = self.scaling(op)
                self.call(steps.requant, self.flat(op.input), scaling, flat, size=len(flat))
            case Add():
                m = (op.multiplier_a, op.multiplier_b)
                scaling = self.scale(op, m, [op.bias], [op.shift])
                operands = (self.flat(op.a), self.flat(op.b))
                self.call(steps.add, *operands, scaling, flat, size=len(flat))
            case MaxPool2d() | SumPool2d():
                x = self.bordered(op, self.arrays[op.input].dtype)
                walk = (*op.kernel, *op.stride, *op.dilation)
                if isinstance(op, SumPool2d):
                    self.call(steps.sumpool, x, *walk, out, size=len(out))
                    return
                lines = view(self.scratch["columns"], (self.workers, 2, x[0].size), x.dtype)
                self.call(steps.maxpool, x, *walk, lines, out, size=len(out))
            case Upsample():
                x = self.arrays[op.input]
                rows, columns = (nearest(x.shape[i], op.size[i]) for i in (0, 1))
                self.call(steps.upsample, x, rows, columns, out, size=len(out))
            case Concat():
                first = 0
                for part in op.parts:
                    self.call(steps.place, self.flat(part), first, flat, size=len(flat))
                    first += self.arrays[part].shape[2]
            case Pad():
                value = np.full(out[0].size, op.value, dtype=out.dtype)
                top, _, left, _ = op.padding
                x = self.arrays[op.input]
                self.call(steps.border, x, top, left, value, 0, out, size=len(out))
            case Lookup():
                lowest = self.program.tensors[op.input].type.lo
                table = self.program.constants[op.table].array.astype(out.dtype)
                self.call(steps.lookup, self.flat(op.input), lowest, table, flat, size=len(flat))
            case _:
                raise TypeError(f"The fast engine has no kernel for {type(op).__name__}.")

    def bordered(self, op: Windowed, dtype: Any, lowest: int = 0, multiple: int = 1) -> Array:
        """The input minus `lowest` with its padding, as `dtype`, and below and to the right what
        makes the windows of a 3x3 kernel a `multiple`; itself where that is the same."""
        x = self.arrays[op.input]
        h, w, c = x.shape
        top, bottom, left, right = op.padding
        height, width = h + top + bottom, w + left + right
        if multiple > 1:
            height, width = (whole(side - 2, multiple) + 2 for side in (height, width))
        if (height, width) == (h, w) and x.dtype == dtype and lowest == 0:
            return x
        out = view(self.scratch["border"], (height, width, c), dtype)
        outside = op.outside(self.program.tensors[op.input])
        channels = np.resize([v - lowest for v in outside], c)
        value = np.tile(channels.astype(dtype), width)
        self.call(steps.border, x, top, left, value, lowest, out, size=height)
        return out

    def scale(self, op: Requant | Add, m: Tables, b: Tables, s: Tables) -> Scaling:
        rounding = tuple(ROUNDINGS).index(rounding_of(op, self.program.arithmetic))
        m, b, s = (np.array(table, dtype=np.int64) for table in (m, b, s))
        if self.program.arithmetic.product == "single":
            rounding = kernels.SINGLE
        if rounding == kernels.RND:  # the half joins B, as in hardware
            b, rounding = b + ((1 << s) >> 1), kernels.TRN
        if abs(m).max(initial=0) < 1 << 31:
            m = m.astype(np.int32)
        return Scaling(m, b, s, op.offset, op.lo, op.hi, rounding)

    def scaling(self, op: Requant) -> Scaling:
        """The tables, for as many pixels as make a row of ROW values."""
        channels = self.program.tensors[op.output].shape[0]
        entries = channels * max(1, min(TILE, ROW // channels))
        m, b = (self.program.constants[name].array for name in (op.multiplier, op.bias))
        return self.scale(op, *(np.resize(table, entries) for table in (m, b, op.shift)))

    def forced(self, op: Conv2d) -> Forced:
        """What the accumulator does with sums too wide for it."""
        type, arithmetic = narrowed(op, self.program), self.program.arithmetic
        if type is None:
            return Forced(kernels.EXACT, 0, 0, 0)
        mode = kernels.WRAP
        if saturates(arithmetic, "mac"):
            mode = kernels.SATURATE_MAC
        elif saturates(arithmetic, "end"):
            mode = kernels.SATURATE_END
        return Forced(mode, type.bits, type.lo, type.hi)

    def conv(self, op: Conv2d, node: Node) -> None:
        """A convolution and the Requant behind it."""
        scaling = self.scaling(node.requant) if node.requant else self.unscaled()
        rest = (scaling, int(node.requant is not None))
        out = self.flat(node.output)
        match self.plan.sums[op.output].kind:
            case "winograd":
                self.winograd(op, rest, out)
            case "bytes" | "pairs":
                self.packed(op, rest, out)
            case _:
                self.plain(op, rest, out)

    def shares(self, op: Conv2d) -> winograd.Shares:
        """How the workers share a convolution by `winograd`."""
        cin = self.program.tensors[op.input].shape[0]
        cout, height, width = self.program.tensors[op.output].shape
        return winograd.shares(winograd.tiles(height, width), cin, cout, self.workers)

    def winograd(self, op: Conv2d, rest: tuple[Any, ...], out: Array) -> None:
        unit, weight = self.unit(), self.plan.sums[op.output].weight
        lowest = self.program.tensors[op.input].type.lo
        x = self.bordered(op, np.uint8, lowest, winograd.SIDE)
        _, height, width = self.program.tensors[op.output].shape
        shares = self.shares(op)
        start = packed.starts(self.program.constants[op.weight].array, 1, lowest, unit.lanes)
        blocks = blocks_of(unit.isa, "words")
        places = np.zeros((self.workers, shares.chunk + winograd.POINTS), np.int64)
        self.call(
            steps.conv_winograd, blocks.narrow, blocks.wide, *winograd.transforms_of(unit.isa),
            unit.pixels, x, weight, start[0], (height, width), shares.splits, *rest,
            self.buffer(op, "columns"), places, self.buffer(op, "products"),
            self.buffer(op, "sums"), out, size=shares.size, part=1,
        )  # fmt: skip

    def packed(self, op: Conv2d, rest: tuple[Any, ...], out: Array) -> None:
        unit, sums = self.unit(), self.plan.sums[op.output]
        operand = packed.OPERANDS[sums.kind]
        lowest = self.program.tensors[op.input].type.lo if operand == "bytes" else 0
        x = self.bordered(op, np.uint8 if operand == "bytes" else np.int16, lowest)
        window, blocks = self.window(op, x), blocks_of(unit.isa, operand)
        weight = self.program.constants[op.weight].array
        start = packed.starts(weight, op.groups, lowest, unit.lanes)
        offsets = self.offsets(window, op.groups, x.shape[1] * x.shape[2]) * x.itemsize
        rows = x.reshape(x.shape[0], -1)
        share = whole(-(-len(out) // self.workers), unit.pixels)
        self.call(
            steps.conv_packed, blocks.narrow, blocks.wide, unit.pixels, rows, sums.weight, start,
            offsets, window, self.forced(op), *rest, self.buffer(op, "columns"),
            self.buffer(op, "sums"), out, self.overflow(op), size=len(out), part=min(share, TILE),
        )  # fmt: skip

    def plain(self, op: Conv2d, rest: tuple[Any, ...], out: Array) -> None:
        sums = self.plan.sums[op.output]
        x = self.bordered(op, np.int64 if sums.kind == "exact" else np.int16)
        rows = x.reshape(x.shape[0], -1)
        first = (rows, sums.weight, self.window(op, x), self.forced(op), *rest)
        last = (self.buffer(op, "sums"), out, self.overflow(op))
        if sums.kind == "depthwise":
            self.call(steps.depthwise, *first, *last, size=len(out), part=TILE)
        else:
            columns = self.buffer(op, "columns")
            self.call(steps.conv, *first, columns, *last, size=len(out), part=TILE)

    def overflow(self, op: Conv2d) -> Ints:
        """The counts of one convolution, a worker each."""
        counts: Ints = self.overflows[self.convs[op.output]]
        return counts

    def unscaled(self) -> Scaling:
        """A Scaling that is not used, of the right type."""
        nothing = np.zeros(0, dtype=np.int64)
        return Scaling(nothing.astype(np.int32), nothing, nothing, 0, 0, 0, 0)

    def window(self, op: Conv2d, x: Array) -> Window:
        """How the kernels walk the bordered input (H, W, C)."""
        channels = x.shape[2]
        _, cin, kh, kw = self.program.constants[op.weight].array.shape
        width = self.program.tensors[op.output].shape[2]
        (sy, sx), (dy, dx) = op.stride, op.dilation
        runs = pieces(self.program, op) // kh
        run = kw // runs * cin
        return Window(kh, runs, run, dx * channels, sx * channels, sy, dy, cin, width)

    def offsets(self, window: Window, groups: int, row: int) -> Ints:
        """Values from a pixel to the runs of its window, group by group: (groups, pieces)."""
        g, ky, r = np.ogrid[:groups, : window.kh, : window.runs]
        places = g * window.group + ky * window.row_tap * row + r * window.tap
        return np.array(places, dtype=np.int64).reshape(groups, -1)


def view(buffer: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """The front of a byte buffer as an array."""
    size = prod(shape) * np.dtype(dtype).itemsize
    array: Array = buffer[:size].view(dtype).reshape(shape)
    return array
