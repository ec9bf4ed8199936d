"""Areas of the other blocks, and of any component of a design."""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from typing import Any

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
    queue,
    total,
)
from intaglio.codegen.area.engines import (
    Macs,
    drain,
    line_buffer,
    macs,
    product_of_adders,
    requantiser,
    signed,
    table_of,
    window,
)
from intaglio.fixed import IntType
from intaglio.hdl.add import Add
from intaglio.hdl.axis import AxisReceiver, AxisSender
from intaglio.hdl.crop import Crop
from intaglio.hdl.depth import DepthToSpace, SpaceToDepth
from intaglio.hdl.engine import Engine
from intaglio.hdl.fifo import Fifo
from intaglio.hdl.fork import Fork
from intaglio.hdl.interpolate import NARROW, Interpolate
from intaglio.hdl.levels import Merge, Split
from intaglio.hdl.lookup import Lookup
from intaglio.hdl.multiply import Multiply
from intaglio.hdl.pad import Pad
from intaglio.hdl.pool import MaxPool
from intaglio.hdl.products import TABLE
from intaglio.hdl.repack import Repack
from intaglio.hdl.requant import Scale
from intaglio.hdl.select import FILL, Select
from intaglio.hdl.stream import Frame, ceil_div, go_delay
from intaglio.hdl.upsample import Upsample
from intaglio.hdl.window import Window


def adder(lanes: int, a: IntType, b: IntType, y: int, factors: tuple[int, int], late: bool) -> Area:
    """An Add: products out of tables, two sums, clamp."""
    found = Area()
    widths = []
    for type, factor in ((a, factors[0]), (b, factors[1])):
        zeros = (factor & -factor).bit_length() - 1 if factor else 0
        bits_used = abs(factor).bit_length() - zeros
        width = type.bits + bits_used + (not type.signed)
        parts = ceil_div(type.bits, TABLE)
        found += Area(rows=parts * (width - type.bits + TABLE) if bits_used > 1 else 0,
                      adders=(parts - 1) * (width - TABLE), registers=width)  # fmt: skip
        widths.append(width)
    both = max(widths) + 1
    found += Area(adders=2 * both + (both if late else 0) + y + 4, choices=2 * y,
                  registers=both + 1 + y + (both if late else 0))  # fmt: skip
    latency = 5 if late else 4
    return found.times(lanes) + delayed(1, latency - 1) + outlet(latency + 1, lanes * y)


