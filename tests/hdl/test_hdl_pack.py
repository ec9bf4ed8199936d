"""Words of a weight ROM: every weight comes back from its place, odd ones from their codes."""

import numpy as np
from hdl_cases import random_weights
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.fixed import IntType, odd_value
from intaglio.hdl.pack import (
    Ints,
    conv_words,
    depthwise_words,
    hex_text,
    pack_word,
    pack_words,
    unpack_word,
)
from intaglio.hdl.stream import ceil_div

counts = st.integers(1, 9)
kernels = st.tuples(st.integers(1, 3), st.integers(1, 3))


def weights_of(shape: tuple[int, ...], bits: int, odd: bool) -> Ints:
    """Weights of `bits` code bits."""
    type = IntType(bits + odd, True)
    return random_weights(np.random.default_rng(bits), shape, odd, type)


def unpacked(words: list[int], lanes: int, bits: int, odd: bool) -> Ints:
    """Weights (word, lane) out of the ROM's file."""
    lines = hex_text(words, lanes * bits).split()
    assert max(words) < 1 << lanes * bits
    stored = [unpack_word(int(line, 16), lanes, bits, signed=not odd) for line in lines]
    return np.asarray(odd_value(np.array(stored), bits) if odd else stored)


@settings(max_examples=150)
@given(st.integers(2, 8), st.booleans(), counts, counts, counts, counts, kernels)
def test_a_convolutions_weights_come_back(
    bits: int, odd: bool, cout: int, cin: int, pe: int, simd: int, kernel: tuple[int, int]
) -> None:
    weights = weights_of((cout, cin, *kernel), bits, odd)
    words = conv_words(weights, groups=1, simd=simd, pe=pe, bits=bits, odd=odd)
    rows, across = ceil_div(cout, pe), ceil_div(cin, simd)
    walk = unpacked(words, pe * simd, bits, odd).reshape(rows, *kernel, across, pe, simd)
    padded = walk.transpose(0, 4, 3, 5, 1, 2).reshape(rows * pe, across * simd, *kernel)
    np.testing.assert_array_equal(padded[:cout, :cin], weights)


@settings(max_examples=100)
@given(st.integers(2, 8), counts, counts, counts, counts, kernels)
def test_weights_that_share_an_operand_come_back(
    bits: int, cout: int, cin: int, pe: int, simd: int, kernel: tuple[int, int]
) -> None:
    weights, said = weights_of((cout, cin, *kernel), bits, False), {"groups": 1, "bits": bits}
    plain = conv_words(weights, simd=simd, pe=pe, **said)
    words = conv_words(weights, simd=simd, pe=pe, packed=True, **said)
    lanes, shared = pe * simd, pe // 2 * simd
    assert max(words) < 1 << lanes * bits + shared
    for word, wanted in zip(words, plain, strict=True):
        values = unpack_word(word, lanes, bits, signed=True)
        for k, sign in enumerate(unpack_word(word >> lanes * bits, shared, 1, signed=False)):
            low = k // simd * 2 * simd + k % simd
            upper = values[low + simd] % (1 << bits) - (sign << bits)
            values[low + simd] = upper + (values[low] < 0)
        assert pack_word(values, bits) == wanted


@settings(max_examples=100)
@given(st.integers(2, 8), st.booleans(), counts, counts, kernels)
def test_a_depthwise_convolutions_weights_come_back(
    bits: int, odd: bool, channels: int, lanes: int, kernel: tuple[int, int]
) -> None:
    weights = weights_of((channels, 1, *kernel), bits, odd)
    words = depthwise_words(weights, lanes=lanes, bits=bits, odd=odd)
    across = ceil_div(channels, lanes)
    walk = unpacked(words, lanes, bits, odd).reshape(across, *kernel, lanes)
    padded = walk.transpose(0, 3, 1, 2).reshape(across * lanes, *kernel)
    np.testing.assert_array_equal(padded[:channels], weights[:, 0])


@given(st.integers(1, 20), st.integers(1, 40), st.integers(0, 5), st.integers(0, 1 << 30))
@settings(deadline=None)
def test_many_words_are_packed_as_one_is(bits: int, lanes: int, count: int, seed: int) -> None:
    """Words of up to 800 bits, of negative values too."""
    values = np.random.default_rng(seed).integers(-(1 << bits), 1 << bits, (count, lanes))
    assert pack_words(values, bits) == [pack_word(row, bits) for row in values.tolist()]
