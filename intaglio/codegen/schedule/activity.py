"""What a schedule looks like: the outputs' first beats, the engines' use, the queues over time."""

from __future__ import annotations

from typing import Any

import numpy as np

from intaglio.codegen.schedule.timing import Schedule
from intaglio.codegen.structure.assemble import Top
from intaglio.hdl.multiply import Multiply
from intaglio.ops import Conv2d, Ints

POINTS = 200  # of each curve over time


def activity(top: Top, schedule: Schedule) -> dict[str, Any]:
    """The schedule as plain numbers, in cycles from reset, with input offered at once.

    interval, latency  as `Schedule`.
    outputs   by Output: cycles of each frame's `first` and `last` beat.
    engines   of each convolution: `layer`; `multipliers`; `utilisation`, the products that the
              layer needs over those its multipliers could make in an interval.
    queues    of each queue: `name`; the `layer` whose output it carries; `depth` in beats of
              `width` bits; `peak`; `held`, the most beats in it during each step.
    step      cycles of a step.
    memory    bits of ROMs, line buffers and queues.
    """
    n = top.netlist
    frames, end = len(schedule.finished), schedule.finished[-1] + 1
    step = -(-end // POINTS)
    outputs = {}
    for cell in n.cells:
        if cell.kind == "sink":
            times = schedule.taken[cell.ins[0]].reshape(frames, -1)
            name = n.graph.blocks[cell.block].ops[0].output
            outputs[name] = {"first": times[:, 0].tolist(), "last": times[:, -1].tolist()}
    queues = []
    for i in n.fifos:
        cell, wire = n.cells[i], n.wires[n.cells[i].ins[0]]
        entered, left = schedule.taken[cell.ins[0]], schedule.taken[cell.outs[0]]
        queues.append(
            {
                "name": cell.name,
                "layer": n.graph.blocks[cell.block].origin,
                "depth": cell.depth,
                "width": wire.width,
                "peak": schedule.peaks[i],
                "held": filling(entered, left, step, end),
            }
        )
    return {
        "interval": schedule.interval,
        "latency": schedule.latency,
        "outputs": outputs,
        "engines": utilisations(top, schedule.interval),
        "queues": queues,
        "step": step,
        "memory": memory(top),
    }


def filling(entered: Ints, left: Ints, step: int, end: int) -> list[int]:
    """The most beats in a queue during each step: cycles of entry and leaving, ascending."""
    entered, left = entered[entered < end], left[left < end]  # later ones: of what no output needs
    change = np.bincount(entered, minlength=end) - np.bincount(left, minlength=end)
    held = np.append(change.cumsum(), np.zeros(-len(change) % step, np.int64))
    most: list[int] = held.reshape(-1, step).max(axis=1).tolist()
    return most


def utilisations(top: Top, interval: int) -> list[dict[str, Any]]:
    """Of each convolution, how much of its multipliers' time makes products that count."""
    n, found = top.netlist, []
    for block, folding in zip(n.graph.blocks, n.foldings, strict=True):
        if block.kind != "conv":
            continue
        products = 0
        for op in block.ops:
            assert isinstance(op, Conv2d)
            weights = n.graph.program.constants[op.weight].array.size
            _, height, width = n.graph.program.tensors[op.output].shape
            products += weights * height * width
        multipliers = folding.products
        share = products / (multipliers * interval)
        found.append({"layer": block.origin, "multipliers": multipliers, "utilisation": share})
    return found


def memory(top: Top) -> dict[str, int]:
    """Bits of ROMs, line buffers and queues between blocks."""
    buffers = 0
    for component in top.components:
        buffer = getattr(getattr(component, "window", component), "buffer", None)
        if buffer is not None and hasattr(buffer, "size"):
            buffers += buffer.size * buffer.width * buffer.copies
        if isinstance(component, Multiply) and component.keeps:
            buffers += component.fresh * component.kept_width
    n = top.netlist
    return {
        "roms": sum(rom.bits for rom in top.roms),
        "line_buffers": buffers,
        "queues": sum(n.cells[i].depth * n.wires[n.cells[i].ins[0]].width for i in n.fifos),
    }
