"""Lookups of bytes, 64 at a time: a table of 256 entries is four registers, of which AVX512-VBMI
takes any byte of two at once.
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir

from intaglio.sim.code.target import features
from intaglio.sim.compiled import Pointer, caller, cgutils, jit, types, written
from intaglio.sim.dots import BYTE, at, number
from intaglio.sim.isa import Isa
from intaglio.sim.vector import high

COUNT = 64  # bytes of a register
REGISTER = ir.VectorType(BYTE, COUNT)


def runs(isa: Isa) -> bool:
    """Whether the instructions are there, for an instruction set of their size."""
    return isa in ("amx", "avx512vnni") and "avx512vbmi" in features()


@written
def lookup_of(context, x, table, out, count):  # type: ignore[no-untyped-def]  # Numba's typing context has no public types
    """`lookup_bytes`."""

    def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
        x, table, out, count = values

        def load(address: Any) -> Any:
            return builder.load(at(builder, address, REGISTER), align=1)

        parts = [load(builder.add(table, number(COUNT * i))) for i in range(4)]
        kind = ir.FunctionType(REGISTER, (REGISTER,) * 3)
        name = "llvm.x86.avx512.vpermi2var.qi.512"
        permute = builder.module.declare_intrinsic(name, fnty=kind)
        times = builder.lshr(builder.add(count, number(COUNT - 1)), number(6))
        with cgutils.for_range(builder, times) as loop:
            done = builder.shl(loop.index, number(6))
            codes = load(builder.add(x, done))
            low, top = (builder.call(permute, (parts[i], codes, parts[i + 1])) for i in (0, 2))
            zeros = ir.Constant(REGISTER, [0] * COUNT)
            found = builder.select(builder.icmp_signed("<", codes, zeros), top, low)
            rest = builder.sub(count, done)
            full = builder.icmp_signed(">", rest, number(COUNT))
            left = builder.trunc(builder.select(full, number(COUNT), rest), BYTE)
            high.store_first(builder, found, builder.add(out, done), left)
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 4), generate


@jit
def lookup_bytes(x: int, table: int, out: int, count: int) -> None:
    """out = table[x] of `count` bytes, all addresses; up to a register more is read."""
    lookup_of(x, table, out, count)


@functools.cache
def pointer() -> Pointer:
    """The function, where it runs."""
    return Pointer(lookup_bytes, 4)


call_lookup = caller(4)


@jit
def lookup(block: int, x: Any, table: Any, out: Any, first: int, last: int) -> None:
    """As `kernels.lookup` of bytes by bytes, by the function at `block`."""
    size = x.shape[1] * x.shape[2]
    a, b = x.ctypes.data, out.ctypes.data
    for i in range(first, last):
        call_lookup(block, (a + i * x.strides[0], table.ctypes.data, b + i * out.strides[0], size))
