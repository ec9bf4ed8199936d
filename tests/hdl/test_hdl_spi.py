# amaranth: UnusedElaboratable=no
"""The SPI port: every byte arrives both ways, whatever the two clocks do and whoever stalls."""

import random
from typing import Any

from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.chip import spi_line
from intaglio.chip.spi_line import SpiLine
from intaglio.hdl.spi import BLOCK, LEAD, RESET, SpiPort

CLOCK = 1e-6


class Played:
    """A port in Amaranth's simulator and the bytes that its design gives and takes."""

    def __init__(self, ratio: float, seed: int, given_bytes: bytes, frames: list[bytes]) -> None:
        block = len(frames[0]) - LEAD
        self.port, self.ratio, self.rng = SpiPort(block=block), ratio, random.Random(seed)
        self.source, self.frames = bytearray(given_bytes), frames
        self.taken, self.answers, self.resets = bytearray(), list[bytes](), 0
        self.done = False

    async def design(self, ctx: Any) -> None:
        """A queue that fills at random before `i`, one that is always ready behind `o`."""
        port, queue, was = self.port, bytearray(), 0
        ctx.set(port.o.ready, 1)
        while not self.done:
            if self.source and len(queue) < port.block and self.rng.random() < 0.3:
                queue.append(self.source.pop(0))
            ctx.set(port.waiting, len(queue))
            ctx.set(port.i.valid, bool(queue))
            ctx.set(port.i.payload, queue[0] if queue else 0x5A)
            await ctx.delay(CLOCK / 100)
            ready, valid, data = (ctx.get(s) for s in (port.i.ready, port.o.valid, port.o.payload))
            if ready:
                assert queue, "more was taken than was waiting"
                queue.pop(0)
            if valid:
                self.taken.append(data)
            broken = ctx.get(port.broken)
            self.resets += broken and not was
            was = broken
            await ctx.tick()

    async def host(self, ctx: Any) -> None:
        """Mode 0: data change while `sck` is 0, and are read where it rises."""
        port, half = self.port, CLOCK * self.ratio / 2
        await ctx.delay(CLOCK * (3 + self.rng.random()))
        for frame in self.frames:
            ctx.set(port.cs_n, 0)
            answer = bytearray()
            for byte in frame:
                got = 0
                for bit in range(7, -1, -1):
                    ctx.set(port.copi, byte >> bit & 1)
                    await ctx.delay(half)
                    got = got << 1 | ctx.get(port.cipo)
                    ctx.set(port.sck, 1)
                    await ctx.delay(half)
                    ctx.set(port.sck, 0)
                answer.append(got)
            await ctx.delay(half)
            ctx.set(port.cs_n, 1)
            self.answers.append(bytes(answer))
            await ctx.delay(CLOCK * (8 + 5 * self.rng.random()))
        self.done = True

    def run(self) -> None:
        simulator = Simulator(self.port)
        simulator.add_clock(CLOCK)
        simulator.add_testbench(self.design, background=True)
        simulator.add_testbench(self.host)
        simulator.run()


@settings(max_examples=10, deadline=None)
@given(
    ratio=st.floats(1.0, 7.0),
    seed=st.integers(0, 1 << 30),
    block=st.integers(1, 20),
    parts=st.lists(st.floats(0, 1), min_size=1, max_size=4),
    there=st.integers(0, 50),
)
def test_every_byte_arrives_both_ways(
    ratio: float, seed: int, block: int, parts: list[float], there: int
) -> None:
    rng = random.Random(seed)
    sent, given_bytes = [rng.randbytes(round(block * p)) for p in parts], rng.randbytes(there)
    frames = [spi_line.frame(data, rng.randbytes(LEAD + block)) for data in sent]
    played = Played(ratio, seed, given_bytes, frames)
    played.run()
    assert bytes(played.taken) == b"".join(sent)
    got = b"".join(spi_line.meant(answer) for answer in played.answers)
    assert given_bytes.startswith(got)
    assert len(got) + len(played.source) <= there <= len(got) + len(played.source) + block
    assert played.resets == 0


def test_a_frame_resets_the_design_and_the_next_goes_on() -> None:
    frames = [bytes([0, RESET, 0, 0, 0]), spi_line.frame(b"on", bytes(5))]
    played = Played(1.5, 3, b"", frames)
    played.run()
    assert played.resets == 1
    assert bytes(played.taken) == b"on"


def test_host_and_hardware_mean_the_same() -> None:
    assert (spi_line.BLOCK, spi_line.LEAD, spi_line.RESET) == (BLOCK, LEAD, RESET)


def test_the_line_cuts_into_frames_and_joins_what_comes() -> None:
    sent: list[bytes] = []

    def exchange(data: bytes) -> bytes:
        sent.append(data)
        return bytes([9, 9, 3, *b"abc"]) + bytes(LEAD + BLOCK - 6)

    line = SpiLine(exchange)
    line.send_break(0.01)
    assert sent.pop()[1] == RESET
    data = random.Random(1).randbytes(600)
    line.write(data)
    got = b"".join(line.read(4096) for _ in range(4))
    assert got == b"abc" * 4
    assert [frame[1] for frame in sent] == [252, 252, 96, 0]
    assert b"".join(frame[2 : 2 + frame[1]] for frame in sent) == data
