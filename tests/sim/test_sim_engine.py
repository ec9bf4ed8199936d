"""The fast engine: bit for bit the reference, whatever the batch, the threads or the trace."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import (
    OVERFLOWS,
    U8,
    exact_arithmetics,
    images_for,
    int_types,
    narrow_arithmetics,
    overflowing,
    programs,
    random_images,
    single_arithmetics,
)

from intaglio.errors import DataError
from intaglio.fixed import Arithmetic, IntType, Overflow, SaturateAt
from intaglio.ops import Conv2d, Input, Ints, Output, Requant, Unary, dequantise
from intaglio.program import Builder, Program
from intaglio.sim.engine import Simulator
from intaglio.sim.isa import supported
from intaglio.sim.plan import make_plan
from intaglio.sim.reference import run
from intaglio.sim.workspace import make_workspace


def check(program: Program, images: Ints) -> dict[str, int]:
    """Outputs, every traced tensor, and the counts of overflows equal the reference's: these."""
    expected = run(program, images)
    for isa, trace in product(supported(), (False, True)):
        simulator = Simulator(program, threads=1, trace=trace, isa=isa)
        got = simulator(images)
        named = expected.tensors if trace else {t.name for t in program.outputs}
        assert set(got) == set(named)
        for name in got:
            np.testing.assert_array_equal(got[name], expected.tensors[name], err_msg=name)
        assert simulator.overflows == expected.overflows
    return expected.overflows


@given(st.data())
@settings(max_examples=150)
def test_equals_the_reference(data: st.DataObject) -> None:
    program = data.draw(programs())
    check(program, data.draw(images_for(program)))


@given(st.data())
@settings(max_examples=100)
def test_equals_the_reference_when_accumulators_overflow(data: st.DataObject) -> None:
    program = data.draw(programs(arithmetic=narrow_arithmetics(), raw_accumulators=True))
    check(program, data.draw(images_for(program)))


@pytest.mark.parametrize("how", OVERFLOWS)
def test_accumulators_of_12_to_20_bits(how: tuple[Overflow, SaturateAt]) -> None:
    """Any Program, and Programs whose first sum overflows at any of these widths. What overflows is
    counted: had nothing, equality would say nothing."""
    counted = 0

    @given(st.data())
    @settings(max_examples=30)
    def any_program(data: st.DataObject) -> None:
        nonlocal counted
        blocks = ("conv", "depthwise", "grouped", "shared", "add", "maxpool")
        profiles = narrow_arithmetics((12, 20), [how])
        program = data.draw(
            programs(arithmetic=profiles, blocks=blocks, max_channels=16, raw_accumulators=True)
        )
        counted += sum(check(program, data.draw(images_for(program))).values())

    any_program()
    assert counted > 0
    for bits in range(12, 21):

        @given(overflowing(narrow_arithmetics((bits, bits), [how])))
        @settings(max_examples=3)
        def certainly(case: tuple[Program, Ints]) -> None:
            assert check(*case)["acc0"] > 0

        certainly()


@given(st.data())
@settings(max_examples=50)
def test_equals_the_reference_when_products_are_in_float32(data: st.DataObject) -> None:
    program = data.draw(programs(arithmetic=single_arithmetics()))
    check(program, data.draw(images_for(program)))


@given(st.data())
@settings(max_examples=100)
def test_equals_the_reference_on_wide_codes(data: st.DataObject) -> None:
    wide = programs(max_bits=24, weight_bits=20, input_types=int_types(20), raw_accumulators=True)
    program = data.draw(wide)
    check(program, data.draw(images_for(program)))


@given(st.data())
@settings(max_examples=60)
def test_equals_the_reference_on_shared_heads(data: st.DataObject) -> None:
    program = data.draw(programs(require_shared_head=True, max_blocks=2, max_size=24))
    check(program, data.draw(images_for(program)))


@given(st.data(), st.integers(1, 4))
@settings(max_examples=25)
def test_neither_batch_nor_threads_change_a_value(data: st.DataObject, threads: int) -> None:
    program = data.draw(programs(arithmetic=st.one_of(exact_arithmetics(), narrow_arithmetics())))
    images = random_images(program, 5, data.draw(st.integers(0, 2**32 - 1)))
    together = Simulator(program, threads=threads)
    one = Simulator(program, threads=1)
    first, again = together(images), together(images)
    counts = dict.fromkeys(together.overflows, 0)
    for n in range(5):
        alone = one(images[n : n + 1])
        counts = {name: counts[name] + one.overflows[name] for name in counts}
        for name, array in alone.items():
            np.testing.assert_array_equal(first[name][n], array[0])
            np.testing.assert_array_equal(again[name][n], array[0])
    assert counts == together.overflows


