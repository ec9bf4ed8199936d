"""Every example runs."""

import subprocess
import sys
from pathlib import Path

import pytest
from tools import needs

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SCRIPTS = {
    "other_tools.py": "all equal",
    "own_detector.py": "centre 1x12x12 1x6x6 1x3x3",
    "own_network.py": "all equal",
    "foreign_requant.py": "broken: 4 of 2,688 beats differ, first conv (from conv): frame 0, "
    "channel 3, y 2, x 13",
}


ELSEWHERE = {"foreign_golden.py"}  # cmodel/test_cmodel_benches.py


def test_every_example_is_listed() -> None:
    assert {f.name for f in EXAMPLES.glob("*.py")} == set(SCRIPTS) | ELSEWHERE


@pytest.mark.rtl
@pytest.mark.parametrize("script", SCRIPTS)
def test_example_runs(script: str) -> None:
    needs("verilator")
    done = subprocess.run(
        [sys.executable, EXAMPLES / script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert SCRIPTS[script] in done.stdout
