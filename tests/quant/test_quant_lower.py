"""Lowering: every code of a Program is the nearest one to the real value of its layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import Branches, Mixed, Modules, Pyramid, Skip, conv_norm, networks, pixels, trained
from numpy.typing import NDArray
from torch import nn

from intaglio import ops
from intaglio.errors import ModelError
from intaglio.fixed import PRESETS, ROUNDINGS, Arithmetic, IntType
from intaglio.multiplier import NEGLIGIBLE
from intaglio.ops import Shape
from intaglio.program import Program
from intaglio.quant import FakeQuant, QuantConfig, Quantized, float_predictor, quantize
from intaglio.quant.capture.execute import compute
from intaglio.quant.capture.graph import PASSING, Image, Lookup, Node
from intaglio.quant.lowering.lower import lower
from intaglio.quant.lowering.report import sqnr
from intaglio.quant.ranges.grids import WeightCodes
from intaglio.sim.reference import run
from intaglio.summary import summarise

torch.set_num_threads(1)
Codes = Mapping[str, NDArray[np.int64]]


def simulated(program: Program, images: np.ndarray) -> Codes:
    return run(program, images.astype(np.int64)).tensors


def slack(program: Program, name: str) -> float:
    """How far M / 2^S and B can be from the real scaling, in codes (see `multiplier.scaling`)."""
    op = program.producer[name]
    if isinstance(op, ops.Requant):
        reads, shifts = [program.tensors[op.input]], op.shift
    elif isinstance(op, ops.Add):
        reads, shifts = [program.tensors[n] for n in op.inputs], (op.shift,)
    else:
        return 0.0
    zeros = 0
    if isinstance(op, ops.Requant):
        made = program.producer[op.input]
        if isinstance(made, ops.Conv2d):
            zero = abs(program.tensors[made.input].zero_point[0])
            zeros = zero * int(np.abs(program.constants[made.weight].array.sum((1, 2, 3))).max())
        elif isinstance(made, ops.SumPool2d):
            zeros = abs(made.pad_value) * made.kernel[0] * made.kernel[1]
    zeros += sum(abs(t.zero_point[0]) for t in reads)
    if program.arithmetic.product == "single":
        return single_slack(program, op, shifts, reads)
    bound = (sum(max(abs(t.lo), abs(t.hi)) for t in reads) + zeros + 1) / 2 ** (min(shifts) + 1)
    if program.arithmetic.forms != "own":
        bound += form_slack(program, op)
    if program.arithmetic.rounding == "DOUBLE":  # the first of its two steps rounds at bit 31
        bound += max((2.0 ** (30 - s) for s in shifts if s > 31), default=0.0)
    return bound + 1e-9


def form_slack(program: Program, op: ops.Op) -> float:
    """A bias that is a whole sum, multipliers of 21 bits, and sums that rest in 20 bits."""
    if isinstance(op, ops.Requant):
        m = np.abs(program.constants[op.multiplier].array)
        return max(float((m / np.ldexp(1.0, np.array(op.shift))).max()) / 2, float(NEGLIGIBLE))
    assert isinstance(op, ops.Add)
    return 2.0**-10


def single_slack(program: Program, op: ops.Op, shifts: Sequence[int], reads: list) -> float:
    """Four roundings to 24 bits, and a bias rounded at the scale of the codes."""
    reach = [max(abs(t.lo), abs(t.hi)) for t in reads]
    if isinstance(op, ops.Add):
        m = (op.multiplier_a, op.multiplier_b)
        top = sum(abs(mi) * r for mi, r in zip(m, reach, strict=True)) + abs(op.bias)
        return 8 * top / 2 ** (op.shift + 24) + 1e-9
    assert isinstance(op, ops.Requant)
    m, b = (program.constants[name].array for name in (op.multiplier, op.bias))
    ratio = float((np.abs(m) / np.ldexp(1.0, np.array(shifts))).max())
    return ratio / 2 + 8 * (reach[0] + int(np.abs(b).max())) * ratio / 2**24 + 1e-9


def assert_nearest(quantized: Quantized, images: np.ndarray) -> None:
    """Given the Program's own inputs, each layer's code is the real value's, or next to a tie."""
    program, scales = quantized.program, quantized.scales
    theirs = simulated(program, images)
    graph = quantized.fake.graph
    weights = FakeQuant(graph, scales, torch.float64).weights
    real = {
        name: grid.real(torch.from_numpy(theirs[name]).double())
        for name, grid in scales.grids.items()
    }
    for node in graph.nodes:
        if isinstance(node, Image):
            continue
        value, got = compute(node, [real[n] for n in node.inputs], weights), theirs[node.output]
        grid, near = scales.grids[node.output], slack(program, node.output) * scale_of(node)
        shift = near * grid.scale
        low, high = (grid.codes(value + d).numpy() for d in (-shift, shift))
        assert (low <= got).all(), node.output
        assert (got <= high).all(), node.output