def one_conv(k: int, weight: int, type: IntType, arithmetic: Arithmetic | None = None) -> Program:
    """k input channels times one weight value, one output channel, straight to an Output."""
    b = Builder(arithmetic)
    b.add(Input(output="x", shape=(k, 1, 1), type=type))
    b.constant("w", np.full((1, k, 1, 1), weight))
    b.add(Conv2d(output="acc", input="x", weight="w"))
    b.add(Output(output="y", input="acc"))
    return b.build()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("k", "bits", "weight"),
    [
        (4608, 8, 127),  # a 3x3 convolution of 512 channels, W8A8
        (1100, 16, 32767),  # beyond int32
        (2, 16, 32767),  # the last sum of 16-bit extremes within int32
        (3, 16, 32767),  # the first beyond
        (40, 16, 32768),  # a weight that int16 does not hold
        (70000, 16, 32767),
    ],
)
def test_sums_at_the_extremes_are_exact(k: int, bits: int, weight: int, sign: int) -> None:
    program = one_conv(k, sign * weight, IntType(bits, True))
    low = -(1 << (bits - 1))
    images = np.full((1, k, 1, 1), low)
    assert Simulator(program)(images)["y"].item() == k * sign * weight * low
    check(program, images)


def test_the_planned_sums_are_int32_just_as_long_as_they_fit() -> None:
    limit = (2**31 - 1) // (255 * 127)
    for k, exact in ((limit, False), (limit + 1, True)):
        assert make_plan(one_conv(k, 127, U8)).sums["acc"].kind == ("exact" if exact else "words")


def test_saturating_every_product_is_not_saturating_the_sum() -> None:
    b = Builder(Arithmetic(acc_bits=8, overflow="saturate", saturate_at="mac"))
    b.add(Input(output="x", shape=(3, 1, 1), type=U8))
    b.constant("w", np.array([1, 1, -1]).reshape(1, 3, 1, 1))
    b.add(Conv2d(output="acc", input="x", weight="w"))
    b.add(Output(output="y", input="acc"))
    simulator = Simulator(b.build())
    assert simulator(np.array([100, 100, 100]).reshape(1, 3, 1, 1))["y"].item() == 27
    assert simulator.overflows == {"acc": 1}


def test_outputs_are_as_narrow_as_numpy_allows() -> None:
    for bits, signed, dtype in (
        (1, False, np.uint8),
        (8, False, np.uint8),
        (9, False, np.uint16),
        (4, True, np.int8),
        (9, True, np.int16),
        (17, True, np.int32),
        (33, True, np.int64),
    ):
        b = Builder()
        b.add(Input(output="x", shape=(1, 2, 3), type=IntType(bits, signed)))
        b.add(Output(output="y", input="x"))
        y = Simulator(b.build())(np.zeros((2, 1, 2, 3), dtype=np.int64))["y"]
        assert (y.dtype, y.shape) == (dtype, (2, 1, 2, 3))


@given(st.data())
@settings(max_examples=25)
def test_dequantised_outputs_are_scale_times_distance_from_zero(data: st.DataObject) -> None:
    program = data.draw(programs())
    images = data.draw(images_for(program))
    codes = Simulator(program)(images)
    real = Simulator(program).run_dequantised(images)
    assert len(real) == len(program.outputs)
    for tensor, array in zip(program.outputs, real, strict=True):
        assert array.dtype == np.float32
        zero = np.resize(tensor.zero_point, tensor.shape[0])
        for c in range(tensor.shape[0]):
            expected = (codes[tensor.name][:, c].astype(np.float64) - zero[c]) * tensor.scale
            np.testing.assert_array_equal(array[:, c], expected.astype(np.float32))
        np.testing.assert_array_equal(array, dequantise(tensor, codes[tensor.name]))


@given(programs(max_blocks=8))
@settings(max_examples=50)
def test_no_buffer_is_written_while_it_has_readers(program: Program) -> None:
    plan = make_plan(program)
    last = {name: i for i, node in enumerate(plan.nodes) for name in node.op.inputs}
    last |= {op.input: len(plan.nodes) for op in program.of_kind(Output)}
    stored: set[str] = set()
    for i, node in enumerate(plan.nodes):
        if not isinstance(node.op, Output):
            in_use = {plan.slots[name] for name in stored if last[name] >= i}
            assert plan.slots[node.output] not in in_use
            stored.add(node.output)


def test_an_output_is_kept_while_others_go_on_from_it() -> None:
    b = Builder()
    b.add(Input(output="x", shape=(1, 1, 2), type=U8))
    b.constant("one", [1])
    b.constant("ten", [10])
    for n in range(4):
        last = "x" if n == 0 else f"q{n - 1}"
        op = Requant(
            output=f"q{n}", input=last, multiplier="one", bias="ten", shift=(0,), lo=0, hi=255
        )
        b.add(op)
        b.add(Output(output=f"y{n}", input=op.output))
    got = Simulator(b.build())(np.array([[[[0, 5]]]]))
    assert {name: y.tolist() for name, y in got.items()} == {
        f"y{n}": [[[[10 * n + 10, 10 * n + 15]]]] for n in range(4)
    }


