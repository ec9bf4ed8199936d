"""Programs as hardware graphs: sharing, level routing, names, refusals."""

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from networks import U4, Layers, pyramid, skip
from strategies import programs

from intaglio.codegen.structure.fold import plan_for_cycles
from intaglio.codegen.structure.graph import HardwareGraph, hardware_graph, identifier
from intaglio.codegen.structure.netlist import netlist
from intaglio.errors import BuildError
from intaglio.fixed import PRESETS, IntType
from intaglio.ops import Conv2d, Input, MaxPool2d, Output, Requant, Upsample
from intaglio.program import Builder, Program


def blocks(graph: HardwareGraph, kind: str) -> list[str]:
    return [block.name for block in graph.blocks if block.kind == kind]


def test_convolutions_that_share_weights_run_on_one_engine_finest_level_first() -> None:
    graph = hardware_graph(pyramid())
    tower = next(b for b in graph.blocks if b.name == "tower_0_conv")
    assert tower.writes == (("tower.0", "tower.1", "tower.2"),)
    assert [r.multiplier for r in tower.requants] == [f"tower.{k}.m" for k in range(3)]
    assert blocks(graph, "mux") == ["p3_mux"]
    assert blocks(graph, "demux") == ["logits_0_demux", "boxes_0_demux"]


def test_a_tuple_passes_between_shared_engines_without_routing() -> None:
    graph = hardware_graph(pyramid())
    logits = next(b for b in graph.blocks if b.name == "logits_0_conv")
    boxes = next(b for b in graph.blocks if b.name == "boxes_0_conv")
    assert logits.reads == boxes.reads == (("tower.0", "tower.1", "tower.2"),)


def test_levels_that_wait_for_each_other_get_engines_of_their_own() -> None:
    net = Layers((2, 8, 8))
    weight = net.weights("w", 2, 2, 3)
    first = net.conv("first", "image", net.weights("w0", 2, 2, 3))
    once = net.conv("once", first, weight)
    twice = net.conv("twice", once, weight)  # needs the other frame of the same engine, in order
    graph = hardware_graph(net.finish([twice]))
    assert [b.writes for b in graph.blocks if b.kind == "conv"][1:] == [(("once", "twice"),)]
    small = net_with_levels_in_a_circle()
    names = [b.writes for b in hardware_graph(small).blocks if b.kind == "conv"]
    assert (("coarse", "fine"),) not in names
    assert (("fine", "coarse"),) not in names


def net_with_levels_in_a_circle() -> Program:
    """The coarse map feeds the fine one, which the engine would have to do first."""
    net = Layers((2, 8, 8))
    weight = net.weights("w", 2, 2, 3)
    half = net.conv("half", "image", net.weights("w0", 2, 2, 3), stride=2)
    coarse = net.conv("coarse", half, weight)
    large = net.builder.add(Upsample(output="large", input=coarse, size=(8, 8)))
    return net.finish([net.conv("fine", large, weight)])


def test_operations_that_no_output_needs_are_left_out() -> None:
    net = Layers((2, 6, 6))
    used = net.conv("used", "image", net.weights("w0", 3, 2, 1))
    net.conv("unused", used, net.weights("w1", 3, 3, 1))
    assert blocks(hardware_graph(net.finish([used])), "conv") == ["used_conv"]


def accumulator_read_by(outputs: int) -> Program:
    b = Builder()
    b.add(Input(output="image", shape=(1, 4, 4), type=IntType(8, False)))
    b.constant("w", [[[[1]]]])
    b.constant("m", [1])
    b.constant("z", [0])
    acc = b.add(Conv2d(output="acc", input="image", weight="w"))
    for k in range(outputs):
        b.add(Requant(output=f"q{k}", input=acc, multiplier="m", bias="z", shift=(4,),
                      lo=0, hi=15), U4)  # fmt: skip
        b.add(Output(output=f"out{k}", input=f"q{k}"))
    if not outputs:
        b.add(Output(output="out", input=acc))
    return b.build()


@pytest.mark.parametrize(("outputs", "readers"), [(0, "Output"), (2, "Requant, Requant")])
def test_an_accumulator_must_be_requantised_once(outputs: int, readers: str) -> None:
    with pytest.raises(BuildError) as error:
        hardware_graph(accumulator_read_by(outputs))
    assert str(error.value) == (
        f"Conv2d 'acc' must be read by exactly one Requant, not by {readers}; requantise before"
        " using the value twice."
    )


@given(programs())
@settings(max_examples=60)
def test_every_wire_has_one_driver_and_at_most_one_reader(program: Program) -> None:
    graph = hardware_graph(program)
    net = netlist(graph, plan_for_cycles(graph, 1 << 60))
    drivers = [wire for cell in net.cells for wire in cell.outs]
    readers = [wire for cell in net.cells for wire in cell.ins]
    assert sorted(drivers) == list(range(len(net.wires)))
    assert len(set(readers)) == len(readers)
    names = [cell.name for cell in net.cells]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)


def test_every_level_of_a_shared_engine_may_be_read_twice() -> None:
    net = Layers((2, 6, 6))
    weight = net.weights("w", 2, 2, 3)
    half = net.builder.add(
        MaxPool2d(output="half", input="image", kernel=(2, 2), stride=(2, 2), origin="half")
    )
    levels = [net.conv(f"level.{k}", x, weight) for k, x in enumerate(("image", half))]
    graph = hardware_graph(net.finish([*levels, *levels]))
    cells = netlist(graph, plan_for_cycles(graph, 1 << 60)).cells
    assert [c.name for c in cells if c.kind == "fork"] == [
        "image_source_fork",
        "level_0_demux_fork",
        "level_0_demux_1_fork",
    ]


@given(programs(require_shared_head=True))
@settings(max_examples=40)
def test_every_live_tensor_is_made_by_exactly_one_block(program: Program) -> None:
    graph = hardware_graph(program)
    made = [name for b in graph.blocks if b.kind not in ("mux", "demux") for k in b.writes
            for name in k]  # fmt: skip
    assert len(made) == len(set(made))
    outputs = {b.reads[0][0] for b in graph.blocks if b.kind == "sink"}
    assert outputs <= set(made)


def test_names_of_any_tensor_become_identifiers() -> None:
    assert identifier("head.cls[3]/Ünï") == "head_cls_3_n"
    assert identifier("0.weight") == "n0_weight"
    long = identifier("model/" + ";".join(f"batch_normalization_{n}/Fused" for n in range(20)))
    assert long.startswith("model_batch_normalization_")
    assert long.endswith("_malization_19_fused")
    assert len(f"m_axis_{long}_tdata") <= 64


def test_two_tensors_of_one_identifier_keep_apart() -> None:
    net = Layers((2, 6, 6))
    a = net.conv("a.b", "image", net.weights("w0", 3, 2, 1))
    c = net.conv("a_b", a, net.weights("w1", 3, 3, 1))
    names = blocks(hardware_graph(net.finish([c])), "conv")
    assert names == ["a_b_conv", "a_b_conv_2"]


def test_products_in_float32_have_no_hardware() -> None:
    with pytest.raises(BuildError) as error:
        hardware_graph(replace(skip(), arithmetic=PRESETS["onnxruntime"]))
    assert str(error.value) == (
        "A Program to be built must multiply integers, not in float32 as 'onnxruntime' does, for"
        " which there is no block; quantise the model again with --arithmetic tosa."
    )
