# amaranth: UnusedElaboratable=no
"""The window walk: every pixel of every window, word by word, out of a line buffer."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from intaglio.errors import BuildError
from intaglio.fixed import IntType
from intaglio.hdl.arrival import arrived, least
from intaglio.hdl.geometry import Geometry
from intaglio.hdl.linebuffer import LineBuffer
from intaglio.hdl.nest import Loop, nest
from intaglio.hdl.pack import pack_word
from intaglio.hdl.rom import Rom
from intaglio.hdl.stream import (
    Frame,
    advance,
    by_level,
    ceil_div,
    common_channels,
    counter,
    delay,
    go_delay,
    lanes_signature,
    pipe,
)


class Window(wiring.Component):
    """For every output pixel in raster order: for each channel group, `repeats` times: for ky, kx,
    channel word of the group: one word a cycle.

    groups   equal parts of a pixel's ceil(C / lanes) words: the groups of a convolution; every
             word its own group where lanes work each for themselves.
    pixels   neighbours in a row of the output whose windows are walked side by side: `data` holds
             their lanes, the leftmost lowest. A row's last step may have fewer of them; the lanes
             of those beyond are don't-care.
    repeats  PE groups that need the same words.
    singly   every word is a pass of its own.
    tells    whether there are `pixel_ends`, with `read`: the word is its output pixel's last; and
             `next_level`, the level of the word that follows it.

    late     whether there is a register between the RAM and the operand.

    `latency` cycles after the issue of a word, 3, one more with several pixels, and one more if
    `late`, `data` holds its lanes, with `valid`, and `first` and `last` of the pass over (ky, kx,
    word): address, [the other pixels' addresses,] RAM, [its register,] operand. `read` comes with
    the address, so many cycles before them as follow it.
    `issue_last` marks the issue of a pass's last word, which happens only with `go`. Of several
    pixels `issue_pixels` and `pixels_here` say how many there are, with `issue_last` and `last`.
    Outside the image `data` reads pad values. The lanes that a pixel's last word
    does not use are don't-care, or 0 with `zero_tail`, for readers without a weight of 0.

    A pixel's first word is issued at the earliest `arrives` cycles after its last input pixel was
    taken, a pass's last word `goes` cycles after `go`; then a word follows every cycle, over
    pixels, rows, frames and levels. A row's place is free from the second cycle after the issue of
    the last word of the last output row that reads it; from the third with several pixels. A
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
        zero_tail: bool = False,
        rows: int | None = None,
        tells: bool = False,
        singly: bool = False,
        pixels: int = 1,
        late: bool = False,
        rom: str | None = None,
    ) -> None:
        if pixels > 1 and geometry.pointwise:
            raise BuildError(
                "A window that is just its pixel must be walked one pixel at a time, not"
                f" {pixels}: more lanes do the same."
            )
        self.pixels = pixels
        self.late = late
        self.behind_read = 2 + late  # cycles from the address to `data`
        self.latency = 1 + (pixels > 1) + self.behind_read
        self.geometry = geometry
        self.tells = tells
        self.singly = singly
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
        self.tail = channels % lanes if zero_tail else 0  # lanes in use, where some are not
        self.buffer = LineBuffer(
            frames=frames, rows=self.rows, lanes=lanes, bits=x.bits, copies=pixels
        )
        self.pad_values = tuple(map(tuple, pad_values))
        pads = self._pads()
        width = lanes * x.bits
        self.pad = Const(pads[0], width)
        self.rom = None
        if any(geometry.padding) and len(set(pads)) > 1:
            file = None if rom is None else f"{rom}_pads.hex"
            self.rom = Rom(words=pads, width=width, file=file)
        told = {"pixel_ends": Out(1), "next_level": Out(range(len(frames)))} if tells else {}
        if pixels > 1:
            count = Out(range(pixels + 1))
            told |= {"issue_pixels": count, "pixels_here": count}
        super().__init__(
            {
                "i": In(lanes_signature(lanes, x.bits)),
                "go": In(1),
                "issue_last": Out(1),
                "read": Out(1),
                "data": Out(pixels * width),
                "valid": Out(1),
                "first": Out(1),
                "last": Out(1),
                **told,
            }
        )

    @property
    def pass_cycles(self) -> int:
        """Cycles of one pass: Kh * Kw * words of a group, or one word."""
        return 1 if self.singly else self.pass_words

    @property
    def pass_words(self) -> int:
        """Kh * Kw * words of a group."""
        return self.geometry.kernel[0] * self.geometry.kernel[1] * self.words

    @property
    def cycles_per_pixel(self) -> int:
        """Cycles of an output pixel, or of `pixels` side by side."""
        return self.groups * self.repeats * self.pass_words

    @property
    def arrives(self) -> int:
        """Cycles from taking a pixel's last beat to the first word that needs it: a register says
        that it is there, except where an output pixel takes a single cycle."""
        return 1 + (self.cycles_per_pixel > 1)

    @property
    def goes(self) -> int:
        """Cycles from `go` to the word that it lets through."""
        return go_delay(self.pass_cycles)

    @property
    def row_steps(self) -> int:
        """The fewest steps of `pixels` that a row of the output has."""
        return min(ceil_div(f.width, self.pixels) for f in self.walked)

    @property
    def row_cycles(self) -> int:
        """The fewest cycles that a row of the output takes."""
        return self.cycles_per_pixel * self.row_steps

    @property
    def roms(self) -> tuple[Rom, ...]:
        """The ROM of pad values, if they differ."""
        return () if self.rom is None else (self.rom,)

    def pads_of(self, level: int) -> tuple[int, ...]:
        """What a level reads outside the image: one value, or one per channel."""
        return self.pad_values[level % len(self.pad_values)]

    @property
    def origin(self) -> int:
        """Address of the first window's corner."""
        return self._distance(-self.geometry.padding[0], -self.geometry.padding[2])

    def _distance(self, rows: int, columns: int) -> int:
        """Buffer words between two pixels, in the circle."""
        return (rows * self.buffer.row_words + columns * self.buffer.words) % self.buffer.size

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
        issue = Signal()
        level = counter(len(self.frames), "level")
        kh, kw = self.geometry.kernel
        sizes = {
            "word": [self.words],
            "kx": [kw],
            "ky": [kh],
            "repeat": [self.repeats],
            "group": [self.groups],
            "x": [ceil_div(f.width, self.pixels) for f in self.walked],
            "y": [f.height for f in self.walked],
        }
        loops = nest(m, issue, level, sizes)
        frame_ends = loops["y"].ends
        pass_ends = Const(1) if self.singly else loops["ky"].ends
        with m.If(issue & frame_ends):
            advance(m, level, level == len(self.frames) - 1)
        there, inside = self._position(m, issue, loops, level)
        go = self.go
        if self.goes:
            go = Signal(init=1, name="goes")
            m.d.sync += go.eq(self.go)
        m.d.comb += [
            issue.eq(there & (go | ~pass_ends)),
            self.issue_last.eq(issue & pass_ends),
            buffer.leave.eq(issue & frame_ends),
            self.read.eq(delay(m, issue, self.latency - self.behind_read, "issue")),
        ]
        if self.tells:
            addressed = self.latency - self.behind_read
            ends = pipe(m, loops["x"].steps, addressed, "pixel_ends")
            following = pipe(m, level, addressed - 1, "following")
            m.d.comb += [self.pixel_ends.eq(ends), self.next_level.eq(following)]
        if self.pixels > 1:
            rests = [(f.width - 1) % self.pixels + 1 for f in self.walked]
            rest = by_level(m, level, rests, "pixels_at_end")
            m.d.comb += [
                self.issue_pixels.eq(Mux(loops["x"].last, rest, self.pixels)),
                self.pixels_here.eq(pipe(m, self.issue_pixels, self.latency, "pixels")),
            ]
        first = Signal(init=1)
        with m.If(issue):
            m.d.sync += first.eq(pass_ends)
        m.d.comb += [
            self.valid.eq(delay(m, self.read, self.behind_read, "read")),
            self.first.eq(pipe(m, first, self.latency, "first")),
            self.last.eq(pipe(m, pass_ends, self.latency, "last")),
            buffer.addr.eq(self._addresses(m, self._address(m, issue, loops, level, sizes))),
        ]
        padded, operand = any(self.geometry.padding), self.latency - 1
        pad = self._pad_word(m, issue, loops, level) if padded else None
        ends = loops["word"].last & loops["group"].last
        at_last = pipe(m, ends, operand, "at_last") if self.tail else None
        words = []
        for k in range(self.pixels):
            word: Value = buffer.data[k * buffer.width :][: buffer.width]
            word = pipe(m, word, int(self.late), numbered("stored", k))
            if pad is not None:
                word = Mux(pipe(m, inside[k], operand, numbered("inside", k)), word, pad)
            if at_last is not None:
                used = self.tail * self.x.bits
                word = Cat(word[:used], Mux(at_last, 0, word[used:]))
            words.append(pipe(m, word, 1, numbered("operand", k)))
        m.d.comb += self.data.eq(Cat(words))
        return m

    def _position(
        self, m: Module, issue: Signal, loops: dict[str, Loop], level: Signal
    ) -> tuple[Value, list[Value]]:
        """Whether the window has arrived, and of every pixel whether the word to issue lies inside
        the image.

        (y, x) is the first window's corner in the frame.
        """
        top, bottom, left, right = self.geometry.padding
        (sy, sx), (span_y, span_x) = self.geometry.stride, self.geometry.span
        step_x = self.pixels * sx
        buffer, heights = self.buffer, [f.height for f in self.frames]
        height = by_level(m, level, heights, "frame_height")
        rows = range(-top, max(heights) + bottom + span_y + sy)
        columns = range(-left, max(f.width for f in self.frames) + right + span_x + step_x)
        y = Signal(rows, init=-top, name="y_corner")
        x = Signal(columns, init=-left, name="x_corner")
        limit = buffer.limit
        if self.pixels > 1:
            limit = Signal.like(buffer.limit, init=self.rows, name="limit")
        x_loop, y_loop = loops["x"], loops["y"]
        next_x, next_y = Mux(x_loop.last, -left, x + step_x), Mux(y_loop.last, -top, y + sy)
        next_limit: Value = Signal.like(limit, name="following_limit")
        m.d.comb += next_limit.eq(self._kept(next_y, height) + self.rows)
        if self.row_cycles > 1:  # it can be there a cycle before it is needed
            next_limit = pipe(m, next_limit, 1, "next_limit")
        with m.If(issue & x_loop.steps):
            m.d.sync += x.eq(next_x)
        with m.If(issue & y_loop.steps):
            m.d.sync += [y.eq(next_y), limit.eq(next_limit)]
        if self.pixels > 1:  # rows are read a cycle later, so they are kept for one more
            m.d.sync += buffer.limit.eq(Mux(buffer.leave, limit - height, limit))
        m.d.comb += buffer.height.eq(height)
        early = self.arrives > 1
        there = arrived(
            m,
            issue,
            loops,
            level,
            height,
            buffer=buffer,
            geometry=self.geometry,
            pixels=self.pixels,
            early=early,
            ahead=self.row_cycles > 1 and (self.row_steps > 1 or not early),
        )
        if not any(self.geometry.padding):
            return there, [Const(1)] * self.pixels

        dy, dx = self.geometry.dilation
        tap_y, tap_x = Signal.like(y, name="y_tap"), Signal.like(x, name="x_tap")
        with m.If(issue):
            m.d.sync += tap_x.eq(Mux(loops["kx"].steps, tap_x + dx, tap_x))
            with m.If(loops["kx"].ends):
                m.d.sync += [tap_x.eq(x), tap_y.eq(tap_y + dy)]
            with m.If(loops["ky"].ends):
                m.d.sync += tap_y.eq(y)
            with m.If(x_loop.steps):
                m.d.sync += tap_x.eq(next_x)
            with m.If(y_loop.steps):
                m.d.sync += tap_y.eq(next_y)
        width = by_level(m, level, [f.width for f in self.frames], "frame_width")
        row = (tap_y >= 0) & (tap_y < height)
        taps = [tap_x + k * sx if k else tap_x for k in range(self.pixels)]
        return there, [row & (tap >= 0) & (tap < width) for tap in taps]

    def _kept(self, y: Value, height: Value) -> Value:
        """The first row of the frame that windows with their corner in row `y` or below read."""
        first, sy, top = y, self.geometry.stride[0], self.geometry.padding[0]
        lasts = [(o.height - 1) * sy - top for o in self.walked]
        if any(last > f.height for last, f in zip(lasts, self.frames, strict=True)):
            first = least(first, height)
        return Mux(y < 0, 0, first) if top else first

    def _address(
        self, m: Module, issue: Signal, loops: dict[str, Loop], level: Signal,
        sizes: dict[str, list[int]],
    ) -> Signal:  # fmt: skip
        """The address of the word issued in the cycle before. The outermost loop that steps adds
        its stride, less the way that the loops inside it have gone, which is always the same."""
        buffer, (sy, sx), (dy, dx) = self.buffer, self.geometry.stride, self.geometry.dilation
        strides = {
            "word": [1],
            "kx": [self._distance(0, dx)],
            "ky": [self._distance(dy, 0)],
            "repeat": [0],
            "group": [self.words],
            "x": [self._distance(0, self.pixels * sx)],
            "y": [self._distance(sy, 0)],
            "frame": [self._distance(f.height, 0) for f in self.frames],
        }
        left_level = pipe(m, level, 1, "level")
        frame = Loop(loops["y"].ends, Const(0), Const(0), single=False)
        address = Signal(buffer.address_bits, init=self.origin, name="address")
        ahead: Value = Const(0)
        gone = [0] * len(self.frames)  # by level
        for name, loop in {**loops, "frame": frame}.items():
            stride = strides[name] * (len(gone) // len(strides[name]))
            if not loop.single:
                ways = [(far - near) % buffer.size for far, near in zip(stride, gone, strict=True)]
                way = by_level(m, left_level, ways, f"{name}_ahead")
                outermost = delay(m, issue & loop.steps & ~loop.last, 1, f"{name}_outermost")
                ahead |= Mux(outermost, way, 0)
            size = sizes.get(name, [1]) * (len(gone) // len(sizes.get(name, [1])))
            gone = [way + (n - 1) * far for way, n, far in zip(gone, size, stride, strict=True)]
        onward = address + ahead
        around = onward - buffer.size  # negative: the circle has not come round
        with m.If(delay(m, issue, 1, "issued")):
            m.d.sync += address.eq(
                onward if buffer.comes_round else Mux(around < 0, onward, around)
            )
        return address

    def _addresses(self, m: Module, first: Signal) -> Value:
        """The address of every pixel, by that of the first; of several a cycle later."""
        if self.pixels == 1:
            return first
        size, found = self.buffer.size, []
        for k in range(self.pixels):
            ahead = self._distance(0, k * self.geometry.stride[1])
            onward = first + ahead
            around = onward - size  # negative: the circle has not come round
            own = Signal.like(first, name=f"address_{k}", reset_less=True)
            within = self.buffer.comes_round or not ahead
            m.d.sync += own.eq(onward if within else Mux(around < 0, onward, around))
            found.append(own)
        return Cat(found)

    def _pad_word(self, m: Module, issue: Signal, loops: dict[str, Loop], level: Signal) -> Value:
        """What the word reads outside the image, a cycle before it is an operand."""
        if self.rom is None:
            return self.pad
        m.submodules.rom = self.rom
        words = self.buffer.words
        word, group = counter(words, "pad_word"), counter(words, "pad_group")
        following = Mux(loops["group"].last, 0, group + self.words)
        with m.If(issue):
            m.d.sync += word.eq(Mux(loops["word"].ends, group, word + 1))
            with m.If(loops["repeat"].ends):
                m.d.sync += [group.eq(following), word.eq(following)]
        address = Cat(word[: ceil_log2(words)], level)
        m.d.comb += self.rom.addr.eq(pipe(m, address, self.latency - 2, "pad_address"))
        return self.rom.data


def numbered(name: str, k: int) -> str:
    """A wire's name; the first has no number."""
    return f"{name}_{k}" if k else name
