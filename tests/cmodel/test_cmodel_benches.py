"""Somebody else's block against the C model, through DPI and VPI: a PASS, and faults found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tools import needs

SCRIPT = Path(__file__).parent.parent.parent / "examples" / "foreign_golden.py"
# What runs has none of these: a bench in C needs NumPy and Numba alone.
BARE = """
import runpy, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('torch', 'amaranth', 'cocotb', 'onnx', 'PIL', 'scipy'):
            raise ImportError(name + ' is not installed here')
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, {folder!r})
runpy.run_path({script!r}, run_name='__main__')
"""


def ran(*arguments: str) -> dict[str, str]:
    """What the example says of each kind of block."""
    start = BARE.format(folder=str(SCRIPT.parent), script=str(SCRIPT))
    done = subprocess.run(
        [sys.executable, "-c", start, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


@pytest.mark.rtl
def test_icarus_through_vpi() -> None:
    needs("icarus")
    conv = "FAIL conv (from conv): frame 0, channel"
    assert ran("icarus") == {
        "right": "PASS 4032 codes of 3 frames",
        "rounding": f"{conv} 4, y 3, x 3: got -103, expected -104",
        "channel": f"{conv} 7, y 0, x 0: got -60, expected 120",
        "clamp": f"{conv} 6, y 0, x 0: got 126, expected 127",
        "tlast": "FAIL conv: channel 0, y 0, x 0: tlast",
        "dead": "FAIL conv: channel 0, y 0, x 0: no beat",
        "undefined": f"{conv} 6, y 0, x 0: got undefined bits, expected 127",
    }


@pytest.mark.rtl
def test_verilator_through_dpi() -> None:
    needs("verilator")
    assert ran("verilator", "right") == {"right": "PASS 4032 codes of 3 frames"}


@pytest.mark.rtl
@pytest.mark.slow
def test_verilator_finds_every_fault() -> None:
    needs("verilator")
    found = ran("verilator", "rounding", "channel", "clamp", "tlast", "dead")
    assert [line[:9] for line in found.values()] == ["FAIL conv"] * 5
    assert found["rounding"].startswith("FAIL conv (from conv): frame 0, channel ")
