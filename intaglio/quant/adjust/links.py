"""Where factors of channels can move without changing a network, and the moving of them.

Where a tensor is made by layers that pass a positive factor per channel on, and read by layers that
can divide by it, both may be rescaled: relu(f * z) = f * relu(z). What passes codes on passes
factors on, each channel's to where the channel goes: joined channels have the factors of their
parts, shuffled ones the same in another order, and both operands of a sum those of the sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from intaglio.ops import DepthToSpace, Select, SpaceToDepth
from intaglio.quant.capture.graph import (
    Add,
    Choose,
    Concat,
    Conv,
    FloatGraph,
    Floats,
    Lookup,
    MaxPool,
    Multiply,
    Node,
    Pad,
    Scaled,
    Upsample,
)
from intaglio.quant.capture.passes import per_input

Ints = NDArray[np.int64]
Pair = tuple[Ints, Ints]
LIMIT = 16.0  # of a channel's factor: one S must serve all channels, and leave M some bits


@dataclass(frozen=True, eq=False)
class Link:
    """`size` factors, and the channels that take them.

    `places` of each tensor (C,): which factor each channel takes; -1 where its values must stay.
    `makers` are outputs of the nodes that round these tensors, `readers` of those that divide by
    the factors: convolutions and the like, and tables; `weights` are those into whose rows the
    factors go, because all their call sites give a channel the same one. Other makers take it into
    their `scale`, or their table.
    """

    size: int
    places: Mapping[str, Ints]
    makers: tuple[str, ...]
    readers: tuple[str, ...]
    weights: tuple[str, ...]

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names, in the graph's order."""
        return tuple(self.places)

    def of(self, tensor: str, factors: Floats) -> Floats:
        """The factors (size,) that the channels of a tensor take: (C,)."""
        taken: Floats = np.append(factors, 1.0)[self.places[tensor]]
        return taken


def links(graph: FloatGraph, tables: bool = False, joins: bool = False) -> tuple[Link, ...]:
    """Every set of channels that can be rescaled, with the channels of the same tensors, in the
    order of their first tensors. With `tables` those too that a table makes or reads, which becomes
    one for each channel; with `joins` those that sums make or read, and that are joined, chosen or
    shuffled."""
    channels = {node.output: node.shape[0] for node in graph.nodes}
    ends = np.cumsum(list(channels.values()))
    starts = {name: int(end) - channels[name] for name, end in zip(channels, ends, strict=True)}
    pairs = [
        (starts[a] + places[0], starts[b] + places[1])
        for a, b, places in (*passages(graph, joins), *shared_inputs(graph))
    ]
    classes = classes_of(int(ends[-1]), pairs)
    fixed = np.zeros(len(classes), bool)
    for name in immovable(graph, tables, joins):
        fixed[classes[starts[name] : starts[name] + channels[name]]] = True
    each = {name: classes[start : start + channels[name]] for name, start in starts.items()}
    free = {name: found for name, found in each.items() if not fixed[found].all()}
    near = [
        (np.full(channels[name], n), len(free) + found)
        for n, (name, found) in enumerate(free.items())
    ]
    near = [(a[~fixed[b - len(free)]], b[~fixed[b - len(free)]]) for a, b in near]
    member = classes_of(len(free) + len(classes), near)[: len(free)]
    sets = [
        {name: found for (name, found), n in zip(free.items(), member, strict=True) if n == m}
        for m in dict.fromkeys(member.tolist())
    ]
    return tuple(link(graph, found, fixed) for found in sets)


def classes_of(count: int, pairs: Iterable[Pair]) -> Ints:
    """Of each of `count` things, the number of the class that pairs of equals put it in."""
    first, second = (np.concatenate([[0], *side]) for side in zip(*pairs, ([0], [0]), strict=True))
    equal = coo_array((np.ones(len(first)), (first, second)), shape=(count, count))
    found: Ints = connected_components(equal, directed=False)[1].astype(np.int64)
    return found


def link(graph: FloatGraph, classes: Mapping[str, Ints], fixed: NDArray[np.bool_]) -> Link:
    """The link of these tensors, of whose channels' classes some are `fixed`."""
    every = np.unique(np.concatenate(list(classes.values())))
    number = np.full(len(fixed), -1)
    every = every[~fixed[every]]
    number[every] = np.arange(len(every))
    places = {name: number[found] for name, found in classes.items()}
    makers = [graph.producer[t] for t in places]
    readers = [r for t in places for r in graph.readers[t] if isinstance(r, (Scaled, Lookup))]
    weights = {n.weight for n in makers if isinstance(n, Conv)}

    def alike(weight: str) -> bool:
        found = [places.get(site.output) for site in graph.call_sites[weight]]
        first = found[0]
        return first is not None and all(
            other is not None and np.array_equal(first, other) for other in found
        )

    return Link(
        len(every),
        places,
        tuple(n.output for n in makers if isinstance(n, (Scaled, Add, Lookup))),
        tuple(dict.fromkeys(r.output for r in readers)),
        tuple(sorted(filter(alike, weights))),
    )


# --- where factors can move ---------------------------------------------------------------------


