"""3x3 convolution with a quarter or half of the multiplications, exact on integers.

The tiles of a map go through in chunks whose points stay in a core's cache: all points of a chunk,
products of a group of channels point by point, and the sums of the group's pixels. What the
transforms are, and why they are exact, is in `sim.transforms`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intaglio.ops import Ints
from intaglio.sim.compiled import caller, inlined, jit
from intaglio.sim.dots import call_block
from intaglio.sim.isa import Unit
from intaglio.sim.kernels import TRN, Scaling, copy, requant_channels
from intaglio.sim.vector.forms import Form
from intaglio.sim.vector.packed import DTYPES, Map, Requantised

GROUP = 64  # output channels whose products lie in the cache together
GAP = 64  # bytes between the rows of points beyond their own: powers of two would share cache sets
CACHE = 600 << 10  # bytes of points that go through together


@dataclass(frozen=True)
class Shares:
    """How workers share a convolution: `chunk` tiles go through together, in whole blocks, and a
    chunk's output channels in `splits` parts. `size` of these there are in all."""

    chunk: int
    splits: int
    size: int


def shares(form: Form, count: int, cin: int, cout: int, workers: int) -> Shares:
    """Chunks whose points stay in a core's cache. Fewer tiles at a time would read all weights more
    often: where workers would not have as many chunks each, they make some of the channels."""
    fitting = max(16, CACHE // (form.points * form.each * cin) // 8 * 8)
    chunks = -(-count // min(fitting, 64))
    even = chunks % workers == 0 or chunks > 4 * workers
    splits = 1 if even else min(workers, -(-cout // GROUP))
    return Shares(-(-count // (chunks * 8)) * 8, splits, chunks * splits)


def pack(weight: Ints, unit: Unit, form: Form) -> NDArray[np.int8 | np.int16]:
    """G w G^T of weights (Cout, Cin, 3, 3) as (Cout / lanes, points, Cin / each, lanes, each),
    padded by 0: each = 4 bytes or 2 words. A point's weights lie before the next one's."""
    cout, cin = weight.shape[:2]
    each = 4 // form.each
    blocks, groups = -(-cout // unit.lanes), -(-cin // each)
    points = np.zeros((form.points, blocks * unit.lanes, groups * each), DTYPES[form.operand])
    for first, made in form.in_parts(weight):
        points[:, first : first + made.shape[1], :cin] = made
    split = points.reshape(form.points, blocks, unit.lanes, groups, each)
    return np.ascontiguousarray(split.transpose(1, 0, 3, 2, 4))


def begins(weight: Ints, form: Form, span: int, lanes: int) -> NDArray[np.int32]:
    """What the products of each point begin at, (points, Cout padded): less what `offsets` added
    to each of its codes, times the weights."""
    width = -(-weight.shape[0] // (2 * lanes)) * 2 * lanes
    made, offsets = np.zeros((form.points, width), dtype=np.int32), form.offsets(span)
    if offsets.any():
        for first, points in form.in_parts(weight):
            made[:, first : first + points.shape[1]] = points.sum(axis=2) * -offsets[:, None]
    return made


call_spread, call_gather, call_gather_codes = caller(6), caller(5), caller(11)


class Work(NamedTuple):
    """What both kernels share.

    one, two      addresses of the `dots.Blocks` of the form's operand
    spread        that of `make_spread`'s function
    span          its argument: the codes are 0 ... span
    pixels        of a block
    tall, wide    of a tile of outputs
    each          bytes of a point
    height, width of the output
    splits        of `Shares`
    """

    one: int
    two: int
    spread: int
    span: int
    pixels: int
    tall: int
    wide: int
    each: int
    height: int
    width: int
    splits: int


@jit
def padded(channels: int, lanes: int) -> int:
    """Channels rounded up to whole registers."""
    return (channels + lanes - 1) // lanes * lanes


@jit
def spread_chunk(
    work: Work, x: Map, cin: int, lanes: int, begin: int, count: int, points: Any
) -> None:
    """B^T x B of every channel of tiles begin ... begin + count - 1, tile by tile in each row of
    points."""
    held = 4 * lanes // work.each
    pitch = padded(cin, held) * work.each
    across = (work.width + work.wide - 1) // work.wide
    out, stride = points.ctypes.data, points.strides[0]
    for t in range(count):
        tile = begin + t
        ty, tx = tile // across * work.tall, tile % across * work.wide
        place = x.address + ty * x.row + tx * x.column
        for c in range(0, cin, held):
            to = out + t * pitch + c * work.each
            call_spread(work.spread, (place + c, x.row, x.column, to, stride, work.span))


@jit
def multiply(
    work: Work, weight: Any, begins: Any, cin: int, g: int, outs: int, count: int, points: Any,
    places: Any, products: Any,
) -> None:  # fmt: skip
    """The products of a chunk's points for `outs` channels from g on."""
    all_points, steps, lanes = weight.shape[1:4]
    pitch = padded(cin, 4 * lanes // work.each) * work.each
    step = steps * lanes * 4
    for t in range(places.size - 1):  # tiles, and one distance of nothing
        places[t] = points.ctypes.data + t * pitch
    places[places.size - 1] = 0
    at_tiles, at_point = places.ctypes.data, places.ctypes.data + (places.size - 1) * 8
    m, m_row = products.ctypes.data, products.strides[0]
    for p in range(all_points):
        for c in range(0, outs, 2 * lanes):
            w = weight.ctypes.data + ((g + c) // lanes * all_points + p) * step
            start = begins.ctypes.data + p * begins.strides[0] + (g + c) * 4
            block = work.two if c + lanes < outs else work.one
            for t in range(0, count, work.pixels):
                to = m + p * m_row + (t * GROUP + c) * 4
                call_block(
                    block,
                    (
                        at_tiles + t * 8, at_point, 1, steps, w, all_points * step, start, to,
                        GROUP * 4,
                    ),
                )  # fmt: skip
        for t in range(places.size - 1):
            places[t] += points.strides[0]


@inlined
def store_by(
    sums: Any, tile: int, sides: tuple[int, int], size: tuple[int, int], channel: int, outs: int,
    scaling: Scaling, rounding: int, out: Any,
) -> None:  # fmt: skip
    """`store` with the rounding known beforehand, so that its innermost loop is one of vectors."""
    (tall, wide), (height, width) = sides, size
    across = (width + wide - 1) // wide
    top, left = tile // across * tall, tile % across * wide
    for i in range(min(tall, height - top)):
        for j in range(min(wide, width - left)):
            row, codes = sums[i * wide + j], out[(top + i) * width + left + j]
            requant_channels(row, scaling, rounding, channel, outs, codes)


@jit
def store_sums(
    sums: Any, tile: int, sides: tuple[int, int], size: tuple[int, int], channel: int, outs: int,
    out: Any,
) -> None:  # fmt: skip
    """`store` without a Requant."""
    (tall, wide), (height, width) = sides, size
    across = (width + wide - 1) // wide
    top, left = tile // across * tall, tile % across * wide
    for i in range(min(tall, height - top)):
        for j in range(min(wide, width - left)):
            at = (top + i) * width + left + j
            copy(sums[i * wide + j], out[at][channel : channel + outs])


@jit
def store(
    sums: Any, tile: int, sides: tuple[int, int], size: tuple[int, int], channel: int, outs: int,
    scaling: Scaling | None, out: Any,
) -> None:  # fmt: skip
    """The sums (pixels, GROUP) of a tile into `out`, `outs` channels from `channel` on, requantised
    if there is a `scaling`; pixels beyond the map are left out."""
    if scaling is None:
        store_sums(sums, tile, sides, size, channel, outs, out)
    elif scaling.rounding == TRN:
        store_by(sums, tile, sides, size, channel, outs, scaling, TRN, out)
    else:
        store_by(sums, tile, sides, size, channel, outs, scaling, scaling.rounding, out)


@jit
def conv(
    work: Work,
    gather: int,
    x: Map,
    weight: Any,
    begins: Any,
    start: Any,
    scaling: Scaling | None,
    points: Any,
    places: Any,
    products: Any,
    acc: Any,
    out: Any,
    cin: int,
    first: int,
    last: int,
    worker: int,
) -> None:
    """3x3 Conv2d, and the Requant behind it: shares first ... last - 1 of `Shares`, the splits of a
    chunk one after the other.

    gather    address of `make_gather`'s function
    x         uint8, bordered to whole tiles, with SLACK bytes behind it
    weight    of `pack`
    begins    of `begins`
    start     (Cout padded,) int32: what is added to each sum
    points    (workers, points, row): a row holds the tiles' C channels, padded
    places    (workers, tiles + 1) int64
    products  (workers, points, row) int32: a row holds the tiles' GROUP channels, padded
    acc       (workers, pixels of a tile, GROUP) int32
    out       (H * W, Cout)
    cin       input channels
    """
    lanes, channels = weight.shape[3], out.shape[1]
    across, sides = (work.width + work.wide - 1) // work.wide, (work.tall, work.wide)
    chunk, size = places.shape[1] - 1, (work.height, work.width)
    count_all = across * ((work.height + work.tall - 1) // work.tall)
    groups = (channels + GROUP - 1) // GROUP
    v, m, sums = points[worker], products[worker], acc[worker]
    for share in range(first, last):
        begin, split = share // work.splits * chunk, share % work.splits
        count = min(chunk, count_all - begin)
        spread_chunk(work, x, cin, lanes, begin, count, v)
        for group in range(split * groups // work.splits, (split + 1) * groups // work.splits):
            g = group * GROUP
            outs = min(GROUP, channels - g)
            multiply(work, weight, begins, cin, g, outs, count, v, places[worker], m)
            for t in range(count):
                for c in range(0, outs, lanes):
                    call_gather(
                        gather,
                        (
                            m.ctypes.data + (t * GROUP + c) * 4, m.strides[0],
                            start.ctypes.data + (g + c) * 4, sums.ctypes.data + 4 * c, GROUP * 4,
                        ),
                    )  # fmt: skip
                store(sums, begin + t, sides, size, g, outs, scaling, out)


@jit
def codes(
    work: Work,
    gather: int,
    x: Map,
    weight: Any,
    begins: Any,
    start: Any,
    requantised: Requantised,
    points: Any,
    places: Any,
    products: Any,
    out: Map,
    cin: int,
    channels: int,
    first: int,
    last: int,
    worker: int,
) -> None:
    """As `conv`, the sums requantised in registers by `make_gather_codes`' function."""
    lanes, chunk = weight.shape[3], places.shape[1] - 1
    across = (work.width + work.wide - 1) // work.wide
    count_all = across * ((work.height + work.tall - 1) // work.tall)
    groups = (channels + GROUP - 1) // GROUP
    v, m = points[worker], products[worker]
    for share in range(first, last):
        begin, split = share // work.splits * chunk, share % work.splits
        count = min(chunk, count_all - begin)
        spread_chunk(work, x, cin, lanes, begin, count, v)
        for group in range(split * groups // work.splits, (split + 1) * groups // work.splits):
            g = group * GROUP
            outs = min(GROUP, channels - g)
            multiply(work, weight, begins, cin, g, outs, count, v, places[worker], m)
            for t in range(count):
                top = (begin + t) // across * work.tall
                left = (begin + t) % across * work.wide
                to = out.address + top * out.row + left * out.column + g * requantised.size
                for c in range(0, outs, lanes):
                    call_gather_codes(
                        gather,
                        (
                            m.ctypes.data + (t * GROUP + c) * 4, m.strides[0],
                            start.ctypes.data + (g + c) * 4, requantised.head,
                            requantised.rows + (g + c) // lanes * requantised.step,
                            to + c * requantised.size, out.row, out.column,
                            work.height - top, work.width - left, outs - c,
                        ),
                    )  # fmt: skip
