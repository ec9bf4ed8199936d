"""What every lane of every output beat must be: which input lanes it comes from, and how.

One round is what a block repeats for ever: a beat of a queue, a pixel, an image with all its
levels. Blocks that only move codes are asked themselves: their `model` is run on numbers that name
the input lanes, so that what comes out says where each code came from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from intaglio.fixed import IntType
from intaglio.hdl.pack import Ints, frame_beats, unpack_word
from intaglio.hdl.stream import Frame

NAMED = 1 << 20  # numbers from here on name an input lane, smaller ones are codes
NAME_BITS = 24
NAMES = IntType(NAME_BITS, True)  # the type of the lanes of a block whose model is asked

Source = tuple[str, int, int]  # port, beat of the round, lane


@dataclass(frozen=True)
class Lane:
    """A lane of an output beat: a function of some input lanes."""

    sources: tuple[Source, ...]
    of: Callable[..., Any] = lambda x: x


@dataclass(frozen=True)
class Output:
    """One output port: the widths of its lanes, and the round's beats; None is don't-care."""

    bits: tuple[int, ...]
    beats: tuple[tuple[Lane | None, ...], ...]

    def needs(self, port: str) -> list[int]:
        """For each beat, how many beats of the port's round must be there before it."""
        most, needs = 0, []
        for beat in self.beats:
            lanes = [lane for lane in beat if lane is not None]
            at = [beat for lane in lanes for name, beat, _ in lane.sources if name == port]
            most = max([most, *(k + 1 for k in at)])
            needs.append(most)
        return needs

    def reads(self, port: str) -> bool:
        """Whether some beat needs one of the port's."""
        return self.needs(port)[-1] > 0


@dataclass(frozen=True)
class Input:
    """One input port: the type of a lane, and the beats of a round."""

    type: IntType
    beats: int


@dataclass(frozen=True)
class Round:
    """What a block makes of a round of inputs."""

    inputs: Mapping[str, Input]
    outputs: Mapping[str, Output]

    def partners(self, port: str) -> list[str]:
        """The inputs that some output needs together with this one, itself among them."""
        together = [o for o in self.outputs.values() if o.reads(port)]
        return [p for p in self.inputs if p == port or any(o.reads(p) for o in together)]


def named(port: str, beats: int, lanes: int, first: int = 0) -> tuple[list[int], dict[int, Source]]:
    """Beats of numbers that name their lanes (`NAME_BITS` each), and what the numbers mean."""
    words, names = [], {}
    for beat in range(beats):
        word = 0
        for lane in range(lanes):
            number = NAMED + first + beat * lanes + lane
            word |= number << lane * NAME_BITS
            names[number] = (port, beat, lane)
        words.append(word)
    return words, names


def named_frames(frames: Sequence[Frame], lanes: int) -> tuple[list[Ints], dict[int, Source]]:
    """A frame (C, H, W) of each level whose codes name their lanes on port `i`."""
    names: dict[int, Source] = {}
    images, start = [], 0
    for frame in frames:
        words = -(-frame.channels // lanes)
        image = np.empty((frame.channels, frame.height, frame.width), np.int64)
        for c, y, x in np.ndindex(image.shape):
            number = NAMED + len(names)
            beat = start + (y * frame.width + x) * words + c // lanes
            names[number] = ("i", beat, c % lanes)
            image[c, y, x] = number
        start += frame.beats(lanes)
        images.append(image)
    return images, names


def moved(number: int, names: Mapping[int, Source]) -> Lane:
    """The lane that a number names, or the constant that it is."""
    if number in names:
        return Lane((names[number],))
    assert number < NAMED, f"{number} names no lane"
    return Lane((), lambda: number)


def beats_moved(
    words: Sequence[int], names: Mapping[int, Source], lanes: int
) -> tuple[tuple[Lane | None, ...], ...]:
    """Output beats of named lanes, all of them in use."""
    return tuple(
        tuple(moved(number, names) for number in unpack_word(word, lanes, NAME_BITS, True))
        for word in words
    )


def frames_moved(
    frames: Sequence[Ints], names: Mapping[int, Source], lanes: int
) -> tuple[tuple[Lane | None, ...], ...]:
    """Output beats of frames of named lanes; lanes beyond the channels are don't-care."""
    beats: list[tuple[Lane | None, ...]] = []
    for frame in frames:
        table = np.empty(frame.shape, object)
        for at in np.ndindex(frame.shape):
            table[at] = moved(int(frame[at]), names)
        beats += frame_lanes(table, lanes)
    return tuple(beats)


def frame_lanes(frame: Any, lanes: int) -> list[tuple[Lane | None, ...]]:
    """A frame (C, H, W) of lanes as beats, in the order of `frame_beats`."""
    index = np.arange(1, frame.size + 1).reshape(frame.shape)
    flat = frame.reshape(-1)
    return [
        tuple(flat[k - 1] if k else None for k in unpack_word(word, lanes, NAME_BITS, False))
        for word in frame_beats(index, lanes, NAME_BITS)
    ]
