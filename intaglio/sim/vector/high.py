"""Requantisation of registers full of 32-bit sums, in the high words of 64-bit products.

    y = clamp(round_shift(x * M + B, S) + offset, lo, hi)

is `fixed.requantise`, and wants 64 bits. Vector units multiply 32 by 32 bits in every other lane;
what they lack, or are slow at, is shifts, bounds and narrowing of 64-bit lanes. Where S is 32 or
more, all that is left behind the sum is in its high word, one lane of 32 bits again:

    floor(t / 2^S) = floor(floor(t / 2^32) / 2^(S - 32))

and S can be made 32 or more: M, B and S are those of t * 2^k / 2^(S + k), the same rational number,
of which every rounding makes the same integer. What each needs besides, with t' = t * 2^k and
S' = S + k >= 32:

TRN       nothing. RND is TRN of B plus the half, as in the hardware; a whole offset can join B too.
RND_INF   floor((t' + half' - [t < 0]) / 2^S'): the bracket counts only where t + half is a multiple
          of 2^S, and there 1 / 2^k is as good as 1, since t + half is an integer.
RND_CONV  floor((t' + half' - 1 + odd) / 2^S') with odd = floor(t' / 2^S') mod 2: as in `fixed`.
DOUBLE    u = floor((t + 2^30) / 2^31) is the high word of twice that sum; then
          floor((u + half_r - [u < 0]) / 2^r) of a 32-bit u. Where S is 31 or less, r = 0 and the
          bracket is not there; k brings S to 31.

M * 2^k must fit 32 bits, or else the sum itself is shifted (`left`), which takes an instruction
more; t' and what is added to it must fit 64 bits, and the results 32 before they are bounded.
`table` looks, from the proved range of the sums, and gives None where one of them does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from intaglio.fixed import IntType
from intaglio.sim.compiled import LONG
from intaglio.sim.isa import Unit

INT = ir.IntType(32)
WORD = IntType(32, True)
ROWS = {"TRN": 4, "RND_INF": 6, "RND_CONV": 6, "DOUBLE": 6}  # of a register, in the table


@dataclass(frozen=True)
class Way:
    """How sums are requantised: the rounding, a key of ROWS, and whether they are shifted left."""

    rounding: str
    left: bool = False

    @property
    def rows(self) -> int:
        """Of a register, in the table."""
        return ROWS[self.rounding] + self.left

    def __str__(self) -> str:
        return self.rounding + "_left" * self.left


@dataclass(frozen=True)
class Table:
    """What `write_codes` reads: int32 (1 + registers * rows of the way, lanes). The first row
    begins with lo, hi and offset. A register's rows are M, B of the even lanes and of the odd ones
    in 64 bits, S' - 32, what else the rounding adds, and k where the sum is shifted."""

    way: Way
    rows: NDArray[np.int32]


def table(
    m: Sequence[int],
    b: Sequence[int],
    s: Sequence[int],
    sums: tuple[int, int],
    ends: tuple[int, int, int],
    rounding: str,
    lanes: int,
) -> Table | None:
    """For channels of these M, B and S, whose sums are proved to lie in `sums`; `ends` are offset,
    lo and hi. None where sums in high words would not be exact."""
    offset, lo, hi = ends
    if rounding == "RND":
        b = [bias + ((1 << shift) >> 1) for bias, shift in zip(b, s, strict=True)]
        rounding = "TRN"
    if not WORD.holds(min(lo, offset, sums[0]), max(hi, offset, sums[1])):
        return None
    for way in (Way(rounding), Way(rounding, left=True)):
        rows = [channel(*factors, sums, offset, way) for factors in zip(m, b, s, strict=True)]
        found = [row for row in rows if row is not None]
        if len(found) == len(rows):
            return Table(way, laid(found, (lo, hi, 0 if rounding == "TRN" else offset), way, lanes))
    return None


