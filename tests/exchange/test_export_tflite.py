"""Programs as TFLite files: LiteRT's reference kernels make the same integers, or there is no
file; what is written is read again as the same integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import Cli, needs_modules, refused

from intaglio import quantize
from intaglio.errors import ProgramError
from intaglio.fixed import TFLITE, IntType
from intaglio.forms import Real, gemmlowp_add, quantized_multiplier, tflite_interpolation
from intaglio.ops import (
    Add,
    Conv2d,
    Crop,
    DepthToSpace,
    Input,
    Interpolate,
    Lookup,
    MaxPool2d,
    Multiply,
    Op,
    Output,
    Requant,
    Select,
    SpaceToDepth,
    SumPool2d,
    Upsample,
)
from intaglio.ops.interpolation import between, half_pixel, nearest
from intaglio.program import Builder, Program
from intaglio.sim.engine import Simulator

needs_modules("ai_edge_litert", "flatbuffers")

from test_import_tflite import network  # noqa: E402  # after the check
from tflite_files import Net  # noqa: E402  # the same

from intaglio.exchange.compared import compare, random_codes  # noqa: E402  # the same
from intaglio.exchange.from_tflite.flat import read  # noqa: E402  # the same
from intaglio.exchange.from_tflite.importer import imported  # noqa: E402  # the same
from intaglio.exchange.to_tflite.run import run_tflite  # noqa: E402  # the same
from intaglio.exchange.to_tflite.tflite import to_tflite  # noqa: E402  # the same

I8, U8 = IntType(8, True), IntType(8, False)
# TensorFlow Lite Micro's MicroMutableOpResolver at commit 90b983c2b3f1 has these, of the operators
# that are written here.
MICRO = {
    "ADD", "AVERAGE_POOL_2D", "CAST", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D",
    "DEPTH_TO_SPACE", "ELU", "FULLY_CONNECTED", "GATHER", "HARD_SWISH", "LEAKY_RELU",
    "LOGISTIC", "MAXIMUM", "MAX_POOL_2D", "MEAN", "MINIMUM", "MUL", "PAD", "PADV2", "QUANTIZE",
    "RELU", "RELU6", "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SLICE",
    "SPACE_TO_DEPTH", "STRIDED_SLICE", "SUB", "TANH",
}  # fmt: skip


def written(program: Program, path: Path, four: bool = False) -> list[str]:
    """The file, which runs to the same integers; its operators."""
    made, images = to_tflite(program, four=four), random_codes(program, 3)
    found = compare(program, run_tflite(program, made, images), images)
    assert found.mismatches == 0
    assert found.compared > 0
    path.write_bytes(made.content)
    assert made.kinds == tuple(op.kind for op in read(path).operators)
    assert set(made.kinds) <= MICRO
    return list(made.kinds)


def returns(program: Program, path: Path) -> None:
    """Read again it makes the same integers of every output."""
    again, images = imported(path).program, random_codes(program, 3)
    ours, theirs = (Simulator(p)(images) for p in (program, again))
    assert len(ours) == len(theirs)
    for a, b in zip(ours.values(), theirs.values(), strict=True):
        assert np.array_equal(a, b)


def law(seed: int, path: Path) -> None:
    """A random file becomes a Program, a file and a Program, all of the same integers."""
    path.write_bytes(network(seed))
    program, said = imported(path).program, ""
    try:
        written(program, path)
    except ProgramError as error:
        said = str(error)
    if seed % 5 == 3:
        assert "must have at most 8 bits in a .tflite file, not i16; quantise" in said
    elif said:  # uint8 of old: weights of 9 bits, factors in float32, averages of other raw codes
        assert seed % 5 == 4
        assert "must fit into int8" in said or " average " in said or " factor " in said
    else:
        returns(program, path)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=4, deadline=None)
def test_a_random_network_there_and_back(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    law(seed, tmp_path_factory.mktemp("there") / "net.tflite")


@pytest.mark.slow
def test_many_random_networks_there_and_back(tmp_path: Path) -> None:
    for seed in range(200):
        law(seed, tmp_path / "net.tflite")


@pytest.mark.parametrize("seed", range(2))
def test_weights_of_four_bits_are_stored_two_in_a_byte(tmp_path: Path, seed: int) -> None:
    net = Net(np.random.default_rng(seed), four=True)
    x = net.conv(net.input(1, 6, 5, 3), 5, 3)
    path = tmp_path / "net.tflite"
    path.write_bytes(net.content(net.dense(x, 3) if seed else net.conv(x, 4, 2, deep=True)))
    program = imported(path).program
    written(program, path, four=True)
    assert "INT4" in {t.kind for t in read(path).tensors}
    returns(program, path)
    written(program, path)
    assert "INT4" not in {t.kind for t in read(path).tensors}


# --- what files of others do not have ------------------------------------------------------------


def scaled(
    b: Builder, x: str, type: IntType, seed: int, zero: int = 0, ends: tuple[int, int] | None = None
) -> str:
    """A convolution of random float32 scales, to codes of a type."""
    rng = np.random.default_rng(seed)
    t, name = b.tensors[x], f"y{seed}"
    weight = rng.integers(-7, 8, (4, t.shape[0], 3, 3))
    scale = float(np.float32(rng.uniform(0.01, 0.1)))
    b.constant(f"{name}.w", weight, IntType(4, True))
    b.add(Conv2d(output=f"{name}.acc", input=x, weight=f"{name}.w", padding=(1, 1, 1, 1),
                 pad_value=t.zero_point))  # fmt: skip
    factors = [float(np.float32(s)) for s in rng.uniform(0.0005, 0.01, 4)]
    rows = [quantized_multiplier(t.scale * f / scale) for f in factors]
    biases = [int(v) * m for v, (m, _) in zip(rng.integers(-99, 99, 4), rows, strict=True)]
    lo, hi = ends or (type.lo, type.hi)
    op = Requant(
        output=name, input=f"{name}.acc", multiplier=b.constant(f"{name}.m", [m for m, _ in rows]),
        bias=b.constant(f"{name}.b", biases), shift=tuple(s for _, s in rows), lo=lo, hi=hi,
        offset=zero,
    )  # fmt: skip
    return b.add(op, type, scale, (zero,))


def started(type: IntType = U8, zero: int = 0, scale: float = 1.0) -> tuple[Builder, str]:
    b = Builder(TFLITE)
    op = Input(output="x", shape=(3, 6, 6), type=type)
    return b, b.add(op, type, scale, (zero,))


def ended(b: Builder, x: str) -> Program:
    b.add(Output(output="out", input=x))
    return b.build()


@pytest.mark.parametrize("bits", [8, 4, 2])
@pytest.mark.parametrize("signed", [False, True])
def test_codes_of_fewer_bits_keep_their_clamp(tmp_path: Path, bits: int, signed: bool) -> None:
    b, x = started()
    type = IntType(bits, signed)
    y = scaled(b, x, type, 1)
    kinds = written(ended(b, scaled(b, y, type, 2, ends=(type.lo, type.hi - 1))), tmp_path / "a")
    assert kinds.count("CONV_2D") == 2
    assert "MINIMUM" in kinds


def test_a_border_that_differs_between_channels(tmp_path: Path) -> None:
    b, x = started()
    y = scaled(b, x, U8, 1)
    op = replace(b.ops[1], pad_value=(3, 0, 255))
    p = ended(b, y)
    kinds = written(replace(p, ops=tuple(op if o.output == op.output else o for o in p.ops)),
                    tmp_path / "a")  # fmt: skip
    assert kinds.count("SLICE") == kinds.count("CONV_2D") * 3


def test_a_norm_of_the_pixels_alone(tmp_path: Path) -> None:
    b, x = started()
    scale = float(np.float32(0.02))
    rows = [quantized_multiplier(float(np.float32(f)) / scale) for f in (0.0171, 0.0175, 0.0174)]
    op = Requant(
        output="n", input=x, multiplier=b.constant("m", [m for m, _ in rows]), shift=(*(
            s for _, s in rows),), bias=b.constant("b", [-124 * m for m, _ in rows]), lo=-128,
        hi=127, offset=3,
    )  # fmt: skip
    y = b.add(op, I8, scale, (3,))
    assert written(ended(b, y), tmp_path / "a") == ["QUANTIZE", "DEPTHWISE_CONV_2D"]


def test_a_table_of_no_operator_is_gathered_and_read_again(tmp_path: Path) -> None:
    b, x = started(I8, 5, 0.1)
    table = np.random.default_rng(0).integers(-128, 128, 256)
    y = b.add(Lookup(output="y", input=x, table=b.constant("t", table, I8)), I8, 0.1, (5,))
    program = ended(b, y)
    assert written(program, tmp_path / "a") == ["CAST", "ADD", "GATHER"]
    returns(program, tmp_path / "a")


def test_a_table_for_each_channel_is_gathered_and_read_again(tmp_path: Path) -> None:
    b, x = started(I8, 5, 0.1)
    channels = b.tensors[x].shape[0]
    table = np.random.default_rng(0).integers(-128, 128, (channels, 256))
    y = b.add(Lookup(output="y", input=x, table=b.constant("t", table, I8)), I8, 0.1, (5,))
    program = ended(b, y)
    assert written(program, tmp_path / "a") == ["CAST", "ADD", "GATHER"]
    returns(program, tmp_path / "a")
    assert [op.table for op in imported(tmp_path / "a").program.of_kind(Lookup)] != []


def test_a_table_is_the_operator_whose_kernel_makes_it(tmp_path: Path) -> None:
    for name in ("LOGISTIC", "TANH", "HARD_SWISH", "LEAKY_RELU", "QUANTIZE", "RELU", "RELU6"):
        net = Net(np.random.default_rng(3))
        path = tmp_path / "net.tflite"
        path.write_bytes(net.content(net.function(net.input(1, 4, 4, 2), name)))
        assert len(written(imported(path).program, path)) == 1


@pytest.mark.parametrize("stride", [1, 2])
def test_pools_of_ragged_windows(tmp_path: Path, stride: int) -> None:
    b, x = started(U8)
    pool = {"kernel": (3, 3), "stride": (stride, stride), "padding": (1, 0, 0, 1)}
    y = b.add(MaxPool2d(output="m", input=x, **pool))
    s = b.add(SumPool2d(output="s", input=y, **pool))
    op = Requant(output="a", input=s, multiplier=b.constant("m9", [(1 << 31) // 9 + 1]),
                 bias=b.constant("b9", [0]), shift=(31,), lo=0, hi=255)  # fmt: skip
    kinds = written(ended(b, b.add(op, U8, 1.0, (0,))), tmp_path / "a")
    assert kinds[-2:] == ["DEPTHWISE_CONV_2D", "QUANTIZE"]


@pytest.mark.parametrize(
    "op",
    [
        Select(output="y", input="x", channels=(1, 2)),
        Select(output="y", input="x", channels=(2, 0, 0, 1)),
        Select(output="y", input="x", channels=(0, 1, 2, -1, -1), value=7),
        Crop(output="y", input="x", rows=(1, 6, 2), columns=(0, 5, 1)),
        SpaceToDepth(output="y", input="x", block=(2, 2)),
        SpaceToDepth(output="y", input="x", block=(3, 2)),
        DepthToSpace(output="y", input="wide", block=(2, 2)),
        Interpolate(output="y", input="x", rows=nearest([0, 2, 5]), columns=nearest([0, 1, 1, 4])),
        Interpolate(output="y", input="x", rows=nearest(range(6)), columns=nearest([0, 2, 4])),
    ],
)
def test_what_chooses_moves_codes(tmp_path: Path, op: Op) -> None:
    b, x = started(IntType(8, True), 3, 0.5)
    if op.inputs == ("wide",):
        b.add(Select(output="wide", input=x, channels=(0, 1, 2, 2, 1, 0, 0, 1)))
    written(ended(b, b.add(op)), tmp_path / "a")


@pytest.mark.parametrize("type", [I8, U8, IntType(4, True), IntType(3, False)], ids=str)
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("size", [(12, 12), (7, 15), (4, 5)])
def test_bilinear_resize_of_codes_of_any_width(
    tmp_path: Path, size: tuple[int, int], aligned: bool, type: IntType
) -> None:
    b, x = started(type, 3, 0.5)
    y = tflite_interpolation(b, "y", x, size, aligned, not aligned)
    program = ended(b, y)
    assert "RESIZE_BILINEAR" in written(program, tmp_path / "a")
    returns(program, tmp_path / "a")


def block_of_everything() -> Any:
    """A torch network of a norm, a sum, pools, an enlargement, a join, a table and a gate."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU6())
            self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.ReLU())
            self.flat = nn.Conv2d(8, 8, 1)
            self.down = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, 1, 1), nn.Hardswish())
            self.head = nn.Conv2d(24, 5, 1)
            self.score = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1))
            self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = self.stem((x - 120) / torch.tensor([58.0, 57.0, 60.0]).view(1, 3, 1, 1))
            x = x + self.flat(self.deep(x))
            small = self.down(x * self.gate(x))
            same, way = nn.functional.interpolate(small, scale_factor=2.0), {"mode": "bilinear"}
            y = torch.cat([x, same, nn.functional.interpolate(small, size=(8, 8), **way)], 1)
            return self.head(y), self.score(small)

    torch.manual_seed(0)
    return Net().eval()


