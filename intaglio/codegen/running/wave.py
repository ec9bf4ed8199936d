"""Waveforms: which file a simulator can write, and where it goes once it is whole."""

from __future__ import annotations

import shutil
from pathlib import Path

from intaglio.codegen.running.tools import SimulatorName
from intaglio.errors import DataError
from intaglio.system.disk import without_files

WAVES = {"verilator": (".vcd",), "icarus": (".fst", ".vcd")}  # bench/run.py has them too


def check_wave(path: Path, simulator: SimulatorName) -> None:
    """Raises DataError for a file that the simulator cannot write."""
    endings = WAVES[simulator]
    if path.suffix not in endings:
        other = "; with --simulator icarus .fst too" if simulator == "verilator" else ""
        raise DataError(
            f"--wave must end in {' or '.join(endings)} with {simulator}, not {path.name}{other}."
        )


def written_to(wave: Path) -> str:
    """Where the bench writes it, relative to the build folder."""
    return f"sim/wave{wave.suffix}"


def begin_wave(folder: Path, wave: Path) -> None:
    """Nothing stays of an earlier one."""
    without_files(folder / "sim", (Path(written_to(wave)).name,))


def place_wave(folder: Path, wave: Path) -> None:
    """Put what the bench wrote where it is wanted."""
    shutil.move(folder / written_to(wave), wave)
