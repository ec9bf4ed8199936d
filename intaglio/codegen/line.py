"""A serial line to a simulated board, with the methods of a `serial.Serial` that are needed."""

from __future__ import annotations

import os
import select
import subprocess
from pathlib import Path
from types import TracebackType

POLL = 0.01  # seconds that a read waits


class SimulatedLine:
    """The program that Verilator made of a board and `cpp/serial.cpp`, run in `folder`.

    cycles  clocks a bit. Use it as a context manager: it ends the program.
    """

    def __init__(self, program: Path, cycles: int, folder: Path) -> None:
        self._process = subprocess.Popen(
            [str(program), str(cycles)],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def __enter__(self) -> SimulatedLine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def write(self, data: bytes) -> None:
        """Bytes to the board."""
        self._command(b"".join(bytes((0, byte)) for byte in data))

    def send_break(self, seconds: float) -> None:
        """A break, counted in bits: the simulated line has no seconds."""
        self._command(b"\x01\x00")

    def reset_input_buffer(self) -> None:
        """Nothing has come before the break."""

    def read(self, count: int) -> bytes:
        """At most `count` bytes from the board, none after POLL seconds without any."""
        assert self._process.stdout is not None
        number = self._process.stdout.fileno()
        ready, _, _ = select.select([number], [], [], POLL)
        return os.read(number, count) if ready else b""

    def _command(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()
