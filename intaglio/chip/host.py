"""Sends the stored frames of a build to a board and compares every beat that comes back.

    python BUILD/bitstream/host.py --port /dev/ttyUSB1 [--baud N] [--frames N] [--build BUILD]

`intaglio bitstream --board` puts it beside the bitstream. It stands alone: Python 3.11 and, for a
serial port, pyserial. What goes over the line is said in `intaglio.hdl.link`: beats to the board as
bytes, low byte first; from the board messages of a tag and the bytes of a beat. A break resets the
board.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

LAST, CREDIT, CREDIT_BYTES = 0x80, 0x7F, 128  # as in intaglio.hdl.link
QUEUE = 512  # bytes that the board must be able to hold
Beat = tuple[int, int]  # tlast, tdata


def to_bytes(beats: Sequence[int], width: int) -> bytes:
    """Beats of `width` bits (a multiple of 8) as bytes."""
    return b"".join(beat.to_bytes(width // 8, "little") for beat in beats)


class Decoder:
    """Bytes from the board into the beats of each stream; `widths` are their bits of tdata.

    beats    by stream. credits: how many credit messages have come.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        self.widths = tuple(widths)
        self.beats: list[list[Beat]] = [[] for _ in widths]
        self.credits = 0
        self.left = b""

    def feed(self, data: bytes) -> None:
        """Take bytes, however they are cut. Raises ValueError for a tag that no stream has."""
        data = self.left + data
        at = 0
        while at < len(data):
            stream = data[at] & ~LAST
            if data[at] == CREDIT:
                self.credits += 1
                at += 1
                continue
            if stream >= len(self.widths):
                raise ValueError(f"no stream has the tag {data[at]:#04x}")
            end = at + 1 + self.widths[stream] // 8
            if end > len(data):
                break
            value = int.from_bytes(data[at + 1 : end], "little")
            self.beats[stream].append((data[at] // LAST, value))
            at = end
        self.left = data[at:]


def exchange(
    data: bytes,
    decoder: Decoder,
    wanted: Sequence[int],
    write: Callable[[bytes], Any],
    read: Callable[[], bytes],
    patience: float = 5.0,
) -> None:
    """Send all bytes, never more under way than the board can hold, and read until every stream
    has its number of beats. Raises TimeoutError after `patience` seconds without a byte."""
    sent, heard = 0, time.monotonic()
    while sent < len(data) or any(
        len(beats) < n for beats, n in zip(decoder.beats, wanted, strict=True)
    ):
        room = QUEUE + decoder.credits * CREDIT_BYTES - sent
        if room > 0 and sent < len(data):
            write(data[sent : sent + room])
            sent = min(len(data), sent + room)
        got = read()
        decoder.feed(got)
        if got:
            heard = time.monotonic()
        elif time.monotonic() - heard > patience:
            raise TimeoutError(f"nothing came for {patience:g} s after {sent} bytes")


def expected(path: Path) -> Iterator[tuple[int, int, int]]:
    """Lines `tlast tdata mask` of a stream's expected beats."""
    for line in path.read_text().splitlines():
        last, data, mask = (int(word, 16) for word in line.split())
        yield last, data, mask


def differences(beats: Sequence[Beat], wanted: Sequence[tuple[int, int, int]]) -> list[int]:
    """Numbers of the beats that are not the expected ones, which repeat."""
    wrong = []
    for n, (last, data) in enumerate(beats):
        want_last, want, mask = wanted[n % len(wanted)]
        if last != want_last or (data ^ want) & mask:
            wrong.append(n)
    return wrong


def run(
    line: Any,
    build: Path,
    frames: int = 0,
    patience: float = 5.0,
    say: Callable[[str], None] = print,
) -> tuple[int, int]:
    """Play frames (0: all stored) over an open line: how many beats came, how many were wrong.

    line  with the `send_break`, `reset_input_buffer`, `write` and `read` of a `serial.Serial`.
    """
    manifest = json.loads((build / "manifest.json").read_text())
    source, sinks = manifest["input"], manifest["outputs"]
    frames = frames or manifest["frames"]
    stored = (build / "bench/stimulus.hex").read_text().split()
    beats = [int(stored[k % len(stored)], 16) for k in range(frames * source["beats"])]
    decoder = Decoder([sink["data_width"] for sink in sinks])
    started = time.monotonic()
    line.send_break(0.01)  # resets the design
    line.reset_input_buffer()
    exchange(
        to_bytes(beats, source["data_width"]),
        decoder,
        [frames * sink["beats"] for sink in sinks],
        line.write,
        lambda: line.read(4096),
        patience,
    )
    seconds = time.monotonic() - started
    wrong = 0
    for sink, got in zip(sinks, decoder.beats, strict=True):
        stem = sink["name"].removeprefix("m_axis_")
        want = list(expected(build / "bench" / "expected" / f"{stem}.txt"))
        bad = differences(got[: frames * sink["beats"]], want)
        wrong += len(bad)
        say(f"{sink['tensor']}: {len(got)} beats, {len(bad)} differ")
    say(f"{frames} frames in {seconds:.1f} s over the line")
    return sum(map(len, decoder.beats)), wrong


def speed(beside: Path) -> int:
    """Bits a second of the board that the bitstream was made for."""
    try:
        found: int = json.loads(beside.read_text())["baud"]
    except FileNotFoundError:
        return 1_000_000
    return found


def main() -> int:
    """Exit 0 when every beat is right, 1 otherwise."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", required=True)
    parser.add_argument("--baud", type=int, default=speed(here / "line.json"))
    parser.add_argument("--frames", type=int, default=0, help="default: all stored")
    parser.add_argument("--build", type=Path, default=here.parent)
    options = parser.parse_args()
    try:
        import serial
    except ModuleNotFoundError:
        print("host.py: pyserial must be installed: pip install pyserial.", file=sys.stderr)
        return 2
    try:
        with serial.Serial(options.port, options.baud, timeout=0.01) as line:
            _, wrong = run(line, options.build, options.frames)
    except (OSError, ValueError) as error:  # no port, no build, silence, a byte that means nothing
        print(f"host.py: the board must answer as the build does, but: {error}.", file=sys.stderr)
        return 2
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
