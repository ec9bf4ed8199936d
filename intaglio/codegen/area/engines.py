"""Areas of engines: line buffer, window, multiply-accumulators, requantiser, drain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from amaranth.utils import bits_for, ceil_log2

from intaglio.codegen.area.area import (
    Area,
    MemoryKind,
    Product,
    Storage,
    bits,
    count,
    delayed,
    outlet,
    total,
)
from intaglio.fixed import IntType, code_bits
from intaglio.hdl.accumulator import Accumulator
from intaglio.hdl.geometry import Geometry
from intaglio.hdl.products import FAN_IN, ProductForm, first_fan_in, packed_shift, tree_stages
from intaglio.hdl.requant import Requantiser
from intaglio.hdl.rom import MemoryStyle
from intaglio.hdl.stream import Frame, ceil_div, go_delay


def line_buffer(
    frames: Sequence[Frame],
    rows: int,
    lanes: int,
    width: int,
    copies: int = 1,
    kind: MemoryKind = "ram",
) -> Area:
    """A LineBuffer of lanes of `width` bits, whose rows are there so many times; `kind` "circle"
    where it may have more words than those of its rows."""
    words = ceil_div(frames[0].channels, lanes)
    row_words = max(f.width for f in frames) * words
    size = max(2, rows * row_words)
    address, column = ceil_log2(size), bits_for(max(f.width for f in frames))
    row = 2 + bits_for(max(f.height for f in frames) + rows)
    found = Area(
        adders=2 * address + column + 5 * row,
        choices=address + 3 * row,
        equals=2 * column,
        registers=2 * address + row + column + 1,
        memories=(Storage(kind, size, lanes * width),) * copies,
    )
    if kind != "circle":
        found += Area(choices=address, equals=address)
    found += count(words)
    if len(frames) > 1:
        found += count(max(f.height for f in frames)) + count(len(frames))
        found += Area(equals=column + row)
    return found


def window(
    frames: Sequence[Frame],
    geometry: Geometry,
    width: int,
    lanes: int,
    groups: int,
    repeats: int,
    pad_table: int = 0,
    tail: bool = False,
    pixels: int = 1,
    late: bool = False,
) -> Area:
    """A Window over lanes of `width` bits; pad_table: words of its ROM of pad values."""
    channels, levels = frames[0].channels, len(frames)
    if geometry.pointwise:
        frames = [Frame(channels, f.pixels, 1) for f in frames]
    rows, words = geometry.default_rows, ceil_div(channels, lanes)
    outs = [geometry.out(f, channels) for f in frames]
    kh, kw = geometry.kernel
    loops = [words // groups, kw, kh, repeats, groups,
             max(ceil_div(f.width, pixels) for f in outs),
             max(f.height for f in outs)]  # fmt: skip
    found = line_buffer(frames, rows, lanes, width, pixels, "circle") + total(
        [count(n) for n in loops]
    )
    address = max(1, ceil_log2(rows * max(f.width for f in frames) * words))
    steps = sum(n > 1 for n in loops) + 1
    found += Area(
        adders=address,
        equals=steps * address // 2,  # of constants, of whose bits half are 0
        registers=address + steps + 2,
    )
    found += position(frames, geometry)
    data = pixels * lanes * width
    if late:
        found += Area(registers=data + 6)
    found += Area(registers=data + 10, equals=10 + (data if tail else 0))
    padded = any(geometry.padding)
    found += Area(equals=data if padded else 0, registers=(1 + pixels) if padded else 0)
    if pixels > 1:
        found += beside(pixels, address, frames, padded=padded)
    if levels > 1:
        found += count(levels) + Area(equals=4 * address + sum(map(bits, loops)))
    if pad_table:
        found += count(words) + count(words) + delayed(bits(pad_table), 1)
        word = lanes * width
        found += Area(choices=word, memories=(Storage("rom", pad_table, word),))
    return found


def beside(pixels: int, address: int, frames: Sequence[Frame], *, padded: bool) -> Area:
    """What the pixels beside the first have of their own: addresses, and whether they are inside;
    and a cycle more on the way."""
    others = pixels - 1
    found = Area(adders=others * address, registers=pixels * address + 6)
    if padded:
        column = bits_for(max(f.width for f in frames)) + 1
        found += Area(adders=2 * others * column, registers=pixels + others)
    return found + delayed(bits_for(pixels), 4)


def position(frames: Sequence[Frame], geometry: Geometry) -> Area:
    """Where a Window is and whether its pixel has arrived."""
    top, bottom, left, right = geometry.padding
    (sy, sx), (span_y, span_x) = geometry.stride, geometry.span
    y = signed_bits(-top, max(f.height for f in frames) + bottom + span_y + sy - 1)
    x = signed_bits(-left, max(f.width for f in frames) + right + span_x + sx - 1)
    found = Area(adders=5 * y + 3 * x, choices=4 * y + 2 * x, equals=y, registers=5 * y + 2 * x)
    if any(geometry.padding):
        found += Area(adders=2 * y + 2 * x, choices=2 * y + 3 * x, registers=y + x)
    if len(frames) > 1:
        found += Area(equals=3 * y + x)
    return found


def signed_bits(lo: int, hi: int) -> int:
    """Of a Signal that holds [lo, hi]."""
    return IntType.spanning(lo, hi).bits


@dataclass(frozen=True)
class Macs:
    """The multiply-accumulators of an engine.

    results, terms  accumulators of a pixel, and products that each takes a cycle; w is None where
                    data are summed as they are. words: of the weight ROM, of all `sets` of weights.
    pixels          that are made at once, with the same weights.
    late            whether there is a register behind the ROM, and one behind every bank of it.
    """

    x: IntType
    w: IntType | None
    odd: bool
    form: ProductForm
    results: int
    terms: int
    sums: IntType
    words: int
    style: MemoryStyle = "auto"
    sets: int = 1
    pixels: int = 1
    late: bool = False

    @property
    def rom(self) -> Storage | None:
        """The weights."""
        if self.w is None:
            return None
        width = self.results * self.terms * code_bits(self.w, self.odd)
        kind: MemoryKind = "banks" if self.late else "rom"
        return Storage(kind, self.words, width + self.signs, self.style)

    @property
    def signs(self) -> int:
        """Bits of the weights' word that packed operands have beside the weights."""
        packed = self.form == "packed" and not self.odd
        return self.results // 2 * self.terms if packed else 0


