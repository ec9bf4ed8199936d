"""The host's end of `intaglio.hdl.spi.SpiPort`: a line of bytes made of transactions.

It is copied beside `host.py`; with a board it needs pyftdi.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

BLOCK, LEAD, RESET = 252, 3, 0xFF  # as in intaglio.hdl.spi
FRAME = LEAD + BLOCK  # bytes of a transaction


def frame(data: bytes, filler: bytes = bytes(FRAME)) -> bytes:
    """A transaction as long as the filler, with fewer bytes by LEAD at most that mean something."""
    return (bytes([filler[0], len(data)]) + data + filler)[: len(filler)]


def meant(answer: bytes) -> bytes:
    """The bytes of an answer that mean something. Raises ValueError where it is none."""
    count = answer[LEAD - 1]
    if count > len(answer) - LEAD:
        raise ValueError(f"a transaction of {len(answer)} bytes brought {count}")
    return answer[LEAD : LEAD + count]


class SpiLine:
    """With the methods of a `serial.Serial` that the host program needs; each `read` is one
    transaction of `exchange`, which gives as many bytes as it is given."""

    def __init__(self, exchange: Callable[[bytes], bytes]) -> None:
        self._exchange = exchange
        self._waiting = b""

    def write(self, data: bytes) -> None:
        """Bytes for the next transactions."""
        self._waiting += data

    def read(self, count: int) -> bytes:
        """What a transaction brings, none or more; `count` is at least its BLOCK."""
        data, self._waiting = self._waiting[:BLOCK], self._waiting[BLOCK:]
        return meant(self._exchange(frame(data)))

    def send_break(self, seconds: float) -> None:
        """Reset the design."""
        self._waiting = b""
        self._exchange(bytes([0, RESET]) + bytes(FRAME - 2))

    def reset_input_buffer(self) -> None:
        """Nothing is kept."""


def ftdi(url: str, hertz: float) -> Any:
    """The line of an FTDI chip, whose ADBUS3 selects the design: `ftdi://ftdi:2232h/1`.

    Raises ModuleNotFoundError without pyftdi, OSError where the chip is not there.
    """
    from pyftdi.spi import SpiController

    controller = SpiController(cs_count=1)
    controller.configure(url)
    port = controller.get_port(cs=0, freq=hertz, mode=0)
    return SpiLine(lambda data: bytes(port.exchange(data, duplex=True)))
