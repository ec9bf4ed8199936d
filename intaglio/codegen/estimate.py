"""Resources, estimated before synthesis: multipliers, block RAMs, look-up tables; what each layer
takes; and the refusal of what cannot fit.

The figures are sums of simple rules stated at each function, meant to be right within a factor of
about 1.5 for LUTs and much closer for memories and multipliers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from intaglio.codegen.assemble import Top
from intaglio.codegen.devices import Device
from intaglio.codegen.fold import Plan
from intaglio.codegen.graph import HardwareGraph
from intaglio.errors import BuildError
from intaglio.hdl.fifo import LUT_RAM_DEPTH
from intaglio.hdl.stream import ceil_div
from intaglio.ops import Conv2d

SMALL_RAM = 1_024  # bits; memories up to this size go to LUTs
SMALL_PRODUCT = 9  # bits; synthesis makes narrower products of LUTs


@dataclass(frozen=True)
class Resources:
    """multipliers and rams of the device, LUTs, and the bits of all ROMs and buffers."""

    multipliers: int
    rams: int
    luts: int
    rom_bits: int
    buffer_bits: int

    def to_json(self) -> dict[str, int]:
        """Every field."""
        return asdict(self)


def check_weights(graph: HardwareGraph, plan: Plan, chip: Device) -> None:
    """Raises BuildError when the weights alone are more than the target's block RAM."""
    bits = sum(weight_bits(graph, plan, k) for k in range(len(graph.blocks)))
    if bits > chip.memory_bits:
        raise BuildError(
            f"The weights must fit into the {chip.memory_bits:,} bits of block RAM of {chip.name},"
            f" not take {bits:,}; choose a larger target, fewer channels or narrower weights."
        )


def weight_bits(graph: HardwareGraph, plan: Plan, index: int) -> int:
    """Bits of a block's weight ROM, channels padded to PE and SIMD."""
    op, folding = graph.blocks[index].ops[:1], plan.foldings[index]
    if not op or not isinstance(op[0], Conv2d):
        return 0
    weight = graph.program.constants[op[0].weight]
    cout, cin, kh, kw = (int(n) for n in weight.array.shape)
    if folding.depthwise:
        return ceil_div(cout, folding.simd) * folding.simd * kh * kw * weight.code_bits
    padded = ceil_div(cout, folding.pe) * folding.pe * ceil_div(cin, folding.simd) * folding.simd
    return padded * kh * kw * weight.code_bits


def check_fit(top: Top, chip: Device) -> Resources:
    """The estimate. Raises BuildError naming what the target has too little of."""
    found = estimate(top, chip)
    for name, need, has in (
        ("multipliers", found.multipliers, chip.multipliers),
        ("block RAMs", found.rams, chip.rams),
        ("LUTs", found.luts, chip.luts),
    ):
        if need > has:
            raise BuildError(
                f"{chip.name} must have at least {need:,} {name} for this design, not {has:,};"
                " choose a larger target, or a lower rate with --fps or --lanes."
            )
    return found


def estimate(top: Top, chip: Device) -> Resources:
    """Sums over all components. Products too wide for the multipliers that are left, and narrow
    ones, are made of LUTs: about one LUT for each bit of the one times each bit of the other."""
    memories = [shape for component in top.components for shape in memory_shapes(component)]
    roms = [(rom.depth, rom.width) for rom in top.roms]
    large = [s for s in memories + roms if s[0] * s[1] > SMALL_RAM]
    small = sum(d * w for d, w in memories + roms if d * w <= SMALL_RAM)
    products = sorted(p for k in range(len(top.components)) for p in product_shapes(top, k))
    hard, luts = 0, small // 16
    for a, b, count in reversed(products):
        tiles = ceil_div(a, chip.dsp[0]) * ceil_div(b, chip.dsp[1])
        taken = 0 if a + b < SMALL_PRODUCT else min(count, (chip.multipliers - hard) // tiles)
        hard += tiles * taken
        luts += (count - taken) * a * b
        luts += count * (a + b)  # adder and registers behind each product
    luts += sum(2 * wire.width + 40 for wire in top.netlist.wires)
    return Resources(
        multipliers=hard,
        rams=sum(block_rams(depth, width, chip) for depth, width in large),
        luts=luts,
        rom_bits=sum(d * w for d, w in roms),
        buffer_bits=sum(d * w for d, w in memories),
    )


def memory_shapes(component: Any) -> list[tuple[int, int]]:
    """(words, bits a word) of a component's line buffer and queues."""
    found = []
    window = getattr(component, "window", component)
    if hasattr(window, "buffer"):
        found.append((window.buffer.size, window.buffer.width))
    drain = getattr(component, "drain", component)
    for queue in (getattr(drain, "outlet", None), component):
        if queue is not None and hasattr(queue, "depth") and hasattr(queue, "latency"):
            width = queue.fifo.width if hasattr(queue, "fifo") else queue.width
            if queue.depth > LUT_RAM_DEPTH:
                found.append((queue.depth, width))
            else:  # LUT RAM: 16 deep steps
                found.append((ceil_div(queue.depth, 16) * 16, width))
    return found


def product_shapes(top: Top, index: int) -> list[tuple[int, int, int]]:
    """(bits, bits, how many) of the products of one cell; a constant operand counts like any."""
    cell, component = top.netlist.cells[index], top.components[index]
    if cell.kind == "add":
        bits = [abs(m).bit_length() + 1 for m in component.multipliers]
        pairs = zip(component.types[:2], bits, strict=True)
        return [wide_first(t.bits, b, component.lanes) for t, b in pairs]
    if cell.kind not in ("conv", "sum", "scale"):
        return []
    drain = getattr(component, "drain", component)
    requantiser = drain.requantiser
    multipliers = requantiser.columns["multiplier"]
    bits = max(abs(m).bit_length() for m in multipliers) + 1
    found = [wide_first(requantiser.x.bits, bits, requantiser.lanes)]
    if cell.kind == "conv":
        macs = sum(len(pairs) for pairs in component.pairs)
        found.append(wide_first(component.window.x.bits, component.w.bits, macs))
    return found


def wide_first(a: int, b: int, count: int) -> tuple[int, int, int]:
    """The wider operand first."""
    return max(a, b), min(a, b), count


def block_rams(depth: int, width: int, chip: Device) -> int:
    """Block RAMs of a memory in the best of their shapes, ram_bits = words * width."""
    best, lanes = depth * width, chip.ram_width
    while lanes >= 1:
        words = chip.ram_bits // lanes
        best = min(best, ceil_div(width, lanes) * ceil_div(depth, words))
        lanes //= 2
    return best


def layers(top: Top) -> list[dict[str, Any]]:
    """For each block: name, op, pe, simd, cycles, multipliers, rom_bits, fifo_depths.

    fifo_depths are those of the queues behind the block's outputs.
    """
    n = top.netlist
    rows = []
    for index, block in enumerate(n.graph.blocks):
        folding, component = n.foldings[index], top.components[index]
        rows.append(
            {
                "name": block.origin,
                "op": block.kind,
                "levels": len(block.writes[0]) if block.writes else 1,
                "pe": folding.pe,
                "simd": folding.simd,
                "cycles": folding.cycles,
                "multipliers": folding.multipliers,
                "rom_bits": sum(rom.bits for rom in getattr(component, "roms", ())),
                "fifo_depths": [
                    cell.depth for cell in n.cells if cell.kind == "fifo" and cell.block == index
                ],
            }
        )
    return rows
