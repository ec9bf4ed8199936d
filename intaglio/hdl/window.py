"""The window walk: every pixel of every window, word by word, out of a line buffer."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from intaglio.errors import BuildError
from intaglio.fixed import IntType
from intaglio.hdl.linebuffer import LineBuffer
from intaglio.hdl.pack import Ints, pack_word
from intaglio.hdl.rom import Rom
from intaglio.hdl.stream import (
    Frame,
    advance,
    by_level,
    ceil_div,
    common_channels,
    counter,
    delay,
    lanes_signature,
)

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]


@dataclass(frozen=True)
class Geometry:
    """How a window slides; the same at every level. padding: (top, bottom, left, right)."""

    kernel: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)

    @property
    def span(self) -> Pair:
        """Height and width of the image region under a window."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return dh * (kh - 1) + 1, dw * (kw - 1) + 1

    @property
    def pointwise(self) -> bool:
        """Whether a window is just its pixel."""
        return self == Geometry((1, 1), dilation=self.dilation)

    def out(self, frame: Frame, channels: int) -> Frame:
        """The output frame. Raises BuildError when no window fits."""
        top, bottom, left, right = self.padding
        height = (frame.height + top + bottom - self.span[0]) // self.stride[0] + 1
        width = (frame.width + left + right - self.span[1]) // self.stride[1] + 1
        if height < 1 or width < 1:
            raise BuildError(f"The window {self.kernel} must fit into the padded {frame}.")
        return Frame(channels, height, width)

    def windows(self, frame: Ints, pads: Sequence[int]) -> Ints:
        """Every window of a (C, H, W) frame, as (OH, OW, C, Kh, Kw); `pads` for one or each C."""
        channels, height, width = frame.shape
        top, bottom, left, right = self.padding
        image = np.empty((channels, height + top + bottom, width + left + right), np.int64)
        image[:] = np.array(pads).reshape(-1, 1, 1)
        image[:, top : top + height, left : left + width] = frame
        region = np.lib.stride_tricks.sliding_window_view(image, self.span, (1, 2))
        (sy, sx), (dy, dx) = self.stride, self.dilation
        return region[:, ::sy, ::sx, ::dy, ::dx].transpose(1, 2, 0, 3, 4)

    @property
    def default_rows(self) -> int:
        """Rows a line buffer needs to receive the next output row's while this one is computed."""
        return POINTWISE_PIXELS if self.pointwise else self.span[0] + self.stride[0]


@dataclass(frozen=True)
class Loop:
    """A counter of the nest: it `steps` when all inner ones are at their last, and `ends` when it
    is at its own last as well. `single`: it has one step only, and no register."""

    steps: Value
    ends: Value
    single: bool


def least(a: Value, b: Value) -> Value:
    """The smaller of two."""
    return Mux(a < b, a, b)


POINTWISE_PIXELS = 4  # covers the 2 cycles between freeing a pixel's place and reading it refilled


