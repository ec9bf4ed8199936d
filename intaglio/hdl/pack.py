"""Integers into words: the one place that knows the order of weights in a ROM and lanes in a beat.

NumPy only, so that ROM files, `Memory` contents and test vectors all come from here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from intaglio.errors import BuildError
from intaglio.fixed import IntType, odd_code

Ints = NDArray[np.int64]


def pack_word(values: Sequence[int], bits: int) -> int:
    """Values of `bits` each into one integer, the first in the low bits, two's complement."""
    mask = (1 << bits) - 1
    word = 0
    for k, value in enumerate(values):
        word |= (int(value) & mask) << (k * bits)
    return word


def pack_words(values: Ints, bits: int) -> list[int]:
    """`pack_word` of every row of (N, lanes)."""
    at_once = max(1, 62 // bits)  # lanes that fill an int64 and stay positive
    found = [0] * len(values)
    for first in range(0, values.shape[1], at_once):
        lanes = values[:, first : first + at_once] & ((1 << bits) - 1)
        part = (lanes << (bits * np.arange(lanes.shape[1]))).sum(axis=1).tolist()
        found = [word | new << (first * bits) for word, new in zip(found, part, strict=True)]
    return found


def unpack_word(word: int, lanes: int, bits: int, signed: bool) -> list[int]:
    """The inverse of `pack_word`."""
    bias = 1 << (bits - 1) if signed else 0
    mask = (1 << bits) - 1
    return [(((word >> (k * bits)) + bias) & mask) - bias for k in range(lanes)]


def frame_beats(frame: Ints, lanes: int, bits: int) -> list[int]:
    """(C, H, W) codes as the beats of a stream: raster order, channels innermost.

    Unused lanes of a pixel's last beat are 0.
    """
    channels, height, width = frame.shape
    words = -(-channels // lanes)
    padded = np.zeros((height, width, words * lanes), dtype=object)
    padded[:, :, :channels] = frame.transpose(1, 2, 0)
    return [pack_word(beat, bits) for beat in padded.reshape(-1, lanes).tolist()]


def beats_frame(
    beats: Sequence[int], shape: tuple[int, int, int], lanes: int, bits: int, signed: bool
) -> Ints:
    """The inverse of `frame_beats`; ignores unused lanes."""
    channels, height, width = shape
    values = [unpack_word(beat, lanes, bits, signed) for beat in beats]
    pixels = np.array(values, dtype=np.int64).reshape(height, width, -1)
    return np.ascontiguousarray(pixels[:, :, :channels].transpose(2, 0, 1))


def frames_words(frames: Ints, lanes: int, bits: int) -> NDArray[np.uint32]:
    """Frames (N, C, H, W) of codes as beats of 32-bit words (N, beats, words), low word first.

    The same beats as `frame_beats` gives, for whole data sets.
    """
    count, channels, height, width = frames.shape
    beats = -(-channels // lanes)
    shape = (count, height, width, beats * lanes)
    codes = np.zeros(shape, dtype=np.int64)
    codes[..., :channels] = frames.transpose(0, 2, 3, 1)
    raw = codes.reshape(count, height * width * beats, lanes, 1).view(np.uint8)
    planes = np.unpackbits(raw, axis=-1, bitorder="little", count=bits)
    words = -(-lanes * bits // 32)
    packed = np.zeros((*planes.shape[:2], words * 4), dtype=np.uint8)
    flat = np.packbits(planes.reshape(*planes.shape[:2], lanes * bits), axis=-1, bitorder="little")
    packed[..., : flat.shape[-1]] = flat
    return packed.view("<u4")


def words_frames(
    words: NDArray[np.uint32], shape: tuple[int, int, int], lanes: int, bits: int, signed: bool
) -> Ints:
    """The inverse of `frames_words`: codes (N, C, H, W); ignores unused lanes."""
    channels, height, width = shape
    count, beats = words.shape[:2]
    raw = np.ascontiguousarray(words, dtype="<u4").view(np.uint8)
    planes = np.unpackbits(raw, axis=-1, bitorder="little", count=lanes * bits)
    planes = planes.reshape(count, beats, lanes, bits)
    codes = np.zeros((count, beats, lanes, 8), dtype=np.uint8)
    flat = np.packbits(planes, axis=-1, bitorder="little")
    codes[..., : flat.shape[-1]] = flat
    values = codes.view("<i8").reshape(count, height, width, beats // (height * width) * lanes)[
        ..., :channels
    ]
    if signed:
        values = (values ^ (1 << (bits - 1))) - (1 << (bits - 1))
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def conv_words(
    weights: Ints,
    *,
    groups: int,
    simd: int,
    pe: int,
    bits: int,
    odd: bool = False,
    packed: bool = False,
) -> list[int]:
    """Weight ROM of a convolution engine: one word a cycle, PE * SIMD weights each.

    weights (Cout, Cin/groups, Kh, Kw). Words in walk order: group of PE output channels, ky, kx,
    word of SIMD input channels. In a word, weight (p, s) is lane p * SIMD + s, the weight itself or
    its `odd_code`. Missing output and input channels are 0, which as an odd code is not a weight
    of 0: the data of a missing input channel must be 0 then (`Window.zero_tail`), and the sum of a
    missing output channel is never drained.

    packed: of results p and p + 1, p even, two weights are one operand (`products.packed_operand`),
    whose upper part is one less where the lower is negative. It takes a bit more than the weight:
    its sign lies behind all lanes, in the order of (p, s). Odd codes stay as they are.
    """
    cout, cin, kh, kw = weights.shape
    check_folding(cout, cin, groups, simd, pe)
    rows, words = -(-cout // pe), -(-cin // simd)
    padded = np.zeros((rows * pe, words * simd, kh, kw), dtype=np.int64)
    padded[:cout, :cin] = odd_code(weights, bits) if odd else weights
    walk = padded.reshape(rows, pe, words, simd, kh, kw).transpose(0, 4, 5, 2, 1, 3)
    lanes = walk.reshape(-1, pe, simd)
    if odd or not packed:
        return pack_words(lanes.reshape(-1, pe * simd), bits)
    low, high = lanes[:, 0 : pe - 1 : 2], lanes[:, 1::2]
    high -= low < 0
    signs = pack_words((high < 0).astype(np.int64).reshape(len(lanes), -1), 1)
    words = pack_words(lanes.reshape(-1, pe * simd), bits)
    return [w | sign << (pe * simd * bits) for w, sign in zip(words, signs, strict=True)]


def check_folding(cout: int, cin: int, groups: int, simd: int, pe: int) -> None:
    """Raises BuildError unless SIMD and PE suit the channel counts.

    A dense convolution takes any; a grouped one needs divisors, for no word may span two groups.
    """
    if simd < 1 or pe < 1:
        raise BuildError(f"SIMD and PE must be at least 1, not {simd} and {pe}.")
    if groups > 1 and (cin % simd or (cout // groups) % pe):
        raise BuildError(
            f"SIMD and PE of a grouped convolution must divide {cin} and {cout // groups} channels"
            f" of a group, not be {simd} and {pe}."
        )


def depthwise_words(weights: Ints, *, lanes: int, bits: int, odd: bool = False) -> list[int]:
    """Weight ROM of a depthwise engine: weights (C, 1, Kh, Kw), or the `odd_code` of each; word
    order channel word, ky, kx. Missing channels are 0; their sums are never drained."""
    channels, _, kh, kw = weights.shape
    words = -(-channels // lanes)
    padded = np.zeros((words * lanes, kh, kw), dtype=np.int64)
    padded[:channels] = odd_code(weights[:, 0], bits) if odd else weights[:, 0]
    walk = padded.reshape(words, lanes, kh, kw).transpose(0, 2, 3, 1)
    return pack_words(walk.reshape(-1, lanes), bits)


def lookup_words(table: Sequence[int], x: IntType, bits: int) -> list[int]:
    """ROM of a lookup: entry [raw bits of the code], from a table that starts at code x.lo."""
    raw = [code & ((1 << x.bits) - 1) for code in range(x.lo, x.hi + 1)]
    words = [0] * len(raw)
    for address, value in zip(raw, table, strict=True):
        words[address] = pack_word([value], bits)
    return words


def hex_text(words: Sequence[int], width: int) -> str:
    """The $readmemh file: one word a line, as many digits as `width` bits need."""
    digits = -(-width // 4)
    return "".join(f"{word:0{digits}x}\n" for word in words)
