# amaranth: UnusedElaboratable=no
"""Requantisation: wide accumulators to narrow integers, acc * M + B, shifted, rounded, clamped."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import bits_for

from intaglio.errors import BuildError
from intaglio.fixed import ROUNDINGS, IntType, Rounding, requantise
from intaglio.hdl.fifo import Outlet
from intaglio.hdl.hard import ANY, Hard
from intaglio.hdl.pack import Ints, pack_word
from intaglio.hdl.products import adder_tree, tree_stages
from intaglio.hdl.rom import Rom
from intaglio.hdl.stream import (
    Frame,
    advance,
    by_level,
    ceil_div,
    common_channels,
    counter,
    delay,
    lane,
    lanes_signature,
    pipe,
)


@dataclass(frozen=True)
class Scaling:
    """One level's y[c] = clamp(round_shift(x[c] * M[c] + B[c], S[c]) + offset, lo, hi).

    multiplier, bias and shift hold one value per channel, or one for all.
    """

    multiplier: tuple[int, ...]
    bias: tuple[int, ...]
    shift: tuple[int, ...]
    lo: int
    hi: int
    offset: int = 0

    def of(self, channel: int) -> tuple[int, int, int, int, int, int]:
        """(M, B, S, offset, lo, hi) of one channel."""
        m, b, s = (t[channel % len(t)] for t in (self.multiplier, self.bias, self.shift))
        return m, b, s, self.offset, self.lo, self.hi

    def model(self, frame: Ints, rounding: Rounding) -> Ints:
        """(C, H, W) accumulators to (C, H, W) codes."""
        out = np.empty_like(frame)
        for c, plane in enumerate(frame):
            m, b, s, offset, lo, hi = self.of(c)
            out[c] = [
                [requantise(int(v) * m + b, s, offset, lo, hi, rounding) for v in row]
                for row in plane
            ]
        return out


def fold_half(bias: int, shift: int, rounding: Rounding) -> tuple[int, Rounding]:
    """RND as TRN: rounding half up is adding a half before the floor, so it can be part of B."""
    return (bias + ((1 << shift) >> 1), "TRN") if rounding == "RND" else (bias, rounding)


def clamped(total: Value, lo: Value | int, hi: Value | int) -> Value:
    """total limited to [lo, hi]. The ends of a type are told by the bits above them: comparing all
    bits would take a carry chain for each end."""
    total, low, high = Value.cast(total), fixed(lo), fixed(hi)
    if low is not None and high is not None and high + 1 == 1 << high.bit_length():
        above = total[high.bit_length() :]
        if low == 0 and total.shape().signed:
            return Mux(total[-1], 0, Mux(above.any(), high, total))
        if low == -high - 1 and total.shape().signed and len(above):
            return Mux(above.all() | ~above.any(), total, Mux(total[-1], low, high))
    return Mux(total < lo, lo, Mux(total > hi, hi, total))


def fixed(value: Value | int) -> int | None:
    """A constant's number."""
    value = Value.cast(value)
    return value.value if isinstance(value, Const) else None


