"""What the fast engine decides once for a Program: fusion, buffers, width of sums, packed weights.

A Requant that alone reads an accumulator runs inside the convolution's kernel, and the accumulator
is never stored. A tensor's buffer is used again when its last reader has run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intaglio.fixed import IntType
from intaglio.ops import Conv2d, Ints, Op, Output, Requant
from intaglio.program import Program
from intaglio.sim.kernels import ALIGN
from intaglio.sim.reference import narrowed, saturates

Array = NDArray[Any]


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
    """How a Conv2d adds up. `exact`: in int64, as it must where int16 operands and int32 sums do
    not suffice; `weight` is packed for its kernel, and shared by the levels of a shared head."""

    exact: bool
    depthwise: bool
    weight: Array


@dataclass(frozen=True)
class Plan:
    """slots: the number of the buffer of every tensor that is stored; sums: by Conv2d output."""

    program: Program
    nodes: tuple[Node, ...]
    slots: dict[str, int]
    sums: dict[str, Sums]


def make_plan(program: Program, trace: bool = False) -> Plan:
    """The plan; with `trace` nothing is fused and every tensor keeps its own buffer."""
    nodes = nodes_of(program, fuse=not trace)
    packed: dict[tuple[str, int, bool], Sums] = {}
    sums = {}
    for op in program.of_kind(Conv2d):
        key = (op.weight, op.groups, needs_exact(program, op))
        if key not in packed:
            packed[key] = pack(program.constants[op.weight].array, *key[1:])
        sums[op.output] = packed[key]
    return Plan(program, nodes, assign(program, nodes, reuse=not trace), sums)


def storage(type: IntType) -> np.dtype[Any]:
    """How the engine keeps a tensor: int16 where every code fits, else int64."""
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


def needs_exact(program: Program, op: Conv2d) -> bool:
    """Whether sums need int64: int16 codes and weights with int32 sums do not hold them, or every
    product has to be clamped in order."""
    weight = program.constants[op.weight].array
    lo, hi = program.proved_accumulator(op)
    fits = (
        storage(program.tensors[op.input].type) == np.int16
        and IntType(16, True).holds(int(weight.min()), int(weight.max()))
        and IntType(32, True).holds(int(lo.min()), int(hi.max()))
    )
    clamps = narrowed(op, program) is not None and saturates(program.arithmetic, "mac")
    return clamps or not fits


def pack(weight: Ints, groups: int, exact: bool) -> Sums:
    """Weights for `kernels.conv` (groups, Cout / groups, K) or `kernels.depthwise` (Kh * Kw, C)."""
    dtype = np.int64 if exact else np.int16
    cout, cin, kh, kw = weight.shape
    if groups == cout > 1 and cin == 1 and not exact:
        taps = np.ascontiguousarray(weight.reshape(cout, kh * kw).T, dtype=dtype)
        return Sums(exact, True, taps)
    outs, k = cout // groups, kh * kw * cin
    packed = np.zeros((groups, outs + outs % 2, -(-k // ALIGN) * ALIGN), dtype=dtype)
    packed[:, :outs, :k] = weight.transpose(0, 2, 3, 1).reshape(groups, outs, k)
    return Sums(exact, False, packed)
