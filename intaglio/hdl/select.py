# amaranth: UnusedElaboratable=no
"""Select: channels dropped, added, repeated, or in another order."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intaglio.errors import BuildError
from intaglio.fixed import IntType
from intaglio.hdl.fifo import Outlet
from intaglio.hdl.geometry import POINTWISE_PIXELS
from intaglio.hdl.linebuffer import LineBuffer
from intaglio.hdl.pack import Ints, pack_word
from intaglio.hdl.stream import Frame, advance, by_level, counter, delay, lane, lanes_signature

PASS, DROP, FILL = range(3)  # what a step does: a beat goes through, is dropped, is made here


class Select(wiring.Component):
    """y[c] = x[channels[c]], and `value` where channels[c] is -1.

    With the whole pixel in a beat at either side it is wires. With fewer `lanes`, every beat of the
    result must be one of the operand, or all value: `words` says which, -1 for the latter. Where
    they come in the operand's order, beats pass or are dropped on the way, and those of the value
    put between (`steps`, in the order of a pixel). In any other order a few pixels are held, and
    read by their words' numbers.

    latency  0, and `i.ready` follows `o.ready` combinationally; with pixels held, 4 cycles from
             taking the beat that completes a pixel to `o.valid` of its first.
    """

    def __init__(
        self, *, frame: Frame, channels: Sequence[int], value: int, x: IntType, lanes: int
    ) -> None:
        self.frame, self.channels, self.value, self.x = frame, tuple(channels), value, x
        self.out_frame = Frame(len(channels), frame.height, frame.width)
        self.lanes = lanes
        self.whole = lanes == frame.channels
        self.out_lanes = len(channels) if self.whole else lanes
        words = [0] if self.whole else words_of(channels, frame.channels, lanes)
        if words is None:
            raise BuildError(
                f"The lanes of a selection must be 1, all {frame.channels} channels, or whole beats"
                f" of both sides, not {lanes}."
            )
        self.words = tuple(words)
        self.steps = steps_of(self.words, frame.channels // lanes)
        self.buffer: LineBuffer | None = None
        self.outlet: Outlet | None = None
        self.latency = 0
        if not self.steps:
            self.latency = 4
            pixels = Frame(frame.channels, frame.pixels, 1)
            self.buffer = LineBuffer(
                frames=(pixels,), rows=POINTWISE_PIXELS, lanes=lanes, bits=x.bits
            )
            self.outlet = Outlet(width=lanes * x.bits, depth=self.latency)
        i, o = (lanes_signature(n, x.bits) for n in (lanes, self.out_lanes))
        super().__init__({"i": In(i), "o": Out(o)})

    def model(self, frame: Ints) -> Ints:
        """(C, H, W) to (C', H, W)."""
        value = np.full_like(frame[0], self.value)
        return np.stack([value if c < 0 else frame[c] for c in self.channels])

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        own: Value = Const(pack_word([self.value] * self.lanes, self.x.bits), len(self.i.payload))
        if self.buffer is None or self.outlet is None:
            self._pass(m, own)
        else:
            self._hold(m, own, self.buffer, self.outlet)
        return m

    def _pass(self, m: Module, own: Value) -> None:
        """Beats on their way, by the steps of a pixel."""
        at = counter(len(self.steps), "step")
        kind = by_level(m, at, self.steps, "kind")
        with m.If((kind == DROP) & self.i.valid | (kind != DROP) & self.o.valid & self.o.ready):
            advance(m, at, at == len(self.steps) - 1)
        through: Value = self.i.payload
        if self.whole:
            raw, value = IntType(self.x.bits, False), own[: self.x.bits]
            through = Cat(value if c < 0 else lane(through, c, raw) for c in self.channels)
        filled = kind == FILL
        m.d.comb += [
            self.o.payload.eq(Mux(filled, own, through) if FILL in self.steps else through),
            self.o.valid.eq(filled | (self.i.valid & (kind == PASS))),
            self.i.ready.eq((kind == DROP) | (self.o.ready & (kind == PASS))),
        ]

    def _hold(self, m: Module, own: Value, buffer: LineBuffer, outlet: Outlet) -> None:
        """Pixels in a circle, and the words of each by number."""
        m.submodules.buffer = buffer
        m.submodules.outlet = outlet
        connect(m, flipped(self.i), buffer.i)
        connect(m, outlet.o, flipped(self.o))
        issue = Signal()
        word, pixel = counter(len(self.words), "word"), counter(self.frame.pixels, "pixel")
        start = Signal.like(buffer.addr)
        last_word, last_pixel = word == len(self.words) - 1, pixel == self.frame.pixels - 1
        with m.If(issue):
            advance(m, word, last_word)
        done = issue & last_word
        with m.If(done):
            advance(m, pixel, last_pixel)
            at_end = start == buffer.size - buffer.row_words
            m.d.sync += start.eq(Mux(at_end, 0, start + buffer.row_words))
        source = by_level(m, word, [max(0, w) for w in self.words], "source")
        m.d.sync += buffer.addr.eq(start + source)
        data: Value = buffer.data
        if -1 in self.words:
            filled = by_level(m, word, [int(w < 0) for w in self.words], "filled")
            data = Mux(delay(m, filled, 2, "filled"), own, data)
        m.d.comb += [
            issue.eq((buffer.have_rows > pixel) & (outlet.free != 0)),
            buffer.limit.eq(pixel + buffer.rows),
            buffer.height.eq(self.frame.pixels),
            buffer.leave.eq(done & last_pixel),
            outlet.reserve.eq(issue),
            outlet.data.eq(data),
            outlet.push.eq(delay(m, issue, 2, "read")),
        ]


def words_of(channels: Sequence[int], given: int, lanes: int) -> list[int] | None:
    """Which beat of the operand's pixel every one of the result's is, -1 for the value; None where
    one is not a whole beat."""
    if given % lanes or len(channels) % lanes:
        return None
    found = []
    for at in range(0, len(channels), lanes):
        beat, first = channels[at : at + lanes], channels[at]
        whole = first % lanes == 0 and list(beat) == list(range(first, first + lanes))
        if first < 0 and set(beat) == {-1}:
            found.append(-1)
        elif first >= 0 and whole:
            found.append(first // lanes)
        else:
            return None
    return found


def steps_of(words: Sequence[int], given: int) -> tuple[int, ...]:
    """What happens to a pixel's beats in order; empty where the result has another order."""
    taken = [w for w in words if w >= 0]
    if any(b <= a for a, b in pairwise(taken)):
        return ()
    steps, at = [], 0
    for word in words:
        if word < 0:
            steps.append(FILL)
            continue
        steps += [DROP] * (word - at) + [PASS]
        at = word + 1
    return (*steps, *[DROP] * (given - at))


def fits(channels: Sequence[int], given: int, lanes: int) -> bool:
    """Whether a Select of `given` channels can have that many lanes."""
    return lanes == given or words_of(channels, given, lanes) is not None


def cycles_of(channels: Sequence[int], given: int, lanes: int) -> int:
    """Cycles that a pixel takes."""
    if lanes == given:
        return 1
    words = words_of(channels, given, lanes) or []
    return len(steps_of(words, given // lanes)) or max(len(words), given // lanes)
