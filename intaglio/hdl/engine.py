# amaranth: UnusedElaboratable=no
"""The engine: window, weights, multipliers, accumulators, drain."""

from collections.abc import Sequence

import numpy as np
from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.errors import BuildError
from intaglio.fixed import IntType, Rounding, code_bits
from intaglio.hdl.accumulator import Accumulator
from intaglio.hdl.drain import Drain
from intaglio.hdl.hard import ANY, Hard
from intaglio.hdl.pack import Ints, pack_word
from intaglio.hdl.products import (
    FAN_IN,
    ProductForm,
    add_with_carry,
    adder_tree,
    first_fan_in,
    packed_operand,
    packed_shift,
    product_of_adders,
    tree_stages,
    unpack_sums,
)
from intaglio.hdl.requant import Scaling, clamped
from intaglio.hdl.rom import Rom
from intaglio.hdl.stream import by_level, counter, delay, lane, lanes_signature, pipe
from intaglio.hdl.window import Window


def weight_sets(weights: Ints) -> Ints:
    """Sets of weights (S, Cout, Cin / groups, Kh, Kw); S is 1 where there is no such axis."""
    return weights.reshape(-1, *weights.shape[-4:])


def convolve(windows: Ints, weights: Ints, groups: int, accumulator: Accumulator) -> Ints:
    """Windows (H, W, Cin, Kh, Kw) and weights (Cout, Cin/groups, Kh, Kw) to sums (Cout, H, W)."""
    cout, cin = weights.shape[:2]
    planes = []
    for o, kernel in enumerate(weights):
        start = o // (cout // groups) * cin
        products = windows[:, :, start : start + cin] * kernel
        # The declared order of the products: ky, kx, input channel.
        ordered = products.transpose(0, 1, 3, 4, 2).reshape(*windows.shape[:2], -1)
        planes.append(accumulator.model(ordered))
    return np.stack(planes)


