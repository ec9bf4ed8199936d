"""Products and sums as FPGAs hold them: in hard multipliers, two to a multiplier, or in adders.

Synthesis would make its own choice, another in every tool. The forms here are written out instead,
so that what a design takes is known before.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from intaglio.fixed import IntType
from intaglio.hdl.stream import pipe

ProductForm = Literal["dsp", "packed", "lut"]  # a hard multiplier, half of one, or adders
FAN_IN = 4  # terms of a registered adder: two levels of a tree
TABLE = 4  # bits of the operand of a table of products: the inputs of a look-up table


def kept(m: Module, value: Any, name: str) -> Signal:
    """`value` as a wire that synthesis leaves where it is.

    Without it yosys merges adders that follow each other into carry-save form, which saves time but
    takes two look-up tables a bit for every operand instead of one.
    """
    value = Value.cast(value)
    wire = Signal(value.shape(), name=name, attrs={"keep": "true"})
    m.d.comb += wire.eq(value)
    return wire


def tree_stages(terms: int) -> int:
    """Registers in `adder_tree`."""
    stages = 0
    while terms > 1:
        terms = -(-terms // FAN_IN)
        stages += 1
    return stages


def first_fan_in(terms: int) -> int:
    """Terms of an adder behind hard multipliers, from where wires are long: two, if that takes no
    stage more."""
    return 2 if 1 + tree_stages(-(-terms // 2)) == tree_stages(terms) else FAN_IN


def adder_tree(m: Module, terms: Sequence[Value], name: str, fan_in: int = FAN_IN) -> Value:
    """The sum, `tree_stages(len(terms))` cycles later; `fan_in` of the first stage."""
    stage = 0
    while len(terms) > 1:
        groups = [terms[at : at + fan_in] for at in range(0, len(terms), fan_in)]
        terms = [
            pipe(m, grouped_sum(m, group, f"{name}_{stage}_{k}"), 1, f"{name}_{stage}_{k}")
            for k, group in enumerate(groups)
        ]
        stage, fan_in = stage + 1, FAN_IN
    return terms[0]


def grouped_sum(m: Module, terms: Sequence[Value], name: str) -> Value:
    """Up to FAN_IN terms, in pairs; the last addition is left to the register behind it."""
    pairs = [terms[at : at + 2] for at in range(0, len(terms), 2)]
    sums = [
        kept(m, sum(pair[1:], pair[0]), f"{name}_pair{k}") if len(pairs) > 1 < len(pair) else
        sum(pair[1:], pair[0])
        for k, pair in enumerate(pairs)
    ]  # fmt: skip
    return sum(sums[1:], sums[0])


def product_of_adders(m: Module, a: Value, b: Value, name: str) -> Value:
    """a * b without a multiplier: a row of `a` for every bit of `b`, added in a balanced tree."""
    rows: list[Value] = [Mux(bit, a, 0) for bit in b]
    weight, negative = 1, b.shape().signed  # the last row counts minus
    level = 0
    while len(rows) > 1:
        pairs = []
        for k in range(0, len(rows) - 1, 2):
            low, high = rows[k], rows[k + 1]
            above = low >> weight
            minus = negative and k + 2 == len(rows)
            total = kept(m, above - high if minus else above + high, f"{name}_rows{level}_{k}")
            joined = Cat(low[:weight], total)
            pairs.append(joined.as_signed() if total.shape().signed else joined)
            negative &= not minus
        rows = pairs + (rows[-1:] if len(rows) % 2 else [])
        weight, level = 2 * weight, level + 1
    return -rows[0] if negative else rows[0]


def product_of_tables(m: Module, x: Value, factor: int, name: str) -> Value:
    """x * factor, a constant, from a table for every 4 bits of x."""
    total: Value | None = None
    for at in range(0, len(x), TABLE):
        part = x[at : at + TABLE]
        type = IntType(len(part), bool(x.shape().signed) and at + len(part) == len(x))
        products = [factor * v for v in range(type.lo, type.hi + 1)]
        bits = IntType.accumulating(min(products), max(products)).bits
        table = Signal(signed(bits), name=f"{name}_table{at}")
        with m.Switch(part):
            for v in range(type.lo, type.hi + 1):
                with m.Case(v & ((1 << type.bits) - 1)):
                    m.d.comb += table.eq(factor * v)
        total = table if total is None else Cat(total[:at], (total >> at) + table).as_signed()
        total = kept(m, total, f"{name}_sum{at}")
    assert total is not None
    return total


@cache
def packed_shift(terms: int, x: IntType, w: IntType) -> int:
    """Bits that the lower of two packed sums of `terms` products takes: all it can be."""
    ends = [terms * a * b for a in (x.lo, x.hi) for b in (w.lo, w.hi)]
    return IntType.accumulating(min(ends), max(ends)).bits


def packs(terms: int, x: IntType, w: IntType, wide: int) -> bool:
    """Whether two weights, so far apart that sums of `terms` products do not meet, are an operand
    of `wide` signed bits."""
    return w.signed and packed_shift(terms, x, w) + w.bits + 1 <= wide


def packed_operand(low: Value, upper: Value, shift: int) -> Value:
    """low + high * 2^shift, where `upper` is high, and one less below a negative `low`."""
    fill = low[-1].replicate(shift - len(low))
    return Cat(low, fill, upper).as_signed()


def unpack_sums(packed: Value, shift: int) -> tuple[Value, Value, Value]:
    """(low, high, carry) of a sum of packed products: the sums are low and high + carry."""
    return packed[:shift].as_signed(), packed[shift:].as_signed(), packed[shift - 1]


def add_with_carry(a: Value, b: Value, carry: Value) -> Value:
    """a + b + carry in one carry chain."""
    return ((Cat(Const(1, 1), a).as_signed() + Cat(carry, b).as_signed()) >> 1).as_signed()
