"""Convolutions by tiles of AMX: who may use them, which instructions are made, and their integers.

No test runs a tile instruction, so that all of them run everywhere: the integers are those of the
same loops with tiles in plain instructions, and the instructions are read, not executed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.fixed import PRESETS, IntType
from intaglio.ops import Conv2d, Input, MaxPool2d, Output, Requant
from intaglio.program import Builder, Program
from intaglio.sim import engine, isa
from intaglio.sim.amx import permission, tiles
from intaglio.sim.amx.walk import configuration
from intaglio.sim.engine import Simulator
from intaglio.sim.plan import make_plan
from intaglio.sim.reference import run

FEATURES = ("amx-tile", "amx-int8", "avx512vnni", "avx512bw", "avx512f", "avx512vl", "avx2", "avx")
vectors = pytest.mark.skipif(
    "avx512vnni" not in isa.supported(), reason="its other kernels need AVX512-VNNI"
)


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """The instruction set is there, its tiles in plain instructions."""
    monkeypatch.setattr(tiles, "EMULATED", True)
    monkeypatch.setattr(isa, "supported", lambda: ("amx", "avx512vnni", "generic"))


def layers(data: st.DataObject) -> Program:
    """A convolution behind a convolution, whose halo the first one writes into, and a pool."""
    type = IntType(data.draw(st.integers(2, 8)), data.draw(st.booleans()))
    seed = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    cin = data.draw(st.sampled_from([1, 3, 17, 64, 70]))
    middle = data.draw(st.sampled_from([1, 17, 33, 70]))
    outs = data.draw(st.sampled_from([1, 15, 16, 17, 33, 64, 97]))
    b = Builder(data.draw(st.sampled_from([None, PRESETS["tflite"], PRESETS["nvdla"]])))
    size = data.draw(st.tuples(st.integers(3, 9), st.integers(3, 21)))
    b.add(Input(output="x", shape=(cin, *size), type=type))
    x, codes = "x", type
    for name, count, wide in (("a", middle, 1), ("b", outs, data.draw(st.sampled_from((1, 2))))):
        side = data.draw(st.sampled_from([1, 3]))
        channels = b.tensors[x].shape[0]
        weight = seed.choice([-128, 127, 3], (count, channels, side, side))
        b.constant(f"{name}.w", weight)
        b.add(
            Conv2d(
                output=f"{name}.sums", input=x, weight=f"{name}.w",
                stride=data.draw(st.sampled_from([(1, 1), (2, 2), (1, 2)])),
                padding=(side // 2,) * 4, pad_value=(codes.lo,),
            )
        )  # fmt: skip
        top = max(abs(b.tensors[f"{name}.sums"].lo), b.tensors[f"{name}.sums"].hi)
        shift = 32 + data.draw(st.integers(0, 3))
        most = min(b.arithmetic.multiplier_max, (1 << (shift + 8 * wide - 1)) // max(top, 1))
        b.constant(f"{name}.m", seed.integers(most // 2, most + 1, count))
        b.constant(f"{name}.b", seed.integers(-1000, 1000, count))
        codes = IntType(8 * wide, data.draw(st.booleans()))
        low, high = max(codes.lo, -(1 << 15)), min(codes.hi, (1 << 15) - 1)
        b.add(
            Requant(
                output=name, input=f"{name}.sums", multiplier=f"{name}.m", bias=f"{name}.b",
                shift=(shift,), lo=low, hi=high,
            ),
            codes if wide == 1 else IntType(16, True),
        )  # fmt: skip
        x = name
    b.add(Output(output="y", input="b"))
    b.add(MaxPool2d(output="p", input="a", kernel=(1, 1)))
    b.add(Output(output="z", input="p"))
    return b.build()


@vectors
@pytest.mark.usefixtures("emulated")
def test_tiles_make_the_same_integers() -> None:
    """Channels and pixels around tiles' sizes, several blocks of weights, signed codes, every
    rounding, one thread and three: codes of all extremes."""
    taken = []

    @given(st.data())
    @settings(max_examples=40)
    def law(data: st.DataObject) -> None:
        program = layers(data)
        type = program.inputs[0].type
        seed = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
        images = seed.choice([type.lo, type.hi, 0], (1, *program.inputs[0].shape))
        plan = make_plan(program, isa="amx")
        taken.extend(sums.kind for sums in plan.sums.values())
        expected = run(program, images).tensors
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "WORTH", 0)
            for threads in (1, 3):
                got = Simulator(program, threads=threads, isa="amx")(images)
                for name, array in got.items():
                    np.testing.assert_array_equal(array, expected[name], err_msg=name)

    law()
    assert taken.count("tiles") > len(taken) // 2


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A processor with tiles, of which nothing is known yet."""
    there = frozenset(FEATURES)
    monkeypatch.setattr(isa, "features", lambda: there)
    monkeypatch.setattr(permission, "flags", lambda: permission.FLAGS)
    for known in (isa.supported, permission.granted):
        known.cache_clear()
    yield monkeypatch
    for known in (isa.supported, permission.granted):
        known.cache_clear()


