"""What goes over a serial line to a board and comes back, as said in `intaglio.hdl.link`: beats to
the board as bytes, low byte first; from the board messages of a tag and the bytes of a beat.

It is copied beside `host.py`, and needs nothing but Python.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from intaglio.chip.spi_line import BLOCK, FRAME

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


def line_rate(manifest: Mapping[str, Any], rate: float) -> float:
    """Frames a second that a line of `rate` bytes/s carries at most: both ways at once, beats with
    their tags, and credits."""
    sent = beats_bytes(manifest["input"])
    tags = sum(sink["beats"] for sink in manifest["outputs"])
    got = sum(map(beats_bytes, manifest["outputs"])) + tags + sent // CREDIT_BYTES
    return float(rate / max(sent, got))


def line_bytes(facts: Mapping[str, Any]) -> float:
    """Bytes a second of a line, as `line.json` has it: of a serial one 8 data bits in 10, of an SPI
    all but the leads of transactions."""
    if facts["line"] == "spi":
        return float(facts["hertz"] / 8 * BLOCK / FRAME)
    return float(facts["baud"] / 10)


def beats_bytes(port: Mapping[str, Any]) -> int:
    """Of a frame."""
    count: int = port["beats"] * (port["data_width"] // 8)
    return count
