# amaranth: UnusedElaboratable=no
"""The byte link and the serial line: every beat arrives, whatever stalls; nothing is lost."""

import random
from itertools import pairwise
from typing import Any

import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.chip import protocol
from intaglio.codegen.area.clocks import divisor
from intaglio.errors import BuildError
from intaglio.hdl import link as link_module
from intaglio.hdl.link import CREDIT_BYTES, Link
from intaglio.hdl.uart import BREAK, UartReceiver, UartSender

Beat = tuple[int, int]


def play(link: Link, into: bytes, outs: list[list[Beat]], seed: int) -> tuple[list[int], bytes]:
    """Bytes and beats into a link with random pauses: the beats at `o`, the bytes at `tx`."""
    rng = random.Random(seed)
    chance = [rng.choice((0.2, 0.6, 1.0)) for _ in range(3 + len(outs))]
    beats: list[int] = []
    sent = bytearray()
    size = -(-link.width // 8)

    async def bench(ctx: Any) -> None:
        at, done, quiet = 0, [0] * len(outs), 0
        offered, offering, held = False, [False] * len(outs), None
        while quiet < 100:
            offered = at < len(into) and (offered or rng.random() < chance[0])
            ctx.set(link.rx.valid, offered)
            ctx.set(link.rx.payload, into[at] if offered else 0x55)
            ctx.set(link.o.tready, rng.random() < chance[1])
            ctx.set(link.tx.ready, rng.random() < chance[2])
            for k, name in enumerate(link.ports):
                port, left = getattr(link, name), done[k] < len(outs[k])
                offering[k] = left and (offering[k] or rng.random() < chance[3 + k])
                ctx.set(port.tvalid, offering[k])
                if offering[k]:
                    ctx.set(port.tlast, outs[k][done[k]][0])
                    ctx.set(port.tdata, outs[k][done[k]][1])
            quiet += 1
            if offered and ctx.get(link.rx.ready):
                at, offered, quiet = at + 1, False, 0
            if ctx.get(link.o.tvalid) and ctx.get(link.o.tready):
                beats.append(ctx.get(link.o.tdata))
                quiet = 0
            for k, name in enumerate(link.ports):
                if offering[k] and ctx.get(getattr(link, name).tready):
                    done[k], offering[k], quiet = done[k] + 1, False, 0
            payload = ctx.get(link.tx.payload) if ctx.get(link.tx.valid) else None
            assert held is None or payload == held, "a byte was withdrawn"
            held = payload
            if held is not None and ctx.get(link.tx.ready):
                sent.append(held)
                held, quiet = None, 0
            await ctx.tick()

    simulator = Simulator(link)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(beats) == len(into) // size
    return beats, bytes(sent)


@settings(max_examples=12, deadline=None)
@given(
    width=st.integers(1, 40),
    widths=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    seed=st.integers(0, 1 << 30),
)
def test_every_beat_arrives_in_order(width: int, widths: list[int], seed: int) -> None:
    rng = random.Random(seed)
    link = Link(width=width, widths=widths)
    full = 8 * -(-width // 8)
    beats = [rng.getrandbits(full) for _ in range(rng.randrange(80))]
    bits = [8 * -(-w // 8) for w in widths]
    outs = [
        [(rng.getrandbits(1), rng.getrandbits(w)) for _ in range(rng.randrange(40))] for w in bits
    ]
    data = protocol.to_bytes(beats, full)
    got, answer = play(link, data, outs, seed)
    assert got == beats
    decoder = protocol.Decoder(bits)
    for at in range(0, len(answer), 7):  # cut anywhere
        decoder.feed(answer[at : at + 7])
    assert decoder.beats == outs
    assert decoder.credits == len(data) // CREDIT_BYTES
    assert decoder.left == b""


def test_host_and_hardware_mean_the_same() -> None:
    assert (protocol.LAST, protocol.CREDIT, protocol.CREDIT_BYTES) == (
        link_module.LAST,
        link_module.CREDIT,
        link_module.CREDIT_BYTES,
    )


def test_a_tag_that_no_stream_has_is_refused() -> None:
    with pytest.raises(ValueError, match="no stream has the tag 0x02"):
        protocol.Decoder([8, 8]).feed(b"\x00\x11\x02")


def test_a_link_carries_a_tag_for_every_output() -> None:
    with pytest.raises(BuildError, match="A link must carry 1 to 126 outputs, not 0"):
        Link(width=8, widths=[])


@pytest.mark.parametrize("cycles", [4, 5, 11])
def test_serial_line_both_ways(cycles: int) -> None:
    sender, receiver = UartSender(cycles=cycles), UartReceiver(cycles=cycles)
    data = [0x00, 0xFF, 0x55, 0xA3, *random.Random(cycles).randbytes(12)]
    got: list[int] = []
    broken: list[int] = []

    async def bench(ctx: Any) -> None:
        at = 0
        for cycle in range((len(data) + 3) * 11 * cycles + 2 * BREAK * cycles):
            silence = len(got) == len(data) and cycle > (len(data) + 3) * 11 * cycles
            ctx.set(receiver.rx, 0 if silence else ctx.get(sender.tx))
            ctx.set(sender.i.valid, at < len(data))
            ctx.set(sender.i.payload, data[min(at, len(data) - 1)])
            ctx.set(receiver.o.ready, cycle % 3 == 0)
            at += bool(at < len(data) and ctx.get(sender.i.ready))
            if cycle % 3 == 0 and ctx.get(receiver.o.valid):
                got.append(ctx.get(receiver.o.payload))
            broken.append(ctx.get(receiver.broken))
            await ctx.tick()

    from amaranth.hdl import Module

    both = Module()
    both.submodules += [sender, receiver]
    simulator = Simulator(both)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert got == data
    edges = [a != b for a, b in pairwise(broken)]
    assert (sum(edges), broken[0], broken[-1]) == (1, 0, 1)


@pytest.mark.parametrize("length", [BREAK + 1, BREAK + 4, BREAK + 9, 3 * BREAK])
def test_what_comes_of_a_break_is_no_byte(length: int) -> None:
    """Whenever a break ends; the byte after it arrives."""
    cycles = 5
    receiver = UartReceiver(cycles=cycles)
    bits = [1] * 3 + [0] * length + [1] * 11 + [0, *(0x9D >> n & 1 for n in range(8)), 1, 1, 1]
    got: list[int] = []

    async def bench(ctx: Any) -> None:
        ctx.set(receiver.o.ready, 1)
        for bit in bits:
            ctx.set(receiver.rx, bit)
            for _ in range(cycles):
                if ctx.get(receiver.o.valid):
                    got.append(ctx.get(receiver.o.payload))
                await ctx.tick()
        assert not ctx.get(receiver.broken)

    simulator = Simulator(receiver)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert got == [0x9D]


def test_baud_rates_that_drift_are_refused() -> None:
    assert divisor(75e6, 1_000_000) == 75
    with pytest.raises(BuildError, match="The baud rate must be a clock of 12 MHz"):
        divisor(12e6, 5_000_000)


def test_host_never_overfills_the_board() -> None:
    """A board that takes bytes one by one, gives credits, and answers at the end."""
    decoder, held, taken, most = protocol.Decoder([8]), [0], [0], [0]

    def write(data: bytes) -> None:
        held[0] += len(data)
        most[0] = max(most[0], held[0])

    def read() -> bytes:
        answer = bytearray()
        for _ in range(min(held[0], 200)):
            held[0] -= 1
            taken[0] += 1
            if taken[0] % CREDIT_BYTES == 0:
                answer.append(protocol.CREDIT)
        if taken[0] == 5000 and not decoder.beats[0]:
            answer += bytes([protocol.LAST, 42])
        return bytes(answer)

    protocol.exchange(bytes(5000), decoder, [1], write, read)
    assert decoder.beats == [[(1, 42)]]
    assert most[0] <= protocol.QUEUE
    with pytest.raises(TimeoutError, match="after 1 bytes"):
        protocol.exchange(b"x", protocol.Decoder([8]), [1], lambda data: None, bytes, patience=0.05)