def macs(m: Macs) -> Area:
    """Products, trees, accumulators, weights and their address."""
    sums, stages = m.sums.bits, 1 + tree_stages(m.terms)
    results = m.results * m.pixels
    found = Area(equals=results * sums, adders=results * sums,
                 registers=results * sums + 3 * stages)  # fmt: skip
    if m.w is None or m.rom is None:
        return (
            found
            + tree(m.terms, m.x.bits).times(results)
            + delayed(results * m.terms * m.x.bits, 1)
        )
    address = bits(m.words)
    found += Area(adders=address, equals=address, registers=address, memories=(m.rom,))
    if m.late:
        found += Area(registers=m.rom.width)
    if m.sets > 1:
        found += Area(choices=address, registers=1)
    code, n = code_bits(m.w, m.odd), m.terms
    fan_in = FAN_IN if m.form == "lut" else first_fan_in(n)
    pairs = m.results // 2 if m.form == "packed" else 0
    alone = m.results - 2 * pairs
    if pairs:
        shift = packed_shift(n, m.x, m.w)
        operand = shift + m.w.bits + 1
        wide = operand + m.x.bits
        found += Area(registers=2 * code * n * pairs + m.signs)
        each = Area(registers=wide, products=(Product(signed(m.x), operand, 1),))
        found += (each.times(n) + tree(n, wide, fan_in) + Area(adders=1)).times(pairs * m.pixels)
    product = m.x.bits + m.w.bits
    found += Area(registers=code).times(n * alone)
    one = Area(registers=product)
    if m.form == "lut":
        one += product_of_adders(m.x.bits, m.w.bits, code)
    else:
        one += Area(products=(Product(signed(m.x), m.w.bits, 1),))
    return found + (one.times(n) + tree(n, product, fan_in)).times(alone * m.pixels)


def signed(type: IntType) -> int:
    """Bits of a factor beside a signed one."""
    return type.bits + (not type.signed)