@pytest.mark.parametrize("bits", [8, 4])
def test_what_is_quantised_here_has_the_scales_of_a_file(tmp_path: Path, bits: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 16, 16), dtype=np.uint8)
    program = quantize(
        block_of_everything(), images, wbits=bits, abits=bits, output_bits=8, method="minmax",
        arithmetic="tflite",
    )  # fmt: skip
    assert all(float(np.float32(t.scale)) == t.scale for t in program.tensors.values()
               if t.type.bits <= 8)  # fmt: skip
    kinds = written(program, tmp_path / "a")
    assert {"ADD", "MUL", "RESIZE_BILINEAR"} <= set(kinds)
    returns(program, tmp_path / "a")


# --- refusals ------------------------------------------------------------------------------------


def wide(b: Builder, x: str) -> Op:
    scaled(b, x, IntType(16, True), 1)
    return b.ops[-1]


def unlike(b: Builder, x: str) -> Op:
    scaled(b, x, U8, 1)
    b.tensors["y1"] = replace(b.tensors["y1"], scale=0.37)
    return b.ops[-1]


def uneven(b: Builder, x: str) -> Op:
    scaled(b, x, U8, 1)
    b.constants["y1.b"] = replace(b.constants["y1.b"], array=b.constants["y1.b"].array + 1)
    return b.ops[-1]


