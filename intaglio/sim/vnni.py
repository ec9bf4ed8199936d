"""Convolution of bytes: unsigned 8-bit codes by signed 8-bit weights into 32-bit sums, by AVX512's
`vpdpbusd`, which adds 4 products to each of 16 sums.

LLVM never finds that instruction by itself, so `tile` writes its loops in LLVM's own language. The
sums wrap modulo 2^32; `plan.py` uses them only where the proved accumulator fits 32 bits, and there
they are exact in any order. Codes of a signed type are stored with 2^7 added; the sums begin at
-2^7 * sum(w), which takes it back.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from intaglio.ops import Ints
from intaglio.sim.kernels import TILE, Forced, Scaling, Window, finish, jit

LANES = 16  # sums of one register
WIDE = 2  # registers of channels in a block, where the channels suffice
PIXELS = 8  # pixels of a block: 16 sums stay in registers, their weights are loaded once
SLACK = 64  # bytes behind a buffer that a run padded to 4 may touch; their weights are 0

LONG = ir.IntType(64)
BYTE = ir.IntType(8)
INT = ir.IntType(32)
SUMS = ir.VectorType(INT, LANES)
OPERAND = ir.VectorType(BYTE, 64) if llvm.llvm_version_info[0] >= 22 else SUMS


def pack(weight: Ints, groups: int, pieces: int) -> NDArray[np.int8]:
    """Weights (Cout, Cin, Kh, Kw) as (groups, Cout / groups / 16, pieces, run / 4, 16, 4), padded
    by zeros: Kh * Kw * Cin are cut into `pieces` of `run` neighbours (see `kernels.Window`)."""
    outs, k = weight.shape[0] // groups, weight[0].size
    run = k // pieces
    blocks, quads = -(-outs // LANES), -(-run // 4)
    rows = np.zeros((groups, blocks * LANES, pieces, quads * 4), dtype=np.int8)
    taps = weight.transpose(0, 2, 3, 1).reshape(groups, outs, pieces, run)
    rows[:, :outs, :, :run] = taps
    split = rows.reshape(groups, blocks, LANES, pieces, quads, 4)
    return np.ascontiguousarray(split.transpose(0, 1, 3, 4, 2, 5))


def starts(weight: Ints, groups: int, lowest: int) -> NDArray[np.int32]:
    """lowest * sum(w), modulo 2^32: (groups, channels of whole registers)."""
    sums = weight.reshape(groups, weight.shape[0] // groups, -1).sum(axis=2) * lowest
    start = np.zeros((groups, -(-sums.shape[1] // LANES) * LANES), dtype=np.int64)
    start[:, : sums.shape[1]] = sums
    return start.astype(np.int32)


def make_tile(registers: int) -> Any:
    """The function `tile` of PIXELS pixels by 16 * `registers` channels; all its arguments are
    int64, addresses and counts:

    bases    PIXELS addresses of the pixels' first bytes
    offsets  `pieces` distances from there to the runs of the window, of 4 * `quads` bytes each
    weight   of `pack`; `block` bytes from one register's channels to the next one's
    start    where the sums begin, int32
    out      int32 sums, pixels `pitch` bytes apart
    """

    @intrinsic
    def tile(  # type: ignore[no-untyped-def]  # Numba's typing context has no public types
        context, bases, offsets, pieces, quads, weight, block, start, out, pitch
    ):
        arguments = (bases, offsets, pieces, quads, weight, block, start, out, pitch)
        signature = types.void(*(types.int64 for _ in arguments))

        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
            write_tile(builder, registers, *values)
            return context.get_dummy_value()

        return signature, generate

    return tile


def at(builder: ir.IRBuilder, address: Any, type: ir.Type) -> Any:
    """A pointer from an address."""
    return builder.inttoptr(address, type.as_pointer())


def write_tile(
    builder: ir.IRBuilder, registers: int, bases: Any, offsets: Any, pieces: Any, quads: Any,
    weight: Any, block: Any, start: Any, out: Any, pitch: Any,
) -> None:  # fmt: skip
    """The instructions of `make_tile`'s function: two loops around PIXELS * registers sums that
    live in registers."""
    name = "llvm.x86.avx512.vpdpbusd.512"
    kind = ir.FunctionType(SUMS, (SUMS, OPERAND, OPERAND))
    multiply_add = builder.module.declare_intrinsic(name, fnty=kind)

    def number(value: int) -> ir.Constant:
        return ir.Constant(LONG, value)

    def variable(value: Any) -> Any:
        place = cgutils.alloca_once(builder, SUMS)  # type: ignore[no-untyped-call]  # Numba's own
        builder.store(value, place)
        return place

    def load(address: Any, type: ir.Type, align: int) -> Any:
        return builder.load(at(builder, address, type), align=align)

    pixels = [load(builder.add(bases, number(8 * i)), LONG, 8) for i in range(PIXELS)]
    sums = []
    for r in range(registers):
        begin = load(builder.add(start, number(64 * r)), SUMS, 4)
        sums.append([variable(begin) for _ in pixels])
    with cgutils.for_range(builder, pieces) as outer:
        offset = load(builder.add(offsets, builder.shl(outer.index, number(3))), LONG, 8)
        row = builder.mul(outer.index, quads)
        with cgutils.for_range(builder, quads) as inner:
            place = builder.add(offset, builder.shl(inner.index, number(2)))
            w = builder.add(weight, builder.shl(builder.add(row, inner.index), number(6)))
            packed = [
                load(builder.add(w, builder.mul(block, number(r))), OPERAND, 1)
                for r in range(registers)
            ]
            for i, pixel in enumerate(pixels):
                word = load(builder.add(pixel, place), INT, 1)
                lane = builder.insert_element(ir.Constant(SUMS, ir.Undefined), word, INT(0))
                every = builder.shuffle_vector(
                    lane, ir.Constant(SUMS, ir.Undefined), ir.Constant(SUMS, [0] * LANES)
                )
                codes = builder.bitcast(every, OPERAND)
                for r in range(registers):
                    total = builder.load(sums[r][i])
                    builder.store(builder.call(multiply_add, (total, codes, packed[r])), sums[r][i])
    for r in range(registers):
        for i in range(PIXELS):
            to = builder.add(builder.mul(pitch, number(i)), number(64 * r))
            builder.store(
                builder.load(sums[r][i]), at(builder, builder.add(out, to), SUMS), align=4
            )


tile_1 = make_tile(1)
tile_2 = make_tile(2)


@jit
def conv(
    x: Any,
    weight: Any,
    start: Any,
    offsets: Ints,
    window: Window,
    forced: Forced,
    scaling: Scaling,
    fused: bool,
    bases: Ints,
    acc: Any,
    out: Any,
    overflow: Any,
) -> None:
    """Conv2d of bytes, and the Requant behind it when `fused`.

    x (H, W * C) uint8, bordered, with SLACK bytes behind it; weight of `pack`; start of `starts`;
    offsets (groups, pieces) bytes from a pixel to its runs; bases (TILE,); acc (TILE, Cout + 32)
    int32: the padded channels of a group are overwritten by the next one; out (P, Cout).
    """
    groups, blocks, pieces, quads = weight.shape[:4]
    outs = out.shape[1] // groups
    block = pieces * quads * 64
    pitch = acc.shape[1] * 4
    last = out.shape[0] - 1
    for first in range(0, out.shape[0], TILE):
        count = min(TILE, out.shape[0] - first)
        for p in range(TILE):  # beyond the last pixel: that one again
            pixel = min(first + p, last)
            oy, ox = pixel // window.width, pixel % window.width
            bases[p] = x.ctypes.data + oy * window.row_step * x.shape[1] + ox * window.step
        for g in range(groups):
            for b in range(0, blocks, 2):
                w = weight.ctypes.data + (g * blocks + b) * block
                s = start.ctypes.data + (g * blocks + b) * 64
                to = acc.ctypes.data + (g * outs + b * 16) * 4
                for p in range(0, count, 8):
                    a = bases.ctypes.data + p * 8
                    o = to + p * pitch
                    at_group = offsets.ctypes.data + g * pieces * 8
                    if b + 1 < blocks:
                        tile_2(a, at_group, pieces, quads, w, block, s, o, pitch)
                    else:
                        tile_1(a, at_group, pieces, quads, w, block, s, o, pitch)
        overflow[0] += finish(acc, first, count, forced, scaling, fused, out)
