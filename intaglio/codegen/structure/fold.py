"""Folding: how many multipliers each block gets, so that all take about the same cycles a frame.

A block's folding is PE output channels times SIMD input channels a cycle; for everything but a
convolution, PE is 1 and SIMD is the number of lanes. A convolution that makes products of all its
channels at once may go on to several pixels at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import floor, gcd, log10

from intaglio.codegen.structure.graph import Block, HardwareGraph, Link
from intaglio.errors import BuildError, Remedy
from intaglio.hdl.interpolate import NARROW, read, taps_of, weight_bits
from intaglio.hdl.products import ProductForm
from intaglio.hdl.rom import MemoryStyle
from intaglio.hdl.select import cycles_of, fits
from intaglio.hdl.stream import ceil_div
from intaglio.ops import (
    Concat,
    Conv2d,
    DepthToSpace,
    Interpolate,
    MaxPool2d,
    Op,
    Select,
    Shape,
    SpaceToDepth,
    SumPool2d,
)

ROUTING = ("source", "sink", "mux", "demux")  # have as many lanes as what they lead to or come from
MULTIPLIERS = {"add": 2, "multiply": 2, "scale": 1}  # a lane


@dataclass(frozen=True)
class Folding:
    """PE and SIMD of one block, its stream widths in channels, and what they cost.

    in_lanes, out_lanes  channels a beat at the input and output ports.
    cycles               cycles a frame that the block is busy, all levels together.
    multipliers          products a cycle, requantisers included.
    depthwise            SIMD lanes that each work on a channel of their own.
    pixels               neighbours in a row of the output that are made at once.
    form                 what a convolution's products are made of.
    weights              what its weight ROM is made of; "auto": by its size.
    """

    pe: int
    simd: int
    in_lanes: int
    out_lanes: int
    cycles: int
    multipliers: int
    depthwise: bool = False
    pixels: int = 1
    form: ProductForm = "dsp"
    weights: MemoryStyle = "auto"

    @property
    def products(self) -> int:
        """Of a convolution in a cycle."""
        return self.pe * self.simd * self.pixels


@dataclass(frozen=True)
class Plan:
    """The folding of every block, in the graph's order; `cycles` is what was asked for."""

    foldings: tuple[Folding, ...]
    cycles: int

    @property
    def multipliers(self) -> int:
        """Of the whole design."""
        return sum(folding.multipliers for folding in self.foldings)

    @property
    def slowest(self) -> int:
        """Index of the block that takes the most cycles."""
        return max(range(len(self.foldings)), key=lambda k: self.foldings[k].cycles)


def plan_for_cycles(graph: HardwareGraph, cycles: int) -> Plan:
    """The fewest multipliers with which every block takes at most `cycles` a frame.

    A block that cannot be that fast gets its fastest folding: compare `Plan.slowest`.
    """
    return routed(graph, [choose(options(graph, block), cycles) for block in graph.blocks], cycles)


def widened(graph: HardwareGraph, plan: Plan, cycles: int) -> Plan:
    """The plan with blocks without multipliers that take at most `cycles`, as far as they can."""
    foldings = [
        choose(options(graph, block), cycles) if not folding.multipliers else folding
        for block, folding in zip(graph.blocks, plan.foldings, strict=True)
    ]
    return routed(graph, foldings, plan.cycles)


def routed(graph: HardwareGraph, foldings: list[Folding], cycles: int) -> Plan:
    """The plan of these foldings, with ports and level routing as wide as what they lead to."""
    for index, block in enumerate(graph.blocks):
        if block.kind in ROUTING:
            foldings[index] = routing(graph, index, foldings)
    return Plan(tuple(foldings), cycles)


def too_fast(
    graph: HardwareGraph, plan: Plan, cycles: int, fps: float, clock_mhz: float
) -> BuildError:
    """The refusal of a rate, where a frame takes so many cycles even in the fastest `plan`."""
    rate, block = rate_of(cycles, clock_mhz), graph.blocks[plan.slowest]
    return BuildError(
        f"fps must be at most {rate:.10g} at {clock_mhz:g} MHz, not {fps:g}: layer"
        f" {block.origin!r} takes {plan.foldings[plan.slowest].cycles} cycles a frame however many"
        " multipliers it gets, and a smaller input or a faster clock would be needed",
        (Remedy("fps", rate),),
    )


def rate_of(cycles: int, clock_mhz: float) -> float:
    """Frames a second at so many cycles each, in four digits that are never more than that."""
    exact = clock_mhz * 1e6 / cycles
    step = 10.0 ** (floor(log10(exact)) - 3)
    rate = float(f"{floor(exact / step) * step:.6g}")
    while rate * cycles > clock_mhz * 1e6:  # what was rounded up in binary
        rate = float(f"{rate - step:.6g}")
    return rate