def scale_of(node: Node) -> int:
    """Nodes that pass codes on, and tables, are exact."""
    return 0 if isinstance(node, (*PASSING, Lookup)) else 1


def signal_to_error(quantized: Quantized, model: nn.Module, images: np.ndarray) -> list[float]:
    """dB of each result, simulated against float."""
    theirs = simulated(quantized.program, images)
    found = []
    for want, tensor in zip(float_predictor(model)(images), quantized.program.outputs, strict=True):
        got = tensor.scale * (theirs[tensor.name] - tensor.zero_point[0])
        want = want.reshape(got.shape)
        found.append(sqnr(float(np.square(want).sum()), float(np.square(got - want).sum())))
    return found


@settings(max_examples=25, deadline=None)
@given(
    networks(),
    st.sampled_from(((4, 4), (2, 3), (8, 8), (8, 16))),
    st.booleans(),
    st.sampled_from(("lp", "minmax")),
    st.sampled_from((*(a for a in PRESETS.values() if not a.power_of_two), *map(str, ROUNDINGS))),
)
def test_every_code_of_a_random_network_is_the_nearest(
    drawn: tuple[nn.Module, Shape],
    bits: tuple[int, int],
    symmetric: bool,
    method: str,
    profile: Arithmetic | str,
) -> None:
    model, shape = drawn
    arithmetic = Arithmetic(rounding=profile) if isinstance(profile, str) else profile  # type: ignore[arg-type]  # a name of ROUNDINGS
    config = QuantConfig(
        wbits=bits[0],
        abits=bits[1],
        symmetric=symmetric,
        method=method,  # type: ignore[arg-type]  # drawn from its names
        arithmetic=arithmetic,
    )
    quantized = quantize(model, pixels(shape, 3), config)
    quantized.program.verify()
    assert_nearest(quantized, pixels(shape, 2, seed=9))


@settings(max_examples=12, deadline=None, derandomize=True)  # a closed ReLU has no signal
@given(networks())
def test_eight_bit_weights_and_wide_activations_are_near_the_float_model(
    drawn: tuple[nn.Module, Shape],
) -> None:
    model, shape = drawn
    images = pixels(shape, 3)
    wide = quantize(model, images, QuantConfig(wbits=8, abits=16))
    narrow = quantize(model, images, QuantConfig(wbits=4, abits=4, first_wbits=4))
    fine, rough = (min(signal_to_error(q, model, images)) for q in (wide, narrow))
    assert fine > 20
    assert fine > rough or fine == 200


CASES = [
    (Modules(), (3, 21, 33)),
    (Pyramid(), (3, 24, 30)),
    (Mixed(), (3, 17, 20)),
]


