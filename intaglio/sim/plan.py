"""What the fast engine decides once for a Program: fusion, buffers, width of sums, packed weights.

A Requant that alone reads an accumulator runs inside the convolution's kernel, and the accumulator
is never stored. A tensor's buffer is used again when its last reader has run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from intaglio.fixed import IntType
from intaglio.ops import Conv2d, Ints, Op, Output, Requant
from intaglio.program import Program
from intaglio.sim import packed, winograd
from intaglio.sim.isa import Isa, Unit, unit_of
from intaglio.sim.kernels import ALIGN
from intaglio.sim.reference import narrowed, saturates

Array = NDArray[Any]
Kind = Literal["winograd", "bytes", "pairs", "depthwise", "words", "exact"]


@dataclass(frozen=True)
class Node:
    """One kernel's work: an operation, and the Requant fused behind it."""

    op: Op
    requant: Requant | None = None

    @property
    def output(self) -> str:
        """The tensor it writes."""
        return self.requant.output if self.requant else self.op.output


@dataclass(frozen=True)
class Sums:
    """How a Conv2d adds up: `kind` names its kernel and operands; `weight` is packed for them, and
    shared by the levels of a shared head.

    winograd    3x3 of 8-bit codes and weights, sums of 26 bits: `sim.winograd`
    bytes       8-bit codes and weights, int32 sums, on a vector unit: `sim.packed`
    pairs       int16 operands, int32 sums, on a vector unit: `sim.packed`
    depthwise   int16 operands, int32 sums, one channel a group
    words       int16 operands, int32 sums
    exact       all in int64, where int16 operands and int32 sums do not suffice
    """

    kind: Kind
    weight: Array


@dataclass(frozen=True)
class Plan:
    """slots: the number of the buffer of every tensor that is stored; sums: by Conv2d output."""

    program: Program
    isa: Isa
    nodes: tuple[Node, ...]
    slots: dict[str, int]
    sums: dict[str, Sums]


def make_plan(program: Program, trace: bool = False, isa: Isa = "generic") -> Plan:
    """The plan; with `trace` nothing is fused and every tensor keeps its own buffer."""
    nodes = nodes_of(program, fuse=not trace)
    made: dict[tuple[str, int, int, Kind], Sums] = {}
    sums = {}
    for op in program.of_kind(Conv2d):
        key = (op.weight, op.groups, pieces(program, op), kind_of(program, op, isa))
        if key not in made:
            made[key] = pack(program.constants[op.weight].array, *key[1:], unit_of(isa))
        sums[op.output] = made[key]
    return Plan(program, isa, nodes, assign(program, nodes, reuse=not trace), sums)


def storage(type: IntType, isa: Isa) -> np.dtype[Any]:
    """How the engine keeps a tensor: in bytes where its kernels read them, else in int16 where
    every code fits, else in int64."""
    if isa != "generic" and IntType(8, False).holds(type.lo, type.hi):
        return np.dtype(np.uint8)
    return np.dtype(np.int16 if IntType(16, True).holds(type.lo, type.hi) else np.int64)


def nodes_of(program: Program, fuse: bool) -> tuple[Node, ...]:
    """The operations in order, each Requant that alone reads a Conv2d fused behind it."""
    fused: dict[str, Requant] = {}
    for conv in program.of_kind(Conv2d):
        readers = program.consumers[conv.output]
        if fuse and len(readers) == 1 and isinstance(readers[0], Requant):
            fused[conv.output] = readers[0]
    inside = {requant.output for requant in fused.values()}
    return tuple(Node(op, fused.get(op.output)) for op in program.ops if op.output not in inside)


def assign(program: Program, nodes: tuple[Node, ...], reuse: bool) -> dict[str, int]:
    """A buffer number for every tensor; an Output shares that of its input, kept to the end."""
    last = {name: i for i, node in enumerate(nodes) for name in node.op.inputs}
    last |= {op.input: len(nodes) for op in program.of_kind(Output)}
    slots: dict[str, int] = {}
    free: list[int] = []
    count = 0
    for i, node in enumerate(nodes):
        if isinstance(node.op, Output):
            slots[node.output] = slots[node.op.input]
            continue
        if not free:
            free.append(count)
            count += 1
        slots[node.output] = free.pop()
        if reuse:
            unread = {node.output} - last.keys()
            free += [slots[n] for n in sorted({n for n in node.op.inputs if last[n] == i} | unread)]
    return slots


