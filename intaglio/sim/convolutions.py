"""Convolutions and the Requants behind them as steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.ops import (
    Conv2d,
    Ints,
)
from intaglio.sim import kernels, steps
from intaglio.sim.amx import tiles, walk
from intaglio.sim.buffers import Buffers
from intaglio.sim.code.kernel import Kernel
from intaglio.sim.dots import blocks_of, codes_of, lanes_of
from intaglio.sim.kernels import TILE, Forced, Scaling, Window
from intaglio.sim.plan import Array, Node, pieces, whole
from intaglio.sim.reference import narrowed, saturates
from intaglio.sim.vector import packed, transforms, winograd
from intaglio.sim.vector.forms import FORMS, Form, Tiled
from intaglio.sim.vector.packed import Map, Parts, Requantised

CHUNK = 8  # pairs of groups of tiles, which go through together
FEW = 150_000  # products that one thread makes sooner than two could share
PIXELS = 64  # of a convolution, whose windows lie in the cache together


class Convolutions(Buffers):
    """With the steps of convolutions."""

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
        scaling = self.scaling(node.requant) if node.requant else None
        made, registers = self.arrays[node.output], op.output in self.plan.tables
        out = made if registers else made.reshape(-1, made.shape[2])
        match self.plan.sums[op.output].kind:
            case "winograd" | "winograd bytes" | "winograd oblong" as kind:
                self.winograd(op, FORMS[kind], kind, scaling, out, made)
            case "bytes" | "pairs" if registers:
                self.codes(op, made)
            case "bytes" | "pairs":
                self.packed(op, scaling, out)
            case "lanes":
                self.lanes(op, made)
            case "tiles":
                self.tiles(op, made)
            case _:
                self.plain(op, scaling, out)

    def winograd(
        self, op: Conv2d, form: Form, kind: Tiled, scaling: Scaling | None, out: Array,
        made: Array,
    ) -> None:  # fmt: skip
        unit, packed_weight = self.unit(), self.plan.sums[op.output].weight
        type, weight = self.program.tensors[op.input].type, self.program.constants[op.weight].array
        x = self.bordered(op, np.uint8, type.lo, form.sides)
        _, height, width = self.program.tensors[op.output].shape
        shares, span = self.shares(op), type.hi - type.lo
        start = packed.starts(weight, 1, type.lo, unit.lanes)
        begins = winograd.begins(weight, form, span, unit.lanes)
        blocks, spread = blocks_of(unit.isa, form.operand), transforms.spread_of(unit.isa, kind)
        work = winograd.Work(
            blocks.narrow.address, blocks.wide.address, spread.address, span,
            unit.pixels, *form.sides, form.each, height, width, shares.splits,
        )  # fmt: skip
        places = np.zeros((self.workers, shares.chunk + 1), np.int64)
        first = (place(x), packed_weight, begins, start[0])
        inside = (self.buffer(op, "columns"), places, self.buffer(op, "products"))
        share = {"size": shares.size, "part": 1}
        cin, cout = weight.shape[1], weight.shape[0]
        if op.output in self.plan.tables:
            way = self.plan.tables[op.output].way
            gather = transforms.gather_codes_of(unit.isa, kind, way, made.itemsize)
            self.call(
                steps.codes_winograd, work, gather, *first, self.requantised(op, made), *inside,
                place(made), cin, cout, **share,
            )  # fmt: skip
        else:
            gather = transforms.gather_of(unit.isa, kind)
            self.call(
                steps.conv_winograd, work, gather, *first, scaling, *inside,
                self.buffer(op, "sums"), out, cin, **share,
            )  # fmt: skip

    def requantised(self, op: Conv2d, out: Array) -> Requantised:
        """The Requant behind a convolution, in registers."""
        table = self.plan.tables[op.output]
        address, row = table.rows.ctypes.data, table.rows.strides[0]
        return Requantised(address, address + row, row * table.way.rows, out.itemsize)

    def codes(self, op: Conv2d, out: Array) -> None:
        """A convolution by `packed.codes`."""
        unit, sums = self.unit(), self.plan.sums[op.output]
        operand = packed.OPERANDS[sums.kind]
        lowest = self.program.tensors[op.input].type.lo if operand == "bytes" else 0
        x = self.bordered(op, np.uint8 if operand == "bytes" else np.int16, lowest)
        weight = self.program.constants[op.weight].array
        start = packed.starts(weight, op.groups, lowest, unit.lanes)
        window = self.window(op, x)
        offsets = self.offsets(window, op.groups, x.strides[0] // x.itemsize) * x.itemsize
        pixels = unit.block(out.shape[0] * out.shape[1])
        way = self.plan.tables[op.output].way
        blocks = codes_of(unit.isa, operand, pixels, way, out.itemsize)
        self.shared(
            steps.codes_packed, op, out, pixels, -(-weight.shape[0] // (2 * unit.lanes)),
            blocks.narrow, blocks.wide, pixels, place(x, op.stride), sums.weight, start, offsets,
        )  # fmt: skip

    def tiles(self, op: Conv2d, out: Array) -> None:
        """A convolution by `amx.walk`."""
        unit, weight = self.unit(), self.plan.sums[op.output].weight
        values, table = self.program.constants[op.weight].array, self.plan.tables[op.output]
        lowest = self.program.tensors[op.input].type.lo
        x = self.bordered(op, np.uint8, lowest)
        window = self.window(op, x)
        offsets = walk.distances(self.offsets(window, 1, x.strides[0])[0], window.run)
        wide = tiles.REGISTERS * tiles.ROWS
        nowhere = np.zeros(len(weight) * wide * out.itemsize, np.uint8)
        places = place(x, op.stride)
        bases, outs = walk.groups(places, place(out), out.shape[:2], nowhere.ctypes.data)
        on, off = tiles.switches(tiles.EMULATED)
        settings = walk.configuration()
        self.kept += [nowhere, settings, x]
        pairs = len(bases) // tiles.GROUPS
        chunk = min(-(-pairs // self.workers), CHUNK)
        parts = -(-pairs // chunk)
        even = parts % self.workers == 0 or parts > 4 * self.workers
        splits = 1 if even else min(self.workers, len(weight))
        memory = walk.aligned(np.zeros((self.workers, 2 * tiles.BLOCK), np.uint8))
        self.call(
            steps.codes_tiles, tiles.block_of(unit, table.way, out.itemsize, tiles.EMULATED),
            walk.Switch(on.address, off.address, settings.ctypes.data), places.column, weight,
            packed.starts(values, 1, lowest, wide)[0], offsets, self.requantised(op, out), bases,
            outs, out.shape[2], chunk, splits, memory, size=parts * splits, part=1,
        )  # fmt: skip

    def lanes(self, op: Conv2d, out: Array) -> None:
        """A convolution of each channel by itself, by `packed.codes_lanes`."""
        unit, sums = self.unit(), self.plan.sums[op.output]
        lowest = self.program.tensors[op.input].type.lo
        x = self.bordered(op, np.uint8, lowest)
        weight = self.program.constants[op.weight].array
        start = packed.starts(weight, 1, lowest, unit.lanes)[0]
        _, _, kh, kw = weight.shape
        ky, kx = np.divmod(np.arange(kh * kw), kw)
        taps = ky * op.dilation[0] * x.strides[0] + kx * op.dilation[1] * x.strides[1]
        offsets = np.resize(taps, -(-taps.size // 2) * 2).astype(np.int64).reshape(-1, 2)
        self.shared(
            steps.codes_lanes, op, out, unit.pixels, len(sums.weight),
            lanes_of(unit.isa, self.plan.tables[op.output].way, out.itemsize), unit.pixels,
            place(x, op.stride), sums.weight, start, offsets,
        )  # fmt: skip

    def shared(
        self, kernel: Kernel, op: Conv2d, out: Array, pixels: int, most: int,
        *first: Any,
    ) -> None:  # fmt: skip
        """Append a step of `packed`'s convolutions to codes, in blocks of so many pixels, whose
        channels may be made in up to `most` parts."""
        height, width, channels = out.shape
        count = height * width
        macs = count * self.program.constants[op.weight].array.size
        workers = self.workers if macs >= FEW else 1
        chunk = min(whole(-(-count // workers), pixels), whole(PIXELS, pixels))
        chunks = -(-count // chunk)
        splits = 1 if chunks % workers == 0 or chunks > 4 * workers else most
        parts = Parts(chunk, min(splits, workers), width, count)
        places = np.zeros((self.workers, 2, chunk + packed.BLOCK), np.int64)
        self.call(
            kernel, *first, self.requantised(op, out), place(out), channels, parts, places,
            size=chunks * parts.splits, part=1,
        )  # fmt: skip

    def packed(self, op: Conv2d, scaling: Scaling | None, out: Array) -> None:
        unit, sums = self.unit(), self.plan.sums[op.output]
        operand = packed.OPERANDS[sums.kind]
        lowest = self.program.tensors[op.input].type.lo if operand == "bytes" else 0
        x = self.bordered(op, np.uint8 if operand == "bytes" else np.int16, lowest, flat=True)
        window, blocks = self.window(op, x), blocks_of(unit.isa, operand)
        weight = self.program.constants[op.weight].array
        start = packed.starts(weight, op.groups, lowest, unit.lanes)
        offsets = self.offsets(window, op.groups, x.shape[1] * x.shape[2]) * x.itemsize
        rows = x.reshape(x.shape[0], -1)
        share = whole(-(-len(out) // self.workers), unit.pixels)
        self.call(
            steps.conv_packed, blocks.narrow, blocks.wide, unit.pixels, rows, sums.weight, start,
            offsets, window, self.forced(op), scaling, self.buffer(op, "columns"),
            self.buffer(op, "sums"), out, self.overflow(op), size=len(out), part=min(share, TILE),
        )  # fmt: skip

    def plain(self, op: Conv2d, scaling: Scaling | None, out: Array) -> None:
        sums = self.plan.sums[op.output]
        x = self.bordered(op, np.int64 if sums.kind == "exact" else np.int16, flat=True)
        rows = x.reshape(x.shape[0], -1)
        first = (rows, sums.weight, self.window(op, x), self.forced(op), scaling)
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


def place(array: Array, stride: tuple[int, int] = (1, 1)) -> Map:
    """Where the pixels of (H, W, C) lie, or every so many of them."""
    rows, columns, _ = array.strides
    return Map(array.ctypes.data, rows * stride[0], columns * stride[1])
