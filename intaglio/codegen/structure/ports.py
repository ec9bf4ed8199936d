"""The ports of the top, and stimulus for them."""

from __future__ import annotations

import numpy as np

from intaglio.codegen.structure.netlist import Netlist
from intaglio.cosim.port import Port as Port
from intaglio.cosim.protocol import Fault as Fault
from intaglio.fixed import IntType
from intaglio.ops import Ints, Shape

FRAME_ERROR = "frame_error"  # output of the top: a packet of the input was no whole frame


def ports_of(netlist: Netlist) -> tuple[Port, tuple[Port, ...]]:
    """The input port and the output ports, in the Program's order."""
    program = netlist.graph.program
    found = {}
    for cell in netlist.cells:
        if cell.kind not in ("source", "sink"):
            continue
        wire = netlist.wires[(cell.ins or cell.outs)[0]]
        block = netlist.graph.blocks[cell.block]
        tensor = program.tensors[block.ops[0].output]
        made_by = program.producer[wire.key[0]]
        name = "s_axis" if cell.kind == "source" else f"m_axis_{block.name.removesuffix('_sink')}"
        origin = block.ops[0].origin or made_by.origin
        found[tensor.name] = Port(name, tensor.name, origin, tensor.shape, wire.type, wire.lanes)
    return found[program.inputs[0].name], tuple(found[t.name] for t in program.outputs)


def random_frames(type: IntType, shape: Shape, count: int) -> Ints:
    """Stimulus when none is given: the same frames for the same shape, always."""
    rng = np.random.default_rng((count, *shape, type.bits))
    return rng.integers(type.lo, type.hi, size=(count, *shape), endpoint=True)
