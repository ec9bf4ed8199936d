"""Cells and wires: the graph with its forks, queues and lane adapters spelled out.

The cycle model and the Amaranth top are both made from this list, so that they cannot disagree
about what is connected to what.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from intaglio.codegen.structure.fold import Folding, Plan, lanes_read
from intaglio.codegen.structure.graph import HardwareGraph, Key, Kind, Link
from intaglio.fixed import IntType

CellKind = Literal[Kind, "fork", "fifo", "repack"]


@dataclass(frozen=True)
class Wire:
    """A stream of `lanes` channels of `type` a beat, carrying the frames of `key` in turn."""

    key: Key
    lanes: int
    type: IntType

    @property
    def width(self) -> int:
        """Payload bits."""
        return self.lanes * self.type.bits


@dataclass(frozen=True)
class Cell:
    """One component. `ins` and `outs` index the netlist's wires; `block` the graph's blocks
    (for fork, fifo and repack: the block whose output they carry); `depth` is a queue's beats."""

    name: str
    kind: CellKind
    block: int
    ins: tuple[int, ...]
    outs: tuple[int, ...]
    depth: int = 0


@dataclass(frozen=True)
class Netlist:
    """Every cell and wire of the design."""

    graph: HardwareGraph
    foldings: tuple[Folding, ...]
    cells: tuple[Cell, ...]
    wires: tuple[Wire, ...]

    @property
    def fifos(self) -> tuple[int, ...]:
        """Indices of the queues."""
        return tuple(i for i, cell in enumerate(self.cells) if cell.kind == "fifo")

    def with_depths(self, depths: Mapping[int, int]) -> Netlist:
        """The same with other queue depths, by cell index."""
        cells = tuple(
            replace(cell, depth=depths.get(i, cell.depth)) for i, cell in enumerate(self.cells)
        )
        return replace(self, cells=cells)


class Builder:
    """Grows the lists."""

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self.extra: list[Cell] = []

    def wire(self, wire: Wire) -> int:
        """Add a wire; returns its index."""
        self.wires.append(wire)
        return len(self.wires) - 1

    def through(self, name: str, kind: CellKind, block: int, source: int, wire: Wire) -> int:
        """Add a one-in one-out cell behind wire `source`; returns its output wire."""
        out = self.wire(wire)
        self.extra.append(Cell(name, kind, block, (source,), (out,), 1))
        return out


def netlist(graph: HardwareGraph, plan: Plan, before: Collection[Link] = ()) -> Netlist:
    """Spell out the graph. Queues stand where paths part or levels wait, and on the links `before`
    joins that need one; their depth is still 1."""
    b = Builder()
    ins: list[dict[int, int]] = [{} for _ in graph.blocks]
    outs: list[list[int]] = [[] for _ in graph.blocks]
    for index, block in enumerate(graph.blocks):
        for port, key in enumerate(block.writes):
            folding = plan.foldings[index]
            wire = Wire(key, folding.out_lanes, graph.tensors(key)[0].type)
            outs[index].append(b.wire(wire))
            links = [graph.links[i] for i in graph.readers_of(index, port)]
            name = f"{block.name}_{port}" if port else block.name
            branches = fork(b, name, index, outs[index][-1], len(links))
            for link, branch in zip(links, branches, strict=True):
                queue = parting(graph, link) or link in before
                ins[link.reader][link.entry] = adapt(
                    b, graph, plan.foldings, link, branch, queue=queue
                )
    blocks = [
        Cell(block.name, block.kind, k, tuple(ins[k][e] for e in sorted(ins[k])), tuple(outs[k]))
        for k, block in enumerate(graph.blocks)
    ]
    return Netlist(graph, plan.foldings, tuple(blocks + b.extra), tuple(b.wires))


def fork(b: Builder, name: str, block: int, wire: int, readers: int) -> list[int]:
    """The wire itself for one reader, else the branches of a fork."""
    if readers < 2:
        return [wire] * readers
    branches = [b.wire(b.wires[wire]) for _ in range(readers)]
    b.extra.append(Cell(f"{name}_fork", "fork", block, (wire,), tuple(branches)))
    return branches


def parting(graph: HardwareGraph, link: Link) -> bool:
    """Whether a link needs a queue: its stream goes elsewhere too, or carries levels in turn."""
    forked = len(graph.readers_of(link.source, link.port)) > 1
    levels = len(link.key) > 1 or graph.blocks[link.reader].kind == "mux"
    return forked or levels or graph.blocks[link.source].kind == "demux"


def joining(graph: HardwareGraph) -> list[Link]:
    """Links without a queue to where streams meet. What comes there in bursts may keep another
    waiting, and be kept waiting itself."""
    joins = ("add", "multiply", "concat")
    return [
        link for link in graph.links
        if graph.blocks[link.reader].kind in joins and not parting(graph, link)
    ]  # fmt: skip


def adapt(
    b: Builder,
    graph: HardwareGraph,
    foldings: Sequence[Folding],
    link: Link,
    wire: int,
    *,
    queue: bool,
) -> int:
    """What lies on the way to a reader: a queue, another number of lanes, both or neither."""
    source, reader = graph.blocks[link.source], graph.blocks[link.reader]
    name = f"{source.name}_{link.port}_{link.branch}" if link.branch or link.port else source.name
    if queue:
        wire = b.through(f"{name}_fifo", "fifo", link.source, wire, b.wires[wire])
    lanes = b.wires[wire].lanes
    if reader.kind != "sink":
        lanes = lanes_read(graph, foldings, link)
    if lanes != b.wires[wire].lanes:
        adapted = replace(b.wires[wire], lanes=lanes)
        wire = b.through(f"{name}_repack", "repack", link.source, wire, adapted)
    return wire
