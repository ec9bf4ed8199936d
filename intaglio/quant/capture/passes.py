"""Rewrites of a `FloatGraph` that keep its function: what `PASSES` lists, in that order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from intaglio.ops import Crop, DepthToSpace, Interpolate, Padding, Select, SpaceToDepth
from intaglio.quant.capture.graph import (
    Add,
    Affine,
    Choose,
    Conv,
    FloatGraph,
    Floats,
    Image,
    Lookup,
    MaxPool,
    Node,
    Pad,
    Scaled,
    Upsample,
)
from intaglio.quant.capture.one_tensor import behind, is_elementwise

Pass = Callable[[FloatGraph], FloatGraph]
Rule = Callable[[FloatGraph, Node], FloatGraph | None]
Moves = dict[Node, list[Node]]


def simplify(graph: FloatGraph, passes: Sequence[Pass] | None = None) -> FloatGraph:
    """Every pass in order. Afterwards each node is one requantisation, or passes codes on."""
    for rewrite in PASSES if passes is None else passes:
        graph = rewrite(graph)
    return graph


def drop_dead(graph: FloatGraph) -> FloatGraph:
    """Remove nodes and weights that no result needs; the image stays."""
    needed = set(graph.outputs.values())
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.output in needed or isinstance(node, Image):
            needed.update(node.inputs)
            kept.append(node)
    used = {node.weight for node in kept if isinstance(node, Conv)}
    weights = {name: w for name, w in graph.weights.items() if name in used}
    return replace(graph, nodes=tuple(reversed(kept)), weights=weights)


def clamp_before_pool(graph: FloatGraph, node: Node) -> FloatGraph | None:
    """relu(pool(x)) = pool(relu(x)): a bare clamp moves up to the node that computes x."""
    if not (isinstance(node, Affine) and is_identity(node)):
        return None
    pool = graph.producer[node.input]
    if not isinstance(pool, (MaxPool, Upsample)) or graph.only_reader(pool.output) is not node:
        return None
    if graph.only_reader(pool.input) is not pool:
        return None
    clamp = replace(node, input=pool.input, shape=graph.producer[pool.input].shape)
    moved: Moves = {pool: [clamp, replace(pool, input=clamp.output)], node: []}
    return exchanged(graph, moved, {node.output: pool.output}, keep=pool.output)


def affine_before_choice(graph: FloatGraph, node: Node) -> FloatGraph | None:
    """norm(chosen(x)) = chosen(norm(x)): factors, summands and clamps move up to the node that
    computes x, each to the channels that its own came from."""
    if not isinstance(node, Affine):
        return None
    choice = graph.producer[node.input]
    if not isinstance(choice, Choose) or graph.only_reader(choice.output) is not node:
        return None
    source = graph.producer[choice.input]
    if graph.only_reader(choice.input) is not choice or isinstance(source, Image):
        return None
    scale, shift = (unchosen(choice, v, source.shape[0]) for v in (node.scale, node.shift))
    if scale is None or shift is None:
        return None
    first = replace(node, input=choice.input, shape=source.shape, scale=scale, shift=shift)
    moved: Moves = {choice: [first, replace(choice, input=first.output)], node: []}
    return exchanged(graph, moved, {node.output: choice.output}, keep=choice.output)


def unchosen(choice: Choose, values: Floats, channels: int) -> Floats | None:
    """Values of the channels before a choice, from those behind it; None where one channel has two,
    or a channel is added."""
    match choice.op:
        case Crop() | Interpolate():
            return values
        case Select(channels=chosen):
            sources = np.array(chosen)
        case SpaceToDepth():
            sources = np.arange(len(values)) % channels
        case DepthToSpace():
            return np.resize(values, channels)
    found: Floats = np.ones(channels)
    found[sources] = values
    return found if sources.min() >= 0 and (found[sources] == values).all() else None


def merge_affine(graph: FloatGraph, node: Node) -> FloatGraph | None:
    """A norm, constant or clamp joins the node before it if nothing else reads that."""
    if not isinstance(node, Affine):
        return None
    first = graph.producer[node.input]
    if graph.only_reader(first.output) is not node:
        return None
    merged = composed(first, node)
    if merged is None:
        return None
    return exchanged(graph, {first: [merged], node: []}, {node.output: first.output})


def composed(first: Node, then: Affine) -> Node | None:
    """One node that does both; None where there is none.

    Past a clamp only one positive factor for all channels can be moved:
    a * clamp(z, l, h) + b = clamp(a * z + b, a * l + b, a * h + b).
    """
    if isinstance(first, Lookup) and (first.by_channel or is_elementwise(then)):
        return replace(first, function=behind(then, [first.function]))
    if not isinstance(first, (Scaled, Add)):
        return None
    a, b = float(then.scale[0]), float(then.shift[0])
    uniform = bool((then.scale == a).all() and (then.shift == b).all())
    lo, hi = then.lo, then.hi
    if first.clamped:
        if not uniform or a <= 0:
            return None
        lo, hi = (min(max(a * end + b, then.lo), then.hi) for end in (first.lo, first.hi))
    if isinstance(first, Scaled):
        scale, shift = then.scale * first.scale, then.scale * first.shift + then.shift
        return replace(first, scale=scale, shift=shift, lo=lo, hi=hi)
    if not uniform:
        return None
    return replace(
        first, alpha=a * first.alpha, beta=a * first.beta, shift=a * first.shift + b, lo=lo, hi=hi
    )


def is_identity(node: Affine) -> bool:
    """Whether only the clamp does anything."""
    return bool((node.scale == 1).all() and (node.shift == 0).all())


def merge_pad(graph: FloatGraph, node: Node) -> FloatGraph | None:
    """A border of zeros becomes padding of the convolution that alone reads it."""
    if not isinstance(node, Conv):
        return None
    pad = graph.producer[node.input]
    if not isinstance(pad, Pad) or pad.value != 0 or graph.only_reader(pad.output) is not node:
        return None
    t, b, left, right = (p + q for p, q in zip(pad.padding, node.padding, strict=True))
    padding: Padding = (t, b, left, right)
    return exchanged(graph, {pad: [], node: [replace(node, input=pad.input, padding=padding)]})


def fold_image(graph: FloatGraph) -> FloatGraph:
    """The image's normalisation joins the convolutions that read it, so that they read pixels.

    With x = a * pixel + b: w * x = (w * a) * pixel + w * b. A padded x = 0 is the pixel -b / a,
    rounded to a whole one. Where another operation or a shared weight reads x, or where the pixel
    is not 0 to 255, nothing is folded and x is quantised by itself.
    """
    (image,) = (n for n in graph.nodes if isinstance(n, Image))
    affine = graph.only_reader(image.output)
    if not isinstance(affine, Affine) or affine.clamped or not affine.scale.all():
        return graph
    readers = graph.readers[affine.output]
    pixel = np.floor(-affine.shift / affine.scale + 0.5)
    for conv in readers:
        if not isinstance(conv, Conv) or len(graph.call_sites[conv.weight]) > 1:
            return graph
        if any(conv.padding) and not ((pixel >= 0) & (pixel <= 255)).all():
            return graph
    if affine.output in graph.outputs.values():
        return graph
    weights, moved = dict(graph.weights), Moves({affine: []})
    for conv in readers:
        assert isinstance(conv, Conv)
        w = weights[conv.weight]
        a, b = (per_input(v, w, conv.groups) for v in (affine.scale, affine.shift))
        weights[conv.weight] = w * a
        shift = conv.shift + conv.scale * (w * b).sum(axis=(1, 2, 3))
        pad_value = pixel if any(conv.padding) else None
        moved[conv] = [replace(conv, input=image.output, shift=shift, pad_value=pad_value)]
    return exchanged(replace(graph, weights=weights), moved)


def per_input(values: Floats, weight: Floats, groups: int) -> Floats:
    """Values of the input channels (Cin,) in the layout of a weight: (Cout, Cin / groups, 1, 1)."""
    rows = np.repeat(values.reshape(groups, -1), weight.shape[0] // groups, axis=0)
    return rows[:, :, None, None]


def fold_scale(graph: FloatGraph) -> FloatGraph:
    """Fold the factor of a norm into the weights of a convolution with one call site.

    A weight that several call sites share (a head under a pyramid) is left alone: each site keeps
    its own `scale` and `shift`, which become its level's requantisation table.
    """
    weights, moved = dict(graph.weights), Moves()
    for name, sites in graph.call_sites.items():
        if len(sites) == 1:
            (conv,) = sites
            weights[name] = weights[name] * conv.scale[:, None, None, None]
            moved[conv] = [replace(conv, scale=np.ones_like(conv.scale))]
    return exchanged(replace(graph, weights=weights), moved)


def own_weights(graph: FloatGraph) -> FloatGraph:
    """Every call site of a shared weight that has a norm gets weights of its own, with the factor
    folded in: for arithmetic whose multipliers cannot express a norm."""
    weights, moved = dict(graph.weights), Moves()
    for name, sites in graph.call_sites.items():
        if len(sites) == 1 or all((site.scale == 1).all() for site in sites):
            continue
        for n, conv in enumerate(sites):
            weights[f"{name}.{n}"] = weights[name] * conv.scale[:, None, None, None]
            own = replace(conv, weight=f"{name}.{n}", scale=np.ones_like(conv.scale))
            moved[conv] = [own]
    return drop_dead(exchanged(replace(graph, weights=weights), moved))


def exchanged(
    graph: FloatGraph,
    nodes: Moves,
    names: Mapping[str, str] | None = None,
    keep: str | None = None,
) -> FloatGraph:
    """`graph` with nodes replaced and tensors renamed where read, but not in the node `keep`."""
    names = names or {}
    made: list[Node] = []
    for node in graph.nodes:
        for new in nodes.get(node, [node]):
            made.append(new if new.output == keep else new.reading(names))
    outputs = {name: names.get(t, t) for name, t in graph.outputs.items()}
    return replace(graph, nodes=tuple(made), outputs=outputs)


def repeated(rule: Rule) -> Pass:
    """Apply a rule until it finds nothing."""

    def run(graph: FloatGraph) -> FloatGraph:
        while True:
            changed = next((g for n in graph.nodes if (g := rule(graph, n)) is not None), None)
            if changed is None:
                return graph
            graph = changed

    return run


PASSES: tuple[Pass, ...] = (
    drop_dead,
    repeated(merge_affine),
    repeated(clamp_before_pool),
    repeated(affine_before_choice),
    repeated(merge_affine),
    repeated(merge_pad),
    fold_image,
    fold_scale,
    drop_dead,
)

# For training: a norm's factor stays beside the weights, whose own scale then does not matter.
TRAINING_PASSES: tuple[Pass, ...] = tuple(p for p in PASSES if p is not fold_scale)
