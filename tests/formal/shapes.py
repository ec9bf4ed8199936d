"""What each kind of block must do with a round, for `expect`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from expect import (
    NAME_BITS,
    NAMES,
    Input,
    Lane,
    Output,
    Round,
    Source,
    beats_moved,
    frame_lanes,
    frames_moved,
    moved,
    named,
    named_frames,
)

from intaglio.fixed import ROUNDINGS, IntType
from intaglio.hdl.engine import Engine
from intaglio.hdl.link import Link
from intaglio.hdl.pool import MaxPool
from intaglio.hdl.requant import Scaling, clamped
from intaglio.hdl.stream import Frame


def raw(bits: int) -> IntType:
    """Bits without a meaning."""
    return IntType(bits, False)


def same(bits: int) -> Round:
    """Every beat of `i` leaves at `o`."""
    return Round({"i": Input(raw(bits), 1)}, {"o": Output((bits,), ((Lane((("i", 0, 0),)),),))})


def forked(bits: int, n: int) -> Round:
    """Every beat of `i` leaves at each `o.k`."""
    once = same(bits)
    return Round(once.inputs, {f"o.{k}": once.outputs["o"] for k in range(n)})


def merged(wide: Any, bits: int, lanes: int = 1) -> Round:
    """A `Merge` or `Concat`; `wide` is the same with lanes of names."""
    streams, names = [], {}
    for k, beats in enumerate(wide.beats):
        words, more = named(f"i.{k}", beats, lanes, first=len(names))
        streams.append(words)
        names |= more
    out = beats_moved(wide.model(streams), names, lanes)
    inputs = {f"i.{k}": Input(raw(bits), beats) for k, beats in enumerate(wide.beats)}
    return Round(inputs, {"o": Output((bits,) * lanes, out)})


def split(wide: Any, bits: int, lanes: int = 1) -> Round:
    """A `Split`; `wide` is the same with lanes of names."""
    words, names = named("i", sum(wide.beats), lanes)
    outs = [beats_moved(beats, names, lanes) for beats in wide.model(words)]
    outputs = {f"o.{k}": Output((bits,) * lanes, beats) for k, beats in enumerate(outs)}
    return Round({"i": Input(raw(bits), len(words))}, outputs)


def repacked(wide: Any, bits: int) -> Round:
    """A `Repack` of one pixel; `wide` is the same with lanes of names."""
    words, names = named("i", wide.per_pixel, wide.lanes_in)
    beats = beats_moved(wide.model(words), names, wide.lanes_out)
    flat = [lane if lane and lane.sources else None for beat in beats for lane in beat]
    n = wide.lanes_out
    unused = tuple(tuple(flat[at : at + n]) for at in range(0, len(flat), n))
    return Round({"i": Input(raw(bits), len(words))}, {"o": Output((bits,) * n, unused)})


def reshaped(wide: Any, frame: Frame, x: IntType, lanes: int) -> Round:
    """A `Pad` or `Upsample`; `wide` is the same with lanes of names."""
    (image,), names = named_frames([frame], lanes)
    beats = frames_moved([wide.model(image)], names, lanes)
    return Round({"i": Input(x, frame.beats(lanes))}, {"o": Output((x.bits,) * lanes, beats)})


def held(round: Round) -> Round:
    """The same of a block that takes all of `i` before it gives anything: every lane has the last
    beat's as a source, too."""
    ends = ("i", round.inputs["i"].beats - 1, 0)

    def later(lane: Lane | None) -> Lane | None:
        if lane is None or ends in lane.sources:
            return lane
        return Lane((*lane.sources, ends), lambda *values, of=lane.of: of(*values[:-1]))

    outputs = {
        name: replace(o, beats=tuple(tuple(map(later, beat)) for beat in o.beats))
        for name, o in round.outputs.items()
    }
    return replace(round, outputs=outputs)


def requantised(total: Any, scaling: Scaling, channel: int) -> Any:
    """A `Scaling` with rounding half up, by the rules of `fixed`."""
    m, b, s, offset, lo, hi = scaling.of(channel)
    return clamped(ROUNDINGS["RND"](total * m + b, s) + offset, lo, hi)


def sent(bits: int, bytes_: int, beats: int) -> Round:
    """An `AxisSender`: data with zeros above, then last."""
    out = tuple(
        (Lane((("i", k, 0),)), Lane((), lambda last=int(k == beats - 1): last))
        for k in range(beats)
    )
    return Round({"i": Input(raw(bits), beats)}, {"o": Output((8 * bytes_, 1), out)})


def received(bits: int, bytes_: int) -> Round:
    """An `AxisReceiver`: the low bits of the data."""
    once = same(bits)
    return replace(once, inputs={"i": Input(raw(8 * bytes_), 1)})


