"""A serial line to a simulated board, with the methods of a `serial.Serial` that are needed."""

from __future__ import annotations

import os
import select
import subprocess
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from intaglio.system.processes import environment

POLL = 0.01  # seconds that a read waits


class SimulatedLine:
    """The program that Verilator made of a board and `cpp/serial.cpp`, run in `folder`.

    cycles  clocks a bit. Use it as a context manager: it ends the program.
    """

    def __init__(self, program: Path, cycles: int, folder: Path) -> None:
        self._process = subprocess.Popen(
            [str(program), str(cycles)],
            cwd=folder,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
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
        assert self._process.stderr is not None
        with suppress(BrokenPipeError):  # of what was not flushed to a program that has ended
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._process.stderr.close()

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
        assert self._process.stderr is not None
        number = self._process.stdout.fileno()
        ready, _, _ = select.select([number], [], [], POLL)
        data = os.read(number, count) if ready else b""
        if ready and not data:
            words = self._process.stderr.read().decode(errors="replace").strip().splitlines()
            raise ValueError(f"its simulation ended: {words[0] if words else 'no message'}")
        return data

    def _command(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()
