"""The numbers of a block: its accumulator, and the constants that requantise it."""

from __future__ import annotations

from intaglio.codegen.structure.graph import Block
from intaglio.codegen.structure.smaller import Ranges, smaller
from intaglio.fixed import IntType, Rounding
from intaglio.hdl.accumulator import Accumulator
from intaglio.hdl.requant import Scaling
from intaglio.ops import Conv2d, Requant, rounding_of
from intaglio.program import Program


def accumulator(program: Program, block: Block) -> Accumulator:
    """The width that the block's sums need, and what the arithmetic makes of it."""
    ranges = [program.proved_accumulator(op) for op in block.ops if isinstance(op, Conv2d)]
    lo = min(int(low.min()) for low, _ in ranges)
    hi = max(int(high.max()) for _, high in ranges)
    bits = IntType.accumulating(lo, hi).bits
    a = program.arithmetic
    forced = a.acc_bits if a.acc_bits is not None and a.acc_bits < bits else None
    return Accumulator(bits, forced, a.overflow, a.saturate_at)


def scaling(program: Program, op: Requant) -> Scaling:
    """A Requant as numbers."""
    constants = program.constants
    m, b = (tuple(constants[c].array.flatten().tolist()) for c in (op.multiplier, op.bias))
    return Scaling(m, b, op.shift, op.lo, op.hi, op.offset)


def requantised(program: Program, block: Block) -> tuple[tuple[Scaling, ...], Rounding]:
    """What requantises each level of a block, in constants as small as give the same codes for
    every value that can come (`smaller`)."""
    requants = block.requants or tuple(op for op in block.ops if isinstance(op, Requant))
    if not requants:
        return (), "TRN"
    rounding = rounding_of(requants[0], program.arithmetic)
    given = tuple(scaling(program, r) for r in requants)
    return smaller(given, tuple(ranges(program, block, r) for r in requants), rounding)


def ranges(program: Program, block: Block, op: Requant) -> Ranges:
    """The least and greatest value of each channel that an operation requantises."""
    made = program.producer[op.input]
    channels, _, _ = program.tensors[op.input].shape
    if isinstance(made, Conv2d):
        acc = accumulator(program, block)
        if acc.forced is None:
            low, high = program.proved_accumulator(made)
            return tuple(low.tolist()), tuple(high.tolist())
    tensor = program.tensors[op.input]
    return (tensor.lo,) * channels, (tensor.hi,) * channels
