"""The blocks in which a network is reconstructed: nodes that are trained together."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from intaglio.quant.capture.graph import Conv, FloatGraph, Image, Node

LARGEST = 4  # weights of a block


@dataclass(frozen=True, eq=False)
class Block:
    """Nodes in the network's order, tensors they read from other blocks, and tensors that other
    blocks read, or that are results."""

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of its weights."""
        return tuple(dict.fromkeys(n.weight for n in self.nodes if isinstance(n, Conv)))


def blocks(graph: FloatGraph) -> tuple[Block, ...]:
    """Every node but the image, in blocks; a block reads from those before it only.

    Call sites of one weight are in one block. A node joins its only reader's block as long as the
    two hold at most 4 weights: a residual block, a lateral sum, a tower with its predictor.
    """
    nodes = [node for node in graph.nodes if not isinstance(node, Image)]
    block = {node.output: n for n, node in enumerate(nodes)}

    def join(a: int, b: int) -> None:
        for name, found in block.items():
            block[name] = a if found == b else found

    def weights(*which: int) -> int:
        convs = (n for n in nodes if isinstance(n, Conv))
        return len({n.weight for n in convs if block[n.output] in which})

    for sites in graph.call_sites.values():
        for site in sites[1:]:
            join(block[sites[0].output], block[site.output])
    for node in nodes:
        reader = graph.only_reader(node.output)
        if reader is not None:
            a, b = block[node.output], block[reader.output]
            if weights(a, b) <= LARGEST:
                join(a, b)
    while True:
        before: dict[int, set[int]] = {which: set() for which in block.values()}
        for node in nodes:
            found = {block[name] for name in node.inputs if name in block}
            before[block[node.output]] |= found - {block[node.output]}
        try:
            order = list(TopologicalSorter(before).static_order())
        except CycleError as error:  # blocks that read each other are one
            first, *others = error.args[1]
            for other in others:
                join(first, other)
        else:
            return tuple(
                made(graph, [n for n in nodes if block[n.output] == which]) for which in order
            )


def made(graph: FloatGraph, nodes: list[Node]) -> Block:
    """The block of some nodes."""
    own = {node.output for node in nodes}
    inputs = dict.fromkeys(name for node in nodes for name in node.inputs if name not in own)
    results = set(graph.outputs.values())
    outputs = [
        node.output
        for node in nodes
        if node.output in results or any(r.output not in own for r in graph.readers[node.output])
    ]
    return Block(tuple(nodes), tuple(inputs), tuple(outputs))
