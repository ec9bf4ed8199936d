# amaranth: UnusedElaboratable=no
"""The Verilog as its reader meets it: ports of the components, nets with names, a comment a module,
and the same in every build."""

import os
import re
import subprocess
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from networks import Layers, branches, pyramid, skip, towers
from strategies import programs

from intaglio.codegen.structure.assemble import Top
from intaglio.codegen.structure.fold import plan_for_cycles, plan_for_multipliers
from intaglio.codegen.structure.graph import hardware_graph
from intaglio.codegen.structure.naming import signature
from intaglio.codegen.structure.netlist import netlist
from intaglio.codegen.structure.verilog import to_verilog
from intaglio.ops import Output
from intaglio.program import Program

MODULE = re.compile(r"^module (\w+) ?\((.*?)\);\n(.*?)^endmodule", re.DOTALL | re.MULTILINE)
NET = re.compile(r"^  (?:wire|reg) +(?:signed +)?(?:\[[^\]]*\] +)?(\w+)", re.MULTILINE)


def text_of(program: Program, extra: int) -> tuple[Top, str]:
    graph = hardware_graph(program)
    least = plan_for_cycles(graph, 1 << 62).multipliers
    top = Top(netlist(graph, plan_for_multipliers(graph, least + extra)))
    return top, to_verilog(top, "top")


def check(top: Top, text: str) -> None:
    modules = {name: (ports.split(", "), body) for name, ports, body in MODULE.findall(text)}
    assert len(modules) == text.count("\nendmodule")
    assert max(map(len, re.findall(r"\w+", re.sub(r'"[^"]*"|//.*', "", text)))) <= 64
    for ports, _ in modules.values():
        assert not [port for port in ports if re.match(r"(n|port)_", port.strip())]
    nets = [net for _, body in modules.values() for net in NET.findall(body)]
    assert not [net for net in nets if re.fullmatch(r"n_\d+|port_\d+_\d+", net)]
    said = re.findall(r"((?:^//.*\n)*)(?:^\(.*\n)*^module", text, re.MULTILINE)
    assert sum(map(bool, said)) == len(modules) - 1, "all but the top say what they are"
    for cell, component in zip(top.netlist.cells, top.components, strict=True):
        own = {member.name for member in signature(component)} | {"clk", "rst"}
        if f"top_{cell.name}" in modules:
            has = {re.sub(r"\s", "", port) for port in modules[f"top_{cell.name}"][0]}
            assert {re.sub(r"_\d+$", "", p) if p not in own else p for p in has} <= own


def test_networks_read_as_their_components_do() -> None:
    for network in (pyramid(), skip(), branches(), towers()):
        check(*text_of(network, 30))


@given(programs(max_blocks=4, max_size=7), st.integers(0, 60))
@settings(max_examples=10, deadline=None)
def test_random_networks_read_as_their_components_do(program: Program, extra: int) -> None:
    check(*text_of(program, extra))


def test_long_names_are_cut_and_stay_apart() -> None:
    net, long = Layers((3, 6, 6)), "a_layer_whose_name_is_that_of_all_that_it_was_made_of." * 4
    x = "image"
    for n in range(3):
        weight = net.weights(f"{long}{n}.w", 4, 3 if n == 0 else 4, 3)
        x = net.conv(f"{long}{n}", x, weight)
    net.builder.add(Output(output=f"{long}out", input=x))
    top, text = text_of(net.builder.build(), 0)
    check(top, text)
    assert len({cell.name for cell in top.netlist.cells}) == len(top.netlist.cells)


def test_names_are_the_same_in_every_build() -> None:
    script = "from test_readable import *; print(text_of(pyramid(), 30)[1])"
    here = Path(__file__).parent
    path = os.pathsep.join((str(here), str(here.parent), *sys.path))
    texts = [
        subprocess.run(
            [sys.executable, "-c", script], text=True, check=True, capture_output=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert texts[0] == texts[1]
    assert "endmodule" in texts[0]