def other_sum(b: Builder, x: str) -> Op:
    y = scaled(b, x, U8, 1)
    b.add(Add(output="z", a=y, b=y, multiplier_a=3, multiplier_b=5, bias=0, shift=4, lo=0, hi=255))
    return b.ops[-1]


def other_scale(b: Builder, x: str) -> Op:
    y = scaled(b, x, U8, 1)
    reals = (Real(0.5, 0), Real(0.25, 0), Real(1.0, 0))
    gemmlowp_add(b, "z", y, y, reals, 0, 255, type=U8)
    return b.ops[-1]


def product(b: Builder, x: str, factor: float, bias: int, zero: int) -> Op:
    """x * x, requantised to a scale of 4."""
    m, s = quantized_multiplier(factor)
    b.add(Multiply(output="made", a=x, b=x, zero_a=zero))
    table = {"multiplier": b.constant("m", [m]), "bias": b.constant("b", [bias * m])}
    op = Requant(output="z", input="made", **table, shift=(s,), lo=0, hi=255)
    b.add(op, U8, 4.0, (0,))
    return b.ops[-1]


def dilated(b: Builder, x: str) -> Op:
    b.add(MaxPool2d(output="z", input=x, kernel=(2, 2), dilation=(2, 2)))
    return b.ops[-1]


