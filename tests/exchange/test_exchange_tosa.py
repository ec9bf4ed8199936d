"""TOSA files: the reference model gives the simulator's integers, or there is no file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from models import Mixed, Pyramid, networks, pixels, trained
from numpy.typing import NDArray
from strategies import images_for, int_types, programs
from tools import Cli, refused, tosa_python
from torch import nn
from torch.nn import functional

from intaglio.diverge import rebuilt
from intaglio.errors import ProgramError
from intaglio.exchange.to_tosa.run import ReferenceModel, run_tosa
from intaglio.exchange.to_tosa.tosa import to_tosa
from intaglio.file import save
from intaglio.fixed import PRESETS, Arithmetic, IntType
from intaglio.ops import (
    Add,
    Constant,
    Conv2d,
    Input,
    Interpolate,
    MaxPool2d,
    Op,
    Output,
    Pad,
    Requant,
    SumPool2d,
)
from intaglio.ops.interpolation import align_corners, asymmetric, between, half_pixel
from intaglio.program import Builder, Program
from intaglio.quant import QuantConfig, quantize
from intaglio.sim.reference import run


@pytest.fixture(scope="module")
def model() -> Iterator[ReferenceModel]:
    """The reference model; without it the test is skipped, or fails where CI is set."""
    with ReferenceModel(tosa_python()) as model:
        yield model


def as_tosa_has_it(program: Program) -> Program:
    """The Program with every B a multiple of M beside a zero point, and sums' factors narrow."""
    constants, made = dict(program.constants), []
    for op in program.ops:
        zero = program.tensors[op.output].zero_point[0]
        inside = 0 if program.arithmetic.rounding == "DOUBLE" else zero
        if isinstance(op, Requant):
            arrays = [constants[n].array for n in op.constants]
            m, b, s = np.broadcast_arrays(*arrays, np.array(op.shift))
            pairs = zip(m.tolist(), b.tolist(), s.tolist(), strict=True)
            table = np.array([whole(program, inside, *parts) for parts in pairs])
            type = IntType.spanning(int(table.min()), int(table.max()))
            constants[op.bias] = Constant(op.bias, table, type)
            op = replace(op, offset=zero - inside)
        if isinstance(op, Add):
            low = program.arithmetic.shift_range[0]
            top = max(abs(op.multiplier_a), abs(op.multiplier_b)).bit_length()
            less = max(0, min(top - 20, op.shift - low))
            fields = {n: getattr(op, n) >> less for n in ("multiplier_a", "multiplier_b", "bias")}
            op = replace(op, shift=op.shift - less, offset=0, **fields)
        made.append(op)
    return rebuilt(replace(program, constants=constants, ops=tuple(made)), program.arithmetic)


