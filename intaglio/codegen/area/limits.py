"""How much of a target a design may take."""

from __future__ import annotations

from intaglio.codegen.area.devices import Device
from intaglio.codegen.area.mapping import Need

# Of tables and flip-flops: no design routed here took more than 0.6, place and route gets hard
# above 0.8, and our estimate may be a sixth too low.
FILLED = 0.85


def usable(chip: Device) -> Need:
    """What place and route can fill and still meet a clock, by experience."""
    return Need(0.6 * chip.luts, 0.6 * chip.ffs, 0.85 * chip.rams, int(0.95 * chip.multipliers),
                0.85 * chip.cells)  # fmt: skip


def routable(chip: Device) -> Need:
    """What a design may take at all; of logic cells, memories and multipliers every one."""
    part = 1.0 if chip.cells or chip.family == "generic" else FILLED
    return Need(part * chip.luts, part * chip.ffs, chip.rams, chip.multipliers, chip.cells)


def reserve(limits: Need) -> Need:
    """For what lies between convolutions, before it is there: a tenth, but of multipliers."""
    return Need(0.1 * limits.luts, 0.1 * limits.ffs, 0.1 * limits.rams, 0, 0.1 * limits.cells)
