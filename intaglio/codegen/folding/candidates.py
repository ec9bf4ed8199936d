# amaranth: UnusedElaboratable=no
"""What a convolution can be made of, and what that takes: every folding, form of its products and
of its weights that no other beats in everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from intaglio.codegen.area.area import Area
from intaglio.codegen.area.devices import Device, Family
from intaglio.codegen.area.engines import Macs, Table, drain, macs, table_of, window
from intaglio.codegen.area.mapping import RULES, Need, need
from intaglio.codegen.structure.constants import accumulator, requantised
from intaglio.codegen.structure.fold import Folding, options
from intaglio.codegen.structure.graph import Block, HardwareGraph, Key
from intaglio.hdl.accumulator import Accumulator
from intaglio.hdl.geometry import Geometry
from intaglio.hdl.products import ProductForm, packs, tree_stages
from intaglio.hdl.requant import Requantiser
from intaglio.hdl.stream import Frame, ceil_div
from intaglio.ops import Conv2d


@dataclass(frozen=True)
class Candidate:
    """A folding and what it takes. `key`: what it writes, if it is for several convolutions."""

    folding: Folding
    need: Need
    key: Key = ()

    @property
    def price(self) -> tuple[float, ...]:
        """Everything of which less is better."""
        n, f = self.need, self.folding
        return f.cycles, n.luts, n.ffs, n.rams, n.multipliers, f.multipliers


class Convolution:
    """The numbers of a convolution block that its folding does not change."""

    def __init__(self, graph: HardwareGraph, block: Block, family: Family) -> None:
        hard = RULES[family].hard
        self.late = hard.late
        program = graph.program
        ops = [op for op in block.ops if isinstance(op, Conv2d)]
        op = self.op = ops[0]
        weight = program.constants[op.weight]
        ins, outs = (
            [t for key in keys for t in graph.tensors(key)] for keys in (block.reads, block.writes)
        )
        self.x, self.y = ins[0].type, outs[0].type
        self.w, self.odd, self.sets = weight.type, weight.odd, len(block.weights)
        cout, cin, kh, kw = (int(n) for n in weight.array.shape)
        self.cout, self.cin = cout, cin
        self.ins = [Frame(*t.shape) for t in ins]
        self.outs = [Frame(*t.shape) for t in outs]
        self.geometry = Geometry((kh, kw), op.stride, op.dilation, op.padding)
        self.pads = [o.pad_value for o in ops]
        self.sums: Accumulator = accumulator(program, block)
        scalings, rounding = requantised(program, block)
        self.table: Table = table_of(
            Requantiser(
                frames=self.outs,
                lanes=1,
                x=self.sums.final or self.sums.type,
                y=self.y,
                scalings=scalings,
                rounding=rounding,
                hard=hard,
            )
        )

    def walk(self, f: Folding) -> tuple[int, int, int]:
        """Channel words of a pixel, groups of them, and how often a group is walked."""
        words = ceil_div(self.ins[0].channels, f.simd)
        if f.depthwise:
            return words, words, 1
        return words, self.op.groups, ceil_div(self.cout // self.op.groups, f.pe)

    def pad_words(self, words: int, lanes: int) -> set[tuple[int, ...]]:
        """The different words that a Window reads outside the image."""
        last = self.ins[0].channels - 1
        return {
            tuple(level[min(c, last) % len(level)] for c in range(at * lanes, (at + 1) * lanes))
            for level in self.pads
            for at in range(words)
        }

    def edges(self, f: Folding) -> Area:
        """What does not depend on the form: window and drain."""
        (words, groups, repeats), (kh, kw) = self.walk(f), self.geometry.kernel
        varied = any(self.geometry.padding) and len(self.pad_words(words, f.simd)) > 1
        pad_table = len(self.ins) * (1 << (words - 1).bit_length()) if varied else 0
        tail = self.odd and not f.depthwise and self.ins[0].channels % f.simd > 0
        results, terms = (f.simd, 1) if f.depthwise else (f.pe, f.simd)
        walked = window(self.ins, self.geometry, self.x.bits, f.simd, groups, repeats, pad_table,
                        tail, f.pixels, self.late)  # fmt: skip
        lead = 4 + self.late + (f.pixels > 1) + tree_stages(terms)
        return walked + drain(self.outs, results, self.sums, self.table, f.out_lanes, self.y.bits,
                              kh * kw * words // groups, lead, f.pixels)  # fmt: skip

    def core(self, f: Folding) -> Area:
        """The multiply-accumulators and their weights."""
        (words, _, repeats), (kh, kw) = self.walk(f), self.geometry.kernel
        results, terms = (f.simd, 1) if f.depthwise else (f.pe, f.simd)
        return macs(Macs(self.x, self.w, self.odd, f.form, results, terms, self.sums.type,
                         self.sets * kh * kw * words * repeats, f.weights, self.sets,
                         f.pixels, self.late))  # fmt: skip

    def forms(self, f: Folding, chip: Device) -> list[ProductForm]:
        """What its products can be made of."""
        found: list[ProductForm] = ["dsp", "lut"]
        wide = max(chip.dsp)
        if not f.depthwise and f.pe > 1 and packs(f.simd, self.x, self.w, wide):
            found.append("packed")
        return found


def candidates(
    graph: HardwareGraph, block: Block, chip: Device, foldings: Sequence[Folding] = ()
) -> list[Candidate]:
    """Of a convolution, the fastest first; of the given foldings, or all there are."""
    c = Convolution(graph, block, chip.family)
    found = []
    for folding in foldings or undominated(options(graph, block)):
        edges = need(c.edges(folding), chip)
        for form in c.forms(folding, chip):
            made = replace(folding, form=form, weights="block")
            core = c.core(made)
            found.append(Candidate(made, edges + need(core, chip)))
            made = replace(made, weights="tables")
            found.append(Candidate(made, edges + need(in_tables(core), chip)))
    return best(found)


def in_tables(area: Area) -> Area:
    """With memories made of tables."""
    return replace(area, memories=tuple(replace(m, style="tables") for m in area.memories))


def undominated(foldings: Sequence[Folding]) -> list[Folding]:
    """Those than which none is as fast with no more lanes on either side."""
    sizes = np.array([(f.cycles, f.pe * f.pixels, f.simd, f.out_lanes) for f in foldings])
    below = (sizes[:, None] <= sizes[None]).all(axis=2)
    alone = below.sum(axis=0) == 1  # itself
    return [f for f, keep in zip(foldings, alone, strict=True) if keep]


def best(found: Sequence[Candidate]) -> list[Candidate]:
    """Without those that another one beats in everything, or equals."""
    ordered = sorted(found, key=lambda c: c.price)
    prices = np.array([c.price for c in ordered])
    kept = np.empty_like(prices)
    left: list[Candidate] = []
    for k, price in enumerate(prices):  # whoever beats it comes before it
        if not (kept[: len(left)] <= price).all(axis=1).any():
            kept[len(left)] = price
            left.append(ordered[k])
    return left