def plan_for_multipliers(graph: HardwareGraph, limit: int) -> Plan:
    """The fastest plan with at most `limit` multipliers.

    Raises BuildError when even one multiplier in every place is more than that.
    """
    slow = plan_for_cycles(graph, 1 << 62)
    if slow.multipliers > limit:
        raise BuildError(
            f"The design must have at least {slow.multipliers} multipliers, not {limit}",
            (Remedy("multipliers", slow.multipliers),),
        )
    low, high = 0, max(folding.cycles for folding in slow.foldings)
    while high - low > 1:  # high is affordable, low is not
        middle = (low + high) // 2
        if plan_for_cycles(graph, middle).multipliers <= limit:
            high = middle
        else:
            low = middle
    return plan_for_cycles(graph, high)


def choose(candidates: Sequence[Folding], cycles: int) -> Folding:
    """The cheapest that is fast enough, else the fastest: the fewest multipliers, and of those the
    fewest cycles; without multipliers the fewest lanes, which are what such a block takes."""
    enough = [c for c in candidates if c.cycles <= cycles]
    if enough:
        return min(
            enough,
            key=lambda c: (c.multipliers, c.cycles if c.multipliers else 0, c.in_lanes, c.pe),
        )
    return min(candidates, key=lambda c: (c.cycles, c.multipliers))


def options(graph: HardwareGraph, block: Block) -> tuple[Folding, ...]:
    """Every folding worth considering, none for sources, sinks and level routing."""
    ins = tuple(t.shape for key in block.reads for t in graph.tensors(key))
    outs = tuple(t.shape for key in block.writes for t in graph.tensors(key))
    if block.kind == "conv":
        op = block.ops[0]
        assert isinstance(op, Conv2d)
        weight = graph.program.constants[op.weight].array.shape
        arithmetic = graph.program.arithmetic
        one_by_one = arithmetic.acc_bits is not None and arithmetic.saturate_at == "mac"
        return conv_options(ins, outs, weight, op.groups, one_by_one)
    if block.kind in ROUTING:
        return (Folding(1, 1, 1, 1, 0, 0),)
    return lane_options(block, ins, outs)


def fewest_cycles(graph: HardwareGraph, block: Block) -> int:
    """Cycles a frame of the fastest folding; of ports and level routing, a pixel a cycle."""
    if block.kind in ROUTING:
        shapes = [t.shape for key in (block.reads or block.writes) for t in graph.tensors(key)]
        return beats(shapes, max(c for c, _, _ in shapes))
    return min(f.cycles for f in options(graph, block))