def raw(b: Builder, x: str) -> Op:
    b.constant("w", np.ones((1, 3, 1, 1)), IntType(2, True))
    b.add(Conv2d(output="z", input=x, weight="w"))
    return b.ops[-1]


def in_thirds(b: Builder, x: str) -> Op:
    taps = between(half_pixel(6, 18), 6)
    b.add(Interpolate(output="z.acc", input=x, rows=taps, columns=taps))
    requant = Requant(output="z", input="z.acc", multiplier=b.constant("m", [1 << 28]),
                      bias=b.constant("b", [0]), shift=(31,), lo=0, hi=255)  # fmt: skip
    b.add(requant, U8)
    return requant


def misplaced(b: Builder, x: str) -> Op:
    b.ops[0] = replace(b.ops[0], shape=(3, 49, 6))
    b.tensors["x"] = replace(b.tensors["x"], shape=(3, 49, 6))
    b.add(Upsample(output="z", input=x, size=(98 + 49 // 7, 6)))
    return b.ops[-1]


ANEW = "; quantise the model with --arithmetic tflite --output-bits 8."


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (wide, "its codes must have at most 8 bits in a .tflite file, not i16" + ANEW),
        (unlike, "it must have a factor of float32 scales in TFLite" + ANEW),
        (uneven, "it must have a bias B that is a multiple of M in TFLite" + ANEW),
        (other_sum, "its operands must be added as TFLite adds codes of at most 8 bits" + ANEW),
        (other_scale, "its operands must be added as TFLite adds codes of at most 8 bits" + ANEW),
        (
            partial(product, factor=0.2, bias=0, zero=0),
            "its factor must be that of its tensors' scales, without a bias, in TFLite" + ANEW,
        ),
        (
            partial(product, factor=0.25, bias=1, zero=0),
            "its factor must be that of its tensors' scales, without a bias, in TFLite" + ANEW,
        ),
        (
            partial(product, factor=0.25, bias=0, zero=1),
            "its zero points must be those of its operands in TFLite" + ANEW,
        ),
        (dilated, "its window must not be dilated in TFLite; use a dense max pool."),
        (raw, "its operand 'z' must be codes in a .tflite file, not sums."),
        (
            in_thirds,
            "it must resize as TFLite does: weights in 1024ths, one scale and zero point on both"
            " sides, no function merged with it" + ANEW,
        ),
    ],
)
def test_what_no_file_says_to_the_bit_is_refused(
    made: Callable[[Builder, str], Op], words: str
) -> None:
    b, x = started()
    program = ended(b, made(b, x).output)
    with pytest.raises(ProgramError) as error:
        to_tflite(program)
    assert str(error.value).endswith(words)


def test_another_arithmetic_is_refused_before_anything_is_written(tmp_path: Path, cli: Cli) -> None:
    from intaglio.file import save

    b = Builder()
    x = b.add(Input(output="x", shape=(1, 2, 2), type=U8))
    save(ended(b, x), tmp_path / "net.intaglio")
    refused(
        cli("export", "net.intaglio", "-o", "net.tflite"),
        "A Program must have TFLite's arithmetic to become a .tflite file, not intaglio; quantise"
        " the model with --arithmetic tflite --output-bits 8.",
    )
    assert not (tmp_path / "net.tflite").exists()
    refused(cli("export", "net.intaglio", "-o", "net.pb"),
            "--output must end in .onnx, .tosa or .tflite, not 'net.pb'.")  # fmt: skip
