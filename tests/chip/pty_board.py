"""A simulated board at a pseudo-terminal, which a host program finds as it finds a serial port."""

from __future__ import annotations

import json
import os
import threading
import tty
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from intaglio.chip.gates import simulated_board
from intaglio.chip.shell import BOARD
from intaglio.chip.synthesis import FOLDER
from intaglio.codegen.area.devices import device
from intaglio.codegen.folder.scripts import SOURCES
from intaglio.system.steps import Steps


class PtyBoard:
    """The board in the folder of a build: its netlist with the PLL, or the Verilog it is made of.

    `port` is what a serial port's name would be. A pseudo-terminal carries no break, so that the
    one with which a host begins is sent here once: the board is new.
    """

    def __init__(self, folder: Path, *, netlist: bool) -> None:
        manifest = json.loads((folder / "manifest.json").read_text())
        library = device(manifest["target"]).family if netlist else "generic"
        sources = [f"{FOLDER}/{BOARD}.netlist.v"] if netlist else [*SOURCES, f"{FOLDER}/{BOARD}.v"]
        self.board = simulated_board(folder, library, sources, Steps())
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        self.port = os.ttyname(self.slave)
        self.open = True

    def __enter__(self) -> PtyBoard:
        self.line = self.board.__enter__()
        self.line.send_break(0)
        self.threads = [threading.Thread(target=f, daemon=True) for f in (self.to, self.back)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.open = False
        os.write(self.slave, b"\n")  # wakes the reader
        for thread in self.threads:
            thread.join()
        self.board.__exit__(kind, error, trace)
        os.close(self.slave)
        os.close(self.master)

    def to(self) -> None:
        """What the host writes, to the board."""
        while self.open:
            data = os.read(self.master, 4096)
            if self.open:
                self.line.write(data)

    def back(self) -> None:
        """What the board says, to the host."""
        with suppress(ValueError):  # its simulation ended
            while self.open:
                os.write(self.master, self.line.read(4096))
