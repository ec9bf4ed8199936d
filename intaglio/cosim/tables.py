"""What a block needs besides its input: formula, weights, M, B, S, clamps and tables of each layer.

A layer is an operation of the Program that computes. Its formula stands in docs/arithmetic.md in
these words; the arrays in it are tables:

    w       weights (O, I, kH, kW), I of a group; in a text file kW runs fastest, then kH, I, O
    M, B, S one value for each channel, also where all are equal; B includes the zero point where
            the rounding allows (RND, TRN), as zp * 2^S
    bias    where there is one for every channel: the sum's own addend, (x + bias) * M = x * M + B,
            once the zero point's part of B is taken off
    table   of a lookup, from the smallest code of its input up: one, or one for each channel
    rom     the same, at the address that the bits of the code are
"""

# ruff: noqa: RUF001  # formulas have the page's own signs

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.fixed import Arithmetic, IntType
from intaglio.hdl.pack import lookup_words
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
    Op,
    Output,
    Pad,
    Requant,
    Select,
    SpaceToDepth,
    SumPool2d,
    Upsample,
    rounding_of,
)
from intaglio.program import Program

FORMULAS: dict[type[Op], str] = {
    Conv2d: "acc[o, y, x] = Σ over (ky, kx, c) of w[o, c, ky, kx] · in[c, y·s + ky·d − top,"
    " x·s + kx·d − left]",
    Requant: "y[c] = clamp(round_shift(x[c] · M[c] + B[c], S[c]) + offset, lo, hi)",
    Add: "y = clamp(round_shift(a · Ma + b · Mb + B, S) + offset, lo, hi)",
    Multiply: "y[c, i, j] = (a[c, i, j] − zero_a) · (b[c, i, j] − zero_b)",
    SumPool2d: "Exact sum of the codes in the window; outside reads `pad_value`",
    MaxPool2d: "Largest code in the window; positions outside the image do not take part",
    Upsample: "Upsample takes the source index ⌊i · in / out⌋",
    Concat: "Channels of the operands, one after the other",
    Pad: "A border of `value` around every channel",
    Lookup: "y[c] = table[x[c] − type.lo]",
    Select: "y[c] = x[channels[c]], and `value` where channels[c] is −1",
    Crop: "y[c, i, j] = x[c, rows[0] + i · rows[2], columns[0] + j · columns[2]]",
    SpaceToDepth: "y[(dy · bw + dx) · C + c, i, j] = x[c, i · bh + dy, j · bw + dx]",
    DepthToSpace: "y[c, i · bh + dy, j · bw + dx] = x[(dy · bw + dx) · C + c, i, j]",
    Interpolate: "y[c, i, j] = Σ over (a, u) of rows[i], (b, v) of columns[j] of"
    " u · v · x[c, a, b]",
}
SINGLE: dict[type[Op], str] = {  # what takes the place of the product, see `Arithmetic.product`
    Requant: "t = single(single(x + B) · M)",
    Add: "t = single(single(b · Mb + B) + a · Ma)",
}
ROUNDINGS = {
    "TRN": "⌊t / 2^S⌋",
    "RND": "⌊(t + 2^(S−1)) / 2^S⌋",
    "RND_INF": "nearest, ties away from zero",
    "RND_CONV": "nearest, ties to even",
    "DOUBLE": "S ≤ 31: `RND`; else u = ⌊(t + 2^30) / 2^31⌋, then `RND_INF` of u by S − 31",
}
SHIFT = IntType(6, False)  # S is at most 62
BIAS = IntType(32, True)  # of other systems, and of float32 products


@dataclass(frozen=True)
class Table:
    """Integers of one type, as a ROM has them: their axes say what the indices are."""

    array: Ints
    type: IntType
    axes: str


@dataclass(frozen=True)
class Layer:
    """One operation: what a manifest says of it, and its tables by name."""

    facts: Mapping[str, Any]
    tables: Mapping[str, Table]


def layer(op: Op, program: Program) -> Layer | None:
    """What a block needs to compute `op`; None for Input and Output, which compute nothing."""
    if isinstance(op, (Input, Output)):
        return None
    facts: dict[str, Any] = {
        "tensor": op.output,
        "op": type(op).__name__,
        "origin": op.origin,
        "formula": FORMULAS[type(op)],
        "inputs": [edge(program, name) for name in op.inputs],
        "output": edge(program, op.output),
    }
    tables: dict[str, Table] = {}
    match op:
        case Conv2d():
            tables = {"w": weights(op, program)}
            facts |= {
                **windows(op.sliding),
                "groups": op.groups,
                "pad_value": list(op.pad_value),
                "accumulator": accumulator(op, program),
            }
        case Requant():
            facts |= rounding(op, program.arithmetic)
            tables = scaling(op, program)
        case Add():
            facts |= rounding(op, program.arithmetic)
            facts |= {"Ma": op.multiplier_a, "Mb": op.multiplier_b, "B": op.bias, "S": op.shift}
        case Multiply():
            facts |= {"zero_a": op.zero_a, "zero_b": op.zero_b}
        case MaxPool2d():
            facts |= {"kernel": list(op.kernel), **windows(op.sliding)}
        case SumPool2d():
            facts |= {"kernel": list(op.kernel), **windows(op.sliding), "pad_value": op.pad_value}
        case Upsample():
            facts |= {"size": list(op.size)}
        case Pad():
            facts |= {"padding": list(op.padding), "value": op.value}
        case Select():
            facts |= {"channels": list(op.channels), "value": op.value}
        case Crop():
            facts |= {"rows": list(op.rows), "columns": list(op.columns)}
        case SpaceToDepth() | DepthToSpace():
            facts |= {"block": list(op.block)}
        case Interpolate():
            taps = {"rows": op.rows, "columns": op.columns}
            facts |= {name: [list(tap) for tap in found] for name, found in taps.items()}
        case Lookup():
            tables = lookup(op, program)
    return Layer(facts, tables)


