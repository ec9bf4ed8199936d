"""Lines to a simulated board, with the methods of a `serial.Serial` that are needed."""

from __future__ import annotations

import os
import select
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from intaglio.chip.spi_line import FRAME
from intaglio.system.processes import environment

POLL = 0.01  # seconds that a read waits
HALF = 2  # clocks of half a bit of a simulated SPI


class Simulated:
    """A program that Verilator made of a board, run in `folder`. Use it as a context manager: it
    ends the program."""

    def __init__(self, program: Path, arguments: Sequence[int], folder: Path) -> None:
        self._process = subprocess.Popen(
            [str(program), *map(str, arguments)],
            cwd=folder,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        with suppress(BrokenPipeError):  # of what was not flushed to a program that has ended
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._process.stderr.close()

    def _command(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def _ended(self) -> ValueError:
        assert self._process.stderr is not None
        words = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        return ValueError(f"its simulation ended: {words[0] if words else 'no message'}")


class SimulatedLine(Simulated):
    """A board and `cpp/serial.cpp`. cycles: clocks a bit."""

    def __init__(self, program: Path, cycles: int, folder: Path) -> None:
        super().__init__(program, [cycles], folder)

    def write(self, data: bytes) -> None:
        """Bytes to the board."""
        self._command(b"".join(bytes((0, byte)) for byte in data))

    def send_break(self, seconds: float) -> None:
        """A break, counted in bits: the simulated line has no seconds."""
        self._command(b"\x01\x00")

    def reset_input_buffer(self) -> None:
        """Nothing has come before the break."""

    def read(self, count: int) -> bytes:
        """At most `count` bytes from the board, none after POLL seconds without any.

        Raises ValueError with its last words where the program has ended.
        """
        assert self._process.stdout is not None
        number = self._process.stdout.fileno()
        ready, _, _ = select.select([number], [], [], POLL)
        data = os.read(number, count) if ready else b""
        if ready and not data:
            raise self._ended()
        return data


class SimulatedSpi(Simulated):
    """A board and `cpp/spi.cpp`."""

    def __init__(self, program: Path, folder: Path) -> None:
        super().__init__(program, [FRAME, HALF], folder)

    def exchange(self, data: bytes) -> bytes:
        """A transaction. Raises ValueError with its last words where the program has ended."""
        assert self._process.stdout is not None
        self._command(data)
        answer = self._process.stdout.read(FRAME)
        if len(answer) < FRAME:
            raise self._ended()
        return answer