class Requantiser(wiring.Component):
    """The free-running pipeline: `lanes` values of `x` with `i_valid`, `latency` cycles later
    `lanes` values of `y` with `o_valid`. It cannot stall; an `Outlet` follows.

    It counts beats to know level and channel: ceil(C / lanes) a pixel, frame after frame.
    M and B (with the rounding constant of RND folded in), and whatever else differs between
    channels or levels, lie in a ROM with one word per (level, beat of a pixel). What is the same
    everywhere is wired, and there may be no ROM at all.

    hard     says whether products are made in `parts`; of more than two, `stages` add them up.

    latency  5 cycles, or 6 when the shift varies or the rounding looks at the sign or parity:
             ROM, operands, product, [stages,] sum, [shift,] clamp.
    """

    def __init__(
        self,
        *,
        frames: Sequence[Frame],
        lanes: int,
        x: IntType,
        y: IntType,
        scalings: Sequence[Scaling],
        rounding: Rounding,
        hard: Hard = ANY,
        rom: str | None = None,
    ) -> None:
        if len(scalings) != len(frames):
            raise BuildError(
                f"A requantiser must have one scaling per level, not {len(scalings)} for"
                f" {len(frames)}."
            )
        self.frames = tuple(frames)
        self.lanes = lanes
        self.hard = hard
        self.x = x
        self.y = y
        channels = common_channels(frames)
        self.beats = ceil_div(channels, lanes)
        padded = self.beats * lanes
        rows = [s.of(min(c, channels - 1)) for s in scalings for c in range(padded)]
        folded = [fold_half(b, s, rounding) for _, b, s, _, _, _ in rows]
        self.rounding = folded[0][1]
        self.shifts = sorted({row[2] for row in rows})
        self.columns = {
            "multiplier": [row[0] for row in rows],
            "bias": [b for b, _ in folded],
            "shift": [self.shifts.index(row[2]) for row in rows],
            "offset": [row[3] for row in rows],
            "lo": [row[4] for row in rows],
            "hi": [row[5] for row in rows],
        }
        ends = [v * r[0] + b for r, (b, _) in zip(rows, folded, strict=True) for v in (x.lo, x.hi)]
        self.total = signed(column_bits(ends))
        self.late_shift = len(self.shifts) > 1 or self.rounding != "TRN"
        factors = x.bits, column_bits(self.columns["multiplier"])
        self.parts = prod(len(hard.cuts(bits)) for bits in factors)
        self.stages = tree_stages(self.parts) if self.parts > 2 else 0
        self.latency = (6 if self.late_shift else 5) + self.stages
        self.place: dict[str, int] = {}  # bit position in a ROM word of every column that varies
        width = 0
        for name, column in self.columns.items():
            if len(set(column)) > 1:
                self.place[name] = width
                width += lanes * column_bits(column)
        file = None if rom is None else f"{rom}_tables.hex"
        self.rom = Rom(words=self._words(), width=width, file=file) if width else None
        super().__init__(
            {
                "i": In(lanes * x.bits),
                "i_valid": In(1),
                "o": Out(lanes * y.bits),
                "o_valid": Out(1),
            }
        )

    def _words(self) -> list[int]:
        """The table: of every column that varies, the lanes of a beat side by side."""
        varied = [(self.columns[n], column_bits(self.columns[n]), p) for n, p in self.place.items()]
        words = []
        for at in range(0, len(self.columns["bias"]), self.lanes):
            word = 0
            for column, bits, place in varied:
                word |= pack_word(column[at : at + self.lanes], bits) << place
            words.append(word)
        return words

    @property
    def roms(self) -> tuple[Rom, ...]:
        """The table ROM, if there is one."""
        return () if self.rom is None else (self.rom,)

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.d.comb += self.o_valid.eq(delay(m, self.i_valid, self.latency, "valid"))
        if self.rom is not None:
            m.submodules.rom = self.rom
            m.d.comb += self.rom.addr.eq(self._address(m))
        for k in range(self.lanes):
            self._lane(m, k)
        return m

    def _address(self, m: Module) -> Signal:
        """The ROM word of the beat at `i`: level * beats + beat."""
        levels = len(self.frames)
        address = counter(levels * self.beats, "address")
        if levels == 1:
            with m.If(self.i_valid):
                advance(m, address, address == self.beats - 1)
            return address
        base = counter(levels * self.beats, "base")
        beat = counter(self.beats, "beat")
        pixel = counter(max(f.pixels for f in self.frames), "pixel")
        level = counter(levels, "level")
        pixels = by_level(m, level, [f.pixels for f in self.frames], "pixels")
        last_beat, last_pixel = beat == self.beats - 1, pixel == pixels - 1
        last_level = level == levels - 1
        with m.If(self.i_valid):
            advance(m, beat, last_beat)
            m.d.sync += address.eq(Mux(last_beat, base, address + 1))
            with m.If(last_beat):
                advance(m, pixel, last_pixel)
                with m.If(last_pixel):
                    advance(m, level, last_level)
                    following = Mux(last_level, 0, base + self.beats)
                    m.d.sync += [base.eq(following), address.eq(following)]
        return address

    def _column(self, name: str, k: int) -> Value:
        """Lane k of one column of the table, a cycle after its address; or a constant."""
        column = self.columns[name]
        bits = column_bits(column)
        if name not in self.place or self.rom is None:
            return Const(column[0], signed(bits))
        return lane(self.rom.data[self.place[name] :], k, IntType(bits, True))

    def _lane(self, m: Module, k: int) -> None:
        def later(values: dict[str, Value], stage: str) -> dict[str, Value]:
            return {
                name: value if isinstance(value, Const) else pipe(m, value, 1, f"{name}_{stage}{k}")
                for name, value in values.items()
            }

        table = later({name: self._column(name, k) for name in self.columns}, "operand")
        x = pipe(m, lane(self.i, k, self.x), 2, f"x{k}")
        terms = self._products(m, x, table["multiplier"], k)
        table = later(table, "product")
        if self.stages:
            terms = [adder_tree(m, terms, f"product_tree{k}")]
        for stage in range(self.stages):
            table = later(table, f"tree{stage}_")
        total = Signal(self.total, name=f"total{k}", reset_less=True)
        m.d.sync += total.eq(sum(terms, table["bias"]))
        table = later(table, "total")

        rounded = [Value.cast(ROUNDINGS[self.rounding](total, s)) for s in self.shifts]
        code = Signal(signed(max(len(value) for value in rounded) + 1), name=f"code{k}")
        with m.Switch(table["shift"]):
            for index, value in enumerate(rounded):
                with m.Case(index):
                    m.d.comb += code.eq(value)
        if self.late_shift:
            code = pipe(m, code, 1, f"shifted{k}")
            table = later(table, "shifted")
        clamp = clamped(code + table["offset"], table["lo"], table["hi"])
        m.d.comb += lane(self.o, k, IntType(self.y.bits, False)).eq(pipe(m, clamp, 1, f"y{k}"))

    def _products(self, m: Module, x: Value, multiplier: Value, k: int) -> list[Value]:
        """The parts of x * multiplier at their places, a cycle later."""
        terms: list[Value] = []
        for a, left in self.hard.parts(x):
            for b, right in self.hard.parts(multiplier):
                name = f"product{k}_{len(terms)}" if terms else f"product{k}"
                product = pipe(m, left * right, 1, name)
                placed = Cat(Const(0, a + b), product)
                terms.append(placed.as_signed() if product.shape().signed else placed)
        return terms