class Window(wiring.Component):
    """For every output pixel in raster order: for each channel group, `repeats` times: for ky, kx,
    channel word of the group: one word a cycle.

    groups   equal parts of a pixel's ceil(C / lanes) words: the groups of a convolution; every
             word its own group where lanes work each for themselves.
    repeats  PE groups that need the same words.

    A word is issued in a cycle with `issue`; then `data` holds its lanes two cycles later, with
    `valid`, `first` and `last` of the pass over (ky, kx, word). `issue_last` marks the issue of a
    pass's last word, which happens only with `go`. Outside the image `data` reads pad values.

    A pixel's first word is issued at the earliest in the cycle after its last input pixel was
    taken; then a word follows every cycle, over pixels, rows, frames and levels. A row's place is
    free from the cycle after the issue of the last word of the last output row that reads it. A
    pointwise window holds pixels instead of rows.
    """

    def __init__(
        self,
        *,
        frames: Sequence[Frame],
        geometry: Geometry,
        x: IntType,
        lanes: int,
        groups: int = 1,
        repeats: int = 1,
        pad_values: Sequence[Sequence[int]] = ((0,),),
        rows: int | None = None,
        rom: str | None = None,
    ) -> None:
        self.geometry = geometry
        self.x = x
        self.lanes = lanes
        self.groups = groups
        self.repeats = repeats
        self.rows = geometry.default_rows if rows is None else rows
        if self.rows < geometry.span[0]:
            raise BuildError(
                f"A line buffer must hold at least the {geometry.span[0]} rows of a window, not"
                f" {self.rows}."
            )
        channels = common_channels(frames)
        self.in_frames = tuple(frames)
        self.out_frames = tuple(geometry.out(f, channels) for f in frames)
        if geometry.pointwise:
            frames = [Frame(channels, f.pixels, 1) for f in frames]
        self.frames = tuple(frames)
        self.walked = tuple(geometry.out(f, channels) for f in frames)
        self.words = ceil_div(channels, lanes) // groups
        self.buffer = LineBuffer(frames=frames, rows=self.rows, lanes=lanes, bits=x.bits)
        self.origin = self._address(-geometry.padding[0], -geometry.padding[2])
        self.pad_values = tuple(map(tuple, pad_values))
        pads = self._pads()
        width = lanes * x.bits
        self.pad = Const(pads[0], width)
        self.rom = None
        if any(geometry.padding) and len(set(pads)) > 1:
            file = None if rom is None else f"{rom}_pads.hex"
            self.rom = Rom(words=pads, width=width, file=file)
        super().__init__(
            {
                "i": In(lanes_signature(lanes, x.bits)),
                "go": In(1),
                "issue": Out(1),
                "issue_last": Out(1),
                "data": Out(lanes * x.bits),
                "valid": Out(1),
                "first": Out(1),
                "last": Out(1),
            }
        )

    @property
    def pass_cycles(self) -> int:
        """Cycles of one pass: Kh * Kw * words of a group."""
        return self.geometry.kernel[0] * self.geometry.kernel[1] * self.words

    @property
    def cycles_per_pixel(self) -> int:
        """Cycles of an output pixel."""
        return self.groups * self.repeats * self.pass_cycles

    @property
    def roms(self) -> tuple[Rom, ...]:
        """The ROM of pad values, if they differ."""
        return () if self.rom is None else (self.rom,)

    def _address(self, rows: int, columns: int) -> int:
        """Buffer words between two pixels, in the circle."""
        return (rows * self.buffer.row_words + columns * self.buffer.words) % self.buffer.size

    def pads_of(self, level: int) -> tuple[int, ...]:
        """What a level reads outside the image: one value, or one per channel."""
        return self.pad_values[level % len(self.pad_values)]

    def _pads(self) -> list[int]:
        """Pad words by (level, channel word), each level at a power of two."""
        words, channels = self.buffer.words, self.frames[0].channels
        given = len(self.pad_values)
        if given not in (1, len(self.frames)):
            raise BuildError(f"Pad values must be given for one or every level, not {given}.")
        table = []
        for k in range(len(self.frames)):
            level = self.pads_of(k)
            if len(level) not in (1, channels):
                raise BuildError(f"Pad values must be 1 or {channels} a level, not {len(level)}.")
            codes = [level[min(c, channels - 1) % len(level)] for c in range(words * self.lanes)]
            packed = [
                pack_word(codes[at : at + self.lanes], self.x.bits)
                for at in range(0, len(codes), self.lanes)
            ]
            table += packed + [packed[-1]] * ((1 << ceil_log2(words)) - words)
        return table

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.submodules.buffer = buffer = self.buffer
        connect(m, flipped(self.i), buffer.i)
        level, loops = self._loops(m)
        here = by_level(m, level, [f.height for f in self.frames], "frame_height")
        wide = by_level(m, level, [f.width for f in self.frames], "frame_width")
        y, x, inside = self._position(m, loops, here, wide)

        span_y, span_x = self.geometry.span
        need_y, need_x = least(y + (span_y - 1), here - 1), least(x + (span_x - 1), wide - 1)
        there = (buffer.have_rows > need_y) | (
            (buffer.have_rows == need_y) & (buffer.have_columns > need_x)
        )
        pass_end = loops["ky"].ends
        m.d.comb += [
            buffer.keep.eq(Mux(y < 0, 0, least(y, here))),
            buffer.height.eq(here),
            buffer.leave.eq(self.issue & loops["y"].ends),
            self.issue.eq(there & (self.go | ~pass_end)),
            self.issue_last.eq(self.issue & pass_end),
        ]
        first = Signal(init=1)
        with m.If(self.issue):
            m.d.sync += first.eq(pass_end)
        m.d.comb += [
            self.valid.eq(delay(m, self.issue, 2, "issue")),
            self.first.eq(delay(m, first, 2, "first")),
            self.last.eq(delay(m, pass_end, 2, "last")),
        ]
        m.d.comb += buffer.addr.eq(self._walk(m, loops, level))
        word = buffer.data
        if any(self.geometry.padding):
            word = Mux(delay(m, inside, 1, "inside"), word, self._pad_word(m, loops, level))
        m.d.sync += self.data.eq(word)
        return m

    def _loops(self, m: Module) -> tuple[Signal, dict[str, Loop]]:
        """The level, and the nest of counters, innermost first."""
        level = counter(len(self.frames), "level")
        kh, kw = self.geometry.kernel
        limits = {
            "word": [self.words],
            "kx": [kw],
            "ky": [kh],
            "repeat": [self.repeats],
            "group": [self.groups],
            "x": [f.width for f in self.walked],
            "y": [f.height for f in self.walked],
        }
        loops = {}
        ends: Value = Const(1)
        for name, sizes in limits.items():
            steps = ends
            if max(sizes) > 1:
                at = counter(max(sizes), name)
                last = at == by_level(m, level, sizes, f"{name}_size") - 1
                ends = Signal(name=f"{name}_ends")
                m.d.comb += ends.eq(steps & last)
                with m.If(self.issue & steps):
                    advance(m, at, last)
            loops[name] = Loop(steps=steps, ends=ends, single=max(sizes) == 1)
        with m.If(self.issue & ends):
            advance(m, level, level == len(self.frames) - 1)
        loops["frame"] = Loop(steps=ends, ends=Const(0), single=False)
        return level, loops

    def _walk(self, m: Module, loops: dict[str, Loop], level: Signal) -> Signal:
        """The address of the word to issue. Every loop remembers where its step started; the
        outermost loop that steps adds its stride to that, and all inner ones start there too."""
        buffer, (sy, sx), (dy, dx) = self.buffer, self.geometry.stride, self.geometry.dilation
        frames = [self._address(f.height, 0) for f in self.frames]
        strides = {
            "word": 1,
            "kx": self._address(0, dx),
            "ky": self._address(dy, 0),
            "repeat": 0,
            "group": self.words % buffer.size,
            "x": self._address(0, sx),
            "y": self._address(sy, 0),
            "frame": by_level(m, level, frames, "frame_stride"),
        }
        base, stride, target = (Signal.like(buffer.addr, name=n) for n in ("base", "stride", "to"))
        total = base + stride
        m.d.comb += target.eq(Mux(total >= buffer.size, total - buffer.size, total))
        starts = []
        for name, step in strides.items():
            loop = loops[name]
            if loop.single:
                continue
            start = Signal.like(base, init=self.origin, name=f"{name}_start")
            starts.append(start)
            with m.If(loop.steps):
                m.d.comb += [base.eq(start), stride.eq(step)]
                with m.If(self.issue):
                    m.d.sync += start.eq(target)
        return starts[0]

    def _position(
        self, m: Module, loops: dict[str, Loop], height: Value, width: Value
    ) -> tuple[Signal, Signal, Value]:
        """(y, x) of the window's corner in the frame, and whether the word to issue is inside."""
        top, bottom, left, right = self.geometry.padding
        (sy, sx), (dy, dx) = self.geometry.stride, self.geometry.dilation
        rows = range(-top, max(f.height for f in self.frames) + bottom + sy + dy)
        columns = range(-left, max(f.width for f in self.frames) + right + sx + dx)
        y, tap_y = (Signal(rows, init=-top, name=name) for name in ("y_corner", "y_tap"))
        x, tap_x = (Signal(columns, init=-left, name=name) for name in ("x_corner", "x_tap"))
        next_y = Mux(loops["y"].ends, -top, y + sy)
        next_x = Mux(loops["x"].ends, -left, x + sx)
        with m.If(self.issue):
            m.d.sync += tap_x.eq(Mux(loops["kx"].steps, tap_x + dx, tap_x))
            with m.If(loops["kx"].ends):
                m.d.sync += [tap_x.eq(x), tap_y.eq(tap_y + dy)]
            with m.If(loops["ky"].ends):
                m.d.sync += tap_y.eq(y)
            with m.If(loops["x"].steps):
                m.d.sync += [x.eq(next_x), tap_x.eq(next_x)]
            with m.If(loops["y"].steps):
                m.d.sync += [y.eq(next_y), tap_y.eq(next_y)]
        inside = (tap_y >= 0) & (tap_y < height) & (tap_x >= 0) & (tap_x < width)
        return y, x, inside

    def _pad_word(self, m: Module, loops: dict[str, Loop], level: Signal) -> Value:
        """What the word reads outside the image, a cycle after its issue."""
        if self.rom is None:
            return self.pad
        m.submodules.rom = self.rom
        words = self.buffer.words
        word, group = counter(words, "pad_word"), counter(words, "pad_group")
        following = Mux(loops["group"].ends, 0, group + self.words)
        with m.If(self.issue):
            m.d.sync += word.eq(Mux(loops["word"].ends, group, word + 1))
            with m.If(loops["repeat"].ends):
                m.d.sync += [group.eq(following), word.eq(following)]
        m.d.comb += self.rom.addr.eq(Cat(word[: ceil_log2(words)], level))
        return self.rom.data
