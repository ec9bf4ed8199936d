# amaranth: UnusedElaboratable=no
"""Engine sharing: convolutions of equal shape, each with its own weights, on one engine.

They take turns, a whole frame of each, in a fixed order. Only convolutions without a path between
them share, and only while no engine comes to feed itself through others: then every frame that an
engine takes depends on frames of engines before it alone, so that in any order, with queues deep
enough, each of them comes, and in the long run a frame takes the cycles of the slowest engine. An
engine that fed itself would wait for its own pipeline in every frame, or for ever.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from itertools import combinations

from intaglio.codegen.area.area import queue
from intaglio.codegen.area.devices import Device
from intaglio.codegen.area.limits import reserve, routable, usable
from intaglio.codegen.area.mapping import Need, need
from intaglio.codegen.folding.candidates import candidates
from intaglio.codegen.folding.solve import Merge, Problem
from intaglio.codegen.schedule.timing import UNBOUNDED, Model
from intaglio.codegen.structure.assemble import Top
from intaglio.codegen.structure.fold import Folding, plan_for_cycles
from intaglio.codegen.structure.graph import Block, HardwareGraph, Key, joined
from intaglio.codegen.structure.netlist import netlist
from intaglio.errors import BuildError
from intaglio.hdl.stream import Frame
from intaglio.ops import Conv2d

MOST = 4  # convolutions an engine: more wait longer for each other than they save


def sharings(graph: HardwareGraph, chip: Device, cycles: int | None) -> Iterator[tuple[Key, ...]]:
    """What engines of several convolutions write: first in the cheapest design with one engine less
    than `graph`, then in that with two less, and so on, as far as the estimate says that it fits.

    cycles  that an engine may take a frame; None: as few as the target allows.
    """
    groups = parallel(graph)
    if not groups:
        return
    come = arrivals(graph, groups)
    merges = [merge(graph, chip, part, come) for group in groups for part in parts(group)]
    problem = replace(Problem.of(graph, chip), merges=tuple(merges))
    limits = usable(chip) if cycles is None else routable(chip)
    for fewer in range(1, 1 + sum(len(group) - 1 for group in groups)):
        tried = replace(problem, fewer=fewer).within(limits, reserve(limits))
        try:
            chosen = tried.fastest()[1] if cycles is None else tried.cheapest(cycles)
        except BuildError:
            continue
        if chosen is not None:
            yield tuple(c.key for c in chosen if c.key)


def parallel(graph: HardwareGraph) -> list[tuple[int, ...]]:
    """Convolutions that may share an engine, by block index: equal in all but their weights, and
    all groups at once leave every engine behind those that feed it.

    A network in which an engine of one weight feeds itself already has no groups.
    """
    owner = list(range(len(graph.blocks)))
    classes: dict[object, list[list[int]]] = defaultdict(list)
    for index, block in enumerate(graph.blocks):
        if block.kind != "conv":
            continue
        groups = classes[likeness(graph, block)]
        for group in groups:
            owner[index] = group[0]
            if len(group) < MOST and forward(graph, owner):
                group.append(index)
                break
        else:
            owner[index] = index
            groups.append([index])
    return [tuple(g) for groups in classes.values() for g in groups if len(g) > 1]


def likeness(graph: HardwareGraph, block: Block) -> object:
    """What convolutions on one engine have in common."""
    op = block.ops[0]
    assert isinstance(op, Conv2d)
    weight = graph.program.constants[op.weight]
    types = graph.tensors(block.reads[0])[0].type, graph.tensors(block.writes[0])[0].type
    return (weight.array.shape, weight.type, weight.odd, op.stride, op.dilation, op.padding,
            op.groups, types)  # fmt: skip


def forward(graph: HardwareGraph, owner: Sequence[int]) -> bool:
    """Whether no engine feeds itself, when the blocks of one owner are one engine."""
    feeds: dict[int, set[int]] = defaultdict(set)
    for link in graph.links:
        feeds[owner[link.reader]].add(owner[link.source])
    try:
        TopologicalSorter(feeds).prepare()
    except CycleError:
        return False
    return True


def parts(group: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every choice of two or more."""
    for size in range(2, len(group) + 1):
        yield from combinations(group, size)


def merge(
    graph: HardwareGraph, chip: Device, members: Sequence[int], come: Mapping[str, int]
) -> Merge:
    """The engine of these blocks, with what its waiting frames take beside it."""
    blocks = [graph.blocks[k] for k in members]
    key = in_turn(graph, blocks, come)
    found = [
        replace(c, key=key, need=c.need + waiting(graph, blocks, c.folding, chip))
        for c in candidates(graph, joined(blocks, key), chip)
    ]
    return Merge(tuple(members), tuple(found))


def in_turn(graph: HardwareGraph, blocks: Sequence[Block], come: Mapping[str, int]) -> Key:
    """The order of their frames: the largest first, for whatever waits is stored; of equal ones
    the first to come, as `arrivals` says."""
    names = [name for block in blocks for name in block.writes[0]]

    def turn(name: str) -> tuple[int, int]:
        _, height, width = graph.program.tensors[name].shape
        return -height * width, come[name]

    return tuple(sorted(names, key=turn))


def arrivals(graph: HardwareGraph, groups: Sequence[Sequence[int]]) -> dict[str, int]:
    """By what a convolution makes of it, the cycle in which a frame's first beat comes to its
    engine, when every block is as fast as it can be and no queue is ever full.

    Behind a convolution of a group it is that one's, so that an engine takes what another gives in
    the same order, without queues and turns between them.
    """
    top = Top(netlist(graph, plan_for_cycles(graph, 1)))
    n, unbounded = top.netlist, dict.fromkeys(top.netlist.fifos, UNBOUNDED)
    taken = Model(n, top.components).run(unbounded, frames=1).taken
    found = {}
    for index, block in enumerate(graph.blocks):
        if block.kind == "conv":
            (wire,), at = n.cells[index].ins, 0
            for name, tensor in zip(block.writes[0], graph.tensors(block.reads[0]), strict=True):
                found[name] = int(taken[wire][at])
                at += Frame(*tensor.shape).beats(n.wires[wire].lanes)
    follow = [graph.blocks[k] for k in sorted(k for group in groups for k in group)]
    made = {name for block in follow for name in block.writes[0]}
    for block in follow:
        for name, read in zip(block.writes[0], block.reads[0], strict=True):
            found[name] = found[read if read in made else name]
    return found


def waiting(graph: HardwareGraph, blocks: Sequence[Block], f: Folding, chip: Device) -> Need:
    """Queues for the largest frame of all but the first: an estimate, for their depths are found
    when the design is there."""
    found = Need()
    for block in blocks[1:]:
        frame, x = graph.tensors(block.reads[0])[0].shape, graph.tensors(block.reads[0])[0].type
        found += need(queue(Frame(*frame).beats(f.in_lanes), f.in_lanes * x.bits), chip)
    return found
