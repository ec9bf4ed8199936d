"""Other arithmetic on the same tables: nothing where nothing changes, and what the reference says
where something does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from networks import Layers, skip
from PIL import Image
from strategies import U8, exact_arithmetics, images_for, programs, random_images
from tools import Cli, refused

from intaglio.diverge import (
    Report,
    Variant,
    accumulating_as,
    diverge,
    every_variant,
    for_rounding,
    preset_as,
    rebuilt,
    rounding_as,
)
from intaglio.errors import ProgramError
from intaglio.file import save
from intaglio.fixed import PRESETS, ROUNDINGS, Arithmetic, IntType, wrap
from intaglio.ops import Add, Conv2d, Input, Ints, Output, Requant
from intaglio.program import Builder, Program
from intaglio.sim.compare import first_difference
from intaglio.sim.reference import Run, run


def check_against_reference(program: Program, variant: Variant, images: Ints) -> Report:
    """The report says what two runs of the reference say."""
    report = diverge(program, [variant], images)
    own, row = report.rows
    assert (own.differing, own.largest, own.first) == (0, 0, None)
    theirs, ours = run(variant.program, images), run(program, images)
    names = [t.name for t in program.outputs]
    pairs = [(theirs.tensors[n], ours.tensors[n]) for n in names]
    assert row.values == sum(a.size for a, _ in pairs)
    assert row.differing == sum(int((a != b).sum()) for a, b in pairs)
    assert row.largest == max(int(np.abs(a - b).max(initial=0)) for a, b in pairs)
    assert row.overflows == sum(theirs.overflows.values())
    assert row.first == first_difference(theirs.tensors, ours.tensors, program)
    return report


# --- nothing where nothing changes ----------------------------------------------------------------


@given(st.data())
@settings(max_examples=40)
def test_the_own_arithmetic_differs_nowhere(data: st.DataObject) -> None:
    program = data.draw(programs(arithmetic=exact_arithmetics()))
    same = rebuilt(program, program.arithmetic)
    assert same.digest() == program.digest()
    own, again = diverge(program, [Variant("again", same)], data.draw(images_for(program))).rows
    for row in (own, again):
        assert (row.differing, row.largest, row.overflows, row.first) == (0, 0, 0, None)


@given(st.data())
@settings(max_examples=30)
def test_an_accumulator_as_wide_as_proved_differs_nowhere(data: st.DataObject) -> None:
    program = data.draw(programs())
    convs = program.of_kind(Conv2d)
    assume(convs)
    bits = max(program.tensors[op.output].type.bits for op in convs)
    kind = data.draw(st.sampled_from(("wrap", "saturate", "saturate-mac")))
    variant = accumulating_as(program, f"{max(bits, 2)}:{kind}")
    row = diverge(program, [variant], random_images(program, 1, 0)).rows[1]
    assert (row.differing, row.overflows, row.first) == (0, 0, None)


@given(st.data())
@settings(max_examples=30)
def test_a_zero_point_that_moves_changes_nothing(data: st.DataObject) -> None:
    """B without the zero point and an offset with it are, to RND, the same table."""
    program = data.draw(programs(arithmetic=st.just(PRESETS["intaglio"])))
    tensors = dict(program.tensors)
    for op in program.ops:
        if isinstance(op, (Requant, Add)):
            zero = data.draw(st.integers(-20, 20))
            tensors[op.output] = replace(tensors[op.output], zero_point=(zero,))
    shifted = replace(program, tensors=tensors)
    moved = rebuilt(for_rounding(shifted, "RND_INF"), program.arithmetic)
    images = random_images(program, 1, 0)
    got, expected = run(moved, images).tensors, run(program, images).tensors
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name])


# --- what the reference says where something does -------------------------------------------------


@given(st.data())
@settings(max_examples=40)
def test_other_roundings_differ_as_in_the_reference(data: st.DataObject) -> None:
    program = data.draw(programs(arithmetic=st.just(PRESETS["intaglio"])))
    rounding = data.draw(st.sampled_from(sorted(set(ROUNDINGS) - {"RND"})))
    variant = rounding_as(program, rounding)  # type: ignore[arg-type]  # drawn names
    assert variant.program.arithmetic.rounding == rounding
    check_against_reference(program, variant, data.draw(images_for(program)))


def needed(program: Program, found: Run) -> int:
    """Bits of the widest sum that the images really make."""
    sums = [found.tensors[op.output] for op in program.of_kind(Conv2d)]
    return max(IntType.accumulating(int(s.min()), int(s.max())).bits for s in sums)


@given(st.data())
@settings(max_examples=40)
def test_one_bit_less_than_needed_differs_as_in_the_reference(data: st.DataObject) -> None:
    program, images = data.draw(programs(max_blocks=3).map(lambda p: (p, random_images(p, 2, 1))))
    assume(program.of_kind(Conv2d))
    own = run(program, images)
    bits = needed(program, own) - 1
    assume(bits >= 2)
    kind = data.draw(st.sampled_from(("wrap", "saturate", "saturate-mac")))
    variant = accumulating_as(program, f"{bits}:{kind}")
    report = check_against_reference(program, variant, images)
    row = report.rows[1]
    assert row.overflows > 0
    assert row.first is not None
    first = program.producer[row.first.tensor]
    assert isinstance(first, Conv2d)
    exact = own.tensors[first.output]
    if kind == "wrap":
        np.testing.assert_array_equal(
            run(variant.program, images).tensors[first.output], wrap(exact, bits, True)
        )
    place = (row.first.image, row.first.channel, row.first.y, row.first.x)
    assert row.first.expected == exact[place]
    if kind != "saturate-mac":
        assert not IntType(bits, True).holds(row.first.expected, row.first.expected)


def test_the_earliest_tensor_of_any_image_is_named() -> None:
    """Image 0 differs in the second layer alone, image 1 in the first."""
    b = Builder()
    b.add(Input(output="x", shape=(2, 1, 1), type=U8))
    b.constant("w0", [[[[1]], [[0]]], [[[0]], [[100]]]])
    b.constant("w1", [[[[100]], [[0]]]])
    b.constant("m", [1])
    b.constant("b", [0])
    b.add(Conv2d(output="acc0", input="x", weight="w0", origin="first"))
    op = Requant(output="q", input="acc0", multiplier="m", bias="b", shift=(0,), lo=0, hi=255)
    b.add(op, U8)
    b.add(Conv2d(output="acc1", input="q", weight="w1", origin="second"))
    b.add(Output(output="y", input="acc1"))
    program = b.build()
    images = np.array([[200, 0], [0, 200], [200, 200]]).reshape(3, 2, 1, 1)
    own, row = diverge(program, [accumulating_as(program, "13")], images).rows
    assert own.first is None
    assert row.first is not None
    assert asdict(row.first) == {
        "tensor": "acc0", "origin": "first", "image": 1, "channel": 1, "y": 0, "x": 0,
        "got": 20000 - 2 * 8192, "expected": 20000,
    }  # fmt: skip


# --- what can be swapped --------------------------------------------------------------------------


def test_presets_that_hold_the_tables_and_those_that_do_not() -> None:
    program = skip()
    for name in ("tosa", "tflite", "cmsis-nn"):
        variant = preset_as(program, name)
        assert variant.program.arithmetic == PRESETS[name]
        assert diverge(program, [variant], random_images(program, 1, 0)).rows[1].differing == 0
    with pytest.raises(ProgramError) as error:
        preset_as(program, "shift-only")
    words = str(error.value)
    assert words.startswith(
        "Arithmetic 'shift-only' must be able to hold this Program's tables, but Requant 'stem'"
        " (from stem): M must be 0 or a power of two in this arithmetic, not "
    )
    assert words.endswith("; quantise the model again with --arithmetic shift-only.")
    with pytest.raises(ProgramError, match="Arithmetic must be one of intaglio"):
        preset_as(program, "x87")


def test_tables_for_truncation_are_not_for_other_roundings() -> None:
    truncating = rebuilt(skip(), replace(PRESETS["intaglio"], rounding="TRN"))
    with pytest.raises(ProgramError) as error:
        rounding_as(truncating, "RND")
    assert str(error.value) == (
        "Rounding RND must have tables of its own, not those for TRN, which hold the half that it"
        " would add again."
    )
    found, refusals = every_variant(truncating)
    assert [variant.name for variant in found] == []
    assert set(refusals) == {"RND", "RND_INF", "RND_CONV", "DOUBLE", *PRESETS}


@pytest.mark.parametrize("text", ["", "wrap", "16:", "16:clip", "-3", "1.5", "16:wrap:mac"])
def test_an_accumulator_that_makes_no_sense(text: str) -> None:
    if text == "16:":
        assert accumulating_as(skip(), text).name == "acc 16 wrap"
        return
    with pytest.raises(ProgramError, match=r"^--acc-bits must be N, N:wrap, N:saturate or N:satu"):
        accumulating_as(skip(), text)


def test_every_variant_is_another_arithmetic() -> None:
    found, refusals = every_variant(skip())
    assert [v.name for v in found] == [
        "TRN", "RND_INF", "RND_CONV", "DOUBLE", "tosa", "tflite", "cmsis-nn", "nvdla",
    ]  # fmt: skip
    assert list(refusals) == ["shift-only", "onnxruntime", "dpu"]
    assert {v.name for v in every_variant(rebuilt(skip(), Arithmetic(rounding="DOUBLE")))[0]} == {
        "TRN", "RND", "RND_INF", "RND_CONV", "intaglio", "tosa", "tflite", "cmsis-nn",
        "nvdla",
    }  # fmt: skip


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def plate(tmp_path: Path) -> Path:
    """A Program of two layers and a skip, and three pictures for it."""
    net = Layers((3, 9, 11), seed=4)
    stem = net.conv("stem", "image", net.weights("w0", 5, 3, 3), stride=2)
    branch = net.conv("branch", stem, net.weights("w1", 5, 5, 3))
    save(net.finish([net.add("sum", stem, branch)]), tmp_path / "plate.intaglio")
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(11)
    for n in range(3):
        pixels = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{n}.png")
    return folder


def test_the_command_prints_and_writes(
    cli: Cli,
    plate: Path,
    tmp_path: Path,
    golden: Callable[[str, str], None],
) -> None:
    code, out, err = cli(
        "diverge", "plate.intaglio", "--images", plate, "--rounding", "TRN", "--arithmetic", "tosa",
        "--acc-bits", 12, "--acc-bits", "13:saturate", "--json", "found.json",
    )  # fmt: skip
    assert code == 0, err
    assert re.fullmatch(r"\[1/1\] tensors … [\d.]+ s\n", err)
    golden("diverge.txt", out)
    record = json.loads((tmp_path / "found.json").read_text())
    assert set(record) == {"model", "images", "evaluated", "variants", "refused"}
    assert (record["images"], record["evaluated"], record["refused"]) == (3, None, {})
    names = [variant["name"] for variant in record["variants"]]
    assert names == ["intaglio (own)", "tosa", "TRN", "acc 12 wrap", "acc 13 saturate"]
    for variant in record["variants"]:
        assert set(variant) == {
            "name", "rounding", "acc_bits", "overflow", "saturate_at", "ap", "ap50", "ap75",
            "outputs", "outputs_differing", "largest", "overflows", "first_difference",
        }  # fmt: skip
    assert record["variants"][0]["first_difference"] is None
    assert record["variants"][3]["overflows"] > 0
    assert set(record["variants"][3]["first_difference"]) == {
        "tensor", "origin", "image", "channel", "y", "x", "got", "expected"
    }  # fmt: skip


def test_without_names_all_that_the_tables_allow(
    cli: Cli,
    plate: Path,
) -> None:
    code, out, _ = cli("diverge", "plate.intaglio", "--images", plate)
    assert code == 0
    for name in ("TRN", "RND_INF", "RND_CONV", "DOUBLE", "tosa", "tflite"):
        assert f"  {name}: " in out
    assert "Not run: Arithmetic 'shift-only' must be able to hold" in out


def test_what_the_command_refuses(
    cli: Cli,
    plate: Path,
) -> None:
    own = ("diverge", "plate.intaglio", "--images", plate)
    refused(cli(*own, "--arithmetic", "shift-only"), "'shift-only' must be able to hold")
    refused(cli(*own, "--arithmetic", "x87"), "Arithmetic must be one of intaglio")
    refused(cli(*own, "--rounding", "UP"), "Rounding must be one of TRN, RND", "not 'UP'")
    refused(cli(*own, "--acc-bits", "wide"), "--acc-bits must be N", "not 'wide'")
    refused(cli(*own, "--acc-bits", "60"), "acc_bits must be 2 to 48", "not 60")
    refused(cli(*own, "--limit", "3"), "--limit must be at least 1 and go with --data")
    refused(cli(*own, "--count", "0"), "--tensor-limit must be at least 1, not 0")
    refused(cli("diverge", "none.intaglio", "--images", plate), "must be an existing .intaglio")


def test_ap_of_a_detector_under_narrow_accumulators(tmp_path: Path) -> None:
    """The own arithmetic has the AP that `evaluate` gives; one that overflows has next to none."""
    from intaglio.api import evaluate
    from intaglio.detect import zoo
    from intaglio.detect.images import stack
    from intaglio.quant import QuantConfig, quantize

    scenes = zoo.held_out("fcos-nano", tmp_path, 4)
    pixels = stack([scenes.file(i) for i in scenes.ids], None)
    program = quantize(zoo.load("fcos-nano"), pixels, QuantConfig(compensate=False)).program
    variants = [rounding_as(program, "RND_CONV"), accumulating_as(program, "5:wrap")]
    told: list[tuple[int, int]] = []
    report = diverge(
        program, variants, pixels[:2], data=scenes, limit=3, progress=lambda *s: told.append(s)
    )
    own, even, narrow = report.rows
    assert own.result is not None
    assert own.result.ap == evaluate(program, scenes, limit=3).ap > 0.2
    assert even.result is not None
    assert abs(even.result.ap - own.result.ap) < 0.2
    assert narrow.result is not None
    assert narrow.result.ap < own.result.ap / 4
    assert narrow.first is not None
    assert narrow.first.tensor == "backbone.body.conv1.acc"
    assert told == [(n, 5) for n in range(1, 6)]
    assert report.to_json()["evaluated"] == 3
