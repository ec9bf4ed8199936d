"""Beats lost and added on the way to a whole design: the error, and the next frame right."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import skip
from strategies import random_images
from tools import needs

from intaglio.codegen.bundle import build
from intaglio.codegen.running.compile import Array, Function, unpacked
from intaglio.codegen.running.library import words
from intaglio.hdl.axis import AxisReceiver
from intaglio.hdl.pack import frames_words
from intaglio.sim.engine import Simulator

pytestmark = [pytest.mark.rtl, pytest.mark.xdist_group("verilator")]
QUIET = 3000  # cycles without a beat after which nothing more comes


@pytest.fixture(scope="module")
def rtl() -> Function:
    needs("verilator")
    return build(skip(), lanes=40).compile(threads=2)


@dataclass(frozen=True)
class Packet:
    """What becomes of a frame on its way: places at which beats are lost, and before which others
    come, each a share of the frame."""

    lost: tuple[float, ...] = ()
    added: tuple[float, ...] = ()

    def of(self, beats: list[int]) -> list[int]:
        """The beats that arrive."""
        found = list(beats)
        for place in self.lost:
            del found[int(place * len(found))]
        for place in self.added:
            found.insert(int(place * len(found)), 0x777777)
        return found


WHOLE = Packet()
places = st.floats(0, 1, exclude_max=True)
damaged = st.builds(
    Packet,
    lost=st.lists(places, max_size=3).map(tuple),
    added=st.lists(places, max_size=3).map(tuple),
)


def played(
    rtl: Function, beats: list[tuple[int, bool]], frames: int, seed: int
) -> tuple[dict[str, Array], int, int]:
    """Outputs of so many frames, cycles (-1: they did not come) and the error."""
    source, sinks = rtl.source, rtl.sinks
    stimulus = np.array([data for data, _ in beats], dtype=np.uint32)
    lasts = np.array([last for _, last in beats], dtype=np.uint8)
    assert words(source) == 1
    data = [np.zeros((frames, s.beats, words(s)), dtype=np.uint32) for s in sinks]
    times = np.full((1 + 2 * len(sinks), frames), -1, dtype=np.int64)
    wrong, error = np.zeros(len(sinks), dtype=np.int64), ctypes.c_int64()
    places = (ctypes.c_void_p * len(data))(*(array.ctypes.data for array in data))
    cycles = rtl._frames(
        stimulus.ctypes.data, len(beats), lasts.ctypes.data, frames, seed, QUIET, places,
        times.ctypes.data, wrong.ctypes.data, error,
    )  # fmt: skip
    assert cycles < 0 or not wrong.any()
    return {s.tensor: unpacked(s, d) for s, d in zip(sinks, data, strict=True)}, cycles, error.value


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.one_of(st.just(WHOLE), damaged), min_size=1, max_size=4),
    st.booleans(),
    st.integers(0, 99),
)
def test_beats_are_lost_and_added(
    rtl: Function, packets: list[Packet], follows: bool, seed: int
) -> None:
    """Whole frames leave every output: those of whole packets right, those of others as the
    simulator has them with what arrived. None is missing, none too many."""
    source, program = rtl.source, skip()
    packets = packets + [WHOLE] * follows
    images = random_images(program, len(packets), seed)
    rows = frames_words(images, source.lanes, source.type.bits)[..., 0].tolist()
    sent = [packet.of(row) for packet, row in zip(packets, rows, strict=True)]
    beats = [(beat, n == len(one) - 1) for one in sent for n, beat in enumerate(one)]
    block = AxisReceiver(width=source.lanes * source.type.bits, beats=source.beats)
    arrived, faulty = block.model(beats)
    seen = source.frames(arrived).astype(images.dtype)
    want = Simulator(program)(seen)
    got, cycles, error = played(rtl, beats, len(seen), seed)
    assert cycles > 0
    assert error == faulty == any(len(one) != source.beats for one in sent)
    for name, maps in want.items():
        np.testing.assert_array_equal(got[name], maps)
    ends = zip(packets[:0:-1], images[:0:-1], seen[::-1], strict=False)
    for packet, image, one in ends:  # the first may have been several frames
        if packet == WHOLE:
            np.testing.assert_array_equal(one, image)
    assert played(rtl, beats, len(seen) + 1, seed)[1] == -1


@pytest.mark.parametrize("stalls", [0, 7])
def test_a_source_that_never_sets_tlast(rtl: Function, stalls: int) -> None:
    images = random_images(skip(), 3, 0)
    rows = frames_words(images, rtl.source.lanes, rtl.source.type.bits)[..., 0].ravel().tolist()
    got, _, error = played(rtl, [(beat, False) for beat in rows], 3, stalls)
    assert error == 0
    for name, maps in Simulator(skip())(images).items():
        np.testing.assert_array_equal(got[name], maps)
