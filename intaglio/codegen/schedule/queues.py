"""How full every queue is over time: what a build keeps of its schedule for the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from intaglio.codegen.schedule.timing import Schedule
from intaglio.codegen.structure.netlist import Netlist
from intaglio.errors import BuildError
from intaglio.ops import Ints

QUEUES = "queues.json"
STEPS = 140  # points of a curve


def queue_trace(netlist: Netlist, schedule: Schedule) -> dict[str, Any]:
    """Cycles from reset to the last output beat, the ends of frames, and for each queue the block
    before it, its places, bits a beat, and the most beats that it held in each of STEPS parts of
    that time."""
    end = schedule.finished[-1] + 1
    queues = []
    for index in netlist.fifos:
        cell = netlist.cells[index]
        taken, given = schedule.taken[cell.ins[0]], schedule.taken[cell.outs[0]]
        block = netlist.graph.blocks[cell.block]
        queues.append(
            {
                "name": cell.name,
                "layer": block.writes[0][0] if block.ops else block.name,
                "places": cell.depth,
                "width": netlist.wires[cell.ins[0]].width,
                "held": most_held(taken, given, end).tolist(),
            }
        )
    return {"cycles": end, "frame_ends": list(schedule.finished), "queues": queues}


def most_held(entered: Ints, left: Ints, end: int, steps: int = STEPS) -> Ints:
    """The most beats in a queue during each of `steps` parts of `end` cycles.

    `entered` and `left` are ascending: beat n is in the queue from cycle entered[n] until left[n],
    in which its place is free again.
    """
    starts = np.arange(steps) * end // steps
    held = np.searchsorted(entered, starts, "left") - np.searchsorted(left, starts, "right")
    at_entry = np.arange(1, len(entered) + 1) - np.searchsorted(left, entered, "right")
    part = np.searchsorted(starts, entered, "right") - 1
    np.maximum.at(held, part[entered < end], at_entry[entered < end])
    return np.asarray(held, dtype=np.int64)


def to_text(trace: Mapping[str, Any]) -> str:
    """queues.json."""
    return json.dumps(trace) + "\n"


def read_queues(text: str, name: str) -> dict[str, Any]:
    """The inverse. Raises BuildError for something else, found in the file `name`."""
    try:
        found: dict[str, Any] = json.loads(text)
        ends = [int(n) for n in found["frame_ends"]]
        queues = [
            {"name": str(q["name"]), "layer": str(q["layer"]), "places": int(q["places"]),
             "width": int(q["width"]), "held": [int(n) for n in q["held"]]}
            for q in found["queues"]
        ]  # fmt: skip
        return {"cycles": int(found["cycles"]), "frame_ends": ends, "queues": queues}
    except (ValueError, KeyError, TypeError) as error:
        raise BuildError(f"{name} must be as `intaglio build` wrote it; build again.") from error