def multiplier(c: Multiply) -> Area:
    """A Multiply: differences, a product a lane, the beats that it keeps, a requantiser."""
    wide = [signed(type) + (zero != 0) for type, zero in zip(c.types, c.zeros, strict=True)]
    lane = Area(
        adders=sum(n for n, zero in zip(wide, c.zeros, strict=True) if zero),
        registers=sum(wide) + c.x.bits,
        products=(Product(max(wide), min(wide), 1),),
    )
    r = c.requantiser
    found = lane.times(c.lanes) + delayed(1, c.lead) + Area(equals=4)
    found += requantiser(table_of(r), r.frames, c.lanes, c.x.bits, c.y.bits)
    if c.keeps:
        found += delayed(c.kept_width + c.lanes * c.types[0].bits + 1, 1)
        found += count(c.fresh) + count(c.period // c.fresh)
    if c.keeps and c.fresh > 1:
        kept = Storage("ram", c.fresh, c.kept_width)
        found += Area(choices=c.kept_width, memories=(kept,))
    return found + outlet(c.latency + 1, c.lanes * c.y.bits)


def repacker(channels: int, width: int, lanes_in: int, lanes_out: int) -> Area:
    """A Repack: a shifter, and a place for the beat that comes."""
    step = gcd(lanes_in, lanes_out)
    full = 2 * lanes_out - (step if lanes_in >= lanes_out else 0)
    lanes = full + lanes_in
    fill = bits_for(full + max(lanes_in, 2 * lanes_out))
    places = full // step + 1
    return Area(
        adders=3 * fill,
        choices=lanes * width,
        equals=3 * fill + 2 * places,
        shifts=lanes_in * width * places,
        registers=lanes * width + fill,
    ) + count(ceil_div(channels, lanes_in))


def turns(beats: Sequence[int], width: int) -> Area:
    """Merge (`width` bits chosen from) or Split (width 0)."""
    n = len(beats)
    found = count(n) + count(max(beats)) + Area(equals=4 * n, choices=(n - 1) * width)
    return found + Area(equals=bits(max(beats)) if len(set(beats)) > 1 else 0)


def fork(readers: int) -> Area:
    """A Fork: who has the beat already."""
    return Area(equals=3 * readers, registers=readers)


def pooled(lanes: int, x: int, pass_cycles: int, latency: int) -> Area:
    """What a MaxPool has beside its window."""
    places = ceil_div(latency + go_delay(pass_cycles) + 1, pass_cycles)
    largest = Area(adders=lanes * x, equals=lanes, registers=lanes * x + 1)
    return largest + outlet(places, lanes * x)


def padder(channels: int, lanes: int, outer: Frame, width: int) -> Area:
    """A Pad."""
    place = bits(outer.width) + bits(outer.height)
    counters = [count(ceil_div(channels, lanes)), count(outer.width), count(outer.height)]
    return total(counters) + Area(adders=2 * place, equals=lanes * width + 3)


def upsampler(frame: Frame, size: tuple[int, int], lanes: int, width: int, latency: int) -> Area:
    """An Upsample."""
    words = ceil_div(frame.channels, lanes)
    address = max(1, ceil_log2(2 * frame.width * words))
    found = line_buffer([frame], 2, lanes, width) + count(words)
    for small, large in ((frame.height, size[0]), (frame.width, size[1])):
        found += count(large) + Area(
            adders=bits(small) * 3 + 4 * bits(large) + 2,
            choices=2 * bits(large),
            equals=bits(small),
            registers=bits(small) + bits(large),
        )
    found += Area(adders=2 * address, choices=4 * address, registers=3 * address + 1)
    return found + outlet(latency, lanes * width)


def cropper(channels: int, lanes: int, frame: Frame, stops: tuple[int, int]) -> Area:
    """A Crop: counters, and the next row and column that are wanted."""
    found = count(ceil_div(channels, lanes)) + Area(equals=4)
    for size, stop in zip((frame.height, frame.width), stops, strict=True):
        due = bits(stop + 1)
        found += count(size) + Area(adders=2 * due, choices=2 * due, equals=due, registers=due)
    return found


def selector(s: Select) -> Area:
    """A Select: its steps, or pixels in a circle and the numbers of their words."""
    width = s.lanes * s.x.bits
    if s.buffer is None:
        wide = width if FILL in s.steps and len(s.steps) > 1 else 0
        return count(len(s.steps)) + Area(choices=wide, equals=4 + len(s.steps) // 4)
    pixels, address = s.frame.pixels, ceil_log2(s.buffer.size)
    found = line_buffer([Frame(s.frame.channels, pixels, 1)], s.buffer.rows, s.lanes, s.x.bits)
    found += count(len(s.words)) + count(pixels)
    table = len(s.words) * bits(s.buffer.words) // 16  # a few words in logic
    found += Area(adders=2 * address + bits(pixels), choices=address + width * (-1 in s.words),
                  equals=address + bits(pixels) + table, registers=2 * address + 4)  # fmt: skip
    return found + outlet(s.latency, width)


def spreader(d: DepthToSpace) -> Area:
    """A DepthToSpace."""
    frame, bh = d.frame, d.block[0]
    address = ceil_log2(d.buffer.size)
    found = line_buffer([frame], d.buffer.rows, d.lanes, d.buffer.width // d.lanes)
    found += total([count(n) for n in (d.buffer.words // bh, frame.width, bh, frame.height)])
    rows, columns = bits(frame.height), bits(frame.width)
    found += Area(adders=2 * address + 2 * rows + columns, choices=4 * address, equals=rows,
                  registers=3 * address + 1)  # fmt: skip
    return found + outlet(d.latency, d.buffer.width)


def interpolator(c: Interpolate) -> Area:
    """An Interpolate: the walk with its tables, a weight, and a product and a sum for each lane."""
    address, size = ceil_log2(c.buffer.size), c.out_frame
    found = line_buffer([c.frame], c.buffer.rows, c.lanes, c.x.bits)
    walked = (*c.sides, c.buffer.words, size.height, size.width)
    found += total([count(n) for n in (*walked, size.height, size.width)])
    for rom in c.roms:
        found += Area(choices=bits(rom.depth), registers=rom.width,
                      memories=(Storage("rom", rom.depth, rom.width),))  # fmt: skip
    row = 2 + bits_for(c.frame.height + c.buffer.rows)
    found += Area(adders=9 * address + 3 * row + bits(c.frame.width), choices=5 * address,
                  registers=2 * address + c.latency)  # fmt: skip
    found += outlet(c.outlet.depth, c.lanes * c.y.bits)
    if not c.weighted:
        return found
    u, v = (bits_for(int(table[:, 2:].max())) for table in (c.rows, c.columns))
    found += product(u, v) + Area(choices=u + v, registers=c.weight_bits)
    wide = c.x.bits + c.weight_bits
    each = product(signed(c.x), c.weight_bits)
    each += Area(adders=c.y.bits, equals=c.y.bits, registers=wide + c.y.bits)
    return found + each.times(c.lanes)


def product(a: int, b: int) -> Area:
    """`hdl.interpolate.times`."""
    if b > NARROW:
        return Area(products=(Product(a, b + 1, 1),))
    return product_of_adders(a, b, b)


def looked_up(block: Lookup) -> Area:
    """A Lookup: a ROM for each lane, and whose turn it is where tables differ."""
    roms = [Area(memories=(Storage("rom", rom.depth, rom.width),)) for rom in block.copies]
    queue_behind = outlet(block.latency + 1, block.lanes * block.y.bits)
    return total(roms) + count(block.turns) + delayed(1, 1) + queue_behind


def walk(w: Window) -> Area:
    """A Window."""
    pad_table = 0 if w.rom is None else w.rom.depth
    return window(w.in_frames, w.geometry, w.x.bits, w.lanes, w.groups, w.repeats, pad_table,
                  w.tail > 0, w.pixels, w.late)  # fmt: skip


def area_of(component: Any) -> Area:
    """Of a component of `assemble.Top`."""
    match component:
        case Engine():
            return engine(component)
        case MaxPool():
            own = pooled(component.lanes, component.x.bits, component.window.pass_cycles,
                         component.latency)  # fmt: skip
            return walk(component.window) + own
        case Scale():
            r = component.requantiser
            own = requantiser(table_of(r), r.frames, r.lanes, r.x.bits, r.y.bits)
            return own + outlet(component.latency + 1, r.lanes * r.y.bits)
        case Add():
            a, b, y = component.types
            late = component.folded != "TRN"
            return adder(component.lanes, a, b, y.bits, component.multipliers, late)
        case Multiply():
            return multiplier(component)
        case Fifo():
            return queue(component.depth, component.width, late=component.late)
        case Repack():
            c = component
            return repacker(c.channels, c.bits, c.lanes_in, c.lanes_out)
        case Fork():
            return fork(component.n)
        case Merge():
            return turns(component.beats, len(component.o.payload))
        case Split():
            return turns(component.beats, 0)
        case Pad():
            c = component
            return padder(c.frame.channels, c.lanes, c.out_frame, c.lanes * c.x.bits)
        case Upsample():
            f, out, buffer = component.frame, component.out_frame, component.buffer
            lanes = ceil_div(f.channels, buffer.words)
            return upsampler(
                f, (out.height, out.width), lanes, buffer.width // lanes, component.latency
            )
        case Lookup():
            return looked_up(component)
        case Select():
            return selector(component)
        case Crop():
            c, stops = component, (component.rows[1], component.columns[1])
            return cropper(c.frame.channels, c.lanes, c.frame, stops)
        case SpaceToDepth():
            c = component
            return walk(c.window) + outlet(c.latency + 1, c.window.buffer.width)
        case DepthToSpace():
            return spreader(component)
        case Interpolate():
            return interpolator(component)
        case AxisSender():
            return count(component.beats)
        case AxisReceiver():  # no more where tlast is tied low
            return count(component.beats) + Area(choices=component.width, equals=12, registers=5)
    raise TypeError(f"The estimate has no area of {type(component).__name__}.")


def engine(e: Engine) -> Area:
    """A convolution or a sum."""
    w = None if e.weights is None else e.w
    words = 0 if e.weights is None else e.weights.depth
    style = "auto" if e.weights is None else e.weights.style
    pixels = e.window.pixels
    results, terms = len(e.pairs) // pixels, len(e.pairs[0])
    own = macs(Macs(e.window.x, w, e.odd, e.form, results, terms, e.sums, words, style,
                    len(e.kernels), pixels, e.window.late))  # fmt: skip
    d = e.drain
    lead = e.window.latency + e.stages
    table = table_of(d.requantiser)
    return (
        walk(e.window)
        + own
        + drain(e.out_frames, results, e.accumulator, table, d.out_lanes, d.requantiser.y.bits,
                e.window.pass_cycles, lead, pixels)
    )  # fmt: skip


def memories_of(component: Any) -> list[tuple[Any, Storage]]:
    """The memories of a component whose style can be chosen: line buffer, deep queue, ROMs."""
    found: list[tuple[Any, Storage]] = []
    window = getattr(component, "window", None)
    buffer = getattr(component if window is None else window, "buffer", None)
    if buffer is not None:
        kind: MemoryKind = "ram" if window is None else "circle"
        found.append((buffer, Storage(kind, buffer.size, buffer.width)))
    if isinstance(component, Multiply) and component.keeps and component.fresh > 1:
        found.append((component, Storage("ram", component.fresh, component.kept_width)))
    fifo = (
        component
        if isinstance(component, Fifo)
        else getattr(getattr(getattr(component, "drain", component), "outlet", None), "fifo", None)
    )
    if fifo is not None and fifo.latency > 1:
        found.append((fifo, Storage("ram", fifo.depth, fifo.width)))
    roms = getattr(component, "copies", getattr(component, "roms", ()))
    kinds: dict[bool, MemoryKind] = {False: "rom", True: "banks"}
    return found + [(rom, Storage(kinds[rom.late], rom.depth, rom.width)) for rom in roms]