@pytest.mark.skipif(sys.platform != "linux", reason="the permission is Linux's")
@pytest.mark.parametrize(
    ("request_answer", "held", "best"),
    [(0, 1 << 18, "amx"), (0, 0, "avx512vnni"), (-1, 1 << 18, "avx512vnni")],
    ids=["granted", "not held", "refused"],
)
def test_the_permission_decides(
    fresh: pytest.MonkeyPatch, request_answer: int, held: int, best: str
) -> None:
    asked = []

    def answer(code: int, argument: int) -> int:
        asked.append(code)
        if code == permission.REQUEST:
            assert argument == permission.TILES
            return request_answer
        permission.ctypes.c_uint64.from_address(argument).value = held
        return 0

    fresh.setattr(permission, "arch_prctl", answer)
    assert isa.choose(None) == best
    assert isa.choose("avx512vnni") == "avx512vnni"
    assert asked.count(permission.REQUEST) == 1


def test_a_processor_without_tiles_is_not_asked_about_them(fresh: pytest.MonkeyPatch) -> None:
    fresh.setattr(permission, "flags", lambda: frozenset({"avx512_vnni"}))
    fresh.setattr(permission, "arch_prctl", lambda *_: pytest.fail("asked"))
    assert isa.choose(None) == "avx512vnni"


REFUSED = """
import numpy as np
from intaglio.ops import Conv2d, Input, Output
from intaglio.program import Builder
from intaglio.fixed import IntType
from intaglio.sim import isa
from intaglio.sim.amx import permission
there = isa.features()
isa.features = lambda: there | {"amx-tile", "amx-int8"}
permission.flags = lambda: permission.FLAGS
real = permission.arch_prctl
permission.arch_prctl = lambda code, argument: real(code, 63)  # no state has this number
from intaglio.sim.engine import Simulator
b = Builder()
b.add(Input(output="x", shape=(4, 3, 3), type=IntType(8, False)))
b.constant("w", np.full((2, 4, 1, 1), 3))
b.add(Conv2d(output="a", input="x", weight="w"))
b.add(Output(output="y", input="a"))
print(isa.supported()[0], Simulator(b.build())(np.full((1, 4, 3, 3), 7))["y"].max())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the system call is Linux's")
def test_a_refused_request_leaves_the_other_units() -> None:
    """The operating system itself refuses, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", REFUSED], capture_output=True, text=True)
    assert done.stdout.split() == [next(n for n in isa.supported() if n != "amx"), "84"], done


READ = """
from intaglio.sim.amx import tiles
from intaglio.sim.code import emitting
from intaglio.sim.isa import UNITS
from intaglio.sim.vector.high import Way
emitting.Codegen.object_of = lambda self, module: self._tm.emit_assembly(module).encode()
for pointer in (tiles.make_block(UNITS[0], Way("TRN"), 1), *tiles.switches(False)):
    print(emitting.emit(pointer.code).decode())
"""


def test_the_instructions_are_those_of_tiles() -> None:
    """Compiled for a processor that has them, in a process of its own, and not run."""
    stated = ",".join(f"+{name}" for name in FEATURES)
    target = {"NUMBA_CPU_NAME": "sapphirerapids", "NUMBA_CPU_FEATURES": stated}
    done = subprocess.run(
        [sys.executable, "-c", READ], capture_output=True, text=True, env=os.environ | target
    )
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    words = [line[0] for line in lines if line]
    assert words.count("tdpbusd") == 4
    assert words.count("tilestored") == 4
    assert words.count("tileloaddt1") == 2
    assert {"tileloadd", "ldtilecfg", "tilerelease", "vpmuldq"} <= set(words)


def test_what_is_given_beside_the_tiles() -> None:
    """The configuration's bytes are those of palette 1 (Intel's manual, LDTILECFG)."""

    made = configuration()
    assert made.ctypes.data % 64 == 0
    assert made[0] == 1
    assert made[16:32].view(np.uint16).tolist() == [64] * 8
    assert made[48:56].tolist() == [16] * 8
    assert made[[1, *range(2, 16), *range(32, 48), *range(56, 64)]].sum() == 0
