"""Ports of the top: AXI4-Stream names and widths, and tensors as beats on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.codegen.netlist import Netlist
from intaglio.fixed import IntType
from intaglio.hdl.pack import frame_beats, unpack_word
from intaglio.hdl.stream import ceil_div
from intaglio.ops import Ints, Shape


@dataclass(frozen=True)
class Port:
    """One AXI4-Stream of the top, `{name}_tdata` and so on.

    tensor  the Program's Input or Output; `origin` the torch module it comes from.
    lanes   channels a beat, each of `type`, lane 0 in the low bits.
    """

    name: str
    tensor: str
    origin: str
    shape: Shape
    type: IntType
    lanes: int

    @property
    def data_width(self) -> int:
        """Bits of tdata: the payload rounded up to bytes."""
        return ceil_div(self.lanes * self.type.bits, 8) * 8

    @property
    def tensor_file(self) -> str:
        """The stem of files about this port."""
        return self.name.removeprefix("m_axis_")

    @property
    def beats_per_pixel(self) -> int:
        """ceil(C / lanes)."""
        return ceil_div(self.shape[0], self.lanes)

    @property
    def beats(self) -> int:
        """Beats of one frame."""
        return self.shape[1] * self.shape[2] * self.beats_per_pixel

    def pack(self, frames: Ints) -> list[int]:
        """Frames (N, C, H, W) as beats; unused lanes are 0."""
        return [b for f in frames for b in frame_beats(f, self.lanes, self.type.bits)]

    def unpack(self, beat: int) -> list[int]:
        """The lanes of one beat."""
        return unpack_word(beat, self.lanes, self.type.bits, self.type.signed)

    def masks(self) -> list[int]:
        """For each beat of a pixel, the bits of tdata that mean something."""
        used = [
            min(self.lanes, self.shape[0] - k * self.lanes) for k in range(self.beats_per_pixel)
        ]
        padding = ((1 << self.data_width) - 1) >> (self.lanes * self.type.bits)
        padding <<= self.lanes * self.type.bits
        return [((1 << n * self.type.bits) - 1) | padding for n in used]

    def locate(self, beat: int) -> tuple[int, int, int, int]:
        """(frame, first channel, y, x) of beat number `beat`, counted from the first frame."""
        frame, rest = divmod(beat, self.beats)
        pixel, word = divmod(rest, self.beats_per_pixel)
        return frame, word * self.lanes, *divmod(pixel, self.shape[2])

    def to_json(self) -> dict[str, Any]:
        """For the manifest; `from_json` is the inverse."""
        return {
            "name": self.name,
            "tensor": self.tensor,
            "origin": self.origin,
            "shape": list(self.shape),
            "type": str(self.type),
            "lanes": self.lanes,
            "data_width": self.data_width,
            "beats": self.beats,
        }

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> Port:
        """Read a manifest's entry."""
        channels, height, width = stored["shape"]
        return Port(
            stored["name"],
            stored["tensor"],
            stored["origin"],
            (channels, height, width),
            IntType.parse(stored["type"]),
            stored["lanes"],
        )


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
