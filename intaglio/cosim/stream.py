"""cocotb: drivers and monitors of valid/ready streams, for benches of anybody's RTL.

A beat is transferred at a rising clock edge where valid and ready are high. Start the clock and end
the reset first; signals are read as they are before the edge.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cocotb.triggers import RisingEdge

from intaglio.cosim.port import Port
from intaglio.cosim.protocol import Rules
from intaglio.cosim.score import Scoreboard
from intaglio.errors import ToolError
from intaglio.ops import Ints

SHORT, LONG = 3, 63  # cycles that a pause lasts at most; one in two is short


@dataclass(frozen=True)
class Stream:
    """The signals of one stream, as cocotb handles; `last` is None where there is none."""

    data: Any
    valid: Any
    ready: Any
    last: Any = None

    @staticmethod
    def named(dut: Any, prefix: str) -> Stream:
        """`{prefix}_tdata`, `_tvalid`, `_tready` and, if there, `_tlast`, as AXI4-Stream has them;
        or the same without the t. Other names: build a Stream from the handles.

        Raises ToolError that names the signal which `dut` lacks.
        """
        axis = "t" if hasattr(dut, f"{prefix}_tvalid") else ""
        found = {}
        for signal in ("data", "valid", "ready", "last"):
            name = f"{prefix}_{axis}{signal}"
            found[signal] = getattr(dut, name, None) if hasattr(dut, name) else None
            if found[signal] is None and signal != "last":
                raise ToolError(
                    f"The design must have a signal {name}, as a stream {prefix!r} needs; give the"
                    " handles to Stream where they have other names."
                )
        return Stream(**found)


class Pauses:
    """Cycles in which a side of a stream rests: `share` is the chance that a cycle begins a pause,
    0 for none. The same seed rests in the same cycles."""

    def __init__(self, share: float, seed: int) -> None:
        self.random = random.Random(seed)
        self.share = share
        self.left = 0

    def rests(self) -> bool:
        """Whether the next cycle is one of a pause."""
        if self.left:
            self.left -= 1
            return True
        if self.random.random() < self.share:
            self.left = self.random.randint(0, self.random.choice((SHORT, LONG)) - 1)
            return True
        return False


class Driver:
    """Plays beats into a stream; valid waits for no ready, and the payload holds until taken.

    stalls  chance that a beat is kept back by a pause, during which the payload is random.
    """

    def __init__(self, stream: Stream, clock: Any, *, stalls: float = 0.0, seed: int = 1) -> None:
        self.stream = stream
        self.edge = RisingEdge(clock)
        self.pauses = Pauses(stalls, seed)
        stream.valid.value = 0

    async def play(self, port: Port, frames: Ints) -> None:
        """Frames (N, C, H, W) of a tensor; last, if there, on the last beat of each."""
        for frame in frames:
            await self.send(port.pack(frame[None]))

    async def send(self, beats: Iterable[int]) -> None:
        """Some beats; last, if there, on the last of them."""
        s, beats = self.stream, list(beats)
        width = len(s.data)
        for n, beat in enumerate(beats):
            while self.pauses.rests():
                s.valid.value = 0
                s.data.value = self.pauses.random.getrandbits(width)
                await self.edge
            s.valid.value = 1
            s.data.value = beat
            if s.last is not None:
                s.last.value = int(n == len(beats) - 1)
            await self.edge
            while not high(s.ready):
                await self.edge
        s.valid.value = 0


class Monitor:
    """Takes beats from a stream into a scoreboard, and checks that valid and payload hold.

    back_pressure  chance that a cycle begins a pause in which ready is low.
    passive        only watch: ready is driven by the design.

    Its cycles count from the first edge it sees.
    """

    def __init__(
        self,
        stream: Stream,
        clock: Any,
        board: Scoreboard,
        *,
        back_pressure: float = 0.0,
        seed: int = 2,
        passive: bool = False,
    ) -> None:
        self.stream = stream
        self.edge = RisingEdge(clock)
        self.board = board
        self.pauses = Pauses(back_pressure, seed)
        self.passive = passive
        self.cycle = 0

    async def take(self, patience: int = 10_000) -> None:
        """Until the scoreboard has all its beats, or none has come for `patience` cycles.

        Raises AssertionError where the stream breaks one of `protocol.Rules`: a beat that was
        offered is withdrawn or altered before it is taken, or valid is undefined. Which beats
        differ, or are undefined, is for `Scoreboard.check` to say.
        """
        s, rules, begun, idle = self.stream, Rules(), False, 0
        while self.board.missing > 0 and idle < patience:
            if not self.passive:
                s.ready.value = int(not self.pauses.rests())
            await self.edge
            self.cycle += 1
            idle += 1
            valid, ready = level(s.valid), level(s.ready)
            data, last = code(s.data), code(s.last)
            begun |= valid is not None  # before that nobody has driven it
            fault = rules.look(valid, ready, (data, last)) if begun else None
            if fault is not None:
                name = self.board.port.tensor
                raise AssertionError(f"{name}, cycle {self.cycle}: {fault.words}.")
            if valid and ready:
                self.board.add(self.cycle, -1 if data is None else data, last)
                idle = 0
        self.board.waited = idle
        if not self.passive:
            s.ready.value = 0


def level(signal: Any) -> bool | None:
    """The value of a signal of one bit; None where it is undefined."""
    return {"0": False, "1": True}.get(str(signal.value))


def high(signal: Any) -> bool:
    """Whether a signal of one bit is 1, and not undefined."""
    return str(signal.value) == "1"


def code(signal: Any) -> int | None:
    """The unsigned value of a signal; None where a bit is undefined or there is no signal."""
    if signal is None:
        return None
    bits = str(signal.value)
    return int(bits, 2) if set(bits) <= {"0", "1"} else None
