"""The buffers of one thread, and the kernel calls that run one image through them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
)
from intaglio.sim import kernels, vnni
from intaglio.sim.kernels import TILE, Forced, Scaling, Window
from intaglio.sim.plan import Array, Node, Plan, pieces, storage
from intaglio.sim.reference import narrowed, nearest, saturates
from intaglio.sim.vnni import SLACK

Call = tuple[Callable[..., None], tuple[Any, ...]]
Tables = Sequence[int] | Ints


@dataclass(frozen=True)
class Workspace:
    """arrays: every stored tensor (H, W, C); overflows: a count for each Conv2d, in order."""

    arrays: dict[str, Array]
    overflows: Ints
    calls: tuple[Call, ...]

    def run(self) -> None:
        """One image, from the Input's array to those of the Outputs."""
        self.overflows[:] = 0
        for kernel, arguments in self.calls:
            kernel(*arguments)


def make_workspace(plan: Plan) -> Workspace:
    """Fresh buffers and the calls bound to them."""
    binder = Binder(plan)
    for node in plan.nodes:
        binder.bind(node)
    return Workspace(binder.arrays, binder.overflows, tuple(binder.calls))


class Binder:
    """Turns the plan's nodes into calls on the arrays of one workspace."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.program = plan.program
        self.calls: list[Call] = []
        self.convs = {op.output: i for i, op in enumerate(self.program.of_kind(Conv2d))}
        self.overflows = np.zeros(len(self.convs), dtype=np.int64)
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
        """Bytes of the buffers that live for one call; memory never touched costs nothing."""
        sizes = {"border": 0, "columns": 8 * TILE, "sums": 0}
        for op in self.program.ops:
            if isinstance(op, Windowed):
                c, h, w = self.program.tensors[op.input].shape
                top, bottom, left, right = op.padding
                border = 8 * c * (h + top + bottom) * (w + left + right)
                sizes["border"] = max(sizes["border"], border)
            if isinstance(op, Conv2d):
                sums = self.plan.sums[op.output]
                columns = 0 if sums.kind == "bytes" else 8 * TILE * sums.weight.shape[-1]
                channels = self.program.tensors[op.output].shape[0]
                sizes["columns"] = max(sizes["columns"], columns)
                sizes["sums"] = max(sizes["sums"], 8 * TILE * (channels + 32))
        return sizes

    def flat(self, name: str) -> Array:
        """A tensor as (H * W, C)."""
        array = self.arrays[name]
        return array.reshape(-1, array.shape[2])

    def call(self, kernel: Callable[..., None], *arguments: Any) -> None:
        self.calls.append((kernel, arguments))

    def bind(self, node: Node) -> None:
        """Append the calls of one node."""
        op = node.op
        out, flat = self.arrays[node.output], self.flat(node.output)
        match op:
            case Input() | Output():
                pass
            case Conv2d():
                self.conv(op, node)
            case Requant():
                self.call(kernels.requant, self.flat(op.input), self.scaling(op), flat)
            case Add():
                m = (op.multiplier_a, op.multiplier_b)
                scaling = self.scale(op, m, [op.bias], [op.shift])
                self.call(kernels.add, self.flat(op.a), self.flat(op.b), scaling, flat)
            case MaxPool2d():
                lowest = self.program.tensors[op.input].type.lo
                self.pool(kernels.maxpool, op, op.kernel, lowest)
            case SumPool2d():
                self.pool(kernels.sumpool, op, op.kernel, op.pad_value)
            case Upsample():
                x = self.arrays[op.input]
                rows, columns = (nearest(x.shape[i], op.size[i]) for i in (0, 1))
                self.call(kernels.upsample, x, rows, columns, out)
            case Concat():
                first = 0
                for part in op.parts:
                    self.call(kernels.place, self.flat(part), first, flat)
                    first += self.arrays[part].shape[2]
            case Pad():
                value = np.full(out.shape[2], op.value, dtype=out.dtype)
                top, _, left, _ = op.padding
                self.call(kernels.border, self.arrays[op.input], top, left, value, 0, out)
            case Lookup():
                lowest = self.program.tensors[op.input].type.lo
                table = self.program.constants[op.table].array.astype(out.dtype)
                self.call(kernels.lookup, self.flat(op.input), lowest, table, flat)
            case _:
                raise TypeError(f"The fast engine has no kernel for {type(op).__name__}.")

    def bordered(self, op: Windowed, outside: Iterable[int], dtype: Any, lowest: int = 0) -> Array:
        """The input minus `lowest` with its padding, as `dtype`; itself where that is the same."""
        x = self.arrays[op.input]
        if not any(op.padding) and x.dtype == dtype:
            return x
        h, w, c = x.shape
        top, bottom, left, right = op.padding
        shape = (h + top + bottom, w + left + right, c)
        out = view(self.scratch["border"], shape, dtype)
        value = np.resize(np.array([v - lowest for v in outside], dtype=dtype), c)
        self.call(kernels.border, x, top, left, value, lowest, out)
        return out

    def pool(
        self, kernel: Callable[..., None], op: Windowed, size: tuple[int, int], outside: int
    ) -> None:
        x = self.bordered(op, [outside], self.arrays[op.input].dtype)
        self.call(kernel, x, *size, *op.stride, *op.dilation, self.arrays[op.output])

    def scale(self, op: Requant | Add, m: Tables, b: Tables, s: Tables) -> Scaling:
        rounding = tuple(ROUNDINGS).index(self.program.arithmetic.rounding)
        m, b, s = (np.array(table, dtype=np.int64) for table in (m, b, s))
        if rounding == kernels.RND:  # the half joins B, as in hardware
            b, rounding = b + ((1 << s) >> 1), kernels.TRN
        if abs(m).max(initial=0) < 1 << 31:
            m = m.astype(np.int32)
        return Scaling(m, b, s, op.offset, op.lo, op.hi, rounding)

    def scaling(self, op: Requant) -> Scaling:
        """The tables with one entry for each channel."""
        channels = self.program.tensors[op.output].shape[0]
        m, b = (self.program.constants[name].array for name in (op.multiplier, op.bias))
        return self.scale(op, *(np.resize(table, channels) for table in (m, b, op.shift)))

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
        sums, out = self.plan.sums[op.output], self.flat(node.output)
        scaling = self.scaling(node.requant) if node.requant else self.unscaled()
        rest = (self.forced(op), scaling, node.requant is not None)
        index = self.convs[op.output]
        overflow = self.overflows[index : index + 1]
        if sums.kind == "bytes":
            lowest = self.program.tensors[op.input].type.lo
            x = self.bordered(op, op.pad_value, np.uint8, lowest)
            window = self.window(op, x)
            start = vnni.starts(self.program.constants[op.weight].array, op.groups, lowest)
            offsets = self.offsets(window, op.groups, x.shape[1] * x.shape[2])
            acc = view(self.scratch["sums"], (TILE, out.shape[1] + 32), np.int32)
            bases = view(self.scratch["columns"], (TILE,), np.int64)
            rows = x.reshape(x.shape[0], -1)
            operands = (rows, sums.weight, start, offsets, window)
            self.call(vnni.conv, *operands, *rest, bases, acc, out, overflow)
            return
        operand, whole = (np.int64, np.int64) if sums.kind == "exact" else (np.int16, np.int32)
        x = self.bordered(op, op.pad_value, operand)
        acc = view(self.scratch["sums"], (TILE, out.shape[1] + 1), whole)
        first = (x.reshape(x.shape[0], -1), sums.weight, self.window(op, x))
        if sums.kind == "depthwise":
            self.call(kernels.depthwise, *first, *rest, acc, out, overflow)
        else:
            columns = view(self.scratch["columns"], (TILE, sums.weight.shape[2]), operand)
            self.call(kernels.conv, *first, *rest, columns, acc, out, overflow)

    def unscaled(self) -> Scaling:
        """A Scaling that is not used, of the right type."""
        nothing = np.zeros(0, dtype=np.int64)
        return Scaling(nothing.astype(np.int32), nothing, nothing, 0, 0, 0, 0)

    def window(self, op: Conv2d, x: Array) -> Window:
        """How `kernels.gather` walks the bordered input (H, W, C)."""
        channels = x.shape[2]
        _, cin, kh, kw = self.program.constants[op.weight].array.shape
        width = self.program.tensors[op.output].shape[2]
        (sy, sx), (dy, dx) = op.stride, op.dilation
        runs = pieces(self.program, op) // kh
        run = kw // runs * cin
        return Window(kh, runs, run, dx * channels, sx * channels, sy, dy, cin, width)

    def offsets(self, window: Window, groups: int, row: int) -> Ints:
        """Bytes from a pixel to the runs of its window, group by group: (groups, pieces)."""
        g, ky, r = np.ogrid[:groups, : window.kh, : window.runs]
        places = g * window.group + ky * window.row_tap * row + r * window.tap
        return np.array(places, dtype=np.int64).reshape(groups, -1)


def view(buffer: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """The front of a byte buffer as an array."""
    size = prod(shape) * np.dtype(dtype).itemsize
    array: Array = buffer[:size].view(dtype).reshape(shape)
    return array