@pytest.mark.parametrize(("model", "shape"), CASES, ids=["modules", "pyramid", "mixed"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_codes_are_nearest_and_wide_ones_faithful(
    model: nn.Module, shape: Shape, symmetric: bool
) -> None:
    trained(model)
    images = pixels(shape, 4)
    assert_nearest(quantize(model, images, QuantConfig(symmetric=symmetric)), images)
    wide = quantize(model, images, QuantConfig(wbits=8, abits=16, symmetric=symmetric))
    assert_nearest(wide, images[:2])
    assert min(signal_to_error(wide, model, images)) > 35


@pytest.mark.parametrize(
    "config",
    [
        QuantConfig(),
        QuantConfig(equalize=True, per_channel=False),
        QuantConfig(arithmetic=PRESETS["shift-only"]),
    ],
)
def test_a_network_that_was_captured_is_quantised_as_if_it_were_not(config: QuantConfig) -> None:
    model, images = trained(Pyramid()), pixels((3, 24, 30), 2)
    first = quantize(model, images, replace(config, wbits=8, abits=8))
    assert first.captured is not None
    again = quantize(model, images, config, captured=first.captured)
    anew = quantize(model, images, config)
    assert again.program.digest() == anew.program.digest() != first.program.digest()
    for one, other in zip(again.fake(images), anew.fake(images), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_shared_head_has_one_constant_and_a_table_for_each_level() -> None:
    program = quantize(trained(Pyramid()), pixels((3, 24, 30), 2)).program
    assert [c for c in program.constants if c.endswith("weight")] == [
        "stem.0.weight",
        "body.0.weight",
        "down.0.weight",
        "lateral.weight",
        "head.weight",
        "logits.weight",
    ]
    convs = [op for op in program.of_kind(ops.Conv2d) if op.weight == "head.weight"]
    tables = [program.consumers[conv.output][0] for conv in convs]
    multipliers = [
        program.constants[op.multiplier].array / 2.0 ** op.shift[0]
        for op in tables
        if isinstance(op, ops.Requant)
    ]
    assert len({program.tensors[conv.input].type for conv in convs}) == 1
    assert len({program.tensors[table.output].type for table in tables}) == 1
    assert len({program.tensors[conv.input].scale for conv in convs}) == 2
    assert len(multipliers) == 2
    assert len(set(multipliers[0])) > 1
    assert not np.allclose(multipliers[0] / multipliers[1], multipliers[0][0] / multipliers[1][0])


def test_a_norm_may_flip_a_sign_or_be_zero_under_a_shared_head() -> None:
    model = trained(Pyramid())
    assert isinstance(model, Pyramid)
    norm = model.norms[1]
    assert isinstance(norm, nn.BatchNorm2d)
    norm.weight.data[:2] = torch.tensor([-0.7, 0.0])
    images = pixels((3, 24, 30), 3)
    quantized = quantize(model, images)
    table = quantized.program.constants["head@1.M"].array
    assert table[0] < 0
    assert table[1] == 0
    assert (table[2:] > 0).all()
    assert_nearest(quantized, images)


def test_raw_pixels_are_read_and_padded_with_the_mean() -> None:
    program = quantize(trained(Pyramid()), pixels((3, 24, 30), 2)).program
    (image,) = program.inputs
    assert str(image.type) == "u8"
    assert image.scale == 1
    stem = program.of_kind(ops.Conv2d)[0]
    assert stem.input == image.name
    assert stem.pad_value == (124, 116, 104)
    assert program.constants[stem.weight].type.bits == 8


def test_widths_are_as_asked() -> None:
    config = QuantConfig(wbits=3, abits=5, last_wbits=6, output_bits=12)
    done = quantize(trained(Pyramid()), pixels((3, 24, 30), 2), config)
    program = done.program
    bits = {name: c.type.bits for name, c in program.constants.items() if name.endswith("weight")}
    assert bits.pop("stem.0.weight") == 8
    assert bits.pop("logits.weight") == 6
    assert set(bits.values()) == {3}
    assert {t.type.bits for t in program.outputs} == {12}
    wider = program.meta["quantisation"]["wider"]
    assert wider == {"logits": [12, "final map"], "logits@1": [12, "final map"]}
    for node in done.graph.nodes:
        if not isinstance(node, Image) and node.output not in wider:
            assert program.tensors[node.output].type.bits == 5


def test_tables_are_indexed_by_eight_bits_and_this_is_said() -> None:
    done = quantize(trained(Mixed()), pixels((3, 16, 16), 2))
    assert done.program.tensors["c"].type.bits == 8
    assert done.program.tensors["act"].type.bits == 4
    assert done.program.meta["quantisation"]["wider"] == {
        "c": [8, "index of a table"],
        "d": [8, "index of a table"],
        "sigmoid": [16, "final map"],
        "neg": [16, "final map"],
    }

    done = quantize(trained(Mixed()), pixels((3, 16, 16), 2), QuantConfig(table_bits=10))
    assert done.program.meta["quantisation"]["wider"]["c"] == [10, "index of a table"]
    tables = [done.program.constants[op.table].array for op in done.program.of_kind(ops.Lookup)]
    assert {len(table) for table in tables} == {1024}


def test_overrides_reach_the_layers_they_name() -> None:
    images = pixels((3, 24, 30), 2)
    config = QuantConfig(overrides={"head": (7, 9), "*body*": (2, 3), "*": (5, 6)})
    done = quantize(trained(Pyramid()), images, config)
    types = {n: c.type.bits for n, c in done.program.constants.items() if n.endswith("weight")}
    assert types["head.weight"] == 7
    assert types["body.0.weight"] == 2
    assert types["stem.0.weight"] == 5
    assert done.program.tensors["head@1"].type.bits == 9
    assert done.program.tensors["body.0"].type.bits == 3
    with pytest.raises(ModelError, match=r"Override 'neck\.\*' must match a layer, like 'logits'"):
        quantize(trained(Pyramid()), images, QuantConfig(overrides={"neck.*": (4, 4)}))


@pytest.mark.parametrize("bits", [2, 4])
def test_odd_weights_keep_their_grid_and_their_code_width(bits: int) -> None:
    images = pixels((3, 24, 30), 3)
    done = quantize(trained(Pyramid()), images)
    graph, weights = done.fake.graph, {}
    for name, weight in done.fake.graph.weights.items():
        scale = np.abs(weight).max(axis=(1, 2, 3)) / ((1 << bits) - 1)
        nearest = np.floor(weight / (2 * scale[:, None, None, None])).astype(np.int64)
        codes = np.clip(2 * nearest + 1, 1 - (1 << bits), (1 << bits) - 1)
        weights[name] = WeightCodes(codes, scale, IntType(bits + 1, True), odd=True)
    scales = replace(done.scales, weights=weights)
    program = lower(graph, scales, Arithmetic(), {})
    odd = replace(done, program=program, fake=FakeQuant(graph, scales), scales=scales)
    assert_nearest(odd, images)
    for name in graph.weights:
        assert program.constants[name].odd
        assert program.constants[name].code_bits == weights[name].code_bits == bits
        np.testing.assert_array_equal(program.constants[name].array, weights[name].codes)
    size = sum(weight.size for weight in graph.weights.values())
    assert summarise(program).weight_bits == size * bits
    assert {row.weights for row in odd.layers} == {f"odd{bits}", ""}


@pytest.mark.parametrize(
    "arithmetic", [PRESETS["shift-only"], PRESETS["dpu"], Arithmetic()], ids=lambda a: a.name
)
def test_power_of_two_scales_make_exact_multipliers(arithmetic: Arithmetic) -> None:
    model = nn.Sequential(
        conv_norm(3, 5, 2), Skip(conv_norm(5, 5)), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(5, 7, 3)
    )
    images = pixels((3, 19, 23), 3)
    config = QuantConfig(pot_scales=True, arithmetic=arithmetic)
    quantized = quantize(trained(model), images, config)
    program = quantized.program
    for op in program.of_kind(ops.Requant):
        for m in program.constants[op.multiplier].array:
            assert abs(int(m)).bit_count() == 1
    for add in program.of_kind(ops.Add):
        assert add.multiplier_a.bit_count() == add.multiplier_b.bit_count() == 1
    assert all(np.log2(g.scale).is_integer() for g in quantized.scales.grids.values())
    integers = simulated(program, images)
    assert_nearest(quantized, images)
    rows = quantized.differences(integers, images).rows
    if arithmetic.shift_range[1] > 16:  # else biases are too coarse for ties to be rare
        assert sum(row.differing for row in rows) <= 2  # a bias within 2^-(S+1) of a tie


@pytest.mark.parametrize("name", ["shift-only", "dpu"])
def test_norms_of_a_shared_head_get_weights_of_their_own_where_only_shifts_scale(name: str) -> None:
    config = QuantConfig(arithmetic=PRESETS[name])
    model, images = trained(Pyramid()), pixels((3, 24, 30), 2)
    program = quantize(model, images, config).program
    assert program.arithmetic == PRESETS[name]
    convs = program.of_kind(ops.Conv2d)
    uses = Counter(op.weight for op in convs)
    assert [name for name, n in uses.items() if n > 1] == ["logits.weight"]  # it has no norm
    for op in program.of_kind(ops.Requant):
        m = program.constants[op.multiplier].array
        assert all(abs(int(v)).bit_count() <= 1 for v in m)
        assert name != "dpu" or m.size == 1
    shared = quantize(model, images, QuantConfig(pot_scales=True)).program.of_kind(ops.Conv2d)
    assert len({op.weight for op in shared}) < len(shared)


def test_an_average_of_nine_has_no_power_of_two_form() -> None:
    config = QuantConfig(arithmetic=PRESETS["shift-only"])
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(3))
    with pytest.raises(ModelError, match="Layer '2' must scale by powers of two"):
        quantize(model, pixels((3, 11, 11), 2), config)


def test_operands_of_a_concatenation_share_a_grid() -> None:
    class Raw(nn.Module):
        """The image itself is an operand too."""

        def __init__(self) -> None:
            super().__init__()
            self.both = Branches(nn.Conv2d(3, 5, 3, padding=1), nn.Identity())
            self.last = nn.Conv2d(8, 2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.both(x))

    images = pixels((3, 9, 10), 3)
    quantized = quantize(Raw(), images, QuantConfig(abits=6))
    (concat,) = quantized.program.of_kind(ops.Concat)
    tensors = [quantized.program.tensors[n] for n in (*concat.inputs, concat.output)]
    assert len({(t.type, t.scale, t.zero_point) for t in tensors}) == 1
    assert_nearest(quantized, images)


def test_operands_of_a_sum_have_their_own_grids() -> None:
    quantized = quantize(trained(Pyramid()), pixels((3, 24, 30), 2))
    for add in quantized.program.of_kind(ops.Add):
        a, b, y = (quantized.program.tensors[n] for n in (*add.inputs, add.output))
        assert a.scale != b.scale
        assert add.multiplier_a / 2**add.shift == pytest.approx(a.scale / y.scale, rel=2**-15)
        assert add.multiplier_b / 2**add.shift == pytest.approx(b.scale / y.scale, rel=2**-15)


def test_a_map_that_is_a_result_and_read_again_keeps_the_networks_width() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

        def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
            x = self.a(x)
            return [x, self.b(x)]

    program = quantize(Both(), pixels((3, 9, 10), 2)).program
    assert [t.type.bits for t in program.outputs] == [4, 16]


def test_a_convolution_that_is_dead_after_its_norm() -> None:
    """Zero factors: no weights, no multiplier, a constant map."""
    model = conv_norm(3, 4)
    trained(model)
    assert isinstance(model[1], nn.BatchNorm2d)
    model[1].weight.data[:] = 0
    model[1].bias.data[:] = torch.tensor([0.5, 1.0, 0.0, -1.0])
    images = pixels((3, 8, 8), 2)
    quantized = quantize(model, images)
    theirs = simulated(quantized.program, images)["out0"]
    real = theirs * quantized.program.outputs[0].scale
    np.testing.assert_allclose(real[0, :, 3, 3], [0.5, 1.0, 0.0, 0.0], atol=1e-4)


def test_a_layer_that_is_not_finite_is_named() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    for layer in model:
        layer.weight.data[:] = 1e30
    with pytest.raises(ModelError, match="Layer '1' must be finite on the calibration images"):
        quantize(model, pixels((3, 9, 9), 2))
