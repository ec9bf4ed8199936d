"""The compiled bench of a build, kept for others of the same Verilog, wherever they lie.

bench/run.py compiles its bench unless one is there with the digest of all that it was made from. So
one from the shelf is put there before, and what does not fit after all is compiled anew.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from intaglio.codegen.running.library import toolchain
from intaglio.system.shelf import digest, shelf, used

SHELF = "benches"
SOURCES = (
    "rtl/top.v", "rtl/intaglio_rom.v", "bench/bench.v", "bench/bench_parts.v", "bench/run.py",
    "bench/verilated.py",
)  # fmt: skip
PLACE = Path("sim") / "verilator"  # in a build, by bench/run.py
STAMP, PRODUCT = "sources.sha256", "bench"


@contextmanager
def shared(folder: Path) -> Iterator[None]:
    """Inside, a build's bench for Verilator is there if one like it was kept; what is there at the
    end is kept, if that can be done."""
    kept = shelf(SHELF)
    place = None if kept is None else kept / name(folder)
    if place is not None:
        with suppress(OSError):
            put(place, folder / PLACE)
    yield
    if place is not None:
        with suppress(OSError):
            put(folder / PLACE, place)
            used(place)


def name(folder: Path) -> str:
    """Of all that a build's bench is made from, and with."""
    cocotb = find_spec("cocotb_tools")
    tools = (*toolchain(), version("cocotb"), str(cocotb and cocotb.origin), sys.executable)
    return digest((*tools, *((folder / path).read_bytes() for path in SOURCES)))


def put(made: Path, place: Path) -> None:
    """A copy of a compiled bench, whole, in a place that has none like it."""
    stamp = made / STAMP
    if not stamp.is_file() or (
        (place / STAMP).is_file() and (place / STAMP).read_bytes() == stamp.read_bytes()
    ):
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new.", dir=place.parent) as work:
        copy = Path(work) / place.name
        copy.mkdir()
        for file in (PRODUCT, STAMP):
            shutil.copy(made / file, copy)
        shutil.rmtree(place, ignore_errors=True)
        os.replace(copy, place)