@pytest.fixture
def program() -> Program:
    b = Builder()
    b.add(Input(output="image", shape=(3, 4, 5), type=U8))
    b.add(Output(output="y", input="image"))
    return b.build()


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (
            np.zeros((1, 3, 4, 5), dtype=np.float32),
            r"^Images must be an integer array \(N, C, H, W\), not float32\.$",
        ),
        ([[1, 2]], r"^Images must be an integer array \(N, C, H, W\), not list\.$"),
        (
            np.zeros((1, 3, 5, 4), dtype=np.uint8),
            r"^Images must have the shape \(N, 3, 4, 5\), not \(1, 3, 5, 4\); resize them, or"
            r" quantise for their size\.$",
        ),
        (
            np.zeros((3, 4, 5), dtype=np.uint8),
            r"^Images must have the shape \(N, 3, 4, 5\), not \(3, 4, 5\); resize them, or"
            r" quantise for their size\.$",
        ),
        (
            np.full((1, 3, 4, 5), -1),
            r"^Pixels must lie in \[0, 255\], not \[-1, -1\]\.$",
        ),
    ],
)
def test_images_that_do_not_fit_are_refused(program: Program, images: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Simulator(program)(images)  # type: ignore[arg-type]  # what users do


def test_threads_must_be_positive(program: Program) -> None:
    with pytest.raises(DataError, match=r"^threads must be at least 1, not 0\.$"):
        Simulator(program, threads=0)


def test_an_empty_batch_gives_empty_maps(program: Program) -> None:
    assert Simulator(program)(np.zeros((0, 3, 4, 5), dtype=np.uint8))["y"].shape == (0, 3, 4, 5)


def test_an_operation_without_a_kernel_is_not_passed_over(program: Program) -> None:
    ops = (*program.ops, Unary(output="z", input="image"))
    tensors = {**program.tensors, "z": program.tensors["y"]}
    with pytest.raises(TypeError, match="no kernel for Unary"):
        make_workspace(make_plan(Program(ops, tensors, {})), {})


def test_a_requant_runs_inside_its_convolution_unless_traced() -> None:
    b = Builder()
    b.add(Input(output="x", shape=(1, 2, 2), type=U8))
    b.constant("w", np.ones((1, 1, 1, 1)))
    b.constant("m", np.ones(1))
    b.constant("b", np.zeros(1))
    b.add(Conv2d(output="acc", input="x", weight="w"))
    op = Requant(output="q", input="acc", multiplier="m", bias="b", shift=(0,), lo=0, hi=255)
    b.add(op)
    b.add(Output(output="y", input="q"))
    program = b.build()
    assert len(make_plan(program).nodes) == 3
    assert "acc" not in make_plan(program).slots
    assert len(make_plan(program, trace=True).nodes) == 4


@given(st.data())
@settings(max_examples=60)
def test_bytes_are_convolved_exactly_whatever_the_window(data: st.DataObject) -> None:
    """Extremes of 8-bit codes and weights; channels and pixels around the kernel's block sizes."""
    groups = data.draw(st.sampled_from([1, 1, 2, 3]))
    cin = data.draw(st.integers(1, 9))
    outs = data.draw(st.sampled_from([1, 2, 15, 16, 17, 31, 32, 33, 49]))
    kernel = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    type = IntType(data.draw(st.integers(1, 8)), data.draw(st.booleans()))
    seed = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    b = Builder()
    b.add(Input(output="x", shape=(cin * groups, 7, data.draw(st.integers(5, 9))), type=type))
    b.constant("w", seed.choice([-128, 127, 3], (outs * groups, cin, *kernel)))
    conv = Conv2d(
        output="acc",
        input="x",
        weight="w",
        groups=groups,
        padding=data.draw(st.tuples(*[st.integers(0, 2)] * 4)),
        stride=data.draw(st.tuples(*[st.integers(1, 2)] * 2)),
        dilation=data.draw(st.tuples(*[st.integers(1, 2)] * 2)),
        pad_value=(data.draw(st.sampled_from([type.lo, type.hi])),),
    )
    b.add(conv)
    b.add(Output(output="y", input="acc"))
    program = b.build()
    if "avx512vnni" in supported() and not (cin == 1 and groups == outs * groups > 1):
        assert make_plan(program, isa="avx512vnni").sums["acc"].kind in (
            "bytes",
            "winograd",
            "winograd bytes",
        )
    shape = (2, *program.inputs[0].shape)
    check(program, seed.choice([type.lo, type.hi, (type.lo + type.hi) // 2], shape))


def test_an_instruction_set_must_be_there() -> None:
    with pytest.raises(DataError, match=r"isa must be .*generic on this machine, not 'mmx'; leave"):
        Simulator(one_conv(3, 1, U8), isa="mmx")  # type: ignore[arg-type]  # what is tested


def test_a_cpu_named_to_numba_counts_with_its_stated_features_only() -> None:
    for features, expected in (("", "generic"), ("+avx512vnni,+avx512bw", "avx512vnni")):
        named = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": features}
        ask = "from intaglio.sim.isa import choose; print(choose(None))"
        answer = subprocess.run(
            [sys.executable, "-c", ask],
            env=os.environ | named,
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stdout.strip() == expected