def linked(link: Link, watched: int) -> Round:
    """A `Link`: bytes make a beat of `o`, without a tlast; watched beats come back at `s`."""
    size, beat = len(link.o.tdata) // 8, 1 + link.widths[watched]
    word = (*(Lane((("rx", k, 0),)) for k in range(size)), Lane((), lambda: 0))
    inputs = {f"i{k}": Input(raw(1 + width), 1) for k, width in enumerate(link.widths)}
    outputs = {
        "o": Output((8,) * size + (1,), (word,)),
        "s": Output((beat,), ((Lane(((f"i{watched}", 0, 0),)),),)),
    }
    return Round({"rx": Input(raw(8), size), **inputs}, outputs)


def scaled(frames: Sequence[Frame], x: IntType, y: int, scalings: Sequence[Scaling]) -> Round:
    """A `Scale` of one lane."""
    images, names = named_frames(frames, 1)
    beats: list[tuple[Lane | None, ...]] = []
    for image, scaling in zip(images, scalings, strict=True):
        table = np.empty(image.shape, object)
        for at in np.ndindex(image.shape):
            source = names[int(image[at])]
            table[at] = Lane((source,), lambda v, s=scaling, c=at[0]: requantised(v, s, c))
        beats += frame_lanes(table, 1)
    return Round({"i": Input(x, len(names))}, {"o": Output((y,), tuple(beats))})


def pooled(block: MaxPool, frames: Sequence[Frame]) -> Round:
    """The largest code of each window."""
    geometry, lanes = block.window.geometry, block.lanes
    images, names = named_frames(frames, lanes)
    beats: list[tuple[Lane | None, ...]] = []
    for image in images:
        windows = geometry.windows(image, (block.x.lo,)).transpose(2, 0, 1, 3, 4)
        table = np.empty(windows.shape[:3], object)
        for at in np.ndindex(table.shape):
            codes = [moved(int(v), names) for v in windows[at].reshape(-1)]
            sources = tuple(lane.sources[0] for lane in codes if lane.sources)
            table[at] = Lane(sources, largest)
        beats += frame_lanes(table, lanes)
    size = sum(frame.beats(lanes) for frame in frames)
    return Round({"i": Input(block.x, size)}, {"o": Output((block.x.bits,) * lanes, tuple(beats))})


def largest(first: Any, *others: Any) -> Any:
    """The largest of some codes."""
    from amaranth.hdl import Mux

    for other in others:
        first = Mux(other > first, other, first)
    return first


def convolved(block: Engine, frames: Sequence[Frame], y: int, out_lanes: int) -> Round:
    """Exact sums of products of each window, requantised."""
    window = block.window
    images, names = named_frames(frames, window.lanes)
    beats: list[tuple[Lane | None, ...]] = []
    for level, image in enumerate(images):
        weights = block.kernels[block.sets[level]]
        group, cin = len(weights) // block.groups, weights.shape[1]
        windows = window.geometry.windows(image, window.pads_of(level))
        table = np.empty((len(weights), *windows.shape[:2]), object)
        for c, oy, ox in np.ndindex(table.shape):
            start = c // group * cin
            codes = windows[oy, ox, start : start + cin].reshape(-1).tolist()
            terms = [(moved(v, names), w) for v, w in zip(codes, weights[c].flat, strict=True)]
            # The walk begins when the pixels of all windows side by side are whole, with all
            # their channels.
            at = ox - ox % window.pixels
            side_by_side = windows[oy, at : at + window.pixels].reshape(-1).tolist()
            whole = [names[v] for v in side_by_side if v in names]
            table[c, oy, ox] = convolution(terms, whole, block.scalings[level], c)
        beats += frame_lanes(table, out_lanes)
    size = sum(frame.beats(window.lanes) for frame in frames)
    return Round({"i": Input(window.x, size)}, {"o": Output((y,) * out_lanes, tuple(beats))})


def convolution(
    terms: Sequence[tuple[Lane, int]], whole: Sequence[Source], scaling: Scaling, channel: int
) -> Lane:
    """The lane of one output channel, after the `whole` window; constants are pad values."""
    inside = [(lane.sources[0], int(weight)) for lane, weight in terms if lane.sources]
    outside = sum(lane.of() * int(weight) for lane, weight in terms if not lane.sources)

    def value(*codes: Any) -> Any:
        total: Any = outside
        for code, (_, weight) in zip(codes, inside, strict=False):
            total = total + code * weight
        return requantised(total, scaling, channel)

    return Lane((*(source for source, _ in inside), *whole), value)


def widened(**kind: Any) -> dict[str, Any]:
    """The arguments of a block with lanes of names."""
    return {**kind, "bits": NAME_BITS} if "bits" in kind else {**kind, "x": NAMES}