@cache
def product_of_adders(x: int, w: int, code: int) -> Area:
    """A product without a multiplier: rows of the wider operand, added in pairs."""
    wide, rows = max(x, w), min(x, w)
    masks = wide * (min(rows, code) if rows == w else rows)
    found = Area(rows=masks)
    widths, weight = [wide] * rows, 1
    while len(widths) > 1:
        found += Area(adders=(len(widths) // 2) * (max(widths) + 1))
        joined = [max(widths) + weight + 1] * (len(widths) // 2)
        widths, weight = joined + widths[2 * len(joined) :], 2 * weight
    return found


@cache
def tree(terms: int, width: int, fan_in: int = FAN_IN) -> Area:
    """An adder tree: adders one bit wider than their operands, and a register every two levels;
    `fan_in` of the first stage."""
    found = Area()
    while terms > 1:
        groups = ceil_div(terms, fan_in)
        most = min(terms, fan_in)
        grown = width + (1 if most == 2 else 2)
        found += Area(adders=(terms - groups) * (grown - 0.5), registers=groups * grown)
        terms, width, fan_in = groups, grown, FAN_IN
    return found


@dataclass(frozen=True)
class Table:
    """The numbers of a requantiser that do not depend on its lanes: bits of every column, whether
    it varies, the widths of the sum and the code, and how many shifts there are."""

    columns: tuple[tuple[str, int, bool], ...]
    total: int
    code: int
    shifts: int
    stages: int  # that add up parts of a product
    parts: int
    late_shift: bool
    latency: int
    plain: bool  # rounds by cutting off

    @property
    def width(self) -> int:
        """Bits a lane takes in a ROM word."""
        return sum(n for _, n, varies in self.columns if varies)


def requantiser(table: Table, frames: Sequence[Frame], lanes: int, x: int, y: int) -> Area:
    """A Requantiser of `lanes` values from x to y bits."""
    beats = ceil_div(frames[0].channels, lanes)
    words = len(frames) * beats
    found = delayed(1, table.latency)
    if table.width:
        found += Area(memories=(Storage("rom", words, lanes * table.width),)) + count(beats)
    if table.width and len(frames) > 1:
        at, pixel = bits(words), max(f.pixels for f in frames)
        found += total([count(pixel), count(words), count(len(frames))])
        found += Area(adders=2 * at, choices=2 * at, equals=bits(pixel), registers=at)
    last = 3 + table.late_shift + table.stages
    held = {"multiplier": 1, "bias": 2 + table.stages, "shift": 3 + table.stages}
    registers = sum(n * held.get(name, last) for name, n, varies in table.columns if varies)
    m = next(n for name, n, _ in table.columns if name == "multiplier")
    limits = sum(varies for name, _, varies in table.columns if name in ("lo", "hi"))
    lane = Area(
        adders=table.total + table.code + (0 if table.plain else table.code),
        choices=2 * y + (table.shifts - 1) * table.code,
        equals=limits * y,
        registers=registers + 2 * x + (x + m) + table.total + y
        + (table.code if table.late_shift else 0),
        products=(Product(max(x, m), min(x, m), 1),),
    )  # fmt: skip
    if table.parts > 1:  # a register behind each, and adders of their own
        lane += Area(adders=(table.parts - 1) * (x + m) / 2, registers=(table.parts - 1) * (x + m))
    return found + lane.times(lanes)


def table_of(r: Requantiser) -> Table:
    """The numbers of a requantiser, whatever its lanes."""
    return Table(
        tuple((name, bits_of(column), name in r.place) for name, column in r.columns.items()),
        r.total.width,
        r.total.width - min(r.shifts) + 1,
        len(r.shifts),
        r.stages,
        r.parts,
        r.late_shift,
        r.latency,
        r.rounding == "TRN",
    )


def bits_of(column: Sequence[int]) -> int:
    """Signed width of a column."""
    return max(int(bits_for(value, require_sign_bit=True)) for value in column)


def drain(
    frames: Sequence[Frame],
    results: int,
    sums: Accumulator,
    table: Table,
    out_lanes: int,
    y: int,
    pass_cycles: int,
    lead: int,
    pixels: int = 1,
) -> Area:
    """A Drain: the held sums, a requantiser, the queue; `results` are those of a pixel, frames
    those that leave."""
    passes = ceil_div(frames[0].channels, results)
    results *= pixels
    beats, wide = results // out_lanes, sums.type.bits
    latency = lead + 1 + table.latency + 1
    places = max(beats, beats * ceil_div(latency + go_delay(pass_cycles) + beats, pass_cycles))
    x = wide if sums.final is None else sums.final.bits
    left = beats.bit_length()
    found = Area(adders=left, equals=3 * left, choices=(results - out_lanes) * wide,
                 registers=results * wide + left)  # fmt: skip
    if sums.final is not None:
        found += Area(adders=2 * wide * out_lanes, choices=2 * x * out_lanes)
    if pixels > 1:
        found += Area(adders=2 * bits(beats))
    found += count(passes) + count(passes)
    return found + requantiser(table, frames, out_lanes, x, y) + outlet(places, out_lanes * y)
