"""The memory of an image on its way through a Program, and what kernels' arguments need."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from operator import le
from typing import Any

import numpy as np

from intaglio.fixed import ROUNDINGS, IntType
from intaglio.ops import (
    Add,
    Conv2d,
    Ints,
    MaxPool2d,
    Output,
    Padding,
    Pair,
    Requant,
    Windowed,
    rounding_of,
)
from intaglio.sim import kernels, steps
from intaglio.sim.amx.tiles import ROWS
from intaglio.sim.code.kernel import Kernel
from intaglio.sim.dots import SLACK
from intaglio.sim.isa import Unit, unit_of
from intaglio.sim.kernels import TILE, Scaling
from intaglio.sim.plan import Array, Kind, Plan, in_bytes, storage, whole
from intaglio.sim.steps import Step
from intaglio.sim.vector import packed, transforms, winograd
from intaglio.sim.vector.forms import FORMS

Tables = Sequence[int] | Ints
PART = 8192  # bytes of a map that a thread takes at least
ROW = 256  # values that a vector loop takes at once


class Buffers:
    """The arrays of one workspace, and the steps so far."""

    def __init__(self, plan: Plan, workers: int) -> None:
        self.plan = plan
        self.program = plan.program
        self.workers = workers
        self.steps: list[Step] = []
        self.convs = {op.output: i for i, op in enumerate(self.program.of_kind(Conv2d))}
        self.overflows = np.zeros((len(self.convs), workers), dtype=np.int64)
        self.kept: list[Any] = []  # memory that steps know by addresses
        self.slack = SLACK + self._beyond()
        self.outputs = {op.output: op for op in self.program.of_kind(Output)}
        self.arrays = self._arrays()
        self.scratch = {
            kind: np.empty(size + self.slack, np.uint8) for kind, size in self._scratch().items()
        }

    def _arrays(self) -> dict[str, Array]:
        """Every stored tensor (H, W, C), those with a halo in the midst of it."""
        shapes: dict[str, tuple[int, ...]] = {}
        sizes: dict[int, int] = {}
        for name, slot in self.plan.slots.items():
            c, h, w = self.program.tensors[name].shape
            top, bottom, left, right = self.halo(name)
            shapes[name] = (h + top + bottom, w + left + right, c)
            size = prod(shapes[name]) * self.stored(name).itemsize
            sizes[slot] = max(size, sizes.get(slot, 0))
        buffers = {slot: np.empty(size + self.slack, np.uint8) for slot, size in sizes.items()}
        arrays = {}
        for name, slot in self.plan.slots.items():
            array = view(buffers[slot], shapes[name], self.stored(name))
            halo = self.plan.halos.get(name)
            if halo is not None:
                array[:] = np.array(halo.outside) - self.lowest(name)
            top, _, left, _ = self.halo(name)
            _, h, w = self.program.tensors[name].shape
            arrays[name] = array[top : top + h, left : left + w]
        return arrays

    def halo(self, name: str) -> Padding:
        """Pixels around a tensor."""
        halo = self.plan.halos.get(self.named(name))
        return halo.size if halo else (0, 0, 0, 0)

    def named(self, name: str) -> str:
        """The tensor that one shares its memory with, as an Output does; else itself."""
        op = self.outputs.get(name)
        return op.input if op else name

    def stored(self, name: str) -> np.dtype[Any]:
        """The type of a tensor's array."""
        return storage(self.program, self.named(name), self.plan.isa)

    def lowest(self, name: str) -> int:
        """What a tensor's codes are counted from in its array."""
        name = self.named(name)
        counted = in_bytes(self.program, name, self.plan.isa)
        return self.program.tensors[name].type.lo if counted else 0

    def _beyond(self) -> int:
        """Bytes behind a map that tiles may read: a group's pixels, where a row has fewer."""
        ops = (op for op in self.program.of_kind(Conv2d) if self.kind(op) == "tiles")
        known = self.program.tensors
        pitches = (known[op.input].shape[0] * op.stride[1] for op in ops)
        return max((ROWS * pitch for pitch in pitches), default=0)

    def kind(self, op: Conv2d) -> Kind:
        """Of its sums."""
        return self.plan.sums[op.output].kind

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
            case "winograd" | "winograd bytes" | "winograd oblong" as kind:
                form = FORMS[kind]
                cin = self.program.tensors[op.input].shape[0]
                count = self.shares(op).chunk
                held = transforms.spread_lanes(self.unit(), form)
                row = count * whole(cin, held) + winograd.GAP // form.each
                products = count * winograd.GROUP + winograd.GAP // 4
                return {
                    "columns": (
                        (n, form.points, row), packed.UNSIGNED[form.operand]
                    ),
                    "products": ((n, form.points, products), np.int32),
                    "sums": ((n, prod(form.sides), winograd.GROUP), np.int32),
                }  # fmt: skip
            case "tiles" | "lanes":
                return {}
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

    def shares(self, op: Conv2d) -> winograd.Shares:
        """How the workers share a convolution by `winograd`."""
        form = FORMS[self.plan.sums[op.output].kind]
        cin = self.program.tensors[op.input].shape[0]
        cout, height, width = self.program.tensors[op.output].shape
        return winograd.shares(form, form.tiles(height, width), cin, cout, self.workers)

    def buffer(self, op: Conv2d, name: str) -> Array:
        """One of `shapes`."""
        shape, dtype = self.shapes(op)[name]
        return view(self.scratch[name], shape, dtype)

    def unit(self) -> Unit:
        """The vector unit that the plan has packed for."""
        unit = unit_of(self.plan.isa)
        assert unit is not None
        return unit

    def call(self, kernel: Kernel, *arguments: Any, size: int, part: int | None = None) -> None:
        """Append a step; unless told, a part is one of four for every worker, of rows that are
        worth it."""
        if part is None:
            maps = (a for a in arguments if isinstance(a, np.ndarray) and a.ndim == 3)
            row = max((a.nbytes for a in maps), default=0) // size
            part = max(-(-size // (4 * self.workers)), min(size, PART // max(row, 1)))
        self.steps.append(Step(kernel, arguments, size, part))

    def change(self, name: str, other: str) -> int:
        """What is taken off the array of one tensor to give the same codes in that of another."""
        return self.lowest(other) - self.lowest(name)

    def bordered(
        self, op: Windowed, dtype: Any, lowest: int = 0, multiples: Pair = (1, 1),
        flat: bool = False,
    ) -> Array:  # fmt: skip
        """The input minus `lowest` with its padding, as `dtype`, and below and to the right what
        makes the windows of a 3x3 kernel `multiples`; where it lies, if it is there like this,
        and, for kernels that want it `flat`, all its values side by side."""
        x = self.arrays[op.input]
        h, w, c = x.shape
        top, bottom, left, right = op.padding
        height, width = h + top + bottom, w + left + right
        if multiples != (1, 1):
            height, width = (
                whole(side - 2, n) + 2 for side, n in zip((height, width), multiples, strict=True)
            )
        outside = op.outside(self.program.tensors[op.input])
        halo = self.plan.halos.get(op.input)
        there = x.dtype == dtype and self.lowest(op.input) == lowest
        if there and not (flat and halo):
            wide = (top, height - h - top, left, width - w - left)
            if not any(wide):
                return x
            if halo and halo.outside == outside and all(map(le, wide, halo.size)):
                place = x.ctypes.data - top * x.strides[0] - left * x.strides[1]
                return around(x, place, (height, width, c))
        out = view(self.scratch["border"], (height, width, c), dtype)
        channels = np.resize([v - lowest for v in outside], c)
        value = np.tile(channels.astype(dtype), width)
        change = lowest - self.lowest(op.input)
        self.call(steps.border, x, top, left, value, change, out, size=height)
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
        base = self.lowest(op.output)
        return Scaling(m, b, s, op.offset - base, op.lo - base, op.hi - base, rounding)

    def scaling(self, op: Requant) -> Scaling:
        """The tables, for as many pixels as make a row of ROW values."""
        channels = self.program.tensors[op.output].shape[0]
        entries = channels * max(1, min(TILE, ROW // channels))
        m, b = (self.program.constants[name].array for name in (op.multiplier, op.bias))
        m, b, s = (np.resize(table, entries) for table in (m, b, op.shift))
        base = self.lowest(op.input)
        single = self.program.arithmetic.product == "single"
        return self.scale(op, m, b + (base if single else base * m), s)


def around(x: Array, place: int, shape: tuple[int, int, int]) -> Array:
    """An array of rows as far apart as those of x, from an address on, within the same memory."""
    base = x
    while isinstance(base.base, np.ndarray):
        base = base.base
    start = place - base.ctypes.data
    return np.ndarray(shape, x.dtype, base.data, start, x.strides)


def given(type: IntType) -> np.dtype[Any]:
    """How an image is given: in bytes where they hold its codes, else in int16, else in int64."""
    for kind in (np.uint8, np.int8, np.int16):
        if np.iinfo(kind).min <= type.lo and type.hi <= np.iinfo(kind).max:
            return np.dtype(kind)
    return np.dtype(np.int64)


def view(buffer: Array, shape: tuple[int, ...], dtype: Any) -> Array:
    """The front of a byte buffer as an array."""
    size = prod(shape) * np.dtype(dtype).itemsize
    array: Array = buffer[:size].view(dtype).reshape(shape)
    return array