def kind_of(program: Program, op: Conv2d, isa: Isa) -> Kind:
    """The fastest kernel whose operands and sums hold everything this convolution can meet."""
    weight = program.constants[op.weight].array
    lo, hi = program.proved_accumulator(op)
    type = program.tensors[op.input].type

    def fits(bits: int, signed: bool) -> bool:
        """Codes, weights of that width, and int32 sums."""
        return (
            IntType(bits, signed).holds(type.lo, type.hi)
            and IntType(bits, True).holds(int(weight.min()), int(weight.max()))
            and IntType(32, True).holds(int(lo.min()), int(hi.max()))
        )

    if narrowed(op, program) is not None and saturates(program.arithmetic, "mac"):
        return "exact"  # every product is clamped, in order
    if not fits(16, True):
        return "exact"
    if op.groups == weight.shape[0] > 1 and weight.shape[1] == 1:
        return "depthwise"
    unit = unit_of(isa)
    if unit is None:
        return "words"
    # Sums of bytes are modulo 2^32: those of a signed type may begin anywhere.
    if not (fits(8, False) or fits(8, True)):
        return "pairs"
    if winograd_is_exact(program, op) and winograd_pays(program, op, unit):
        return "winograd"
    return "bytes" if unit.operand == "bytes" else "pairs"


def winograd_is_exact(program: Program, op: Conv2d) -> bool:
    """Whether a convolution of 8-bit codes and weights is 3x3 as `sim.winograd` makes it, with sums
    of codes counted from their lowest that it holds."""
    weight, type = program.constants[op.weight].array, program.tensors[op.input].type
    if weight.shape[2:] != (3, 3) or op.groups != 1 or narrowed(op, program) is not None:
        return False
    if op.stride != (1, 1) or op.dilation != (1, 1):
        return False
    span = type.hi - type.lo
    least, most = (f(weight, 0).sum(axis=(1, 2, 3)) * span for f in (np.minimum, np.maximum))
    return winograd.SUM.holds(int(least.min()), int(most.max()))


def winograd_pays(program: Program, op: Conv2d, unit: Unit) -> bool:
    """Whether it takes clearly fewer vector instructions than the plain window: multiplications,
    in whole blocks of pixels, and some 200 and 120 a register for a tile's two transforms."""
    cout, cin = program.constants[op.weight].array.shape[:2]
    _, height, width = program.tensors[op.output].shape
    registers = -(-cout // unit.lanes)
    tiles = winograd.tiles(height, width)
    each = 4 if unit.operand == "bytes" else 2
    plain = whole(height * width, unit.pixels) * registers * 3 * -(-3 * cin // each)
    products = whole(tiles, unit.pixels) * registers * winograd.POINTS * -(-cin // 2)
    transforms = tiles * (200 * -(-cin // (2 * unit.lanes)) + 120 * registers)
    return bool(products + transforms < 0.9 * plain)


def whole(count: int, block: int) -> int:
    """count rounded up to whole blocks."""
    return -(-count // block) * block


def pieces(program: Program, op: Conv2d) -> int:
    """Pieces that a window's values lie in: kernel rows where each is contiguous, else taps."""
    kh, kw = map(int, program.constants[op.weight].array.shape[2:])
    return kh if op.groups == 1 and op.dilation[1] == 1 else kh * kw


def pack(weight: Ints, groups: int, pieces: int, kind: Kind, unit: Unit | None) -> Sums:
    """Weights for `winograd.conv`, `packed.conv`, for `kernels.conv` (groups, Cout / groups, K), or
    for `kernels.depthwise` (Kh * Kw, C)."""
    if unit is not None and kind == "winograd":
        return Sums(kind, winograd.pack(weight, unit))
    if unit is not None and (kind == "bytes" or kind == "pairs"):
        operand = packed.OPERANDS[kind]
        return Sums(kind, packed.pack(weight, groups, pieces, unit, operand))
    dtype = np.int64 if kind == "exact" else np.int16
    cout, cin, kh, kw = weight.shape
    if kind == "depthwise":
        return Sums(kind, np.ascontiguousarray(weight.reshape(cout, kh * kw).T, dtype=dtype))
    outs, k = cout // groups, kh * kw * cin
    rows = np.zeros((groups, outs + outs % 2, -(-k // ALIGN) * ALIGN), dtype=dtype)
    rows[:, :outs, :k] = weight.transpose(0, 2, 3, 1).reshape(groups, outs, k)
    return Sums(kind, rows)
