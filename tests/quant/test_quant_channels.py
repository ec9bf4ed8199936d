"""Networks with dead, extreme and duplicated channels: integers as near to the real network as the
fake-quantised twin, in every preset, or a warning that names layer and channel."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from channel_networks import Drawn, drawn, far_below, never_fires, zero_filter, zero_norm
from models import conv_norm, pixels, trained
from PIL import Image
from tools import Cli
from torch import nn

from intaglio.channels.losses import losses_of
from intaglio.errors import PrecisionWarning
from intaglio.file import load, save
from intaglio.fixed import PRESETS
from intaglio.ops import Requant
from intaglio.program import Program
from intaglio.quant import QuantConfig, Quantized, quantize
from intaglio.quant.lowering.report import sqnr
from intaglio.sim.engine import Simulator

torch.set_num_threads(1)

ONE_SHIFT = {"nvdla", "dpu"}  # presets whose widths cannot hold every ratio beside every other


def quantized(case: Drawn, preset: str, **settings: object) -> Quantized:
    """By the defaults, without the warnings, which `program.meta` has too."""
    config = QuantConfig(
        wbits=case.wbits,
        abits=case.abits,
        arithmetic=PRESETS[preset],
        **settings,  # type: ignore[arg-type]  # of QuantConfig
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)
        return quantize(case.net, case.images, config)


def decibels(case: Drawn, done: Quantized) -> tuple[float, float]:
    """Of the result: by integers, and by the fake-quantised twin."""
    net = copy.deepcopy(case.net).double()
    with torch.no_grad():
        want = net(torch.from_numpy(case.images).double() / 255).numpy()
    found = []
    for got in (
        Simulator(done.program, threads=1).run_dequantised(case.images)[0],
        done.fake(case.images)[0],
    ):
        error = np.asarray(got, dtype=np.float64).reshape(want.shape) - want
        found.append(sqnr(float(np.square(want).sum()), float(np.square(error).sum())))
    return found[0], found[1]


def assert_holds(case: Drawn, preset: str, plain: bool) -> bool:
    """The law; whether a warning stands for it."""
    done = quantized(case, preset)
    integers, fake = decibels(case, done)
    losses = losses_of(done.program.meta)
    if integers < fake - 1:
        assert losses, (preset, integers, fake, case.changed)
        assert preset in ONE_SHIFT
    assert not (plain and losses)
    for loss in losses:
        assert loss.channels
        assert f"Layer {loss.layer!r}, channel" in loss.sentence()
    return bool(losses)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_integers_are_as_near_as_the_twin_or_it_is_said(preset: str) -> None:
    for seed in (9, 69, 149):  # an extreme factor, a bias beyond 32 bits, a factor beyond all
        assert_holds(drawn(seed), preset, plain=False)
    for seed in (32, 130):  # where two steps of rounding, and halves to even, are felt
        assert_holds(drawn(seed, plain=True), preset, plain=True)


@pytest.mark.slow
@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("plain", [False, True], ids=["changed", "plain"])
def test_many_networks(preset: str, plain: bool) -> None:
    count = 200 if plain else 500
    warned = sum(assert_holds(drawn(seed, plain), preset, plain) for seed in range(count))
    print(f"{preset}: {count} networks, {warned} of them with a warning")


def tables(program: Program) -> dict[str, tuple[list[int], list[int], tuple[int, ...]]]:
    """M, B and S of each Requant."""
    return {
        op.output: (
            program.constants[op.multiplier].array.tolist(),
            program.constants[op.bias].array.tolist(),
            op.shift,
        )
        for op in program.of_kind(Requant)
    }


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize(
    "kind", [zero_norm, zero_filter, never_fires, far_below], ids=lambda k: k.__name__
)
def test_a_dead_channel_leaves_the_others_tables_alone(kind: object, preset: str) -> None:
    """The stem of one network, with and without the channel's death; 8 bits and nearest codes, so
    that nothing but that channel differs."""
    case = drawn(0, plain=True)
    settings = {"compensate": False, "correct_bias": False}
    case.net.cap = 3.0
    with torch.no_grad():
        case.net.norms[0].bias.data[1] = -99.0  # dead in both, so that ranges are the same
        before = quantized(case, preset, **settings)
        kind(case.net, 0, 1, np.random.default_rng(0))  # type: ignore[operator]  # of KINDS
        after = quantized(case, preset, **settings)
    first, second = (tables(q.program)["convs.0"] for q in (before, after))
    assert len(first[2]) == len(second[2])
    if preset != "dpu":  # which has one M
        assert {t[0][1] for t in (first, second)} <= {0, 1}
    for one, two in zip(first, second, strict=True):
        assert [v for c, v in enumerate(one) if c != 1] == [v for c, v in enumerate(two) if c != 1]


def test_a_filter_that_never_fires_does_not_choose_the_scale_of_all_weights() -> None:
    case = drawn(0, plain=True)
    plain = quantized(case, "intaglio", per_channel=False)
    case.net.norms[0].weight.data[1] = 1e6
    case.net.norms[0].running_mean[1] = 1e3
    done = quantized(case, "intaglio", per_channel=False)
    assert (
        done.scales.weights["convs.0.weight"].scale[0]
        < 2 * (plain.scales.weights["convs.0.weight"].scale[0])
    )
    integers, fake = decibels(case, done)
    assert min(integers, fake) > decibels(case, plain)[1] - 3


def test_what_reads_only_dead_channels_is_dead_too() -> None:
    """A depthwise filter behind a pruned one, whose norm has no variance left."""
    torch.manual_seed(0)
    net = nn.Sequential(conv_norm(3, 4), conv_norm(4, 4, groups=4), nn.Conv2d(4, 2, 1))
    trained(net)
    for norm in (net[0][1], net[1][1]):
        assert isinstance(norm, nn.BatchNorm2d)
    with torch.no_grad():
        net[0][1].weight[2] = net[0][1].bias[2] = 0
        net[1][1].running_var[2] = 1e-12
        net[1][1].weight[2] = 1e4
        net[1][1].running_mean[2] = net[1][1].bias[2] = 0
    config = QuantConfig(wbits=8, abits=8, compensate=False)
    program = quantize(net, pixels((3, 9, 9), 4), config).program
    found = tables(program)
    assert [found[name][0][2] for name in ("0.0", "1.0")] == [0, 0]
    assert all(
        m >= 1 << 9 for name in ("0.0", "1.0") for c, m in enumerate(found[name][0]) if c != 2
    )


def test_a_program_with_two_shifts_in_a_layer_is_a_file_like_any_other(tmp_path: Path) -> None:
    case = drawn(9)
    program = quantized(case, "intaglio").program
    assert any(len(set(op.shift)) > 1 for op in program.of_kind(Requant))
    assert program.arithmetic.per_channel_shift
    save(program, tmp_path / "two.intaglio")
    again = load(tmp_path / "two.intaglio")
    assert again.digest() == program.digest()
    assert again.arithmetic == program.arithmetic
    stored = json.loads(
        (tmp_path / "two.intaglio").read_bytes()[8:].split(b'"intaglio":', 1)[1].split(b"}}", 1)[0]
        .decode("utf-8", "ignore").split('\\"format\\":')[1].split(",")[0]
    )  # fmt: skip
    assert stored == 1


def test_the_command_prints_what_integers_do_and_warns(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for n, image in enumerate(drawn(9).images):
        Image.fromarray(image.transpose(1, 2, 0)).save(tmp_path / f"images/{n}.png")
    (tmp_path / "nets.py").write_text(
        "from channel_networks import drawn\n"
        "def extreme():\n"
        "    net = drawn(9).net\n"
        f"    net.input_size = {drawn(9).images.shape[2:]}\n"
        "    return net\n"
    )
    out = ("--images", "images", "--wbits", 8, "--abits", 8, "-o", "x.intaglio", "--json", "x.json")
    code, printed, err = cli("quantize", "nets:extreme", *out, "--arithmetic", "nvdla")
    assert code == 0, err
    assert "SQNR" in printed
    assert "fake" in printed
    assert "intaglio: warning: Layer 'convs.1', channels 1, 2, 4, 5: M must have 10" in err
    record = json.loads((tmp_path / "x.json").read_text())
    assert [loss["layer"] for loss in record["losses"]] == ["convs.1", "convs.2"]
    assert record["layers"][-1]["fake_sqnr"] > record["layers"][-1]["sqnr"] + 3
    code, printed, err = cli("quantize", "nets:extreme", *out)
    assert (code, "warning" in err) == (0, False)
    record = json.loads((tmp_path / "x.json").read_text())
    assert record["losses"] == []
    assert abs(record["layers"][-1]["fake_sqnr"] - record["layers"][-1]["sqnr"]) < 1


def test_python_is_warned_too() -> None:
    case = drawn(9)
    config = QuantConfig(wbits=8, abits=8, arithmetic=PRESETS["nvdla"])
    with pytest.warns(PrecisionWarning) as seen:
        quantize(case.net, case.images, config)
    first, second = (str(warning.message) for warning in seen.list)
    assert first.startswith("Layer 'convs.1', channels 1, 2, 4, 5: M must have 10 significant bits")
    assert second.startswith("Layer 'convs.2'")


def pruned_detector() -> nn.Module:
    """The bundled one with a filter of its stem pruned: the norm's factor and shift are 0."""
    model = pytest.importorskip("intaglio.detect.zoo").load("fcos-nano")
    norm = model.backbone.body.bn1
    with torch.no_grad():
        norm.weight[6] = norm.bias[6] = 0
    found: nn.Module = model.eval()
    return found


