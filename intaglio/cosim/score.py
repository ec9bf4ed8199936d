"""What a design delivered, against what it should have: how many beats differ, and the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from intaglio.cosim.port import Port
from intaglio.ops import Ints


@dataclass(frozen=True)
class Mismatch:
    """The first beat that differs. `channel` and `got` are None where there is no beat at all;
    `tensor` is the Program's, `origin` the torch module that makes it; `run` counts resets, None
    where there is one run alone."""

    tensor: str
    origin: str
    frame: int
    channel: int | None
    y: int
    x: int
    cycle: int
    got: int | None
    expected: int | None
    reason: str = "value"
    run: int | None = None

    def sentence(self) -> str:
        """For people."""
        where = f"{self.tensor} (from {self.origin})" if self.origin else self.tensor
        run = "" if self.run is None else f"run {self.run}, "
        at = f"{run}frame {self.frame}, channel {self.channel}, y {self.y}, x {self.x}"
        value = self.reason == "value"
        what = f"got {self.got}, expected {self.expected}" if value else self.reason
        return f"{where}: {at}, cycle {self.cycle}: {what}"


@dataclass
class Recording:
    """What an output delivered, beat by beat: the cycle, tlast, and tdata.

    tlast is None where the stream has none, and tdata -1 where a bit of it is undefined.
    """

    cycles: list[int] = field(default_factory=list)
    lasts: list[int | None] = field(default_factory=list)
    data: list[int] = field(default_factory=list)


def compare(
    port: Port,
    got: Recording,
    want: Sequence[int],
    frames: int,
    patience: int,
    *,
    goes_on: bool = False,
) -> tuple[int, Mismatch | None]:
    """Number of beats of an output that differ, and the first of them.

    `want` is repeated as often as `frames` asks. An output that delivers too few beats is taken to
    have been silent for `patience` cycles. Beats behind these frames are too many or, where it
    `goes_on`, must be those of the next: some need no input, as borders do.
    """
    total, masks = frames * port.beats, port.masks()
    wrong = [
        n
        for n, (last, data) in enumerate(zip(got.lasts, got.data, strict=True))
        if (n >= total and not goes_on)
        or data < 0
        or (data ^ want[n % len(want)]) & masks[n % len(masks)]
        or (last is not None and last != ends_frame(port, n))
    ]
    if wrong:
        n = wrong[0]
        if n >= total and not goes_on:
            return len(wrong), stray_beat(port, n, got)
        return len(wrong), difference(port, n, got, want[n % len(want)])
    if len(got.data) < total:
        return total - len(got.data), no_beat(port, got, patience)
    return 0, None


def ends_frame(port: Port, beat: int) -> bool:
    """Whether beat number `beat` is the last of its frame."""
    return (beat + 1) % port.beats == 0


def difference(port: Port, beat: int, got: Recording, wanted: int) -> Mismatch:
    """Where and how beat number `beat` differs."""
    frame, channel, y, x = port.locate(beat)
    cycle, data, last = got.cycles[beat], got.data[beat], got.lasts[beat]
    place = (port.tensor, port.origin, frame)
    if data < 0:
        return Mismatch(*place, channel, y, x, cycle, None, None, "undefined bits")
    pairs = zip(port.unpack(data), port.unpack(wanted), strict=True)
    for lane, (a, b) in enumerate(pairs):
        if a != b and channel + lane < port.shape[0]:
            return Mismatch(*place, channel + lane, y, x, cycle, a, b)
    if last is not None and last != ends_frame(port, beat):
        return Mismatch(*place, channel, y, x, cycle, last, 1 - last, f"tlast is {last}")
    return Mismatch(*place, channel, y, x, cycle, data, wanted, "bits above the payload are set")


def stray_beat(port: Port, beat: int, got: Recording) -> Mismatch:
    """A beat after the last one expected."""
    frame, channel, y, x = port.locate(beat)
    place = (port.tensor, port.origin, frame, channel, y, x, got.cycles[beat])
    return Mismatch(*place, got.data[beat], None, "a beat too many")


def no_beat(port: Port, got: Recording, patience: int) -> Mismatch:
    """An output that stopped early."""
    frame, channel, y, x = port.locate(len(got.data))
    cycle = got.cycles[-1] if got.cycles else 0
    reason = f"no beat for {patience} cycles" if patience else "no beat"
    return Mismatch(port.tensor, port.origin, frame, channel, y, x, cycle, None, None, reason)


class Scoreboard:
    """Collects the beats of a stream and compares them with a tensor's frames (N, C, H, W).

    got       what has come so far.
    expected  the beats, frame after frame.
    waited    cycles without a beat after which a monitor gave up; 0: none did.
    """

    def __init__(self, port: Port, frames: Ints) -> None:
        self.port = port
        self.expected = port.pack(frames)
        self.got = Recording()
        self.waited = 0

    @property
    def missing(self) -> int:
        """Beats still to come."""
        return len(self.expected) - len(self.got.data)

    def add(self, cycle: int, data: int, last: int | None = None) -> None:
        """A beat that was transferred in a cycle; `data` is -1 where a bit is undefined."""
        self.got.cycles.append(cycle)
        self.got.data.append(data)
        self.got.lasts.append(last)

    def result(self, patience: int | None = None) -> tuple[int, Mismatch | None]:
        """Number of beats that differ, are missing or too many, and the first of them.

        patience  cycles that a missing beat was waited for, where no monitor of `stream` took them.
        """
        frames = len(self.expected) // self.port.beats
        waited = self.waited if patience is None else patience
        return compare(self.port, self.got, self.expected, frames, waited)

    def check(self, patience: int | None = None) -> None:
        """Raise AssertionError, which names the first beat that differs, unless all are equal."""
        wrong, first = self.result(patience)
        if first is not None:
            total = len(self.expected)
            raise AssertionError(f"{wrong:,} of {total:,} beats differ, first {first.sentence()}")
