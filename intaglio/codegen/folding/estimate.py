"""Resources, estimated before synthesis: what the design and each of its layers take of a target,
and the refusal of what cannot fit.

`area_blocks` counts what the components are made of, `mapping` what the target makes of that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from intaglio.codegen.area.blocks import area_of
from intaglio.codegen.area.devices import Device
from intaglio.codegen.area.limits import routable
from intaglio.codegen.area.mapping import Need, need
from intaglio.codegen.structure.assemble import Top
from intaglio.codegen.structure.fold import Plan
from intaglio.codegen.structure.graph import HardwareGraph
from intaglio.errors import FitError
from intaglio.hdl.stream import ceil_div

RESOURCES = (("luts", "LUTs"), ("ffs", "flip-flops"), ("rams", "block RAMs"),
             ("multipliers", "multipliers"))  # fmt: skip
LIMITED = (*RESOURCES, ("cells", "logic cells"))
ORDER = (
    ("multipliers", "multipliers"),
    ("rams", "block RAMs"),
    ("luts", "LUTs"),
    ("ffs", "flip-flops"),
    ("cells", "logic cells"),
)  # in which a refusal looks


@dataclass(frozen=True)
class Resources:
    """Hard multipliers, block RAMs (halves count half), look-up tables and flip-flops of the
    device, the bits of all ROMs and buffers, and logic cells (`Device.cells`)."""

    multipliers: int
    rams: float
    luts: int
    ffs: int
    rom_bits: int
    buffer_bits: int
    cells: int = 0

    def to_json(self) -> dict[str, int | float]:
        """Every field."""
        return asdict(self)


def check_weights(graph: HardwareGraph, plan: Plan, chip: Device) -> None:
    """Raises FitError when the weights alone are more than the target's block RAM."""
    bits = sum(weight_bits(graph, plan, k) for k in range(len(graph.blocks)))
    if bits > chip.memory_bits:
        raise FitError(
            f"The weights must fit into the {chip.memory_bits:,} bits of block RAM of {chip.name},"
            f" not take {bits:,}."
        )


def weight_bits(graph: HardwareGraph, plan: Plan, index: int) -> int:
    """Bits of a block's weight ROM, channels padded to PE and SIMD."""
    sets, folding = graph.blocks[index].weights, plan.foldings[index]
    if not sets:
        return 0
    weight = graph.program.constants[sets[0]]
    cout, cin, kh, kw = (int(n) for n in weight.array.shape)
    bits = len(sets) * kh * kw * weight.code_bits
    if folding.depthwise:
        return ceil_div(cout, folding.simd) * folding.simd * bits
    padded = ceil_div(cout, folding.pe) * folding.pe * ceil_div(cin, folding.simd) * folding.simd
    return padded * bits


def check_fit(top: Top, chip: Device) -> Resources:
    """The estimate. Raises FitError naming what can be routed too little of, and the layer that
    takes most of it."""
    needs = layer_needs(top, chip)
    refuse_beyond(total_need(top, chip), needs, top, chip, "this design")
    return estimate(top, chip)


def check_rest(top: Top, chip: Device) -> None:
    """Raises FitError when what is no convolution takes more than can be routed, in a design of
    the slowest foldings: found in a moment, where a search for foldings that fit takes long."""
    graph = top.netlist.graph
    needs = layer_needs(top, chip, [k for k, b in enumerate(graph.blocks) if b.kind != "conv"])
    whole = sum(needs.values(), Need())
    refuse_beyond(whole, needs, top, chip, "all but the convolutions")


def refuse_beyond(
    whole: Need, needs: Mapping[int, Need], top: Top, chip: Device, what: str
) -> None:
    """Raises FitError where the whole is more than can be routed."""
    limits = routable(chip)
    for name, said in ORDER:
        takes, most, has = (float(getattr(n, name)) for n in (whole, limits, chip))
        if takes > most and (name != "cells" or has):
            there = f"{has:,.0f}" if most == has else f"the {most:,.0f} of {has:,.0f} that route"
            layer = max(needs, key=lambda k: float(getattr(needs[k], name)))
            raise FitError(
                f"{chip.name} must have at least {ceil(takes):,} {said} for {what}, not {there}:"
                f" layer {top.netlist.graph.blocks[layer].origin!r} takes"
                f" {float(getattr(needs[layer], name)):,.0f} of them."
            )


def estimate(top: Top, chip: Device) -> Resources:
    """Sums over all components."""
    areas = [area_of(component) for component in top.components]
    whole = total_need(top, chip)
    stored: dict[bool, int] = defaultdict(int)
    for area in areas:
        for memory in area.memories:
            stored[memory.read_only] += memory.bits
    return Resources(
        whole.multipliers, whole.rams, ceil(whole.luts), ceil(whole.ffs), stored[True],
        stored[False], ceil(whole.cells),
    )  # fmt: skip


def total_need(top: Top, chip: Device) -> Need:
    """Of all components."""
    return sum((need(area_of(component), chip) for component in top.components), Need())


def layer_needs(top: Top, chip: Device, blocks: Collection[int] | None = None) -> dict[int, Need]:
    """By block, with the forks, queues and repackers behind its outputs; of these `blocks` alone,
    or of all."""
    found: dict[int, Need] = defaultdict(Need)
    for index, cell in enumerate(top.netlist.cells):
        if blocks is None or cell.block in blocks:
            found[cell.block] += need(area_of(top.component(index)), chip)
    return dict(found)


def layers(top: Top, chip: Device) -> list[dict[str, Any]]:
    """For each block: name, op, pe, simd, pixels (made at once), cycles, multipliers (products a
    cycle), rom_bits, fifo_depths, and what it takes of the target: luts, ffs, rams, dsps.

    fifo_depths are those of the queues behind the block's outputs.
    """
    n = top.netlist
    rows, needs = [], layer_needs(top, chip)
    for index, block in enumerate(n.graph.blocks):
        folding, component = n.foldings[index], top.components[index]
        rows.append(
            {
                "name": block.origin,
                "op": block.kind,
                "levels": len(block.writes[0]) if block.writes else 1,
                "form": folding.form if block.kind == "conv" else None,
                "weights": folding.weights if block.kind == "conv" else None,
                "pe": folding.pe,
                "simd": folding.simd,
                "pixels": folding.pixels,
                "cycles": folding.cycles,
                "multipliers": folding.multipliers,
                "rom_bits": sum(rom.bits for rom in getattr(component, "roms", ())),
                "fifo_depths": [
                    cell.depth for cell in n.cells if cell.kind == "fifo" and cell.block == index
                ],
                "luts": ceil(needs[index].luts),
                "ffs": ceil(needs[index].ffs),
                "rams": needs[index].rams,
                "dsps": needs[index].multipliers,
            }
        )
    return rows