def windows(sliding: Mapping[str, Any]) -> dict[str, list[int]]:
    """Stride and dilation (y, x), padding (top, bottom, left, right)."""
    return {name: list(value) for name, value in sliding.items()}


def weights(op: Conv2d, program: Program) -> Table:
    """The integers themselves, odd ones too."""
    constant = program.constants[op.weight]
    return Table(constant.array, constant.type, "O, I, kH, kW")


def accumulator(op: Conv2d, program: Program) -> dict[str, Any]:
    """Its type, and what it does where that is narrower than proved."""
    arithmetic, forced = program.arithmetic, op.forced(program.tensors[op.input], program.context)
    low, high = program.proved_accumulator(op)
    found: dict[str, Any] = {
        "type": str(program.tensors[op.output].type),
        "proved": [int(low.min()), int(high.max())],
        "overflow": None if forced is None else arithmetic.overflow,
    }
    if forced is not None and arithmetic.overflow == "saturate":
        found["saturate_at"] = arithmetic.saturate_at
    return found


def rounding(op: Requant | Add, arithmetic: Arithmetic) -> dict[str, Any]:
    """How a sum of products becomes a code."""
    name = rounding_of(op, arithmetic)
    found: dict[str, Any] = {
        "rounding": name,
        "round_shift": ROUNDINGS[name],
        "offset": op.offset,
        "clamp": [op.lo, op.hi],
    }
    if arithmetic.product == "single":
        found["product"] = SINGLE[type(op)]
    return found


def scaling(op: Requant, program: Program) -> dict[str, Table]:
    """M, B and S of every channel, and the bias before the product where there is one."""
    arithmetic, channels = program.arithmetic, program.tensors[op.output].shape[0]
    m, b, s = (
        np.resize(np.asarray(values, dtype=np.int64), channels)
        for values in (
            program.constants[op.multiplier].array.ravel(),
            program.constants[op.bias].array.ravel(),
            op.shift,
        )
    )
    tables = {
        "M": Table(m, IntType(arithmetic.multiplier_bits, True), "channel"),
        "B": Table(b, IntType(arithmetic.bias_bits, True), "channel"),
        "S": Table(s, SHIFT, "channel"),
    }
    zero = np.resize(np.array(program.tensors[op.output].zero_point, dtype=np.int64), channels)
    within = rounding_of(op, arithmetic) in ("RND", "TRN")
    before = b if arithmetic.product == "single" else before_product(m, b, s, zero, within)
    if before is not None and BIAS.holds(int(before.min()), int(before.max())):
        tables["bias"] = Table(before, BIAS, "channel")
    return tables


def before_product(m: Ints, b: Ints, s: Ints, zero: Ints, within: bool) -> Ints | None:
    """bias with B = bias * M (+ zero * 2^S where the zero point is `within` B), of every channel;
    None where one has none, as a B that M does not divide."""
    whole = [
        bc - (zc << sc if within else 0)
        for bc, zc, sc in zip(b.tolist(), zero.tolist(), s.tolist(), strict=True)
    ]
    if any(rest % mc if mc else rest for rest, mc in zip(whole, m.tolist(), strict=True)):
        return None
    return np.array(
        [rest // mc if mc else 0 for rest, mc in zip(whole, m.tolist(), strict=True)],
        dtype=np.int64,
    )


def lookup(op: Lookup, program: Program) -> dict[str, Table]:
    """The table, or each channel's, as the formula reads it, and as a ROM does."""
    constant, x = program.constants[op.table], program.tensors[op.input].type
    bits, bias = constant.type.bits, 1 << (constant.type.bits - 1) if constant.type.signed else 0
    rows = np.atleast_2d(constant.array).tolist()
    raw = np.array([lookup_words(row, x, bits) for row in rows], dtype=np.int64)
    words = ((raw + bias) & ((1 << bits) - 1)) - bias
    axes = "channel, " if constant.array.ndim > 1 else ""
    return {
        "table": Table(constant.array, constant.type, f"{axes}code - lo"),
        "rom": Table(words.reshape(constant.array.shape), constant.type, f"{axes}address"),
    }


def edge(program: Program, tensor: str) -> dict[str, Any]:
    """A tensor that a layer reads or makes."""
    t = program.tensors[tensor]
    scale, zero_point = meaning(program, tensor)
    return {
        "tensor": tensor,
        "shape": list(t.shape),
        "type": str(t.type),
        "range": [t.lo, t.hi],
        "scale": scale,
        "zero_point": zero_point,
    }


def meaning(program: Program, tensor: str) -> tuple[float | None, list[int] | None]:
    """(scale, zero point) by which a tensor's codes stand for reals.

    None for an accumulator or a product, of which every channel has a scale of its own that only
    the Requant behind it knows; and for what passes its codes on. A sum of n codes has n times
    their zero.
    """
    op, found = program.producer[tensor], program.tensors[tensor]
    if isinstance(op, (Conv2d, Multiply)):
        return None, None
    if not op.inputs or isinstance(op, (Requant, Add, Lookup)):
        return found.scale, list(found.zero_point)
    scale, zero = meaning(program, op.inputs[0])
    if isinstance(op, SumPool2d) and zero is not None:
        zero = [op.kernel[0] * op.kernel[1] * value for value in zero]
    elif zero is not None:
        zero = list(op.zeros(tuple(zero)))
    return None if scale is None else op.step(scale), zero
