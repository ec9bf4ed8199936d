# amaranth: UnusedElaboratable=no
"""The input's packets: whole frames whatever a source loses or adds, and an error that says so."""

import random
from typing import Any

from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.hdl.axis import AxisReceiver

Beats = list[tuple[int, bool]]
lengths = st.lists(st.integers(1, 9), max_size=6)


def packets(sizes: list[int]) -> Beats:
    """Beats that can be told from each other, tlast on the last of each packet."""
    ends = [k == size - 1 for size in sizes for k in range(size)]
    return [(n + 1, last) for n, last in enumerate(ends)]


def received(block: AxisReceiver, beats: Beats, seed: int) -> tuple[list[int], list[bool]]:
    """What leaves `o` under random stalls of both sides, and `error` before each beat is taken and
    at the end. Fails where a beat that was shown is withdrawn or altered."""
    rng = random.Random(seed)
    offers, takes = (rng.choice((0.3, 0.7, 1.0)) for _ in range(2))
    given, errors = [], []

    async def bench(ctx: Any) -> None:
        sent, idle, offered, held = 0, 0, False, None
        while idle < 40:
            offered = sent < len(beats) and (offered or rng.random() < offers)
            ctx.set(block.i.tvalid, offered)
            data, last = beats[sent] if offered else (0x5A5A, rng.random() < 0.5)
            ctx.set(block.i.tdata, data)
            ctx.set(block.i.tlast, last)
            ready = rng.random() < takes
            ctx.set(block.o.ready, ready)
            shown = ctx.get(block.o.payload) if ctx.get(block.o.valid) else None
            assert held is None or shown == held
            held = None if ready else shown
            taken = offered and ctx.get(block.i.tready)
            idle = 0 if taken or shown is not None else idle + 1
            if shown is not None and ready:
                given.append(shown)
            if taken:
                errors.append(bool(ctx.get(block.error)))
                sent, offered = sent + 1, False
            await ctx.tick()
        assert sent == len(beats)
        errors.append(bool(ctx.get(block.error)))

    simulator = Simulator(block)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return given, errors


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), lengths, st.integers(0, 12), st.integers(0, 999))
def test_the_block_does_what_its_model_says(
    beats: int, sizes: list[int], rest: int, seed: int
) -> None:
    """Packets of any lengths, and at the end beats that nothing ends."""
    block = AxisReceiver(width=11, beats=beats)
    sent = packets(sizes) + [(100 + k, False) for k in range(rest)]
    given_, errors = received(block, sent, seed)
    assert given_ == block.model(sent)[0]
    assert errors == [block.model(sent[:k])[1] for k in range(len(sent) + 1)]


@given(st.integers(1, 5), lengths)
def test_every_packet_gives_one_frame_and_a_right_one_is_right(
    beats: int, sizes: list[int]
) -> None:
    """All but the first, which may be several if it is too long."""
    block = AxisReceiver(width=16, beats=beats)
    sent = packets(sizes)
    given_, error = block.model(sent)
    assert error == any(size != beats for size in sizes)
    assert len(given_) % beats == 0
    frames = [given_[k : k + beats] for k in range(0, len(given_), beats)]
    first = -(-sizes[0] // beats) if sizes else 0
    assert len(frames) == max(0, first - 1) + len(sizes)
    at = len(sent)
    for size, frame in zip(sizes[:0:-1], frames[::-1], strict=False):
        at -= size
        own = [data for data, _ in sent[at : at + min(size, beats)]]
        assert frame == own + [0] * (beats - len(own))


@given(st.integers(1, 5), st.integers(0, 40))
def test_a_source_without_tlast_is_counted(beats: int, count: int) -> None:
    sent = [(n, False) for n in range(count)]
    assert AxisReceiver(width=8, beats=beats).model(sent) == (list(range(count)), False)
