"""How many bits the codes have that tables are indexed by.

A table is exact for each of its codes, but the codes themselves are rounded before it: a SiLU's
argument has twice the range of what it makes, and so codes of eight bits twice as coarse. Each bit
more makes the error a quarter and the table's ROM twice as large.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from intaglio.quant.capture.graph import FloatGraph, Lookup
from intaglio.quant.ranges.grids import Grid, activation_grid
from intaglio.quant.ranges.groups import INDEX, Group, alike_under_shared_weights, width
from intaglio.quant.ranges.observe import Histogram
from intaglio.quant.settings.config import QuantConfig

WIDEST = 11  # a block RAM of 18 kbit holds 2^11 entries of a byte
ADDED = 1 / 4  # of the mean squared error that a table's own codes have: what its index may add


def widened(
    graph: FloatGraph, found: tuple[Group, ...], seen: Mapping[str, Histogram], config: QuantConfig
) -> tuple[Group, ...]:
    """The groups, of which those that only tables read have as few bits as the error allows."""
    arithmetic = config.arithmetic
    theirs = arithmetic.forms != "own" or arithmetic.product != "exact"
    if config.table_bits is not None or theirs:
        return found
    group_of = {tensor: group for group in found for tensor in group.tensors}
    made = list(found)
    for n, group in enumerate(found):
        if group.why != INDEX or width(graph, config, group.tensors)[1]:
            continue
        tables = [r for t in group.read for r in graph.readers[t] if isinstance(r, Lookup)]
        limits = [ADDED * own_error(group_of[table.output], seen, config) for table in tables]
        bits = group.bits
        while bits < WIDEST:
            grid = activation_grid(seen[group.tensors[0]], bits, group.unsigned, config)
            errors = [through(table, grid, seen[group.tensors[0]]) for table in tables]
            if all(e <= limit for e, limit in zip(errors, limits, strict=True)):
                break
            bits += 1
        made[n] = replace(group, bits=bits)
    return alike_under_shared_weights(graph, made)


def own_error(group: Group, seen: Mapping[str, Histogram], config: QuantConfig) -> float:
    """The mean squared error of codes within their range: a twelfth of a step squared."""
    grid = activation_grid(seen[group.tensors[0]], group.bits, group.unsigned, config)
    return grid.scale**2 / 12


def through(table: Lookup, grid: Grid, seen: Histogram) -> float:
    """The mean squared error that rounding to a grid makes behind a table."""
    x = seen.centres
    apart = table.tables(x) - table.tables(grid.real(grid.codes(x)))
    squares = apart.square().mean(dim=0) if apart.ndim > 1 else apart.square()
    return float((squares * seen.counts).sum() / max(float(seen.counts.sum()), 1.0))
