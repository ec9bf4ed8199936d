"""The integer ONNX form: onnxruntime gives the simulator's integers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from strategies import images_for, int_types, narrow_arithmetics, programs
from tools import Cli, refused

from intaglio.errors import ProgramError
from intaglio.exchange.runtime import run_onnx
from intaglio.exchange.to_onnx.integer import to_integer
from intaglio.fixed import ROUNDINGS, Arithmetic, IntType
from intaglio.ops import Conv2d, Input, Output, Requant, Upsample
from intaglio.program import Builder, Program
from intaglio.sim.reference import run, saturates

EVERY_WIDTH = {"input_types": int_types(16), "max_bits": 12}


def check(program: Program, images: NDArray[Any]) -> None:
    """Every output of onnxruntime is the reference's."""
    expected = run(program, images).tensors
    got = run_onnx(to_integer(program), images)
    assert list(got) == [t.name for t in program.outputs]
    for name, array in got.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@settings(max_examples=60)
@given(st.data())
def test_onnxruntime_gives_the_reference_integers(data: st.DataObject) -> None:
    wide = data.draw(st.booleans())
    widths: dict[str, Any] = EVERY_WIDTH if wide else {}
    program = data.draw(programs(raw_accumulators=True, **widths))
    check(program, data.draw(images_for(program)))


@settings(max_examples=30)
@given(st.data())
def test_narrow_accumulators_wrap_and_saturate(data: st.DataObject) -> None:
    program = data.draw(programs(arithmetic=narrow_arithmetics(), blocks=("conv", "depthwise")))
    images = data.draw(images_for(program))
    if saturates(program.arithmetic, "mac") and run(program, images).overflows:
        with pytest.raises(ProgramError, match=r"^Conv2d .*saturate at the end.*saturate_at='end'"):
            to_integer(program)
    else:
        check(program, images)


def shallow(op: Upsample, type: IntType) -> Program:
    """Input, one operation, Output."""
    builder = Builder()
    builder.add(Input(output="x", shape=(2, 6, 7), type=type))
    builder.add(op)
    builder.add(Output(output="out", input=op.output))
    return builder.build()


@pytest.mark.parametrize("size", [(6, 7), (12, 7), (18, 14), (10, 23), (29, 30)])
@pytest.mark.parametrize("bits", [8, 16])
def test_enlarging_by_any_factor_reads_the_same_pixels(size: tuple[int, int], bits: int) -> None:
    program = shallow(Upsample(output="y", input="x", size=size), IntType(bits, True))
    check(program, np.arange(84).reshape(1, 2, 6, 7) - 40)


@pytest.mark.parametrize("rounding", sorted(ROUNDINGS))
def test_every_tie_and_every_shift(rounding: Any) -> None:
    """Codes around every half, at shifts that differ between channels, 0 and above 31 included."""
    shifts = (0, 1, 2, 5, 31, 32, 33, 40)
    builder = Builder(Arithmetic(rounding=rounding, per_channel_shift=True, multiplier_bits=33))
    builder.add(Input(output="x", shape=(8, 1, 256), type=IntType(8, True)))
    multipliers = builder.constant(
        "m", [1 << max(s - 3, 0) if s <= 33 else 1 << 31 for s in shifts]
    )
    builder.add(
        Requant(output="y", input="x", multiplier=multipliers, bias=builder.constant("b", [0]),
                shift=shifts, lo=-128, hi=127, offset=3)
    )  # fmt: skip
    builder.add(Output(output="out", input="y"))
    codes = np.arange(-128, 128).reshape(1, 1, 1, 256).repeat(8, axis=1)
    check(builder.build(), codes)


def test_sums_beyond_int32_are_refused() -> None:
    builder = Builder()
    builder.add(Input(output="x", shape=(80000, 1, 1), type=IntType(16, False)))
    weight = builder.constant("w", np.full((1, 80000, 1, 1), 127))
    builder.add(Conv2d(output="y", input="x", weight=weight, origin="fc"))
    builder.add(Output(output="out", input="y"))
    with pytest.raises(ProgramError, match=r"^Conv2d 'y' \(from fc\): .*ConvInteger sums in int32"):
        to_integer(builder.build())


def test_the_file_says_what_it_holds() -> None:
    program = shallow(Upsample(output="y", input="x", size=(12, 7)), IntType(8, False))
    model = to_integer(program)
    onnx.checker.check_model(model, full_check=True)
    notes = {p.key: p.value for p in model.metadata_props}
    assert notes["intaglio.digest"] == program.digest()
    assert [d.domain for d in model.opset_import] == [""]


def test_a_bundled_detector_exports_and_agrees(cli: Cli, tmp_path: Path) -> None:
    cli("scenes", "data", "--count", 4, "--split", "train")
    images = ("--images", "data/images", "--method", "minmax")
    code, _, err = cli("quantize", "fcos-nano", *images, "-o", "n.intaglio")
    assert code == 0, err
    code, out, err = cli("export", "n.intaglio", "-o", "n.onnx", "--json", "n.json")
    assert code == 0, out + err
    found = json.loads((tmp_path / "n.json").read_text())
    assert found["mismatches"] == 0
    assert found["compared"] == 2 * 2835
    assert onnx.load(tmp_path / "n.onnx").graph.output[0].name
    refused(cli("export", "n.intaglio", "-o", "n.txt"), "--output must end in .onnx", "n.txt")
    refused(cli("export", "absent.intaglio", "-o", "a.onnx"), "must be an existing .intaglio file")
    assert not (tmp_path / "a.onnx").exists()
