"""Which tensors share a grid of codes, how many bits each has, and how many each weight."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import torch

from intaglio.errors import ModelError
from intaglio.fixed import Forms
from intaglio.quant.capture.graph import (
    PASSING,
    Add,
    Affine,
    Choose,
    Conv,
    FloatGraph,
    Image,
    Lookup,
    Mean,
    Node,
    Pad,
    Scaled,
)
from intaglio.quant.settings.config import QuantConfig

PIXEL_BITS = 8
BUDGETED = "budget"  # why a width that was chosen exactly is what it is
INDEX = "index of a table"


@dataclass(frozen=True)
class Group:
    """Tensors that share a grid, because codes pass between them unchanged.

    `read` are those that a node outside the group reads, or that are results: the values whose
    error counts. `unsigned`: every value is proved to be at least 0. `why` says why `bits` differs
    from the network's width, and is empty where it does not.
    """

    tensors: tuple[str, ...]
    read: tuple[str, ...]
    bits: int
    unsigned: bool
    why: str = ""


def groups(graph: FloatGraph, config: QuantConfig) -> tuple[Group, ...]:
    """Every tensor but the image, in groups. Raises ModelError for an override without a match."""
    origins = [node.origin for node in graph.nodes]
    for glob in config.overrides:
        if not any(fnmatchcase(origin, glob) for origin in origins):
            raise ModelError(f"Override {glob!r} must match a layer, like {origins[-1]!r}.")
    positive = proved_positive(graph)
    pixels = made_of_pixels(graph)
    found = []
    for tensors in joined(graph, config.arithmetic.forms):
        results = any(t in graph.outputs.values() for t in tensors)
        readers = {t: [r for r in graph.readers[t] if r.output not in tensors] for t in tensors}
        read = tuple(t for t in tensors if readers[t] or t in graph.outputs.values())
        outside = [r for t in tensors for r in readers[t]]
        bits, why = width(graph, config, tensors)
        if tensors[0] in config.widths.tensors:
            bits, why = config.widths.tensors[tensors[0]], BUDGETED
        elif results and not outside:
            bits, why = config.output_bits, "final map"
        elif outside and not results and all(isinstance(r, Lookup) for r in outside):
            asked = bits if why else 0
            bits, why = max(asked, config.index_bits), INDEX
        elif outside and not results and all(isinstance(r, Add) for r in outside) and not why:
            if config.operand_bits != bits:
                bits, why = config.operand_bits, "operand of a sum"
        elif all(t in pixels for t in tensors):
            bits, why = max(bits, PIXEL_BITS), "pixels"
        found.append(Group(tensors, read, bits, all(t in positive for t in tensors), why))
    return alike_under_shared_weights(graph, found)


def alike_under_shared_weights(graph: FloatGraph, found: list[Group]) -> tuple[Group, ...]:
    """One integer type for what all call sites of a weight read, and one for what they write, so
    that one engine can serve them: signed if any is, as wide as the widest. Scales stay apart."""
    at = {tensor: n for n, group in enumerate(found) for tensor in group.tensors}
    changed = True
    while changed:
        changed = False
        for sites in graph.call_sites.values():
            for names in ([site.input for site in sites], [site.output for site in sites]):
                which = {at[name] for name in names if name in at}
                unsigned = all(found[n].unsigned for n in which)
                bits = max((found[n].bits for n in which), default=0)
                for n in which:
                    group = found[n]
                    if (group.unsigned, group.bits) != (unsigned, bits):
                        why = group.why if group.bits == bits else "shared weight"
                        found[n] = replace(group, unsigned=unsigned, bits=bits, why=why)
                        changed = True
    return tuple(found)


def joined(graph: FloatGraph, forms: Forms) -> list[tuple[str, ...]]:
    """Tensors connected by nodes that pass codes on. Averages in another system's form do too, as
    it has no scale for them, unless they make a final map."""
    parent = {node.output: node.output for node in graph.nodes if not isinstance(node, Image)}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for node in graph.nodes:
        average = forms != "own" and isinstance(node, Mean) and node.averages
        if average and (node.inputs[0] not in parent or is_result(graph, node)):
            average = False
        if isinstance(node, PASSING) or average:
            for name in node.inputs:
                parent[root(name)] = root(node.output)
    members: dict[str, list[str]] = {}
    for name in parent:
        members.setdefault(root(name), []).append(name)
    return [tuple(names) for names in members.values()]


def width(graph: FloatGraph, config: QuantConfig, tensors: tuple[str, ...]) -> tuple[int, str]:
    """The widest override of the group's producers, or `abits`."""
    asked = [
        override[1]
        for t in tensors
        if not isinstance(graph.producer[t], PASSING)
        and (override := overriding(config, graph.producer[t].origin)) is not None
    ]
    return (max(asked), "override") if asked else (config.abits, "")


def overriding(config: QuantConfig, origin: str) -> tuple[int, int] | None:
    """(wbits, abits) of the first override that matches a module path."""
    return next((w for glob, w in config.overrides.items() if fnmatchcase(origin, glob)), None)


def weight_bits(graph: FloatGraph, config: QuantConfig, weight: str) -> int:
    """Bits of a weight: an exact width, an override, the stem's, the predictors', or `wbits`."""
    if weight in config.widths.weights:
        return config.widths.weights[weight]
    sites = graph.call_sites[weight]
    override = overriding(config, sites[0].origin)
    if override is not None:
        return override[0]
    if any(isinstance(graph.producer[site.input], Image) for site in sites):
        return config.first_wbits
    if all(is_result(graph, site) for site in sites):
        return config.predictor_wbits
    return config.wbits


def is_result(graph: FloatGraph, node: Node) -> bool:
    """Whether the node makes a final map, directly or through lookups and nodes that pass codes."""
    readers = graph.readers[node.output]
    if not readers:
        return True
    return all(isinstance(r, (*PASSING, Lookup)) and is_result(graph, r) for r in readers)


def made_of_pixels(graph: FloatGraph) -> set[str]:
    """Tensors that hold the image itself, normalised or resampled."""
    found: set[str] = set()
    for node in graph.nodes:
        passes = isinstance(node, (Affine, *PASSING)) and all(n in found for n in node.inputs)
        if isinstance(node, Image) or passes:
            found.add(node.output)
    return found


def proved_positive(graph: FloatGraph) -> set[str]:
    """Tensors that cannot be negative, whatever the image."""
    found: set[str] = set()
    for node in graph.nodes:
        inputs = all(name in found for name in node.inputs)
        match node:
            case Lookup():
                ramp = torch.linspace(-64, 64, 4097, dtype=torch.float64)
                positive = bool((node.tables(ramp) >= 0).all())
            case Add():
                summands = min(node.alpha, node.beta, node.shift) >= 0
                positive = node.lo >= 0 or (inputs and summands)
            case Conv():
                positive = node.lo >= 0
            case Scaled():
                factors = bool((node.scale >= 0).all() and (node.shift >= 0).all())
                positive = node.lo >= 0 or (inputs and factors)
            case Pad() | Choose():
                positive = inputs and node.value >= 0
            case _:
                positive = inputs
        if positive:
            found.add(node.output)
    return found