def laid(
    channels: Sequence[tuple[int, ...]], head: tuple[int, int, int], way: Way, lanes: int
) -> NDArray[np.int32]:
    """The table's rows."""
    columns = np.zeros((-(-len(channels) // lanes) * lanes, 6), dtype=np.int64)
    columns[: len(channels)] = channels
    m, b, shift, first, second, k = columns.reshape(-1, lanes, 6).transpose(2, 0, 1)
    rows: list[NDArray[Any]] = [m[:, None], pairs(b), shift[:, None]]
    if way.rounding == "DOUBLE":
        rows += [first[:, None], second[:, None]]
    elif way.rounding != "TRN":
        rows += [pairs(first)]
    if way.left:
        rows += [k[:, None]]
    top = np.zeros((1, lanes), dtype=np.int32)
    top[0, :3] = head
    registers = np.concatenate([row.astype(np.int32) for row in rows], axis=1)
    return np.concatenate([top, registers.reshape(-1, lanes)])


def pairs(values: NDArray[np.int64]) -> NDArray[np.int32]:
    """(registers, lanes) as two rows of words: those of the even lanes, those of the odd ones."""
    split = np.stack([values[:, ::2], values[:, 1::2]], axis=1)
    return np.ascontiguousarray(split).view(np.int32)


def channel(
    m: int, b: int, s: int, sums: tuple[int, int], offset: int, way: Way
) -> tuple[int, ...] | None:
    """M, B, S' - 32, two more numbers, and k of one channel; None where they do not hold its sums.
    M and B are shifted beforehand, unless it is the sum that is."""
    last = 31 if way.rounding == "DOUBLE" else 32  # what S is brought to
    k = max(0, last - s)
    s += k
    half = (1 << s) >> 1
    if way.rounding == "TRN":
        b += offset << (s - k)
    if way.rounding == "DOUBLE":
        r = s - 31
        b += (1 << 30) >> k
        if k > 30:  # S was 0: there is nothing to round
            return None
        more = (1 << r) >> 1, -int(r > 0)
    else:
        more = half - int(way.rounding == "RND_CONV"), 0
    reach = max(abs(m * x + b) for x in sums) << k
    if way.rounding == "DOUBLE":
        fits = reach < 1 << 62 and (reach >> 31) + more[0] + abs(offset) + 2 < 1 << 31
    else:
        reach += half + 1
        fits = reach < 1 << 63 and (reach >> s) + abs(offset) + 2 < 1 << 31
    if way.left:
        return (m, b, s - last, *more, k) if fits and WORD.holds(m, m) else None
    return (m << k, b << k, s - last, *more, 0) if fits and WORD.holds(m << k, m << k) else None


def write_codes(
    builder: ir.IRBuilder, unit: Unit, way: Way, total: Any, head: Any, rows: Any
) -> Any:
    """The codes, `lanes` of 32 bits, of a register of sums, by the table's first row at `head` and
    those of the register at `rows`, both addresses."""
    lanes, rounding = unit.lanes, way.rounding
    words, halves = ir.VectorType(INT, lanes), ir.VectorType(LONG, lanes // 2)

    def number(type: ir.VectorType, value: int) -> ir.Constant:
        return ir.Constant(type, [value] * type.count)

    def row(i: int, type: ir.VectorType = words) -> Any:
        place = builder.add(rows, ir.Constant(LONG, 4 * lanes * i))
        return builder.load(builder.inttoptr(place, type.as_pointer()), align=4)

    def bound(i: int) -> Any:
        place = builder.inttoptr(builder.add(head, ir.Constant(LONG, 4 * i)), INT.as_pointer())
        undefined = ir.Constant(words, ir.Undefined)
        first = builder.insert_element(undefined, builder.load(place, align=4), INT(0))
        return builder.shuffle_vector(first, undefined, number(words, 0))

    half = number(halves, 32)
    m, shift = row(0), row(3)

    def even(x: Any) -> Any:
        return builder.ashr(builder.shl(builder.bitcast(x, halves), half), half)

    def odd(x: Any) -> Any:
        return builder.ashr(builder.bitcast(x, halves), half)

    high = []
    for i, take in enumerate((even, odd)):
        t = builder.add(builder.mul(take(total), take(m)), row(1 + i, halves))
        if way.left:
            t = builder.shl(t, take(row(way.rows - 1)))
        if rounding == "DOUBLE":
            t = builder.shl(t, number(halves, 1))
        elif rounding == "RND_INF":
            below = builder.ashr(t, number(halves, 63))
            t = builder.add(builder.add(t, row(4 + i, halves)), below)
        elif rounding == "RND_CONV":
            by = builder.add(take(shift), half)
            parity = builder.and_(builder.lshr(t, by), number(halves, 1))
            t = builder.add(builder.add(t, row(4 + i, halves)), parity)
        high.append(builder.bitcast(t, words))
    places = [INT(2 * (n // 2) + 1 + lanes * (n % 2)) for n in range(lanes)]
    u = builder.shuffle_vector(*high, ir.Constant(ir.VectorType(INT, lanes), places))
    if rounding == "DOUBLE":
        below = builder.and_(builder.ashr(u, number(words, 31)), row(5))
        u = builder.add(builder.add(u, row(4)), below)
    y = builder.ashr(u, shift)
    if rounding != "TRN":
        y = builder.add(y, bound(2))
    low, top = bound(0), bound(1)
    y = builder.select(builder.icmp_signed("<", y, low), low, y)
    return builder.select(builder.icmp_signed(">", y, top), top, y)


def store_codes(builder: ir.IRBuilder, codes: Any, size: int, address: Any, left: Any) -> None:
    """The first `left` of the codes, at most all of them, in `size` bytes each."""
    narrow = ir.VectorType(ir.IntType(8 * size), codes.type.count)
    store_first(builder, builder.trunc(codes, narrow), address, builder.trunc(left, INT))


def store_first(builder: ir.IRBuilder, values: Any, address: Any, left: Any) -> None:
    """The first `left` of the values, at most all of them; `left` is of a type that holds their
    number."""
    kind, lanes = values.type, values.type.count
    numbers = ir.Constant(ir.VectorType(left.type, lanes), list(range(lanes)))
    undefined = ir.Constant(numbers.type, ir.Undefined)
    first = builder.insert_element(undefined, left, INT(0))
    count = builder.shuffle_vector(
        first, undefined, ir.Constant(ir.VectorType(INT, lanes), [0] * lanes)
    )
    mask = builder.icmp_signed("<", numbers, count)
    pointer = builder.inttoptr(address, kind.as_pointer())
    taken = (kind, pointer.type, INT, mask.type)
    name = f"llvm.masked.store.v{lanes}i{kind.element.width}.p0"
    call = builder.module.declare_intrinsic(name, fnty=ir.FunctionType(ir.VoidType(), taken))
    builder.call(call, (values, pointer, INT(1), mask))
