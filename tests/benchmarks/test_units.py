"""The unit that a program is seen to run on is the one that it was told to use."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from tools import needs_modules

from intaglio.sim.isa import supported

WORK = """
import sys
import numpy as np
from intaglio.fixed import IntType
from intaglio.ops import Conv2d, Input, Output
from intaglio.program import Builder
from intaglio.sim.engine import Simulator

b = Builder()
b.add(Input(output="x", shape=(64, 64, 64), type=IntType(8, False)))
b.constant("w", np.random.default_rng(0).integers(-127, 128, (64, 64, 1, 1)))
b.add(Conv2d(output="acc", input="x", weight="w"))
b.add(Output(output="y", input="acc"))
run = Simulator(b.build(), threads=1, isa=sys.argv[1])
image = np.zeros((1, 64, 64, 64), np.uint8)
run(image)
print("ready", flush=True)
while True:
    run(image)
"""


@pytest.mark.parametrize("isa", ["avx512vnni", "avx2"])
def test_a_program_is_seen_on_its_unit(isa: str) -> None:
    needs_modules("capstone")
    import units

    if isa not in supported():
        pytest.skip(f"this processor has no {isa}")
    command = [sys.executable, "-c", WORK, isa]
    held = os.environ | units.HELD[isa]
    with subprocess.Popen(command, env=held, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        found = "none"  # a busy machine may have it stopped elsewhere each time
        for _ in range(10):
            if found == "none":
                found = units.seen(child.pid, units.INT8, stops=150)
        child.kill()
    assert found == isa


@pytest.mark.parametrize(
    ("instruction", "operands", "unit"),
    [
        ("vpdpbusd", "zmm0, zmm1, zmm2", ("int8", "avx512vnni")),
        ("vpdpbusds", "ymm0, ymm1, ymm2", ("int8", "avxvnni")),
        ("vpmaddubsw", "zmm0, zmm1, zmm2", ("int8", "avx512")),
        ("vpmaddwd", "ymm0, ymm1, ymm2", ("int8", "avx2")),
        ("tdpbusd", "tmm0, tmm1, tmm2", ("int8", "amx")),
        ("tdpbf16ps", "tmm0, tmm1, tmm2", ("fp32", "amx")),
        ("vfmadd231ps", "zmm0, zmm1, zmm2", ("fp32", "avx512")),
        ("vpaddd", "zmm0, zmm1, zmm2", None),
    ],
)
def test_instructions_are_known(
    instruction: str, operands: str, unit: tuple[str, str] | None
) -> None:
    needs_modules("capstone")
    import units

    assert units.unit_of(instruction, operands) == unit