class Engine(wiring.Component):
    """What convolutions and sums have in common: for each of `pairs`, accumulate the products of
    its (data lane, weight lane) pairs over a pass of the window, for all its pixels side by side
    with the same weights; then drain the sums.

    kernels, groups  the convolutions computed: one or more sets of weights, (S, Cout,
                     Cin / groups, Kh, Kw). sets: of every level, which one; empty: the first.
    weights         the ROM with its words in the order of the walk, one for every issue of a
                    pixel, set after set; None where all weights are 1 and the data lanes
                    themselves are summed.
    w, odd          the weights' type; whether all are odd and the ROM holds their codes.
    form            what the products are made of; "packed": two results that read the same data
                    lanes share multipliers, and one that is left over has its own.
    out_frames        what leaves `o`.
    cycles_per_pixel  words issued per output pixel, or for all that are made side by side.
    latency           cycles from the issue of a pass's last word to `o.valid` of its first beat:
                      address, RAM and ROM, operands, product, adder tree, sum, requantiser,
                      queue. When a word is issued, `Window` says.
    roms              weights, requantisation tables and pad values, as far as they exist.
    """

    def __init__(
        self,
        *,
        window: Window,
        pairs: Sequence[Sequence[tuple[int, int]]],
        kernels: Ints,
        sets: Sequence[int] = (),
        groups: int,
        weights: Rom | None,
        w: IntType,
        odd: bool = False,
        form: ProductForm = "dsp",
        accumulator: Accumulator,
        y: IntType,
        scalings: Sequence[Scaling],
        rounding: Rounding,
        out_lanes: int,
        hard: Hard = ANY,
        rom: str | None,
    ) -> None:
        self.window = window
        self.pairs = [
            [(k * window.lanes + at, index) for at, index in pair]
            for k in range(window.pixels)
            for pair in pairs
        ]
        self.kernels = kernels
        self.sets = tuple(sets) or (0,) * len(window.frames)
        if len(self.sets) != len(window.frames) or set(self.sets) != set(range(len(kernels))):
            raise BuildError(
                f"Every level must have one of {len(kernels)} sets of weights, and every set a"
                f" level, not {self.sets}."
            )
        self.groups = groups
        self.weights = weights
        self.w = w
        self.odd = odd
        self.form = form
        self.accumulator = accumulator
        self.scalings = tuple(scalings)
        self.rounding = rounding
        if accumulator.each_step and len(pairs[0]) != 1:
            raise BuildError(f"SIMD must be 1 where every step may saturate, not {len(pairs[0])}.")
        self.sums = accumulator.type
        self.stages = 1 + tree_stages(len(pairs[0]))
        self.out_frames = tuple(
            window.geometry.out(frame, kernels.shape[1]) for frame in window.in_frames
        )
        self.drain = Drain(
            frames=self.out_frames,
            results=len(self.pairs),
            sum_type=self.sums,
            saturate=accumulator.final,
            y=y,
            scalings=scalings,
            rounding=rounding,
            out_lanes=out_lanes,
            pass_cycles=window.pass_cycles,
            lead=window.latency + self.stages,
            pixels=window.pixels,
            hard=hard,
            rom=rom,
        )
        self.cycles_per_pixel = window.cycles_per_pixel
        self.latency = self.drain.latency
        self.roms = (*(() if weights is None else (weights,)), *self.drain.roms, *window.roms)
        super().__init__(
            {
                "i": In(lanes_signature(window.lanes, window.x.bits)),
                "o": Out(lanes_signature(out_lanes, y.bits)),
            }
        )

    def model(self, frames: Sequence[Ints]) -> list[Ints]:
        """(Cin, H, W) of each level in turn to (Cout, H', W') of each."""
        out = []
        for k, frame in enumerate(frames):
            level = k % len(self.scalings)
            windows = self.window.geometry.windows(frame, self.window.pads_of(level))
            kernel = self.kernels[self.sets[level]]
            sums = convolve(windows, kernel, self.groups, self.accumulator)
            out.append(self.scalings[level].model(sums, self.rounding))
        return out

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.window = window = self.window
        m.submodules.drain = drain = self.drain
        connect(m, flipped(self.i), window.i)
        connect(m, drain.o, flipped(self.o))
        weights = self._weight_word(m)
        valid = delay(m, window.valid, self.stages, "valid")
        first = pipe(m, window.first, self.stages, "first")
        last = pipe(m, window.last, self.stages, "last")
        m.d.comb += [
            window.go.eq(drain.go),
            drain.issue_last.eq(window.issue_last),
            drain.done.eq(valid & last),
        ]
        if window.pixels > 1:
            here = pipe(m, window.pixels_here, self.stages, "pixels")
            m.d.comb += [
                drain.issue_pixels.eq(window.issue_pixels),
                drain.pixels_here.eq(here),
            ]
        m.d.comb += drain.sums.eq(Cat(self._sums(m, weights, valid, first)))
        return m

    def _sums(self, m: Module, weights: Value | None, valid: Value, first: Value) -> list[Signal]:
        """The sums so far, of every result."""
        sums: list[Signal] = []
        held = None if weights is None else pipe(m, weights, 1, "weight")
        hard = weights is not None and self.form != "lut"
        fan_in = first_fan_in(len(self.pairs[0])) if hard else FAN_IN
        each = len(self.pairs) // self.window.pixels  # results of a pixel, which read the same data
        while len(sums) < len(self.pairs):
            p = len(sums)
            if held is not None and self.form == "packed" and (p + 1) % each:
                shift = packed_shift(len(self.pairs[p]), self.window.x, self.w)
                products = self._packed_products(m, held, p, shift)
                tree = adder_tree(m, products, f"tree_{p}", fan_in)
                low, high, carry = unpack_sums(tree, shift)
                sums.append(self._accumulate(m, low, None, valid, first, f"sum_{p}"))
                sums.append(self._accumulate(m, high, carry, valid, first, f"sum_{p + 1}"))
            else:
                tree = adder_tree(m, self._products(m, held, p), f"tree_{p}", fan_in)
                sums.append(self._accumulate(m, tree, None, valid, first, f"sum_{p}"))
        return sums

    def _products(self, m: Module, weights: Value | None, p: int) -> list[Value]:
        """The products of one result; `weights` are `_weight_word` a cycle later."""
        terms = []
        for s, (at, index) in enumerate(self.pairs[p]):
            product: Value = lane(self.window.data, at, self.window.x)
            if weights is not None:
                w = self._weight(weights, index)
                if self.form == "lut":
                    wide, narrow = sorted((product, w), key=len, reverse=True)
                    product = product_of_adders(m, wide, narrow, f"product_{p}_{s}")
                else:
                    product = product * w
            terms.append(pipe(m, product, 1, f"product_{p}_{s}"))
        return terms

    def _packed_products(self, m: Module, weights: Value, p: int, shift: int) -> list[Value]:
        """The products of result p, and shifted those of result p + 1; `weights` are `_weight_word`
        a cycle later."""
        terms = []
        for s, ((at, low), (_, high)) in enumerate(
            zip(self.pairs[p], self.pairs[p + 1], strict=True)
        ):
            lower = self._weight(weights, low)
            upper = self._upper(weights, lower, high, p, s)
            product = lane(self.window.data, at, self.window.x)
            product = product * packed_operand(lower, upper, shift)
            terms.append(pipe(m, product, 1, f"product_{p}_{s}"))
        return terms

    def _upper(self, word: Value, lower: Value, high: int, p: int, s: int) -> Value:
        """The upper part of a packed operand: weight `high`, one less below a negative `lower`. Of
        odd weights only the last bit changes; of others the ROM has it, see `pack.conv_words`."""
        if self.odd:
            return Cat(~lower[-1], self._weight(word, high)[1:])
        assert self.weights is not None
        results, terms = len(self.pairs) // self.window.pixels, len(self.pairs[p])
        signs = self.weights.width - results // 2 * terms
        sign = word[signs + p % results // 2 * terms + s]
        return Cat(lane(word, high, self.w), sign)

    def _weight_word(self, m: Module) -> Value | None:
        """The weight word, a cycle before the data that it belongs to is `window.data`; odd codes
        with their top bits inverted, so that nothing is left to do behind the next register."""
        if self.weights is None:
            return None
        m.submodules.weights = rom = self.weights
        starts = [s * self.cycles_per_pixel for s in self.sets]
        address = counter(rom.depth, "address", starts[0])
        last, following = address == rom.depth - 1, Const(0)
        if self.window.tells:  # a pixel ends where its set ends, and the next may have another
            last = self.window.pixel_ends
            following = by_level(m, self.window.next_level, starts, "weights_start")
        with m.If(self.window.read):
            m.d.sync += address.eq(Mux(last, following, address + 1))
        m.d.comb += rom.addr.eq(address)
        word: Value = rom.data
        if self.odd:
            bits = code_bits(self.w, odd=True)
            tops = pack_word([1 << (bits - 1)] * (rom.width // bits), bits)
            word = word ^ Const(tops, rom.width)
        return word

    def _weight(self, word: Value, index: int) -> Value:
        """Weight `index` of `_weight_word`, as a number of type `w`: see `fixed.odd_value`."""
        if not self.odd:
            return lane(word, index, self.w)
        inverted = lane(word, index, IntType(code_bits(self.w, odd=True), True))
        return Cat(Const(1, 1), inverted).as_signed()

    def _accumulate(
        self, m: Module, term: Value, carry: Value | None, valid: Value, first: Value, name: str
    ) -> Signal:
        """The sum so far including `term` and the carry that belongs to it."""
        total = Signal(signed(self.sums.bits), name=name)
        before = Signal.like(total, name=f"{name}_before", reset_less=True)
        kept = Mux(first, 0, before)
        value = kept + term if carry is None else add_with_carry(kept, term, carry)
        if self.accumulator.each_step:
            value = clamped(value, self.sums.lo, self.sums.hi)
        m.d.comb += total.eq(value)
        with m.If(valid):
            m.d.sync += before.eq(total)
        return total
