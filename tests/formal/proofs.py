"""The proofs: every stream block of `intaglio.hdl`, in one or more shapes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapes
from adapters import (
    DrainUser,
    LineReader,
    LinkUser,
    OneByte,
    OneTransaction,
    OutletUser,
    WindowReader,
)
from expect import NAME_BITS, NAMES, Input, Lane, Output, Round
from numpy.typing import NDArray

from intaglio.fixed import IntType
from intaglio.hdl import fifo, link
from intaglio.hdl.accumulator import Accumulator
from intaglio.hdl.add import Add
from intaglio.hdl.axis import AxisReceiver, AxisSender
from intaglio.hdl.concat import Concat
from intaglio.hdl.conv import ConvEngine
from intaglio.hdl.crop import Crop
from intaglio.hdl.depth import DepthToSpace, SpaceToDepth
from intaglio.hdl.depthwise import DepthwiseEngine
from intaglio.hdl.drain import Drain
from intaglio.hdl.fifo import Fifo
from intaglio.hdl.fork import Fork
from intaglio.hdl.geometry import Geometry
from intaglio.hdl.interpolate import Interpolate
from intaglio.hdl.levels import LevelDemux, LevelMux, Merge, Split
from intaglio.hdl.linebuffer import LineBuffer
from intaglio.hdl.link import Link
from intaglio.hdl.lookup import Lookup
from intaglio.hdl.multiply import Multiply
from intaglio.hdl.pad import Pad
from intaglio.hdl.pool import MaxPool, SumPool
from intaglio.hdl.repack import Repack
from intaglio.hdl.requant import Scale, Scaling
from intaglio.hdl.select import Select
from intaglio.hdl.spi import SpiPort
from intaglio.hdl.stream import Frame
from intaglio.hdl.uart import UartReceiver, UartSender
from intaglio.hdl.upsample import Upsample
from intaglio.hdl.window import Window
from intaglio.ops.interpolation import nearest

BIT, U2, U3, I4 = IntType(1, False), IntType(2, False), IntType(3, False), IntType(4, True)


@dataclass(frozen=True)
class Case:
    """A block and what it must do with a round."""

    block: Any
    expected: Round


@dataclass(frozen=True)
class Proof:
    """A block in one shape, and how far it is proved.

    depth   cycles of the bounded check, from reset; None: proved for ever.
    cover   cycles within which two rounds can pass.
    rounds, waits  see `Harness`.
    fast    proved for ever within seconds: part of the normal test run.
    """

    name: str
    case: Callable[[], Case]
    depth: int | None
    cover: int
    rounds: int = 3
    waits: int = 0
    fast: bool = False


def block_ram_fifo() -> Case:
    """A queue with the read register of a block RAM, at a depth that can be proved."""
    before, fifo.LUT_RAM_DEPTH = fifo.LUT_RAM_DEPTH, 2
    try:
        return Case(Fifo(width=1, depth=3), shapes.same(1))
    finally:
        fifo.LUT_RAM_DEPTH = before


def repack(channels: int, lanes_in: int, lanes_out: int) -> Case:
    kind = {"channels": channels, "lanes_in": lanes_in, "lanes_out": lanes_out}
    return Case(Repack(bits=1, **kind), shapes.repacked(Repack(bits=NAME_BITS, **kind), 1))


def pad(padding: tuple[int, int, int, int]) -> Case:
    frame = Frame(3, 1, 2)
    kind = {"frame": frame, "padding": padding, "value": 1, "lanes": 2}
    return Case(Pad(x=BIT, **kind), shapes.reshaped(Pad(x=NAMES, **kind), frame, BIT, 2))


def upsample() -> Case:
    frame = Frame(1, 2, 2)
    kind = {"frame": frame, "size": (3, 2), "lanes": 1}
    wide = Upsample(bits=NAME_BITS, **kind)
    return Case(Upsample(bits=1, **kind), shapes.reshaped(wide, frame, BIT, 1))


def interpolate() -> Case:
    """Two rows by 3 and 1."""
    kind = {"rows": ((0, 3, 1),), "columns": ((0, 1, 0),)}
    block = Interpolate(frame=Frame(1, 2, 1), x=BIT, y=I4, lanes=1, **kind)
    value = Lane((("i", 0, 0), ("i", 1, 0)), lambda a, b: 3 * a + b)
    return Case(block, Round({"i": Input(BIT, 2)}, {"o": Output((4,), ((value,),))}))


def choose() -> Case:
    """An Interpolate that reads one pixel for each of its own."""
    frame = Frame(1, 2, 2)
    kind = {"frame": frame, "rows": nearest([0, 1, 1]), "columns": nearest([1]), "lanes": 1}
    wide = Interpolate(x=NAMES, y=NAMES, **kind)
    block = Interpolate(x=BIT, y=BIT, **kind)
    return Case(block, shapes.reshaped(wide, frame, BIT, 1))


def select(channels: tuple[int, ...]) -> Case:
    frame = Frame(4, 1, 1)
    kind = {"frame": frame, "channels": channels, "value": 1, "lanes": 2}
    return Case(Select(x=BIT, **kind), shapes.reshaped(Select(x=NAMES, **kind), frame, BIT, 2))


def crop() -> Case:
    frame = Frame(1, 2, 3)
    kind = {"frame": frame, "rows": (1, 2, 1), "columns": (0, 3, 2), "lanes": 1}
    return Case(Crop(bits=1, **kind), shapes.reshaped(Crop(bits=NAME_BITS, **kind), frame, BIT, 1))


def to_depth() -> Case:
    frame = Frame(1, 2, 2)
    kind = {"frame": frame, "block": (2, 2), "lanes": 1}
    wide = SpaceToDepth(x=NAMES, **kind)
    return Case(SpaceToDepth(x=BIT, **kind), shapes.held(shapes.reshaped(wide, frame, BIT, 1)))


def to_space() -> Case:
    frame = Frame(4, 1, 1)
    kind = {"frame": frame, "block": (2, 2), "lanes": 1}
    wide = DepthToSpace(bits=NAME_BITS, **kind)
    return Case(DepthToSpace(bits=1, **kind), shapes.held(shapes.reshaped(wide, frame, BIT, 1)))


def concat() -> Case:
    kind = {"channels": (2, 4), "lanes": 2}
    return Case(Concat(bits=1, **kind), shapes.merged(Concat(bits=NAME_BITS, **kind), 1, 2))


LEVELS = {"frames": (Frame(1, 1, 2), Frame(1, 1, 1)), "lanes": 1}


def add() -> Case:
    kind = {"multiplier_a": 3, "multiplier_b": -2, "bias": 1, "shift": 1, "lo": -3, "hi": 6}
    block = Add(lanes=1, a_type=U2, b_type=U2, y=I4, **kind)
    scaling = Scaling((1,), (1,), (1,), -3, 6)
    value = Lane(
        (("a", 0, 0), ("b", 0, 0)), lambda a, b: shapes.requantised(3 * a - 2 * b, scaling, 0)
    )
    inputs = {"a": Input(U2, 1), "b": Input(U2, 1)}
    return Case(block, Round(inputs, {"o": Output((4,), ((value,),))}))


def multiply(gate: Frame) -> Case:
    """Two channels of two pixels; a gate of one pixel is kept for the second."""
    frame = Frame(2, 1, 2)
    scaling = Scaling((3, 2), (1, -1), (1,), -3, 6)
    block = Multiply(
        frame=frame, gate=gate, lanes=1, a_type=U2, b_type=U2, zeros=(1, 2), x=I4, y=I4,
        scaling=scaling,
    )  # fmt: skip

    def code(channel: int) -> Any:
        return lambda a, b: shapes.requantised((a - 1) * (b - 2), scaling, channel)

    n = gate.beats(1)
    beats = tuple((Lane((("a", k, 0), ("b", k % n, 0)), code(k % 2)),) for k in range(4))
    return Case(block, Round({"a": Input(U2, 4), "b": Input(U2, n)}, {"o": Output((4,), beats)}))


def lookup() -> Case:
    block = Lookup(tables=[(5, 0, 7, 2)], x=U2, y=U3, lanes=1)
    value = Lane((("i", 0, 0),), lambda x: (x == 0) * 5 + (x == 2) * 7 + (x == 3) * 2)
    return Case(block, Round({"i": Input(U2, 1)}, {"o": Output((3,), ((value,),))}))


def scale() -> Case:
    frames = [Frame(2, 1, 1), Frame(2, 1, 1)]
    scalings = [Scaling((3, -2), (1, 4), (1,), -3, 6), Scaling((1, 2), (0, -1), (1,), -2, 7)]
    block = Scale(frames=frames, lanes=1, x=U2, y=I4, scalings=scalings)
    return Case(block, shapes.scaled(frames, U2, 4, scalings))


def max_pool() -> Case:
    frames = [Frame(1, 2, 2)]
    block = MaxPool(frames=frames, kernel=(2, 2), x=U2, lanes=1, padding=(0, 0, 1, 0))
    return Case(block, shapes.pooled(block, frames))


def sum_pool() -> Case:
    frames = [Frame(2, 1, 2)]
    scalings = [Scaling((1, 3), (0, 1), (1,), 0, 3)]
    block = SumPool(
        frames=frames, kernel=(1, 2), x=BIT, y=U2, scalings=scalings, lanes=2, out_lanes=1
    )
    return Case(block, shapes.convolved(block, frames, 2, 1))


def conv() -> Case:
    return conv_engine([Frame(2, 2, 1)], KERNELS[0], (0,))


def shared_conv() -> Case:
    """Two convolutions that take turns, each with weights of its own."""
    return conv_engine([Frame(2, 1, 1)] * 2, KERNELS, (0, 1))


def neighbours_conv() -> Case:
    """Two pixels at once, of a row of three."""
    frame = Frame(1, 1, 3)
    block = ConvEngine(
        frames=[frame],
        weights=np.array([[[[1, -2]]], [[[3, 1]]]]),
        x=BIT,
        w=IntType(3, True),
        y=I4,
        accumulator=Accumulator(5),
        scalings=[Scaling((1, 2), (0, 1), (1,), -4, 7)],
        simd=1,
        pe=2,
        out_lanes=2,
        padding=(0, 0, 1, 0),
        pad_values=((1,),),
        pixels=2,
    )
    return Case(block, shapes.convolved(block, [frame], 4, 2))


KERNELS = np.array(
    [
        [[[[1], [-2]], [[3], [1]]], [[[-1], [2]], [[1], [-3]]]],
        [[[[2], [1]], [[-1], [-3]]], [[[3], [-2]], [[2], [1]]]],
    ]
)  # of two convolutions


def conv_engine(frames: list[Frame], weights: NDArray[np.int64], sets: tuple[int, ...]) -> Case:
    scalings = [Scaling((1, 2), (k, 1), (1,), -4, 7) for k in range(len(frames))]
    block = ConvEngine(
        frames=frames,
        weights=weights,
        sets=sets,
        x=BIT,
        w=IntType(3, True),
        y=I4,
        accumulator=Accumulator(5),
        scalings=scalings,
        simd=1,
        pe=2,
        out_lanes=1,
        padding=(1, 0, 0, 0),
        pad_values=((1,),),
    )
    return Case(block, shapes.convolved(block, frames, 4, 1))


def depthwise() -> Case:
    frames = [Frame(2, 1, 2)]
    weights = np.array([[[[1, -2]]], [[[3, 1]]]])
    block = DepthwiseEngine(
        frames=frames,
        weights=weights,
        x=BIT,
        w=IntType(3, True),
        y=I4,
        accumulator=Accumulator(4),
        scalings=[Scaling((1, 2), (0, 1), (1,), -4, 7)],
        lanes=1,
        out_lanes=1,
    )
    return Case(block, shapes.convolved(block, frames, 4, 1))


def drain() -> Case:
    frame, sums = Frame(3, 1, 1), IntType(3, True)
    scaling = Scaling((1, 2, -1), (0, 1, 2), (1,), -4, 7)
    inner = Drain(
        frames=[frame],
        results=2,
        sum_type=sums,
        saturate=None,
        y=I4,
        scalings=[scaling],
        rounding="RND",
        out_lanes=1,
        pass_cycles=2,
        lead=1,
        rom=None,
    )
    beats = tuple(
        (Lane((("i", c // 2, c % 2),), lambda v, c=c: shapes.requantised(v, scaling, c)),)
        for c in range(3)
    )
    rounds = Round({"i": Input(sums, 2)}, {"o": Output((4,), beats)})
    return Case(DrainUser(inner=inner, lead=1, spacing=2), rounds)


def line_buffer() -> Case:
    inner = LineBuffer(frames=[Frame(1, 2, 2)], rows=2, lanes=1, bits=2)
    beats = tuple(
        (Lane((("i", k, 0), ("i", 2 * (k // 2) + 1, 0)), lambda x, _: x),) for k in range(4)
    )
    return Case(LineReader(inner=inner), Round({"i": Input(U2, 4)}, {"o": Output((2,), beats)}))


def window() -> Case:
    frame, geometry = Frame(1, 2, 2), Geometry((1, 2), padding=(0, 0, 1, 0))
    inner = Window(frames=[frame], geometry=geometry, x=U2, lanes=1, pad_values=((2,),))
    (image,), names = shapes.named_frames([frame], 1)
    codes = geometry.windows(image, (2,)).reshape(-1, 2).tolist()
    beats = []
    for walked in codes:
        for k, code in enumerate(walked):
            ends = [Lane((), lambda end=end: end) for end in (int(k == 0), int(k == 1))]
            whole = [source for c in walked for source in shapes.moved(c, names).sources]
            own = shapes.moved(code, names)
            inside = own.sources[0] if own.sources else None
            # A word waits for its whole window.
            lane = Lane(
                (inside or whole[0], *whole), lambda x, *_, o=own, i=inside: x if i else o.of()
            )
            beats.append((lane, *ends))
    rounds = Round({"i": Input(U2, 4)}, {"o": Output((2, 1, 1), tuple(beats))})
    return Case(WindowReader(inner=inner), rounds)


def queue(depth: int) -> Case:
    return Case(Fifo(width=1, depth=depth), shapes.same(1))


def outlet() -> Case:
    return Case(OutletUser(width=1, depth=3, cycles=2), shapes.same(1))


def fork() -> Case:
    return Case(Fork(width=1, n=3), shapes.forked(1, 3))


def merge() -> Case:
    wide = Merge(beats=(1, 2), width=NAME_BITS)
    return Case(Merge(beats=(1, 2), width=1), shapes.merged(wide, 1))


def split() -> Case:
    wide = Split(beats=(1, 2), width=NAME_BITS)
    return Case(Split(beats=(1, 2), width=1), shapes.split(wide, 1))


def level_mux() -> Case:
    return Case(LevelMux(bits=1, **LEVELS), shapes.merged(LevelMux(bits=NAME_BITS, **LEVELS), 1))


def level_demux() -> Case:
    return Case(LevelDemux(bits=1, **LEVELS), shapes.split(LevelDemux(bits=NAME_BITS, **LEVELS), 1))


def receiver() -> Case:
    return Case(AxisReceiver(width=9, beats=2), shapes.received(9, 2))


def sender() -> Case:
    return Case(AxisSender(width=3, beats=3), shapes.sent(3, 1, 3))


def byte_link(watched: int) -> Case:
    """A link of two streams, of 1 and 2 bytes, with credits of 3 bytes."""
    before, link.CREDIT_BYTES = link.CREDIT_BYTES, 3
    try:
        inner = Link(width=9, widths=(8, 16))
    finally:
        link.CREDIT_BYTES = before
    return Case(LinkUser(inner=inner, watched=watched), shapes.linked(inner, watched))


def serial(inner: UartReceiver | UartSender) -> Case:
    return Case(OneByte(inner=inner), shapes.same(8))


def transactions(gives: bool, half: int) -> Case:
    inner = SpiPort(block=1)
    return Case(OneTransaction(inner=inner, gives=gives, half=half), shapes.same(8))


PROOFS = (
    Proof("Fifo, depth 1", lambda: queue(1), None, 9, waits=1, fast=True),
    Proof("Fifo, depth 3", lambda: queue(3), None, 9, 6, 1, fast=True),
    Proof("Fifo, block RAM", block_ram_fifo, None, 9, 6, 2, fast=True),
    Proof("Outlet", outlet, None, 12, 6, 6, fast=True),
    Proof("Fork, 3 readers", fork, None, 9, fast=True),
    Proof("Repack, 5 channels, 3 to 2 lanes", lambda: repack(5, 3, 2), None, 15, 4, 6, fast=True),
    Proof("Repack, 3 channels, 1 to 2 lanes", lambda: repack(3, 1, 2), None, 15, 4, 6, fast=True),
    Proof("Pad", lambda: pad((1, 0, 0, 1)), None, 26, 2, 12, fast=True),
    Proof("Select, in order", lambda: select((-1, -1, 2, 3)), None, 26, 2, 12, fast=True),
    Proof("Select, in another order", lambda: select((2, 3, 0, 1)), 18, 30, 10, 16),
    Proof("Crop", crop, None, 30, 2, 12, fast=True),
    Proof("Merge", merge, None, 12, waits=3, fast=True),
    Proof("Split", split, None, 12, fast=True),
    Proof("LevelMux", level_mux, None, 12, waits=3, fast=True),
    Proof("LevelDemux", level_demux, None, 12, fast=True),
    Proof("Concat", concat, None, 12, waits=3, fast=True),
    Proof("AxisReceiver", receiver, None, 9, fast=True),
    Proof("AxisSender", sender, None, 12, fast=True),
    Proof("Lookup", lookup, None, 12, 8, 6),
    Proof("LineBuffer", line_buffer, None, 20, 3, 8),
    Proof("Upsample", upsample, None, 30, 4, 8),
    Proof("Interpolate", interpolate, 18, 30, 6, 14),
    Proof("Interpolate, nearest", choose, 18, 30, 4, 14),
    Proof("SpaceToDepth", to_depth, 18, 40, 8, 16),
    Proof("DepthToSpace", to_space, 18, 40, 6, 16),
    Proof("Add", add, 14, 14, 8, 8),
    Proof("Multiply", lambda: multiply(Frame(2, 1, 2)), 18, 26, 4, 13),
    Proof("Multiply, a gate of one pixel", lambda: multiply(Frame(2, 1, 1)), 18, 26, 4, 14),
    Proof("Scale, 2 levels", scale, 16, 22, 6, 9),
    Proof("Window", window, 18, 30, 3, 16),
    Proof("MaxPool", max_pool, 19, 40, 4, 14),
    Proof("SumPool", sum_pool, 21, 36, 14, 17),
    Proof("DepthwiseEngine", depthwise, 22, 36, 8, 17),
    Proof("ConvEngine", conv, 24, 50, 4, 19),
    Proof("ConvEngine, 2 weight sets", shared_conv, 24, 50, 4, 19),
    Proof("ConvEngine, 2 pixels", neighbours_conv, 24, 50, 8, 20),
    Proof("Drain", drain, 14, 26, 6, 10),
    Proof("Link, first stream", lambda: byte_link(0), 18, 30, 4, 32),
    Proof("UartReceiver", lambda: serial(UartReceiver(cycles=4)), 50, 98, 3, 48),
    Proof("UartSender", lambda: serial(UartSender(cycles=4)), 50, 98, 3, 48),
    Proof("SpiPort, to the design", lambda: transactions(False, 1), 90, 160, 3, 80),
    Proof("SpiPort, from the design", lambda: transactions(True, 1), 90, 160, 3, 80),
)