def test_a_pruned_filter_leaves_a_detector_its_bits() -> None:
    images = pixels((3, 96, 96), 2)
    config = QuantConfig(wbits=8, abits=8, arithmetic=PRESETS["nvdla"], compensate=False)
    done = quantize(pruned_detector(), images, config)
    m, _, _ = tables(done.program)["backbone.body.conv1"]
    assert m[6] == 0
    assert max(m) >= 1 << 14
    assert not losses_of(done.program.meta)


@pytest.mark.slow
@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("bits", [4, 8])
def test_a_pruned_detector_finds_in_integers_what_its_twin_finds(
    preset: str, bits: int, tmp_path: Path
) -> None:
    zoo = pytest.importorskip("intaglio.detect.zoo")
    from intaglio.api import evaluate
    from intaglio.detect.images import stack

    seen = zoo.calibration("fcos-nano", tmp_path / "calibration", 32)
    data = zoo.held_out("fcos-nano", tmp_path / "held-out", 60)
    images = stack([seen.file(i) for i in seen.ids], None)
    config = QuantConfig(wbits=bits, abits=bits, arithmetic=PRESETS[preset])
    done = quantize(pruned_detector(), images, config)
    integers = evaluate(done.program, data).ap
    fake = evaluate(done.program, data, predict=done.fake).ap
    print(f"{preset} W{bits}A{bits}: AP {fake:.4f} fake-quantised, {integers:.4f} in integers")
    assert abs(integers - fake) <= 0.003
