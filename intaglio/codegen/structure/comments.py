"""What the Verilog says of each module: of which layer it is, its frames, folding and latency."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from intaglio.codegen.structure.assemble import Top
from intaglio.codegen.structure.netlist import Cell, Netlist


def about(top: Top) -> Mapping[str, str]:
    """Of every block of a design, by its name."""
    cells = zip(top.netlist.cells, top.components, strict=True)
    return {cell.name: sentence(top.netlist, cell, component) for cell, component in cells}


def sentence(n: Netlist, cell: Cell, component: Any) -> str:
    """Kind and layers, what comes and goes, lanes, cycles a frame, latency in cycles."""
    block, folding = n.graph.blocks[cell.block], n.foldings[cell.block]
    layers = ", ".join(block.origins or (block.name,))
    if cell.kind in ("fifo", "fork"):
        what = f"Queue of {cell.depth} beats" if cell.kind == "fifo" else "Fork"
        return f"{what} behind {layers}: {streams(n, cell.ins)}."
    said = f"{cell.kind.capitalize()} {'behind' if cell.kind == 'repack' else 'of'} {layers}: "
    said += " to ".join(streams(n, wires) for wires in (cell.ins, cell.outs) if wires)
    if cell.kind == "conv":
        pixels = f", {folding.pixels} pixels at once" * (folding.pixels > 1)
        said += f"; PE {folding.pe}, SIMD {folding.simd}{pixels}"
    if cell.kind not in ("repack", "source", "sink"):
        said += f"; {folding.cycles:,} cycles a frame"
    latency = getattr(component, "latency", None)
    return f"{said}." if latency is None else f"{said}; latency {latency} cycles."


def streams(n: Netlist, wires: tuple[int, ...]) -> str:
    """Channels x height x width of the frames that come in turn, their type, channels a beat."""
    found = []
    for wire in (n.wires[w] for w in wires):
        shapes = ["x".join(map(str, tensor.shape)) for tensor in n.graph.tensors(wire.key)]
        found.append(f"{', '.join(shapes)} {wire.type}, {wire.lanes} a beat")
    return " and ".join(found)