@cache
def conv_options(
    ins: tuple[Shape, ...],
    outs: tuple[Shape, ...],
    weight: tuple[int, ...],
    groups: int,
    one_by_one: bool,
) -> tuple[Folding, ...]:
    """Foldings of a convolution with weights (Cout, Cin/groups, Kh, Kw).

    Several pixels at once where all channels are, as far as streams of a pixel a beat go.
    """
    cout, cin, kh, kw = weight
    depthwise = is_depthwise(weight, groups)
    even = groups > 1 and not depthwise
    found = []
    lanes = lanes_tried(weight, depthwise, even, one_by_one)
    for pe in (1,) if depthwise else steps(cout // groups, even):
        for simd in lanes:
            results = simd if depthwise else pe  # accumulators of a pixel
            passes = ceil_div(cout, results)
            words = kh * kw * (1 if depthwise else ceil_div(cin, simd))
            whole = passes == 1 and simd == lanes[-1] and kh * kw > 1
            for pixels in neighbours(outs, words) if whole else (1,):
                out_lanes = requantisers(results, words, pixels)
                steps_made = sum(h * ceil_div(w, pixels) for _, h, w in outs)
                cycles = max(steps_made * passes * words, beats(ins, simd), beats(outs, out_lanes))
                multipliers = pe * simd * pixels + out_lanes
                found.append(
                    Folding(pe, simd, simd, out_lanes, cycles, multipliers, depthwise, pixels)
                )
    return tuple(found)


def neighbours(outs: Sequence[Shape], words: int) -> list[int]:
    """Pixels at once that are worth trying, of outputs that leave a pixel a cycle at most."""
    widest = max(w for _, _, w in outs)
    return [n for n in steps(widest) if n <= words]


def lanes_tried(
    weight: tuple[int, ...], depthwise: bool, even: bool, one_by_one: bool
) -> Sequence[int]:
    """SIMD of a convolution. An accumulator that saturates at every product takes them singly."""
    if depthwise:
        return steps(weight[0])
    return (1,) if one_by_one else steps(weight[1], even)


def lane_options(
    block: Block, ins: tuple[Shape, ...], outs: tuple[Shape, ...]
) -> tuple[Folding, ...]:
    """Foldings of a block with one number of lanes."""
    op = block.ops[0]
    window = op.kernel[0] * op.kernel[1] if isinstance(op, (MaxPool2d, SumPool2d)) else 1
    hard = False
    if isinstance(op, Interpolate):
        _, *sides = ins[0]
        rows, columns = (read(t, n) for t, n in zip((op.rows, op.columns), sides, strict=True))
        window, hard = taps_of(rows) * taps_of(columns), weight_bits(rows, columns) > NARROW
    found = []
    for lanes in lanes_of(op, ins):
        out_lanes = requantisers(lanes, window) if block.kind == "sum" else lanes
        cycles = max(window * beats(outs, lanes), *(beats([s], lanes) for s in ins))
        if isinstance(op, Select):
            out_lanes = len(op.channels) if lanes == ins[0][0] else lanes
            cycles = beats(outs, len(op.channels)) * cycles_of(op.channels, ins[0][0], lanes)
        multipliers = MULTIPLIERS.get(block.kind, 0) * lanes
        if block.kind == "sum":
            multipliers = out_lanes
        elif hard:
            multipliers = lanes
        found.append(
            Folding(1, lanes, lanes, out_lanes, max(cycles, beats(outs, out_lanes)), multipliers)
        )
    return tuple(found)


def lanes_of(op: Op, ins: tuple[Shape, ...]) -> list[int]:
    """Numbers of lanes worth trying: as many as make whole beats of what stays together."""
    channels = ins[0][0]
    match op:
        case Concat():
            return steps(gcd(*(c for c, _, _ in ins)), even=True)
        case SpaceToDepth():
            return steps(channels, even=True)
        case DepthToSpace():
            return steps(channels // (op.block[0] * op.block[1]), even=True)
        case Select():
            return [n for n in steps(channels, even=True) if fits(op.channels, channels, n)]
    return steps(channels)


def routing(graph: HardwareGraph, index: int, foldings: Sequence[Folding]) -> Folding:
    """Sources and muxes take their widest reader's lanes, sinks and demuxes their writer's."""
    block = graph.blocks[index]
    lanes = routed_lanes(graph, index, foldings)
    shapes = [t.shape for key in (block.reads or block.writes) for t in graph.tensors(key)]
    return Folding(1, lanes, lanes, lanes, beats(shapes, lanes), 0)


def routed_lanes(graph: HardwareGraph, index: int, foldings: Sequence[Folding]) -> int:
    """Follows muxes, demuxes and ports until a block that has lanes of its own."""
    kind = graph.blocks[index].kind
    forward = kind in ("source", "mux")
    found = []
    for i in graph.readers_of(index) if forward else graph.inputs_of(index):
        link = graph.links[i]
        other = link.reader if forward else link.source
        kind = graph.blocks[other].kind
        if kind not in ROUTING:
            read = lanes_read(graph, foldings, link) if forward else foldings[other].out_lanes
            found.append(read)
        elif (kind in ("source", "mux")) == forward:
            found.append(routed_lanes(graph, other, foldings))
    if found:
        return max(found)
    keys = graph.blocks[index].reads or graph.blocks[index].writes
    return graph.tensors(keys[0])[0].shape[0]


def lanes_read(graph: HardwareGraph, foldings: Sequence[Folding], link: Link) -> int:
    """Channels a beat of what a block reads; a gate of a single channel has one lane."""
    lanes = foldings[link.reader].in_lanes
    if graph.blocks[link.reader].kind != "multiply":
        return lanes
    return min(lanes, graph.tensors(link.key)[0].shape[0])


def is_depthwise(weight: Sequence[int], groups: int) -> bool:
    """One input channel to each output channel."""
    return groups > 1 and weight[0] == groups and weight[1] == 1


def beats(shapes: Sequence[Shape], lanes: int) -> int:
    """Beats of all frames at `lanes` channels a beat."""
    return sum(h * w * ceil_div(c, lanes) for c, h, w in shapes)


def steps(channels: int, even: bool = False) -> list[int]:
    """Numbers of lanes worth trying: the fewest for each number of beats, or all divisors."""
    if even:
        return [n for n in range(1, channels + 1) if channels % n == 0]
    return sorted({ceil_div(channels, n) for n in range(1, channels + 1)})


def requantisers(pe: int, cycles: int, pixels: int = 1) -> int:
    """The fewest that empty the PE accumulators of all pixels within `cycles`; divides PE."""
    return next(n for n in range(1, pe + 1) if pe % n == 0 and pixels * pe // n <= cycles)
