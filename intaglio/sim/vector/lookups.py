"""Lookups of bytes, 64 at a time: AVX512-VBMI takes any byte of two registers at once, so that a
table of 256 entries is two of these and a choice by the code's highest bit, and one of 2^b entries
2^(b - 7) of them and a tree of choices.
"""

from __future__ import annotations

import functools
from typing import Any

from llvmlite import ir

from intaglio.sim.code.target import features
from intaglio.sim.compiled import Pointer, caller, cgutils, jit, named, types, written
from intaglio.sim.dots import BYTE, INT, at, number
from intaglio.sim.isa import Isa
from intaglio.sim.vector import high

COUNT = 64  # bytes of a register
REGISTER = ir.VectorType(BYTE, COUNT)
WIDEST = 11  # bits of a code: beyond, a load for each is no slower


def runs(isa: Isa) -> bool:
    """Whether the instructions are there, for an instruction set of their size."""
    return isa in ("amx", "avx512vnni") and "avx512vbmi" in features()


def filled(value: int) -> ir.Constant:
    """A register of one byte."""
    return ir.Constant(REGISTER, [value] * COUNT)


def write_lookup(builder: ir.IRBuilder, parts: list[Any], low: Any, upper: Any, bits: int) -> Any:
    """The table's bytes at codes of which `low` are the lowest eight bits, `upper` the others."""
    kind = ir.FunctionType(REGISTER, (REGISTER,) * 3)
    name = "llvm.x86.avx512.vpermi2var.qi.512"
    permute = builder.module.declare_intrinsic(name, fnty=kind)
    found = [builder.call(permute, (parts[i], low, parts[i + 1])) for i in range(0, len(parts), 2)]
    for bit in range(7, bits):
        if bit == 7:
            chosen = builder.icmp_signed("<", low, filled(0))
        else:
            one = builder.and_(upper, filled(1 << (bit - 8)))
            chosen = builder.icmp_unsigned("!=", one, filled(0))
        pairs = zip(found[::2], found[1::2], strict=True)
        found = [builder.select(chosen, second, first) for first, second in pairs]
    return found[0]


def make_lookup(bits: int) -> Pointer:
    """The function for codes of a byte, or of a word where they have more than 8 bits; all its
    arguments are int64:

    x      address of the codes, of which the lowest `bits` count; up to a register more is read
    table  address of 2^bits bytes
    out    address of the results
    count  how many they are
    """

    @written
    def lookup_of(context, x, table, out, count):  # type: ignore[no-untyped-def]  # Numba's typing context has no public types
        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]  # as above
            x, table, out, count = values

            def load(address: Any) -> Any:
                return builder.load(at(builder, address, REGISTER), align=1)

            size = (1 << bits) // COUNT
            parts = [load(builder.add(table, number(COUNT * i))) for i in range(size)]
            times = builder.lshr(builder.add(count, number(COUNT - 1)), number(6))
            with cgutils.for_range(builder, times) as loop:
                done = builder.shl(loop.index, number(6))
                if bits <= 8:
                    low = upper = load(builder.add(x, done))
                else:
                    place = builder.add(x, builder.shl(done, number(1)))
                    words = load(place), load(builder.add(place, number(COUNT)))
                    low, upper = (
                        builder.shuffle_vector(*words, ir.Constant(
                            ir.VectorType(INT, COUNT), list(range(first, 2 * COUNT, 2))))
                        for first in (0, 1)
                    )  # fmt: skip
                found = write_lookup(builder, parts, low, upper, bits)
                rest = builder.sub(count, done)
                full = builder.icmp_signed(">", rest, number(COUNT))
                left = builder.trunc(builder.select(full, number(COUNT), rest), BYTE)
                high.store_first(builder, found, builder.add(out, done), left)
            return context.get_dummy_value()

        return types.void(*(types.int64,) * 4), generate

    def lookup(x: int, table: int, out: int, count: int) -> None:
        lookup_of(x, table, out, count)

    return Pointer(named(lookup, f"lookup_{bits}"), 4)


@functools.cache
def pointer(bits: int) -> Pointer:
    """The function for codes of 8 to WIDEST bits, where it runs."""
    return make_lookup(bits)


call_lookup = caller(4)


@jit
def lookup(block: int, x: Any, table: Any, out: Any, first: int, last: int) -> None:
    """As `kernels.lookup` to bytes, by the function at `block`."""
    size = x.shape[1] * x.shape[2]
    a, b = x.ctypes.data, out.ctypes.data
    for i in range(first, last):
        call_lookup(block, (a + i * x.strides[0], table.ctypes.data, b + i * out.strides[0], size))