def passages(graph: FloatGraph, joins: bool) -> Iterator[tuple[str, str, Pair]]:
    """Tensors two by two, and channels of both that must have the same factor, as a node makes the
    ones of the others."""
    for node in graph.nodes:
        if not passes_factors(node, joins):
            continue
        all_of = np.arange(node.shape[0])
        match node:
            case Concat():
                first = 0
                for part in node.parts:
                    count = graph.producer[part].shape[0]
                    yield part, node.output, (np.arange(count), first + np.arange(count))
                    first += count
            case Choose(op=Select(channels=chosen)):
                kept = np.array(chosen) >= 0
                yield node.input, node.output, (np.array(chosen)[kept], all_of[kept])
            case Choose(op=SpaceToDepth() | DepthToSpace()):
                # The fewer channels of the two go round and round in the others.
                many = np.arange(max(node.shape[0], graph.producer[node.input].shape[0]))
                few = min(node.shape[0], graph.producer[node.input].shape[0])
                inside = isinstance(node.op, SpaceToDepth)
                yield node.input, node.output, (many % few, many) if inside else (many, many % few)
            case _:
                for name in node.inputs:
                    yield name, node.output, (all_of, all_of)


def shared_inputs(graph: FloatGraph) -> Iterator[tuple[str, str, Pair]]:
    """The same of what the call sites of a weight read, whose columns divide for all of them."""
    for sites in graph.call_sites.values():
        first, *others = sites
        for site in others:
            if site.groups == first.groups:
                every = np.arange(graph.producer[first.input].shape[0])
                yield first.input, site.input, (every, every)


def passes_factors(node: Node, joins: bool) -> bool:
    """Whether a factor of a channel goes through, to where the channel goes."""
    match node:
        case MaxPool() | Upsample():
            return True
        case Pad(value=value):
            return value == 0
        case Concat():
            return joins
        case Choose(op=Select(channels=chosen), value=value):
            return joins and (value == 0 or min(chosen) >= 0)
        case Choose():
            return joins
        case Add():
            return joins and node.shift == 0 and {node.lo, node.hi} <= {-inf, 0.0, inf}
    return False


def immovable(graph: FloatGraph, tables: bool, joins: bool) -> set[str]:
    """Tensors whose values must stay: of the image, results, and those that a node makes or reads
    which does not pass a factor on or cannot divide by it: products, tables, borders and clamps at
    other values than 0, sums with a constant."""
    found = set(graph.outputs.values())
    for node in graph.nodes:
        if isinstance(node, Scaled):
            if not {node.lo, node.hi} <= {-inf, 0.0, inf}:
                found.add(node.output)
            if isinstance(node, Conv) and (node.pad_value is not None or mixed_groups(graph, node)):
                found.add(node.input)
            if isinstance(node, Multiply):  # both may be of one link
                found.update(node.inputs)
        elif not passes_factors(node, joins) and not (tables and isinstance(node, Lookup)):
            found.update((node.output, *node.inputs))
    return found


def mixed_groups(graph: FloatGraph, node: Conv) -> bool:
    """Whether a weight's columns are other input channels in another of its call sites."""
    return len({site.groups for site in graph.call_sites[node.weight]}) > 1


def into_tables(graph: FloatGraph, link: Link) -> bool:
    """Whether a factor of the link goes into the `scale` of a node, on either side."""
    nodes = [graph.producer[name] for name in (*link.makers, *link.readers)]
    convs = [graph.producer[name] for name in link.makers]
    shared = any(isinstance(n, Conv) and n.weight not in link.weights for n in convs)
    return shared or not all(isinstance(n, Conv) for n in nodes)


# --- the moving ---------------------------------------------------------------------------------


def rescaled(graph: FloatGraph, factors: Mapping[Link, Floats]) -> FloatGraph:
    """The graph with the channels of every link multiplied by its factors (size,), and the layers
    that read them dividing by them."""
    weights, nodes = dict(graph.weights), dict(graph.producer)
    for link, every in factors.items():
        for name in link.weights:
            site = graph.call_sites[name][0]
            weights[name] = weights[name] * link.of(site.output, every)[:, None, None, None]
        for name in link.makers:
            node, f = nodes[name], link.of(name, every)
            if isinstance(node, Lookup):
                nodes[name] = multiplied(node, np.ones_like(f), f)
            elif isinstance(node, Scaled):
                inside = isinstance(node, Conv) and node.weight in link.weights
                scale = node.scale if inside else node.scale * f
                nodes[name] = replace(node, scale=scale, shift=node.shift * f)
        for name in link.readers:
            node = nodes[name]
            if isinstance(node, Lookup):
                f = link.of(node.input, every)
                nodes[name] = multiplied(node, 1 / f, np.ones_like(f))
            elif isinstance(node, Scaled) and not isinstance(node, Conv):
                nodes[name] = replace(node, scale=node.scale / link.of(node.input, every))
        for conv in one_site_each(graph, link):
            f = link.of(conv.input, every)
            weights[conv.weight] = weights[conv.weight] / per_input(
                f, weights[conv.weight], conv.groups
            )
    return replace(graph, nodes=tuple(nodes[n.output] for n in graph.nodes), weights=weights)


def multiplied(node: Lookup, before: Floats, behind: Floats) -> Lookup:
    """A table of x times `before`, times `behind`, (C,) each: one for each channel."""
    if (before == 1).all() and (behind == 1).all():
        return node
    function = node.function
    a, b = (torch.from_numpy(f)[:, None, None] for f in (before, behind))
    return replace(node, function=lambda x: function(x * a.to(x)) * b.to(x), by_channel=True)


def one_site_each(graph: FloatGraph, link: Link) -> Iterable[Conv]:
    """A call site of each weight that reads the link."""
    readers = [graph.producer[name] for name in link.readers]
    return {node.weight: node for node in readers if isinstance(node, Conv)}.values()
