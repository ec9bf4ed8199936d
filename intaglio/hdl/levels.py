"""Pyramid levels on one stream: a whole frame of each level in turn."""

from collections.abc import Sequence

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intaglio.hdl.stream import Frame, lanes_signature


class LevelMux(wiring.Component):
    """n streams into one: a whole frame from `i[0]`, then from `i[1]`, ..., and again.

    Latency 0; `i[k].ready` follows `o.ready` combinationally while level k passes.
    """

    def __init__(self, *, frames: Sequence[Frame], lanes: int, bits: int) -> None:
        self.frames = tuple(frames)
        self.beats = tuple(frame.beats(lanes) for frame in self.frames)
        beat = lanes_signature(lanes, bits)
        super().__init__({"i": In(beat).array(len(self.frames)), "o": Out(beat)})

    def model(self, inputs: Sequence[Sequence[int]]) -> list[int]:
        """The beats of each input (whole frames, the same number of each) to those of the output."""
        images = len(inputs[0]) // self.beats[0]
        out: list[int] = []
        for image in range(images):
            for beats, size in zip(inputs, self.beats, strict=True):
                out += beats[image * size : (image + 1) * size]
        return out


class LevelDemux(wiring.Component):
    """One stream into n: a whole frame to `o[0]`, then to `o[1]`, ..., and again.

    Latency 0; `i.ready` follows the `o[k].ready` of the passing level combinationally.
    """

    def __init__(self, *, frames: Sequence[Frame], lanes: int, bits: int) -> None:
        self.frames = tuple(frames)
        self.beats = tuple(frame.beats(lanes) for frame in self.frames)
        beat = lanes_signature(lanes, bits)
        super().__init__({"i": In(beat), "o": Out(beat).array(len(self.frames))})

    def model(self, beats: Sequence[int]) -> list[list[int]]:
        """Beats of whole images to the beats of each output."""
        out: list[list[int]] = [[] for _ in self.beats]
        at = 0
        while at < len(beats):
            for level, size in enumerate(self.beats):
                out[level] += beats[at : at + size]
                at += size
        return out