def column_bits(column: Sequence[int]) -> int:
    """Signed width that holds every value."""
    return max(bits_for(end, require_sign_bit=True) for end in (min(column), max(column)))


class Scale(wiring.Component):
    """A `Requant` of its own, on a narrow stream: elementwise, one beat a cycle.

    latency  cycles from taking a beat at `i` to `o.valid`: the requantiser's and 1.
    """

    def __init__(
        self,
        *,
        frames: Sequence[Frame],
        lanes: int,
        x: IntType,
        y: IntType,
        scalings: Sequence[Scaling],
        rounding: Rounding = "RND",
        hard: Hard = ANY,
        rom: str | None = None,
    ) -> None:
        self.scalings = tuple(scalings)
        self.rounding = rounding
        self.requantiser = Requantiser(
            frames=frames,
            lanes=lanes,
            x=x,
            y=y,
            scalings=scalings,
            rounding=rounding,
            hard=hard,
            rom=rom,
        )
        self.roms = self.requantiser.roms
        self.latency = self.requantiser.latency + 1
        self.outlet = Outlet(width=lanes * y.bits, depth=self.latency + 1)
        super().__init__(
            {"i": In(lanes_signature(lanes, x.bits)), "o": Out(lanes_signature(lanes, y.bits))}
        )

    def model(self, frames: Sequence[Ints]) -> list[Ints]:
        """(C, H, W) of each level in turn to the same of the output."""
        levels = len(self.scalings)
        return [
            self.scalings[k % levels].model(frame, self.rounding) for k, frame in enumerate(frames)
        ]

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.requantiser = requantiser = self.requantiser
        m.submodules.outlet = outlet = self.outlet
        connect(m, outlet.o, flipped(self.o))
        taken = self.i.valid & self.i.ready
        m.d.comb += [
            self.i.ready.eq(outlet.free != 0),
            outlet.reserve.eq(taken),
            requantiser.i.eq(self.i.payload),
            requantiser.i_valid.eq(taken),
            outlet.data.eq(requantiser.o),
            outlet.push.eq(requantiser.o_valid),
        ]
        return m