def whole(program: Program, inside: int, m: int, b: int, s: int) -> int:
    """The multiple of m next to b, beside inside * 2^s and the half that TRN holds."""
    half = (1 << s) >> 1 if program.arithmetic.rounding == "TRN" else 0
    limit = (1 << 31) - (1 << 24)
    k = 0 if m == 0 else max(-limit, min(limit, (b - (inside << s) - half) // m))
    return k * m + (inside << s) + half


def check(model: ReferenceModel, program: Program, images: NDArray[Any]) -> None:
    """Every output of the reference model is the simulator's."""
    expected = run(program, images).tensors
    graph = to_tosa(program)
    assert graph.inputs == [t.name for t in program.inputs]
    assert graph.outputs == [t.name for t in program.outputs]
    got = run_tosa(model, program, graph, images)
    assert list(got) == [t.name for t in program.outputs]
    for name, array in got.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


# --- random Programs ------------------------------------------------------------------------------

ARITHMETICS = st.sampled_from(
    (PRESETS["tosa"], PRESETS["tflite"], PRESETS["intaglio"], Arithmetic(rounding="TRN"))
)
AT_THE_END = st.builds(
    Arithmetic,
    acc_bits=st.integers(4, 16),
    overflow=st.sampled_from(("wrap", "saturate")),
)
KINDS: dict[str, dict[str, Any]] = {
    "narrow codes": {"arithmetic": ARITHMETICS, "raw_accumulators": True},
    "wide codes": {"arithmetic": ARITHMETICS, "max_bits": 16},
    "overflowing sums": {"arithmetic": AT_THE_END, "blocks": ("conv", "depthwise", "grouped")},
}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(data=st.data())
def test_the_reference_model_gives_the_simulators_integers(
    model: ReferenceModel, kind: str, data: st.DataObject
) -> None:
    types = int_types(16 if kind == "wide codes" else 8)
    drawn = data.draw(programs(input_types=types, weight_bits=7, **KINDS[kind]))
    images = data.draw(images_for(drawn))
    try:
        program = as_tosa_has_it(drawn)
        to_tosa(program)
    except ProgramError:
        assume(False)
    check(model, program, images)


PLACES = {"half": half_pixel, "corners": align_corners, "plain": asymmetric}


@pytest.mark.parametrize("type", [IntType(8, True), IntType(8, False), IntType(4, False)], ids=str)
@pytest.mark.parametrize("way", PLACES)
@settings(max_examples=8)
@given(sizes=st.tuples(*[st.integers(1, 9)] * 4))
def test_sums_of_two_rows_and_columns_are_those_of_a_resize(
    model: ReferenceModel, way: str, type: IntType, sizes: tuple[int, int, int, int]
) -> None:
    """Alone and behind a Requant. TOSA refuses what is enlarged sixteen times at once."""
    h, w, oh, ow = sizes
    rows, columns = (between(PLACES[way](old, new), old) for old, new in ((h, oh), (w, ow)))
    op = Interpolate(output="y", input="x", rows=rows, columns=columns)
    b = Builder(PRESETS["tosa"])
    b.add(Input(output="x", shape=(2, h, w), type=type))
    b.add(op)
    b.add(Output(output="sums", input="y"))
    m = b.constant("m", [(1 << 30) // op.unit])
    b.add(Requant(output="z", input="y", multiplier=m, bias=b.constant("b", [0]), shift=(30,),
                  lo=type.lo, hi=type.hi), type)  # fmt: skip
    b.add(Output(output="out", input="z"))
    program = b.build()
    said = ""
    try:
        to_tosa(program)
    except ProgramError as error:
        said = str(error)
    if said:
        assert "even steps of at most 2048 parts of a pixel in TOSA; export it as .onnx." in said
        assert min(oh, ow) == 1 or max(oh / h, ow / w) > 8 or min(h, w) == 1
        return
    check(model, program, np.random.default_rng(0).integers(type.lo, type.hi + 1, (2, 2, h, w)))


# --- what was quantised for TOSA ------------------------------------------------------------------


class Averages(nn.Module):
    """Plain averages between convolutions, a sum and a shared head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x = torch.relu(self.stem(x))
        y = functional.avg_pool2d(x + self.body(x), 2)
        z = functional.adaptive_avg_pool2d(y, 1)
        return self.head(y), torch.sigmoid(self.head(z))


@pytest.mark.parametrize("arithmetic", ["tosa", "tflite", "cmsis-nn"])
@pytest.mark.parametrize(
    ("network", "shape"),
    [(Averages, (3, 16, 20)), (Pyramid, (3, 24, 30)), (Mixed, (3, 17, 20))],
)
@pytest.mark.parametrize("abits", [4, 8])
def test_what_is_quantised_for_it_exports(
    model: ReferenceModel, arithmetic: str, network: type[nn.Module], shape: Any, abits: int
) -> None:
    config = QuantConfig(
        abits=abits, method="minmax", arithmetic=PRESETS[arithmetic], symmetric=abits == 8
    )
    program = quantize(trained(network()), pixels(shape, 3), config).program
    check(model, program, pixels(shape, 2, seed=5))
    kinds = {node.kind for node in to_tosa(program).nodes}
    if network is Averages:
        assert ("AVG_POOL2D" in kinds) == (arithmetic == "tosa")
        ops = [type(program.producer[op.input]) for op in program.of_kind(Requant)]
        assert SumPool2d in ops


@settings(max_examples=10, deadline=None)
@given(networks(), st.sampled_from(("tosa", "tflite")))
def test_random_networks_quantised_for_it_export(
    model: ReferenceModel, drawn: tuple[nn.Module, Any], arithmetic: str
) -> None:
    network, shape = drawn
    config = QuantConfig(method="minmax", arithmetic=PRESETS[arithmetic])
    program = quantize(network, pixels(shape, 3), config).program
    check(model, program, pixels(shape, 2, seed=5))


# --- refusals -------------------------------------------------------------------------------------


def build(arithmetic: Arithmetic, bits: int, *made: Op, **constants: Any) -> Program:
    """Input x, operations, Output of the last."""
    builder = Builder(arithmetic)
    builder.add(Input(output="x", shape=(2, 9, 9), type=IntType(bits, True)))
    for name, values in constants.items():
        builder.constant(name, values)
    for op in made:
        builder.add(op)
    builder.add(Output(output="out", input=made[-1].output))
    return builder.build()


def scaled(**fields: Any) -> Requant:
    """x * m + b, shifted by 20, to int8."""
    fields = {"multiplier": "m", "bias": "b", "shift": (20,), "lo": -128, "hi": 127} | fields
    return Requant(output="y", origin="layer", input="x", **fields)


CONV = Conv2d(output="acc", origin="layer", input="x", weight="w")
POOL = MaxPool2d(output="y", origin="layer", input="x", kernel=(2, 2), dilation=(2, 2))
SUM = Add(
    output="y", origin="layer", a="x", b="x", multiplier_a=1 << 24, multiplier_b=3 << 22, bias=0,
    shift=25, lo=-128, hi=127,
)  # fmt: skip
WEIGHTS = np.ones((1, 2, 3, 3))
MAC = replace(PRESETS["tosa"], acc_bits=4, overflow="saturate", saturate_at="mac")
REFUSALS: list[tuple[str, Program]] = [
    (
        r"Requant 'y' \(from layer\): its B must be a multiple of M beside the zero point, because"
        r" RESCALE adds its bias before it multiplies; quantise the model with --arithmetic tosa",
        build(PRESETS["tosa"], 8, scaled(), m=[1 << 19 | 1], b=[5]),
    ),
    (
        r"A Program for TOSA must round halves up or in two steps \(RND, DOUBLE\), not by RND_INF;"
        r" quantise the model with --arithmetic tosa",
        build(PRESETS["nvdla"], 8, scaled(shift=(12,)), m=[1 << 12], b=[0]),
    ),
    (
        r"A Program for TOSA must multiply integers, not in float32 as 'onnxruntime' does;"
        r" quantise the model with --arithmetic tosa",
        build(PRESETS["onnxruntime"], 8, scaled(), m=[1 << 20], b=[0]),
    ),
    (
        r"Conv2d 'acc' \(from layer\): its operand must have at most 16 bits in TOSA, not i17",
        build(PRESETS["tosa"], 17, CONV, w=WEIGHTS),
    ),
    (
        r"Conv2d 'acc' \(from layer\): its weights must fit into i8 in TOSA; use at most 8 bits",
        build(PRESETS["tosa"], 8, CONV, w=WEIGHTS * 200),
    ),
    (
        r"Conv2d 'acc' \(from layer\): its accumulator must saturate at the end, not after every"
        r" product, which no TOSA operator does; use saturate_at='end' or a wider accumulator",
        build(MAC, 8, CONV, w=WEIGHTS),
    ),
    (
        r"MaxPool2d 'y' \(from layer\): its window must not be dilated in TOSA; use a dense max"
        r" pool",
        build(PRESETS["tosa"], 8, POOL),
    ),
    (
        r"Add 'y' \(from layer\): its factor must be smaller for sums up to 129 in TOSA, not"
        r" 1\.68e\+07; use wider codes for its operands, or quantise the model with --arithmetic"
        r" tosa",
        build(PRESETS["tosa"], 8, SUM),
    ),
    (
        r"MaxPool2d 'y' \(from layer\): its operand must have at most 16 bits in TOSA, not i17",
        build(PRESETS["tosa"], 17, replace(POOL, dilation=(1, 1))),
    ),
    (
        r"Input 'x': its codes must have at most 32 bits in TOSA, not i33",
        build(PRESETS["tosa"], 33, Pad(output="y", input="x", padding=(1, 1, 1, 1), value=0)),
    ),
]


@pytest.mark.parametrize(("words", "program"), REFUSALS)
def test_refusals_name_the_operation_the_reason_and_the_remedy(
    words: str, program: Program
) -> None:
    with pytest.raises(ProgramError, match=f"^{words}\\.$"):
        to_tosa(program)


def test_a_bundled_detector_exports_and_agrees(cli: Cli, tmp_path: Path) -> None:
    python = tosa_python()
    cli("scenes", "data", "--count", 4, "--split", "train")
    fast = ("--images", "data/images", "--method", "minmax")
    code, _, err = cli("quantize", "fcos-nano", *fast, "--arithmetic", "tosa", "-o", "n.intaglio")
    assert code == 0, err
    options = ("--tosa-python", python, "--check", 4, "--json", "n.json")
    code, out, err = cli("export", "n.intaglio", "-o", "n.tosa", *options)
    assert code == 0, out + err
    found = json.loads((tmp_path / "n.json").read_text())
    assert found["form"] == "tosa"
    assert found["mismatches"] == 0
    assert found["compared"] == 4 * 2835
    assert (tmp_path / "n.tosa").read_bytes()[4:8] == b"TOSA"


def test_the_reference_model_is_found_from_any_folder(cli: Cli, tmp_path: Path) -> None:
    tosa_python()
    save(build(PRESETS["tosa"], 8, replace(POOL, dilation=(1, 1))), tmp_path / "p.intaglio")
    code, _, err = cli("export", "p.intaglio", "-o", "p.tosa", "--json", "p.json")
    assert code == 0, err
    assert json.loads((tmp_path / "p.json").read_text())["mismatches"] == 0


def test_what_the_command_line_refuses(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = tmp_path / "a folder/bin/python"
    monkeypatch.setattr("intaglio.exchange.to_tosa.run.BESIDE", absent)
    made = f"make one: {sys.executable} -m venv '{tmp_path}/a folder' && '{tmp_path}/a folder/bin"
    save(build(PRESETS["tosa"], 8, replace(POOL, dilation=(1, 1))), tmp_path / "p.intaglio")
    save(build(PRESETS["tosa"], 8, POOL), tmp_path / "q.intaglio")
    code, out, _ = cli("export", "p.intaglio", "-o", "p.tosa", "--json", "p.json")
    assert code == 0
    assert f"not run, as there is no {absent}; {made}" in out
    assert json.loads((tmp_path / "p.json").read_text())["mismatches"] is None
    for asked in (("--check", 1), ("--tosa-python", absent)):
        refused(
            cli("export", "p.intaglio", "-o", "r.tosa", *asked),
            f"{absent} must be a Python with tosa-tools; {made}",
        )
    assert not (tmp_path / "r.tosa").exists()
    refused(cli("export", "q.intaglio", "-o", "q.tosa"), "MaxPool2d 'y'", "must not be dilated")
    refused(
        cli("export", "p.intaglio", "-o", "p.bin"), "--output must end in .onnx, .tosa or .tflite"
    )
    wrong = cli("export", "p.intaglio", "-o", "p.onnx", "--form", "tosa")
    refused(wrong, "--output must end in .tosa for --form tosa, not 'p.onnx'")
    assert sorted(f.name for f in tmp_path.glob("*.tosa")) == ["p.tosa"]
