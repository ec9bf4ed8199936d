"""A tensor as the beats of a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.errors import ProgramError
from intaglio.fixed import IntType
from intaglio.hdl.pack import beats_frame, frame_beats, unpack_word
from intaglio.ops import Ints, Shape
from intaglio.program import Program

MOST_LANES = 65_536  # channels of a beat


@dataclass(frozen=True)
class Port:
    """One stream of a design, `{name}_tdata` and so on where it is an AXI4-Stream.

    tensor  the Program's tensor on it; `origin` the torch module it comes from.
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
        return -(-self.lanes * self.type.bits // 8) * 8

    @property
    def tensor_file(self) -> str:
        """The stem of files about this port."""
        return self.name.removeprefix("m_axis_")

    @property
    def beats_per_pixel(self) -> int:
        """ceil(C / lanes)."""
        return -(-self.shape[0] // self.lanes)

    @property
    def beats(self) -> int:
        """Beats of one frame."""
        return self.shape[1] * self.shape[2] * self.beats_per_pixel

    def pack(self, frames: Ints) -> list[int]:
        """Frames (N, C, H, W) as beats; unused lanes are 0."""
        return [b for f in frames for b in frame_beats(f, self.lanes, self.type.bits)]

    def frames(self, beats: Sequence[int]) -> Ints:
        """The inverse of `pack`, of whole frames; ignores unused lanes."""
        return np.stack(
            [
                beats_frame(
                    beats[k : k + self.beats],
                    self.shape,
                    self.lanes,
                    self.type.bits,
                    self.type.signed,
                )
                for k in range(0, len(beats), self.beats)
            ]
        )

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


def tensor_port(program: Program, tensor: str, lanes: int = 1, name: str = "") -> Port:
    """A tensor of the Program, accumulators too, on a stream of `lanes` channels a beat.

    Raises ProgramError for a tensor that the Program has not, or for no lanes.
    """
    if tensor not in program.tensors:
        known = ", ".join(program.tensors)
        raise ProgramError(f"The tensor must be one of {known}, not {tensor!r}.")
    if not 1 <= lanes <= MOST_LANES:
        raise ProgramError(f"lanes must be 1 to {MOST_LANES:,}, not {lanes:,}.")
    t = program.tensors[tensor]
    return Port(name or tensor, tensor, program.producer[tensor].origin, t.shape, t.type, lanes)
